import { chmodSync, closeSync, mkdirSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import process from 'node:process';
import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { BetterSQLiteSession } from 'drizzle-orm/better-sqlite3/session';
import { BaseSQLiteDatabase, SQLiteSyncDialect } from 'drizzle-orm/sqlite-core';
import { IpamError } from '../../domain/error.ts';
import type { Db } from './queries.ts';

/** How long a call waits for another process's transaction. */
const LOCKED_MAX_MS = 5_000;
/** The pauses between its tries: doubling from the first to the last. */
const LOCKED_PAUSE_MIN_MS = 1;
const LOCKED_PAUSE_MAX_MS = 50;

/** A database file, open. */
export interface SqliteFile {
  readonly db: Db;
  readonly client: DatabaseSync;
  /** `work` in one durable transaction that no other process's write can come between. */
  transaction<T>(work: (db: Db) => T): T;
  /** `work`, which only reads, on one state of the database. */
  snapshot<T>(work: () => T): T;
}

/** Runs `work` again while another process has the file locked. SQLite's own wait would hold the event loop, and with
 *  it every answer that needs no ledger. */
export async function whileLocked<T>(work: () => T, boundMs = LOCKED_MAX_MS): Promise<T> {
  const until = performance.now() + boundMs;
  for (let pauseMs = LOCKED_PAUSE_MIN_MS; ; pauseMs = Math.min(pauseMs * 2, LOCKED_PAUSE_MAX_MS)) {
    try {
      return work();
    } catch (error) {
      if (!causeOf(error).message.startsWith(LOCKED) || performance.now() >= until) throw error;
    }
    await sleep(pauseMs);
  }
}

/** Opens the file, and creates it (for its owner alone) with its folder. Throws what the system throws. */
export function openFile(path: string): SqliteFile {
  createPrivately(path);
  // Not imported: Node 22 would print a warning even where MySQL is the store.
  const { DatabaseSync } = process.getBuiltinModule('node:sqlite');
  const client = new DatabaseSync(path);
  try {
    client.exec('PRAGMA busy_timeout = 0; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
  } catch (error) {
    client.close();
    throw error;
  }
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

const MAY_WRITE = 'let the user that ec2-ipam runs as write the file and its folder';
const LOCKED = 'database is locked';
// By SQLite's own texts (https://www.sqlite.org/rescode.html): not every runtime hands on the codes.
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

/** What the driver threw: drizzle wraps it, with the SQL in its message. */
const causeOf = (error: unknown): { code?: string; message: string } => {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return cause instanceof Error ? cause : { message: String(cause) };
};

/** An error of SQLite or of the file system as the store's callers get it; others are left as they are. */
export function fileErrorOf(error: unknown, path: string): unknown {
  const { code = '', message } = causeOf(error);
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
