import type { MigrationMeta } from 'drizzle-orm/migrator';

/** Why a schema whose newest migration was generated at `newest` (null: it has none) is not the one that
 *  this program was made for; null when it is. */
export function behindOrAhead(
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
