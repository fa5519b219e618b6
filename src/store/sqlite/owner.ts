import { chmodSync, existsSync } from 'node:fs';
import { eq } from 'drizzle-orm';
import type { InstanceId } from '../../domain/ids.ts';
import type { Log } from '../../domain/log.ts';
import type { SqliteSpec } from '../url.ts';
import { fileErrorOf, openFile, type SqliteFile, whileLocked } from './file.ts';
import { migrateSqlite } from './migrate.ts';
import { allocation, bucket, eni, fact, lease, server, subnet } from './schema.ts';

const NAME = 'instance';

/** The instance that an embedded ledger notes as its own; null: none, or there is no ledger yet. Throws
 *  store-down. */
export async function ownerOf({ path }: SqliteSpec): Promise<InstanceId | null> {
  if (path === null || !existsSync(path)) return null;
  return await onFile(path, file => (hasFacts(file) ? ownerIn(file) : null));
}

/**
 * Makes sure that an embedded ledger is this instance's own. A new one is marked as such; one of another
 * instance (this machine was started from its image) holds addresses that are not ours to give: it is
 * copied beside the file, for people, and emptied, so that it is filled from EC2 again. Throws store-down.
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
      log('warn', `the ledger was that of ${owner} and is now rebuilt for ${instance}`, { aside });
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

function copyTo({ client }: SqliteFile, path: string): void {
  client.prepare('VACUUM INTO ?').run(path);
  chmodSync(path, 0o600);
}

const ownerIn = ({ db }: SqliteFile): InstanceId | null =>
  (db.select().from(fact).where(eq(fact.name, NAME)).get()?.value ?? null) as InstanceId | null;

/** False: another process was quicker. */
function takeOver(file: SqliteFile, instance: InstanceId): boolean {
  return file.transaction(db => {
    const owner = ownerIn(file);
    if (owner === instance) return false;
    if (owner !== null)
      for (const table of [allocation, subnet, eni, server, lease, bucket, fact]) db.delete(table).run();
    db.insert(fact).values({ name: NAME, value: instance }).run();
    return true;
  });
}
