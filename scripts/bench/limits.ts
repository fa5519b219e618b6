/** What a store can do by itself, at its full durability, in the load driver's process. Nothing is tuned for it but
 *  what the server has too: prepared statements, and READ COMMITTED on MariaDB. */
import process from 'node:process';
import { type Connection, createConnection, type ResultSetHeader, type RowDataPacket } from 'mysql2/promise';
import { newHistogram, record } from './histogram.ts';
import type { StoreAddress, StoreResult, StoreWindow } from './messages.ts';

type MariaDb = Extract<StoreAddress, { kind: 'mariadb' }>;
type Sqlite = Extract<StoreAddress, { kind: 'sqlite' }>;

const CONNECTIONS_MAX = 500;
const ANY_ROWS = 'SELECT subnet, ip FROM allocation WHERE status = ? ORDER BY ip LIMIT ?';
const COMMIT = 'UPDATE allocation SET generation = generation + 1 WHERE subnet = ? AND ip = ?';
// One statement that looks, takes, and says what it took: the OK packet of an UPDATE carries LAST_INSERT_ID.
const CLAIM =
  "UPDATE allocation SET status = 'allocated', generation = generation + 1, moved_at = moved_at + 1," +
  " holder = ?, spread = LAST_INSERT_ID(spread) WHERE iface = ? AND status = 'ready' LIMIT 1";
const RELEASE =
  "UPDATE allocation SET status = 'ready', generation = generation + 1, moved_at = moved_at + 1," +
  " rested_since = moved_at, holder = NULL WHERE subnet = ? AND ip = ? AND iface = ? AND status = 'allocated'";
const READY_OF = 'SELECT subnet, ip, spread FROM allocation WHERE iface = ?';

/** Does one commit, or one pair of them. */
type Step = () => Promise<void>;
interface Place {
  readonly subnet: string;
  readonly ip: string;
}

export interface Limits {
  window(asked: StoreWindow): Promise<StoreResult>;
}

/** Connections are kept from window to window. */
export function limits(): Limits {
  const open = new Map<string, Connection[]>();

  async function connectionsTo({ url, password }: MariaDb, count: number): Promise<readonly Connection[]> {
    if (count > CONNECTIONS_MAX) throw new RangeError(`${count} connections, more than ${CONNECTIONS_MAX}`);
    const kept = open.get(url) ?? [];
    open.set(url, kept);
    while (kept.length < count) {
      const { hostname, port, username, pathname } = new URL(url);
      const connection = await createConnection({
        host: hostname,
        port: Number(port),
        user: username,
        password,
        database: pathname.slice(1),
      });
      await connection.query('SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED');
      kept.push(connection);
    }
    return kept.slice(0, count);
  }

  return {
    async window(asked) {
      if (asked.store.kind === 'sqlite') return sqliteCommits(asked.store, asked.ms);
      const connections = await connectionsTo(asked.store, asked.clients);
      const steps =
        asked.kind === 'commits' ? await commits(connections) : await pairs(connections, asked.enis);
      return await run(steps, asked.ms);
    },
  };
}

async function run(steps: readonly Step[], ms: number): Promise<StoreResult> {
  const latencies = newHistogram();
  let done = 0;
  for (const step of steps) await step(); // prepares its statements
  const deadline = performance.now() + ms;
  const client = async (step: Step) => {
    for (let startedAt = performance.now(); startedAt < deadline; ) {
      await step();
      const now = performance.now();
      record(latencies, now - startedAt);
      if (now <= deadline) done++;
      startedAt = now;
    }
  };
  await Promise.all(steps.map(client));
  return { done, latencies };
}

async function commits(connections: readonly Connection[]): Promise<Step[]> {
  const rows = await query<Place>(connections[0], ANY_ROWS, ['free', connections.length]);
  return connections.map((connection, i) => {
    const row = rows[i];
    if (row === undefined) throw new Error(`the ledger has ${rows.length} free rows, fewer than clients`);
    return () => changeOne(connection, COMMIT, [row.subnet, row.ip]).then(() => {});
  });
}

async function pairs(connections: readonly Connection[], enis: readonly string[]): Promise<Step[]> {
  const rowsBySpread = new Map<string, ReadonlyMap<number, Place>>();
  for (const eni of enis) {
    const rows = await query<Place & { spread: number }>(connections[0], READY_OF, [eni]);
    rowsBySpread.set(eni, new Map(rows.map(row => [row.spread, row])));
  }
  return connections.map((connection, i) => {
    const eni = enis[i % enis.length] ?? '';
    return async () => {
      const { insertId } = await changeOne(connection, CLAIM, ['benchmark', eni]);
      const claimed = rowsBySpread.get(eni)?.get(insertId);
      if (claimed === undefined) throw new Error(`a claim on ${eni} took a row that it does not have`);
      await changeOne(connection, RELEASE, [claimed.subnet, claimed.ip, eni]);
    };
  });
}

async function query<R>(connection: Connection | undefined, text: string, values: unknown[]): Promise<R[]> {
  const [rows = []] = (await connection?.query<(R & RowDataPacket)[]>(text, values)) ?? [];
  return rows;
}

async function changeOne(connection: Connection, text: string, values: string[]): Promise<ResultSetHeader> {
  const [header] = await connection.execute<ResultSetHeader>(text, values);
  if (header.affectedRows !== 1) throw new Error(`${header.affectedRows} rows changed, not 1: ${text}`);
  return header;
}

/** SQLite has one writer, and it holds the process until its commit is on the disk: one client is all there can be. */
function sqliteCommits({ path }: Sqlite, ms: number): StoreResult {
  const { DatabaseSync } = process.getBuiltinModule('node:sqlite');
  const db = new DatabaseSync(path);
  try {
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
    const row = db.prepare(ANY_ROWS).get('free', 1);
    const commit = db.prepare(COMMIT);
    const latencies = newHistogram();
    const deadline = performance.now() + ms;
    for (let startedAt = performance.now(); startedAt < deadline; ) {
      if (commit.run(row?.subnet ?? '', row?.ip ?? '').changes !== 1) throw new Error('no row changed');
      const now = performance.now();
      record(latencies, now - startedAt);
      startedAt = now;
    }
    return { done: latencies.count, latencies };
  } finally {
    db.close();
  }
}
