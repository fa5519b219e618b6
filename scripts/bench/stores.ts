/** The two stores of the bundle at full durability, and what each can do without a server before it. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { type Connection, createConnection, type ResultSetHeader, type RowDataPacket } from 'mysql2/promise';
import type { MariaDb } from '../../test/kit/databases/mariadb.ts';
import type { StoreResult, StoreWindow } from './driver.ts';
import { encode, keptConnections, newHistogram, record } from './load.ts';

export const STORE_KINDS = ['sqlite', 'mariadb'] as const;
export type StoreKind = (typeof STORE_KINDS)[number];

/** A limit opens a connection for each client, in addition to those of the servers. */
const SERVER_CONNECTIONS_MAX = 1_000;

/** A copy of a warm ledger, for the limits alone: the URL of its database, or its file. */
export interface LedgerCopy {
  readonly kind: StoreKind;
  readonly at: string;
}
export interface EmptyStore {
  /** For the environment of the program that fills it. */
  readonly env: Readonly<Record<string, string>>;
  /** Copies the ledger that the program has made. */
  copy(): Promise<{ readonly copied: LedgerCopy; readonly ms: number }>;
}
export type Stores = (kind: StoreKind) => Promise<EmptyStore>;

/** Stores below `folder`. `mariadb` is called when it is first needed. */
export function storesIn(folder: string, mariadb: () => Promise<MariaDb>): Stores {
  let made = 0;
  return async kind => {
    const name = `ledger${++made}`;
    const stateFolder = join(folder, name);
    mkdirSync(stateFolder);
    if (kind === 'sqlite') return sqliteStore(stateFolder);
    return await mariadbStore(await mariadb(), name, stateFolder);
  };
}

function sqliteStore(stateFolder: string): EmptyStore {
  const copy = join(stateFolder, 'copy.sqlite');
  return {
    env: { EC2_IPAM_STATE_DIR: stateFolder },
    async copy() {
      const { DatabaseSync } = process.getBuiltinModule('node:sqlite');
      const db = new DatabaseSync(join(stateFolder, 'ledger.sqlite'));
      const startedAt = performance.now();
      db.prepare('VACUUM INTO ?').run(copy);
      const ms = performance.now() - startedAt;
      db.close();
      return { copied: { kind: 'sqlite', at: copy }, ms };
    },
  };
}

async function mariadbStore(mariadb: MariaDb, name: string, stateFolder: string): Promise<EmptyStore> {
  const { user, password, port } = mariadb;
  const copy = `${name}_copy`;
  await mariadb.create(name, copy);
  await mariadb.run(name, `SET GLOBAL max_connections = ${SERVER_CONNECTIONS_MAX}`);
  return {
    env: {
      EC2_IPAM_STATE_DIR: stateFolder,
      EC2_IPAM_STORE: mariadb.url(name),
      EC2_IPAM_STORE_PASSWORD: password,
    },
    async copy() {
      const columns = await mariadb.run(
        name,
        'SELECT column_name AS name FROM information_schema.columns WHERE table_schema = DATABASE()' +
          " AND table_name = 'allocation' AND extra NOT LIKE '%GENERATED%'",
      );
      const list = columns.map(column => `\`${column.name}\``).join();
      await mariadb.run(name, `CREATE TABLE ${copy}.allocation LIKE allocation`);
      const startedAt = performance.now();
      await mariadb.run(name, `INSERT INTO ${copy}.allocation (${list}) SELECT ${list} FROM allocation`);
      const ms = performance.now() - startedAt;
      return { copied: { kind: 'mariadb', at: `mysql://${user}:${password}@127.0.0.1:${port}/${copy}` }, ms };
    },
  };
}

const ANY_ROWS = 'SELECT subnet, ip FROM allocation WHERE status = ? ORDER BY ip LIMIT ?';
const COMMIT = 'UPDATE allocation SET generation = generation + 1 WHERE subnet = ? AND ip = ?';
// One statement finds a row, claims it and returns which: the OK packet of an UPDATE carries LAST_INSERT_ID.
const CLAIM =
  "UPDATE allocation SET status = 'allocated', generation = generation + 1, moved_at = moved_at + 1," +
  " holder = ?, spread = LAST_INSERT_ID(spread) WHERE iface = ? AND status = 'ready' LIMIT 1";
const RELEASE =
  "UPDATE allocation SET status = 'ready', generation = generation + 1, moved_at = moved_at + 1," +
  ' rested_since = moved_at, holder = NULL' +
  " WHERE subnet = ? AND ip = ? AND iface = ? AND status = 'allocated'";
const READY_OF = 'SELECT subnet, ip, spread FROM allocation WHERE iface = ?';

/** Does one commit, or one pair of them. */
type Step = () => Promise<unknown>;
interface Key {
  readonly subnet: string;
  readonly ip: string;
}

/** Measures what a store does in a window of time, in the load driver's process. Nothing is tuned but
 *  what the server tunes too: prepared statements, and READ COMMITTED on MariaDB. */
export function limitWindows(): (window: StoreWindow) => Promise<StoreResult> {
  const connectionsTo = keptConnections(openMariadb, () => true);
  return async ({ kind, store, clients, enis, ms }) => {
    if (store.kind === 'sqlite') return sqliteCommits(store.at, ms);
    const connections = await connectionsTo(store.at, clients);
    return run(kind === 'commits' ? await commits(connections) : await pairs(connections, enis), ms);
  };
}

async function openMariadb(url: string): Promise<Connection> {
  const connection = await createConnection(url);
  await connection.query('SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED');
  return connection;
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
  return { done, latencies: encode(latencies) };
}

async function commits(connections: readonly Connection[]): Promise<Step[]> {
  const rows = await query<Key>(connections[0], ANY_ROWS, ['free', connections.length]);
  return connections.map((connection, i) => {
    const row = rows[i];
    if (row === undefined) throw new Error(`the ledger has ${rows.length} free rows, fewer than clients`);
    return () => changeOne(connection, COMMIT, [row.subnet, row.ip]);
  });
}

async function pairs(connections: readonly Connection[], enis: readonly string[]): Promise<Step[]> {
  const rowsBySpread = new Map<string, ReadonlyMap<number, Key>>();
  for (const eni of enis) {
    const rows = await query<Key & { spread: number }>(connections[0], READY_OF, [eni]);
    rowsBySpread.set(eni, new Map(rows.map(row => [row.spread, row])));
  }
  return connections.map((connection, i) => {
    const eni = enis[i % enis.length] ?? '';
    return async () => {
      const { insertId } = await changeOne(connection, CLAIM, ['benchmark', eni]);
      const claimed = rowsBySpread.get(eni)?.get(insertId);
      if (claimed === undefined) throw new Error(`a claim on ${eni} took a row that is not of this ENI`);
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

/** SQLite has one writer, and a commit blocks its process: there is one client whatever was asked for. */
async function sqliteCommits(path: string, ms: number): Promise<StoreResult> {
  const { DatabaseSync } = process.getBuiltinModule('node:sqlite');
  const db = new DatabaseSync(path);
  try {
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
    const row = db.prepare(ANY_ROWS).get('free', 1);
    const commit = db.prepare(COMMIT);
    const step = async () => {
      if (commit.run(row?.subnet ?? '', row?.ip ?? '').changes !== 1) throw new Error('no row changed');
    };
    return await run([step], ms);
  } finally {
    db.close();
  }
}
