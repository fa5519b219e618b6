import { chmodSync, closeSync, mkdirSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import process from 'node:process';
import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite';
import { BetterSQLiteSession } from 'drizzle-orm/better-sqlite3/session';
import { BaseSQLiteDatabase, SQLiteSyncDialect } from 'drizzle-orm/sqlite-core';
import { IpamError } from '../domain/error.ts';
import type { Db } from './sqlite-sql.ts';

/** How long a statement waits for another process's transaction. */
const BUSY_TIMEOUT_MS = 5_000;

/** A database file, open. */
export interface SqliteFile {
  readonly db: Db;
  readonly client: DatabaseSync;
  /** `work` in one durable transaction that no other process's write can come between. */
  transaction<T>(work: (db: Db) => T): T;
  /** `work`, which only reads, on one state of the database. */
  snapshot<T>(work: () => T): T;
}

/** Opens the file, and creates it (for its owner alone) with its folder. Throws what the system throws. */
export function openFile(path: string): SqliteFile {
  createPrivately(path);
  // Not imported: Node 22 would print a warning even where MySQL is the store.
  const { DatabaseSync } = process.getBuiltinModule('node:sqlite');
  const client = new DatabaseSync(path);
  // The timeout first: two processes that set the journal mode at once would refuse each other.
  client.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
  client.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
  const dialect = new SQLiteSyncDialect();
  const session = new BetterSQLiteSession(asBetterSqlite(client) as never, dialect, undefined);
  const db: Db = new BaseSQLiteDatabase('sync', dialect, session as never, undefined);
  return {
    db,
    client,
    transaction: work => db.transaction(tx => work(tx), { behavior: 'immediate' }),
    snapshot: work => between(client, 'BEGIN', work),
  };
}

function createPrivately(path: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  try {
    closeSync(openSync(path, 'wx', 0o600));
    chmodSync(path, 0o600); // whatever the umask took or left
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

/** node:sqlite as drizzle's better-sqlite3 session expects it; drizzle has no session of its own for it. */
function asBetterSqlite(client: DatabaseSync) {
  const prepared = new Map<string, ReturnType<typeof dress>>();
  const dress = (named: StatementSync, arrays: StatementSync) => ({
    run: (...params: SQLInputValue[]) => named.run(...params),
    all: (...params: SQLInputValue[]) => named.all(...params),
    get: (...params: SQLInputValue[]) => named.get(...params),
    raw: () => ({
      all: (...params: SQLInputValue[]) => arrays.all(...params),
      get: (...params: SQLInputValue[]) => arrays.get(...params),
    }),
  });
  const prepare = (text: string) => {
    const known = prepared.get(text);
    if (known !== undefined) return known;
    const arrays = client.prepare(text);
    arrays.setReturnArrays(true);
    const statement = dress(client.prepare(text), arrays);
    // Statements of our own are few; those with lists of parameters would be many.
    if (prepared.size < PREPARED_MAX) prepared.set(text, statement);
    return statement;
  };
  const transaction = (work: (tx: unknown) => unknown) => ({
    immediate: (tx: unknown) => between(client, 'BEGIN IMMEDIATE', () => work(tx)),
  });
  return { prepare, transaction };
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

// https://www.sqlite.org/rescode.html
const REASONS: Record<number, string> = {
  5: `another process has kept it locked for ${BUSY_TIMEOUT_MS / 1000} s`,
  8: 'it is read-only',
  10: 'the disk failed',
  11: 'it is damaged',
  13: 'the disk is full',
  14: 'it cannot be opened',
  26: 'it is not a SQLite database',
};
const HINTS: Record<number, string> = {
  8: 'let the user that ec2-ipam runs as write the file and its folder',
  14: 'let the user that ec2-ipam runs as write the file and its folder',
  26: 'name another file, or move this one away',
};
const NO_SUCH_TABLE = /no such (table|column)/;

/** An error of SQLite or of the file system as the store's callers get it; others are left as they are. */
export function fileErrorOf(error: unknown, path: string): unknown {
  if (error instanceof IpamError) return error;
  // drizzle wraps what the driver throws, with the SQL in its message.
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const { code, errcode, message } = cause as { code?: string; errcode?: number; message?: string };
  if (NO_SUCH_TABLE.test(message ?? ''))
    return new IpamError('store-down', `the schema of the store at ${path} is not this program's`, {
      hint: 'run `ec2-ipam migrate`',
      cause: error,
    });
  if (errcode === undefined && code?.startsWith('E') !== true) return error;
  const primary = (errcode ?? 14) % 256; // extended codes carry the primary one in the low byte
  const reason =
    errcode === undefined ? `${REASONS[14]} (${code})` : (REASONS[primary] ?? `error ${errcode}`);
  return new IpamError('store-down', `the store at ${path} cannot be used: ${reason}`, {
    hint: HINTS[primary] ?? '',
    cause: error,
  });
}
