/** A MariaDB of the test's own: its own data folder, port and socket, bound to loopback, gone with stop(). */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { createConnection } from 'mysql2/promise';

const UNTIL_TIMEOUT_MS = 60_000;
const UNTIL_POLL_MS = 20;
const STOP_TIMEOUT_MS = 20_000;
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
  /** Makes the databases. */
  create(...databases: string[]): Promise<void>;
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

export async function startMariadb(): Promise<MariaDb> {
  const server = SERVERS.find(path => existsSync(path));
  if (server === undefined) throw new Error(MISSING);
  const folder = mkdtempSync(join(tmpdir(), 'ec2-ipam-mariadb-'));
  const password = randomBytes(12).toString('hex');
  const port = await freePort();
  let child: ChildProcess | null = null;
  const cleanUp = () => {
    child?.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  };
  process.once('exit', cleanUp);

  const connect = (database?: string) =>
    createConnection({
      host: '127.0.0.1',
      port,
      user: USER,
      password,
      ...(database === undefined ? {} : { database }),
    });
  const start = async () => {
    child = spawn(server, flags(folder, port), { stdio: 'ignore' });
    const started = child;
    await until(async () => {
      if (started.exitCode !== null)
        throw new Error(`mariadbd: ${readFileSync(join(folder, 'log'), 'utf8')}`);
      return connect().then(
        connection => connection.end().then(() => true),
        () => false,
      );
    });
  };
  const end = async (signal: 'SIGTERM' | 'SIGKILL') => {
    if (child !== null) await ended(child, signal);
    child = null;
  };

  writeAccounts(folder, password);
  installData(join(folder, 'data'));
  await start();
  return {
    port,
    user: USER,
    password,
    url: database => `mysql://${USER}@127.0.0.1:${port}/${database}?ssl=off`,
    async create(...databases) {
      const connection = await connect();
      for (const database of databases) await connection.query(`CREATE DATABASE \`${database}\``);
      await connection.end();
    },
    async run(database, ...statements) {
      const connection = await connect(database);
      let rows: unknown = [];
      for (const text of statements) [rows] = await connection.query(text);
      await connection.end();
      return Array.isArray(rows) ? rows : [];
    },
    async hold(database, ...statements) {
      const connection = await connect(database);
      for (const text of ['START TRANSACTION', ...statements]) await connection.query(text);
      return async () => {
        await connection.query('COMMIT');
        await connection.end();
      };
    },
    halt: () => end('SIGTERM'),
    kill9: () => end('SIGKILL'),
    start,
    async stop() {
      await end('SIGTERM');
      process.removeListener('exit', cleanUp);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

const asRoot = (): string[] => (process.getuid?.() === 0 ? ['--user=root'] : []);

function writeAccounts(folder: string, password: string): void {
  writeFileSync(
    join(folder, 'accounts.sql'),
    `CREATE USER IF NOT EXISTS '${USER}'@'127.0.0.1' IDENTIFIED BY '${password}';\n` +
      `GRANT ALL ON *.* TO '${USER}'@'127.0.0.1' WITH GRANT OPTION;\n`,
    { mode: 0o600 },
  );
}

/** An installation need not outlive the machine: it is begun anew. */
export const QUICK_INSTALL = [
  '--innodb-flush-method=nosync',
  '--innodb-flush-log-at-trx-commit=0',
  '--innodb-doublewrite=OFF',
];

/** Makes the data folder of a server that has not run yet. */
export function installData(folder: string, ...more: string[]): void {
  const installer = INSTALLERS.find(path => existsSync(path));
  if (installer === undefined) throw new Error(MISSING);
  const options = ['--no-defaults', '--skip-test-db', '--skip-name-resolve', ...QUICK_INSTALL];
  options.push(...asRoot(), ...more);
  // Of its own, since installations side by side take each other's temporary tables away.
  options.push(`--tmpdir=${dirname(folder)}`);
  const result = spawnSync(installer, [`--datadir=${folder}`, ...options], { encoding: 'utf8' });
  if (result.status !== 0) throw new Error(`mariadb-install-db: ${result.stdout}${result.stderr}`);
}

/** Small, but as durable as it comes: a commit is on the disk before it is answered. */
const flags = (folder: string, port: number): string[] => [
  '--no-defaults',
  `--datadir=${join(folder, 'data')}`,
  `--socket=${join(folder, 'socket')}`,
  `--pid-file=${join(folder, 'pid')}`,
  `--log-error=${join(folder, 'log')}`,
  `--init-file=${join(folder, 'accounts.sql')}`,
  `--port=${port}`,
  '--bind-address=127.0.0.1',
  '--skip-name-resolve',
  '--innodb-flush-log-at-trx-commit=1',
  '--innodb-buffer-pool-size=64M',
  '--innodb-log-file-size=64M',
  '--performance-schema=OFF',
  ...asRoot(),
];

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(port));
    });
  });
}

/** Resolves when it holds. Throws when it does not within the bound. */
export async function until(holds: () => Promise<boolean>): Promise<void> {
  const giveUpAt = performance.now() + UNTIL_TIMEOUT_MS;
  while (!(await holds())) {
    if (performance.now() > giveUpAt) throw new Error(`waited ${UNTIL_TIMEOUT_MS} ms in vain`);
    await new Promise(resolve => setTimeout(resolve, UNTIL_POLL_MS));
  }
}

function ended(child: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
  return new Promise(resolve => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve();
    const impatience = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    child.once('exit', () => {
      clearTimeout(impatience);
      resolve();
    });
    child.kill(signal);
  });
}
