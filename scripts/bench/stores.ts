/** The two stores of the bundle at full durability, and what each can do without a server before it. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { type Connection, createConnection, type ResultSetHeader, type RowDataPacket } from 'mysql2/promise';
import type { MariaDb } from '../../test/kit/databases/mariadb.ts';
import { keptConnections } from './load.ts';

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

/** What a store does without a server before it: the limit for any ledger that is as durable. */
interface StoreWindow {
  readonly store: LedgerCopy;
  readonly clients: number;
  readonly enis: readonly string[];
  readonly ms: number;
}
export interface StoreResult {
  /** Commits, or pairs of them, done within the time. */
  readonly done: number;
  readonly latenciesMs: number[];
}

const FREE_ROWS = "SELECT subnet, ip, spread FROM allocation WHERE status = 'free' ORDER BY ip LIMIT ?";
const COMMIT = 'UPDATE allocation SET generation = generation + 1 WHERE subnet = ? AND ip = ?';
// One statement finds a row, claims it and returns which: the OK packet of an UPDATE carries LAST_INSERT_ID.
const CLAIM =
  "UPDATE allocation SET status = 'allocated', generation = generation + 1, moved_at = moved_at + 1," +
  " holder = ?, spread = LAST_INSERT_ID(spread) WHERE iface = ? AND status = 'ready' LIMIT 1";
const RELEASE =
  "UPDATE allocation SET status = 'ready', generation = generation + 1, moved_at = moved_at + 1," +
  ' rested_since = moved_at, holder = NULL' +
  " WHERE subnet = ? AND ip = ? AND iface = ? AND status = 'allocated'";
const ROWS_OF = 'SELECT subnet, ip, spread FROM allocation WHERE iface = ?';

interface Key extends RowDataPacket {
  readonly subnet: string;
  readonly ip: string;
  readonly spread: number;
}

// Nothing is tuned but what the server tunes too: prepared statements, and READ COMMITTED on MariaDB.
const connectionsTo = keptConnections(
  async (url: string) => {
    const connection = await createConnection(url);
    await connection.query('SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED');
    return connection;
  },
  () => true,
);

/** An UPDATE of one row by its key, each in a commit of its own. Each client has its own row, so nobody waits
 *  for a lock. */
export async function commitWindow({ store, clients, ms }: StoreWindow): Promise<StoreResult> {
  if (store.kind === 'sqlite') return sqliteCommits(store.at, ms);
  const connections = await connectionsTo(store.at, clients);
  const [rows = []] = (await connections[0]?.query<Key[]>(FREE_ROWS, [clients])) ?? [];
  const step = (connection: Connection, i: number) => () =>
    changeOne(connection, COMMIT, [rows[i]?.subnet ?? '', rows[i]?.ip ?? '']);
  return run(connections.map(step), ms);
}

/** An UPDATE that finds a ready row of the ENI and claims it, then one that releases it, each in a commit of its
 *  own. MariaDB only. */
export async function pairWindow({ store, clients, enis, ms }: StoreWindow): Promise<StoreResult> {
  const steps = (await connectionsTo(store.at, clients)).map(async (connection, i) => {
    const eni = enis[i % enis.length] ?? '';
    const [rows] = await connection.query<Key[]>(ROWS_OF, [eni]);
    const bySpread = new Map(rows.map(row => [row.spread, row]));
    return async () => {
      const { insertId } = await changeOne(connection, CLAIM, ['benchmark', eni]);
      const claimed = bySpread.get(insertId);
      if (claimed === undefined) throw new Error(`a claim on ${eni} took a row that is not of this ENI`);
      await changeOne(connection, RELEASE, [claimed.subnet, claimed.ip, eni]);
    };
  });
  return run(await Promise.all(steps), ms);
}

/** Each step is a commit, or a pair of them. */
async function run(steps: readonly (() => Promise<unknown>)[], ms: number): Promise<StoreResult> {
  const latenciesMs: number[] = [];
  let done = 0;
  for (const step of steps) await step(); // prepares its statements
  const deadline = performance.now() + ms;
  const client = async (step: () => Promise<unknown>) => {
    for (let startedAt = performance.now(); startedAt < deadline; ) {
      await step();
      const now = performance.now();
      latenciesMs.push(now - startedAt);
      if (now <= deadline) done++;
      startedAt = now;
    }
  };
  await Promise.all(steps.map(client));
  return { done, latenciesMs };
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
    const row = db.prepare(FREE_ROWS).get(1);
    const commit = db.prepare(COMMIT);
    const step = async () => {
      if (commit.run(row?.subnet ?? '', row?.ip ?? '').changes !== 1) throw new Error('no row changed');
    };
    return await run([step], ms);
  } finally {
    db.close();
  }
}
