/** A MariaDB of the test's own: its own data folder, port and socket, bound to loopback, gone with stop(). */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { type Connection, createConnection } from 'mysql2/promise';
import { createMysqlStore, type MysqlOptions } from '../../../src/store/mysql/store.ts';
import type { Store } from '../../../src/store/store.ts';
import { type MysqlSpec, parseStoreUrl } from '../../../src/store/url.ts';
import { removeFolder, tempFolder } from '../folders.ts';
import { freePort, type Program, startProgram } from '../servers/process.ts';
import { shared } from '../shared.ts';
import { until } from '../wait.ts';

const START_MAX_MS = 60_000;
const USER = 'ipam';
// Debian keeps the server out of a user's PATH.
const SERVERS = ['/usr/sbin/mariadbd', '/usr/bin/mariadbd', '/usr/local/sbin/mariadbd'];
const MISSING = 'these tests need a MariaDB server: apt-get install mariadb-server';
const INSTALLERS = ['/usr/bin/mariadb-install-db', '/usr/local/bin/mariadb-install-db'];

export interface MariaDb {
  readonly port: number;
  readonly user: string;
  readonly password: string;
  /** The store URL of a database, without the password. */
  url(database: string): string;
  store: OpenStore;
  connect(database?: string): Promise<Connection>;
  create(...databases: string[]): Promise<void>;
  /** Makes a database that nobody has used yet; returns its name. */
  fresh(): Promise<string>;
  /** Makes one that has the schema already. */
  migrated(): Promise<string>;
  /** Runs statements as the store's user on one connection of their own; returns the last one's rows. */
  run(database: string, ...statements: string[]): Promise<Record<string, unknown>[]>;
  /** Runs the statements in a transaction of their own, which keeps its locks until it is let go. */
  hold(database: string, ...statements: string[]): Promise<() => Promise<void>>;
  /** Ends the server in good order, or at once; `start` brings it back with its port and data. */
  halt(): Promise<void>;
  kill9(): Promise<void>;
  start(): Promise<void>;
  /** Ends the server and removes its data. */
  stop(): Promise<void>;
}

/** A store in the database, with some of its options and of its URL changed. */
type OpenStore = (database: string, options?: Partial<MysqlOptions>, patch?: Partial<MysqlSpec>) => Store;
export const storeOpener =
  (urlOf: (database: string) => string, password: string): OpenStore =>
  (database, options = {}, patch = {}) => {
    const spec = { ...(parseStoreUrl(urlOf(database)) as MysqlSpec), ...patch };
    return createMysqlStore({ spec, password, ...options });
  };

/** For files that change no more of it than their own databases. */
export const sharedMariadb = shared(() => startMariadb());

/** `more`: further flags of the server. */
export async function startMariadb(...more: string[]): Promise<MariaDb> {
  const server = SERVERS.find(path => existsSync(path));
  if (server === undefined) throw new Error(MISSING);
  const folder = tempFolder();
  const password = randomBytes(12).toString('hex');
  const port = await freePort();
  let running: Program | null = null;
  let databases = 0;
  process.once('exit', () => removeFolder(folder));

  const url = (database: string) => `mysql://${USER}@127.0.0.1:${port}/${database}?ssl=off`;
  const connect = (database = '') =>
    createConnection({ host: '127.0.0.1', port, user: USER, password, database });
  const run = async (database: string, ...statements: string[]) => {
    const connection = await connect(database);
    let rows: unknown = [];
    for (const text of statements) [rows] = await connection.query(text);
    await connection.end();
    return Array.isArray(rows) ? rows : [];
  };
  const create = async (...names: string[]) =>
    void (await run('', ...names.map(name => `CREATE DATABASE \`${name}\``)));
  const fresh = async () => {
    const database = `fresh_${++databases}`;
    await create(database);
    return database;
  };
  let copying: Promise<readonly string[]> | null = null;
  const start = async () => {
    const started = startProgram(server, [...flags(folder, port), ...more], {}, { stdio: 'ignore' });
    running = started;
    const answers = async () => {
      if (started.hasEnded()) throw new Error(`mariadbd: ${readFileSync(join(folder, 'log'), 'utf8')}`);
      return connect().then(
        connection => connection.end().then(() => true),
        () => false,
      );
    };
    await until('MariaDB answers', answers, START_MAX_MS);
  };
  const halt = async () => void (await running?.stop());

  const store = storeOpener(url, password);

  writeAccounts(folder, password);
  installData(join(folder, 'data'));
  await start();
  return {
    port,
    user: USER,
    password,
    url,
    store,
    connect,
    create,
    fresh,
    async migrated() {
      copying ??= fresh().then(async model => copyOf(model, store, run));
      const [copy, database] = await Promise.all([copying, fresh()]);
      await run(database, ...copy);
      return database;
    },
    run,
    async hold(database, ...statements) {
      const connection = await connect(database);
      for (const text of ['START TRANSACTION', ...statements]) await connection.query(text);
      return async () => {
        await connection.query('COMMIT');
        await connection.end();
      };
    },
    halt,
    kill9: async () => running?.kill9(),
    start,
    async stop() {
      await running?.kill9(); // what it would write in good order is removed
      removeFolder(folder);
    },
  };
}

/** The statements that copy the model's schema, once it has one: a seventh of the work of all migrations. */
async function copyOf(model: string, open: OpenStore, run: MariaDb['run']): Promise<string[]> {
  const store = open(model);
  await store.migrate();
  await store.close();
  const copy: string[] = [];
  for (const row of await run(model, 'SHOW TABLES')) {
    const [name, from] = [`\`${Object.values(row)[0]}\``, `\`${model}\`.\`${Object.values(row)[0]}\``];
    copy.push(`CREATE TABLE ${name} LIKE ${from}`);
    const [filled] = await run(model, `SELECT 1 FROM ${name} LIMIT 1`);
    if (filled !== undefined) copy.push(`INSERT INTO ${name} SELECT * FROM ${from}`);
  }
  return copy;
}

const asRoot = (): string[] => (process.getuid?.() === 0 ? ['--user=root'] : []);

export function writeAccounts(folder: string, password: string, mode = 0o600): void {
  writeFileSync(
    join(folder, 'accounts.sql'),
    `CREATE USER IF NOT EXISTS '${USER}'@'127.0.0.1' IDENTIFIED BY '${password}';\n` +
      `GRANT ALL ON *.* TO '${USER}'@'127.0.0.1' WITH GRANT OPTION;\n`,
    { mode },
  );
}

/** Nothing waits for the disk: tests kill servers, which lose nothing that they have written, and never the machine. */
const UNSYNCED = ['--debug-no-sync', '--innodb-flush-method=nosync', '--loose-innodb-log-file-buffering=ON'];
/** A commit is on the disk before it is answered. */
export const SYNCED = [
  '--skip-debug-no-sync',
  '--innodb-flush-method=O_DIRECT',
  '--loose-innodb-log-file-buffering=OFF',
];
const LOG_SIZE = '--innodb-log-file-size=64M';

/** An installation need not outlive anything: it is begun anew. */
export const QUICK_INSTALL = [
  ...UNSYNCED,
  LOG_SIZE,
  '--innodb-flush-log-at-trx-commit=0',
  '--innodb-doublewrite=OFF',
];

/** Makes the data folder of a server that has not run yet. */
export function installData(folder: string, ...more: string[]): void {
  const installer = INSTALLERS.find(path => existsSync(path));
  if (installer === undefined) throw new Error(MISSING);
  const options = ['--no-defaults', '--skip-test-db', '--skip-name-resolve', ...QUICK_INSTALL];
  // Of its own, since installations side by side take each other's temporary tables away.
  options.push(...asRoot(), `--tmpdir=${dirname(folder)}`, `--datadir=${folder}`, ...more);
  execFileSync(installer, options, { stdio: 'pipe' });
}

/** A small server, on loopback only, with all that it has in the folder. Its temporary tables too: a server that starts
 *  removes all that it finds where it keeps them, those of others that run. */
export const commonFlags = (folder: string, port: number): string[] => [
  '--no-defaults',
  `--datadir=${join(folder, 'data')}`,
  `--tmpdir=${folder}`,
  `--socket=${join(folder, 'socket')}`,
  `--pid-file=${join(folder, 'pid')}`,
  `--log-error=${join(folder, 'log')}`,
  `--port=${port}`,
  '--bind-address=127.0.0.1',
  '--skip-name-resolve',
  '--innodb-buffer-pool-size=64M',
  LOG_SIZE,
  '--performance-schema=OFF',
  ...UNSYNCED,
];

const flags = (folder: string, port: number): string[] => [
  ...commonFlags(folder, port),
  `--init-file=${join(folder, 'accounts.sql')}`,
  '--innodb-flush-log-at-trx-commit=1',
  ...asRoot(),
];
