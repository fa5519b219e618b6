/** The migrations of a dialect, from the folder drizzle/. scripts/bundling.ts replaces this module by its data. */
import { fileURLToPath } from 'node:url';
import { type MigrationMeta, readMigrationFiles } from 'drizzle-orm/migrator';

export const migrations = (dialect: 'mysql' | 'sqlite'): MigrationMeta[] =>
  readMigrationFiles({
    migrationsFolder: fileURLToPath(new URL(`../../drizzle/${dialect}`, import.meta.url)),
  });
