import { chmodSync, existsSync } from 'node:fs';
import { eq } from 'drizzle-orm';
import type { InstanceId } from '../domain/ids.ts';
import type { Log } from '../domain/log.ts';
import { fileErrorOf, openFile, type SqliteFile } from './sqlite-file.ts';
import { migrateSqlite } from './sqlite-migrate.ts';
import { allocation, eni, fact, lease, server, subnet } from './sqlite-schema.ts';
import type { SqliteSpec } from './url.ts';

const NAME = 'instance';

/**
 * Makes sure that an embedded ledger is this instance's own. A new one is marked as such; one of another
 * instance (this machine was started from its image) holds addresses that are not ours to give: it is
 * copied beside the file, for people, and emptied, so that it is filled from EC2 again. Throws store-down.
 */
export async function settleInstance(spec: SqliteSpec, instance: InstanceId, log: Log): Promise<void> {
  const { path } = spec;
  if (path === null) return;
  let file: SqliteFile | null = null;
  try {
    file = openFile(path);
    migrateSqlite(file.client);
    const owner = ownerIn(file);
    if (owner === instance) return;
    const aside = owner === null ? null : `${path}.of-${owner}`;
    if (aside !== null && !existsSync(aside)) copyTo(file, aside);
    if (takeOver(file, instance) && aside !== null)
      log('warn', `the ledger was that of ${owner} and is now rebuilt for ${instance}`, { aside });
  } catch (error) {
    throw fileErrorOf(error, path);
  } finally {
    file?.client.close();
  }
}

function copyTo({ client }: SqliteFile, path: string): void {
  client.prepare('VACUUM INTO ?').run(path);
  chmodSync(path, 0o600);
}

const ownerIn = ({ db }: SqliteFile): string | null =>
  db.select().from(fact).where(eq(fact.name, NAME)).get()?.value ?? null;

/** False: another process was quicker. */
function takeOver(file: SqliteFile, instance: InstanceId): boolean {
  return file.transaction(db => {
    const owner = ownerIn(file);
    if (owner === instance) return false;
    if (owner !== null)
      for (const table of [allocation, subnet, eni, server, lease, fact]) db.delete(table).run();
    db.insert(fact).values({ name: NAME, value: instance }).run();
    return true;
  });
}
