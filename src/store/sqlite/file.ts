/** A SQLite database file: opening, transactions, waiting for a lock, and its errors. */
import { chmodSync, closeSync, mkdirSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import process from 'node:process';
import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SQL } from 'drizzle-orm';
import { SQLiteSyncDialect } from 'drizzle-orm/sqlite-core';
import { IpamError } from '../../domain/error.ts';
import { refuseExposed } from '../private-file.ts';
import { NOW } from '../reads.ts';
import type { Row } from '../rows.ts';

/** How long a call waits for the transaction of another process. */
const LOCKED_MAX_MS = 5_000;
/** The pauses between its tries. Each is twice the one before. */
const LOCKED_PAUSE_MIN_MS = 1;
const LOCKED_PAUSE_MAX_MS = 50;

/** An open database file. */
export interface SqliteFile {
  readonly client: DatabaseSync;
  /** Runs a statement and returns its rows. `now` is the store's clock in it, in milliseconds. */
  rows(query: SQL, now?: number): Row[];
  /** Runs `work` in one durable transaction, without a write of another process in between. */
  transaction<T>(work: () => T): T;
  /** Runs `work`, which only reads, on one state of the database. */
  snapshot<T>(work: () => T): T;
}

/** Runs `work` again while another process has the file locked. SQLite's own wait would block the event loop. */
export async function whileLocked<T>(work: () => T, boundMs = LOCKED_MAX_MS): Promise<T> {
  const until = performance.now() + boundMs;
  for (let pauseMs = LOCKED_PAUSE_MIN_MS; ; pauseMs = Math.min(pauseMs * 2, LOCKED_PAUSE_MAX_MS)) {
    try {
      return work();
    } catch (error) {
      if (!isLocked(error) || performance.now() >= until) throw error;
    }
    await sleep(pauseMs);
  }
}

/** Opens the file. Creates it and its folder where they are absent, for their owner only. Throws what the system
 *  throws. */
export function openFile(path: string): SqliteFile {
  createPrivately(path);
  // The names of containers are in the two others too, which have the mode that the first had when they were made.
  refuseExposed(`the store at ${path}`, [path, `${path}-wal`, `${path}-shm`]);
  // Not imported, since Node 22 prints a warning for the import, also when the store is MySQL.
  const { DatabaseSync } = process.getBuiltinModule('node:sqlite');
  const client = new DatabaseSync(path);
  try {
    client.exec('PRAGMA busy_timeout = 0; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
  } catch (error) {
    client.close();
    throw error;
  }
  const prepare = createPreparer(client);
  return {
    client,
    rows(query, now = 0) {
      const { sql, params } = DIALECT.sqlToQuery(query);
      const values = params.map(param => (param === NOW ? now : param));
      return prepare(sql).all(...(values as SQLInputValue[])) as Row[];
    },
    transaction: work => between(client, 'BEGIN IMMEDIATE', work),
    snapshot: work => between(client, 'BEGIN', work),
  };
}
const DIALECT = new SQLiteSyncDialect();

/** Creates the file and its folder where they are absent, for their owner only. */
export function createPrivately(path: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  try {
    closeSync(openSync(path, 'wx', 0o600));
    chmodSync(path, 0o600); // independent of the umask
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

/** Prepares each statement once. Statements with lists of parameters are many, so the number is limited. */
function createPreparer(client: DatabaseSync): (text: string) => StatementSync {
  const prepared = new Map<string, StatementSync>();
  return text => {
    const statement = prepared.get(text) ?? client.prepare(text);
    if (prepared.size < PREPARED_MAX) prepared.set(text, statement);
    return statement;
  };
}
const PREPARED_MAX = 200;

/** Runs `work`, which must not await, between `begin` and COMMIT. */
export function between<T>(client: DatabaseSync, begin: 'BEGIN' | 'BEGIN IMMEDIATE', work: () => T): T {
  client.exec(begin);
  try {
    const result = work();
    client.exec('COMMIT');
    return result;
  } catch (error) {
    if (client.isTransaction) client.exec('ROLLBACK');
    throw error;
  }
}

const MAY_WRITE = 'let the user that ec2-ipam runs as write the file and its folder';
const LOCKED = 'database is locked';
// By SQLite's texts (https://www.sqlite.org/rescode.html), since not every runtime passes on the codes.
const REASONS: readonly [says: string, reason: string, hint: string][] = [
  [LOCKED, 'another process keeps it locked', 'end that process, or wait for it'],
  ['attempt to write a readonly database', 'it is read-only', MAY_WRITE],
  ['unable to open database file', 'it cannot be opened', MAY_WRITE],
  ['file is not a database', 'it is not a SQLite database', 'name another file, or move this one away'],
  ['database disk image is malformed', 'it is damaged', 'move it away: init fills a new one from EC2'],
  ['database or disk is full', 'the disk is full', 'make room'],
  ['disk I/O error', 'the disk failed', ''],
];
const NO_SUCH_TABLE = /^no such (table|column)/;
const FILE_SYSTEM_CODE = /^E[A-Z0-9]+$/;

/** Whether another process has the file locked. */
export const isLocked = (error: unknown): boolean => textOf(error).startsWith(LOCKED);

const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Returns the store-down error for an error of SQLite or of the file system; any other error as it is. */
export function fileErrorOf(error: unknown, path: string): unknown {
  const message = textOf(error);
  const code = String((error as { code?: unknown } | null)?.code);
  if (NO_SUCH_TABLE.test(message))
    return new IpamError('store-down', `the schema of the store at ${path} is not this program's`, {
      hint: 'run `ec2-ipam migrate`',
      cause: error,
    });
  const [, reason, hint] = FILE_SYSTEM_CODE.test(code)
    ? ['', `it cannot be opened (${code})`, MAY_WRITE]
    : (REASONS.find(([says]) => message.startsWith(says)) ?? []);
  if (reason === undefined) return error;
  return new IpamError('store-down', `the store at ${path} cannot be used: ${reason}`, {
    hint: hint ?? '',
    cause: error,
  });
}
