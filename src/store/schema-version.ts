/** Compares the schema of a store with the migrations of the program. */
import type { MigrationMeta } from 'drizzle-orm/migrator';

/** Returns why the schema is not the one of this program; null when it is. `newest`: when its newest migration was
 *  generated, null for none. */
export function schemaMismatch(
  place: string,
  newest: number | null,
  migrations: readonly MigrationMeta[],
): string | null {
  const made = migrations.filter(one => newest !== null && one.folderMillis <= newest).length;
  const last = migrations.at(-1)?.folderMillis ?? 0;
  if (newest !== null && newest > last)
    return `the schema of the store at ${place} is newer than this program: install the ec2-ipam that migrated it`;
  if (made < migrations.length)
    return `the schema of the store at ${place} is at step ${made} of ${migrations.length}: run \`ec2-ipam migrate\``;
  return null;
}
