/** Migrations of a SQLite store. */
import type { DatabaseSync } from 'node:sqlite';
import { migrations } from '../migrations.ts';
import { schemaMismatch } from '../schema-version.ts';
import { between } from './file.ts';

// The same table as drizzle's.
const CREATE_JOURNAL =
  'CREATE TABLE IF NOT EXISTS __drizzle_migrations (id INTEGER PRIMARY KEY, hash text NOT NULL, created_at numeric)';

/** When the newest migration in the file was generated; null: it has none. */
function journalOf(client: DatabaseSync): number | null {
  const table = client
    .prepare("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '__drizzle_migrations'")
    .get();
  if (table === undefined) return null;
  const at = client.prepare('SELECT MAX(created_at) AS at FROM __drizzle_migrations').get()?.at ?? null;
  return at === null ? null : Number(at);
}

export const outdatedSqlite = (client: DatabaseSync, path: string): string | null =>
  schemaMismatch(path, journalOf(client), migrations('sqlite'));

/** Runs the missing migrations. drizzle's own function reads its journal outside the transaction, so that two processes
 *  that start at the same time would collide. */
export function migrateSqlite(client: DatabaseSync): void {
  between(client, 'BEGIN IMMEDIATE', () => {
    const newest = journalOf(client);
    client.exec(CREATE_JOURNAL);
    for (const migration of migrations('sqlite')) {
      if (newest !== null && migration.folderMillis <= newest) continue;
      for (const text of migration.sql) client.exec(text);
      client
        .prepare('INSERT INTO __drizzle_migrations (hash, created_at) VALUES (?, ?)')
        .run(migration.hash, migration.folderMillis);
    }
  });
}
