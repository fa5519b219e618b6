/** Migrations of a MySQL store. */
import { randomUUID } from 'node:crypto';
import type { MigrationMeta } from 'drizzle-orm/migrator';
import { IpamError } from '../../domain/error.ts';
import { migrations } from '../migrations.ts';
import { schemaMismatch } from '../schema-version.ts';
import { type Link, LOCK_WAIT_S, lockWaitLimits, type Statement } from './connection.ts';
import { ALREADY_MADE, isPassing, MysqlFailure, NO_SUCH_TABLE } from './errors.ts';
import { insist, pause, repeat } from './retry.ts';
import { plain, setNow } from './sql.ts';

/** A table of 100,000 rows is rebuilt in seconds. This is for a slow disk. */
const DDL_TIMEOUT_MS = 600_000;
/** Longer than for other statements, since a migration writes many rows and no request waits for it. */
const DDL_LOCK_WAIT_S = 30;
const LOCK_LEASE_MS = 30_000;
const LOCK_RENEW_MS = 10_000;
/** How long to wait for another process that migrates. */
const LOCK_WAIT_MAX_MS = 120_000;
const LOCK_POLL_MS = 200;
/** How often a migration is run while drizzle-kit, which takes no lock, makes it at the same time. */
const RUNS_MAX = 5;

// The same table as drizzle-kit's, so that each program finds the migrations of the other.
const CREATE_JOURNAL =
  'CREATE TABLE IF NOT EXISTS `__drizzle_migrations` (id serial primary key, hash text not null, created_at bigint)';
const READ_JOURNAL = plain('SELECT MAX(created_at) AS at FROM `__drizzle_migrations`');
const NOTE =
  'INSERT INTO `__drizzle_migrations` (`hash`, `created_at`) SELECT ?, ? FROM DUAL ' +
  'WHERE NOT EXISTS (SELECT 1 FROM `__drizzle_migrations` AS made WHERE made.`created_at` = ?)';

// A row and not GET_LOCK, which locks one node of a cluster only.
const CREATE_LOCK =
  'CREATE TABLE IF NOT EXISTS `migration_lock` ' +
  '(id tinyint NOT NULL PRIMARY KEY, holder varchar(36), until bigint NOT NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4';
const SEED_LOCK =
  'INSERT INTO `migration_lock` (id, holder, until) VALUES (1, NULL, 0) ON DUPLICATE KEY UPDATE id = id';
const READ_LOCK = plain('SELECT holder FROM `migration_lock` WHERE id = 1');
const takeLock = (holder: string): Statement =>
  plain(
    'UPDATE `migration_lock` SET holder = ?, until = @now + ? WHERE id = 1 AND (holder IS NULL OR holder = ? OR until < @now)',
    [holder, LOCK_LEASE_MS, holder],
  );
const renewLock = (holder: string): Statement =>
  plain('UPDATE `migration_lock` SET until = @now + ? WHERE id = 1 AND holder = ?', [LOCK_LEASE_MS, holder]);
const leaveLock = (holder: string): Statement =>
  plain('UPDATE `migration_lock` SET holder = NULL WHERE id = 1 AND holder = ?', [holder]);

/** Returns why the schema cannot be used; null when it can. Throws MysqlFailure. */
export async function outdatedMysql(link: Link, place: string, timeoutMs: number): Promise<string | null> {
  return schemaMismatch(place, await journalOf(link, timeoutMs), migrations('mysql'));
}

/** When the newest migration in the database was generated; null: it has none. */
async function journalOf(link: Link, timeoutMs: number): Promise<number | null> {
  try {
    const [[row] = []] = await repeat(link, [READ_JOURNAL], timeoutMs);
    const at = row?.at ?? null;
    return at === null ? null : Number(at);
  } catch (error) {
    if (error instanceof MysqlFailure && error.errno === NO_SUCH_TABLE) return null;
    throw error;
  }
}

/** Runs the missing migrations, in one process at a time. Throws MysqlFailure, or IpamError `unavailable` when another
 *  process keeps the lock. */
export async function migrateMysql(link: Link, place: string, timeoutMs: number): Promise<void> {
  if (pendingOf(await journalOf(link, timeoutMs)).length === 0) return;
  await repeat(link, [plain(CREATE_LOCK), plain(SEED_LOCK), plain(CREATE_JOURNAL)], timeoutMs);
  const holder = randomUUID();
  await waitForLock(link, place, holder, timeoutMs);
  // The lock only saves double work. To lose it does no harm: see 0001_ledger.sql.
  const renewal = setInterval(() => {
    repeat(link, [setNow(0), renewLock(holder)], LOCK_RENEW_MS).catch(() => {});
  }, LOCK_RENEW_MS);
  try {
    for (const migration of pendingOf(await journalOf(link, timeoutMs))) await make(link, migration);
  } finally {
    clearInterval(renewal);
    await repeat(link, [leaveLock(holder)], timeoutMs);
  }
}

const pendingOf = (newest: number | null): MigrationMeta[] =>
  migrations('mysql').filter(migration => newest === null || migration.folderMillis > newest);

async function waitForLock(link: Link, place: string, holder: string, timeoutMs: number): Promise<void> {
  const giveUpAt = performance.now() + LOCK_WAIT_MAX_MS;
  for (;;) {
    const answers = await insist(link, [setNow(0), takeLock(holder), READ_LOCK], timeoutMs);
    if (answers.at(-1)?.[0]?.holder === holder) return;
    if (performance.now() > giveUpAt)
      throw new IpamError(
        'unavailable',
        `another process has been migrating the store at ${place} for ${LOCK_WAIT_MAX_MS / 1000} s`,
        { hint: 'wait for it, or end it and try again after half a minute' },
      );
    await pause(LOCK_POLL_MS);
  }
}

async function make(link: Link, migration: MigrationMeta): Promise<void> {
  for (let run = 1; ; run++) {
    try {
      await runOnce(link, migration);
      break;
    } catch (error) {
      const met = error instanceof MysqlFailure && (ALREADY_MADE.includes(error.errno) || isPassing(error));
      if (!met || run >= RUNS_MAX) throw error;
    }
  }
}

function runOnce(link: Link, migration: MigrationMeta): Promise<void> {
  const deadline = performance.now() + DDL_TIMEOUT_MS;
  return link.session(deadline, async exchange => {
    await exchange([plain(`SET ${lockWaitLimits(DDL_LOCK_WAIT_S)}`)], deadline);
    for (const text of migration.sql) await exchange([plain(text)], deadline, DDL_TIMEOUT_MS);
    const note = plain(NOTE, [migration.hash, migration.folderMillis, migration.folderMillis]);
    await exchange([note], deadline);
    await exchange([plain(`SET ${lockWaitLimits(LOCK_WAIT_S)}`)], deadline); // the connection is used again
  });
}
