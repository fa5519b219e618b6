/** Which instance an embedded ledger belongs to. */
import { existsSync, renameSync, rmSync } from 'node:fs';
import process from 'node:process';
import { sql } from 'drizzle-orm';
import type { InstanceId } from '../../domain/ids.ts';
import type { Log } from '../../domain/log.ts';
import type { SqliteSpec } from '../url.ts';
import { createPrivately, fileErrorOf, openFile, type SqliteFile, whileLocked } from './file.ts';
import { migrateSqlite } from './migrate.ts';
import {
  allocation,
  bucket,
  ec2Call,
  eni,
  fact,
  history,
  lease,
  server,
  sighting,
  subnet,
  witness,
} from './schema.ts';

const NAME = 'instance';

/** Returns the instance that is noted in an embedded ledger; null when none is, or when there is no ledger yet. Throws
 *  store-down. */
export async function ownerOf({ path }: SqliteSpec): Promise<InstanceId | null> {
  if (path === null || !existsSync(path)) return null;
  return await onFile(path, file => (hasFacts(file) ? ownerIn(file) : null));
}

/**
 * Makes an embedded ledger this instance's. In a new one it notes the instance. The ledger of another instance, of
 * whose image this one was started, has addresses that belong to the other: it is copied to a file beside it and
 * emptied, so that it is filled from EC2 again. Throws store-down.
 */
export async function settleInstance({ path }: SqliteSpec, instance: InstanceId, log: Log): Promise<void> {
  if (path === null) return;
  await onFile(path, file => {
    migrateSqlite(file.client);
    const owner = ownerIn(file);
    if (owner === instance) return;
    const aside = owner === null ? null : `${path}.of-${owner}`;
    if (aside !== null && !existsSync(aside)) copyTo(file, aside);
    if (takeOver(file, instance) && aside !== null)
      log('warn', 'ledger of another instance replaced', { owner, instance, aside });
  });
}

async function onFile<T>(path: string, work: (file: SqliteFile) => T): Promise<T> {
  try {
    return await whileLocked(() => {
      const file = openFile(path);
      try {
        return work(file);
      } finally {
        file.client.close();
      }
    });
  } catch (error) {
    throw fileErrorOf(error, path);
  }
}

const hasFacts = ({ client }: SqliteFile): boolean =>
  client.prepare("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'fact'").get() !== undefined;

/** The copy has its name when it is whole, and is private from its first byte. */
function copyTo({ client }: SqliteFile, path: string): void {
  const part = `${path}.${process.pid}`;
  rmSync(part, { force: true });
  createPrivately(part);
  client.prepare('VACUUM INTO ?').run(part);
  renameSync(part, path);
}

const ownerIn = (file: SqliteFile): InstanceId | null => {
  const [row] = file.rows(sql`SELECT value FROM ${fact} WHERE name = ${NAME}`);
  return (row?.value ?? null) as InstanceId | null;
};

/** Returns false when another process did it first. */
function takeOver(file: SqliteFile, instance: InstanceId): boolean {
  return file.transaction(() => {
    const owner = ownerIn(file);
    if (owner === instance) return false;
    if (owner !== null) for (const table of ALL_TABLES) file.rows(sql`DELETE FROM ${table}`);
    file.rows(sql`INSERT INTO ${fact} (name, value) VALUES (${NAME}, ${instance})`);
    return true;
  });
}
/** Tenants are kept: they are settings. */
const ALL_TABLES = [
  ...[allocation, subnet, eni, server, sighting, witness, lease, bucket, fact],
  ...[history, ec2Call],
];
