// The bundler replaces this module with the folder's contents (scripts/build.ts).
import { fileURLToPath } from 'node:url';
import { type MigrationMeta, readMigrationFiles } from 'drizzle-orm/migrator';

export const migrations = (dialect: 'mysql' | 'sqlite'): MigrationMeta[] =>
  readMigrationFiles({
    migrationsFolder: fileURLToPath(new URL(`../../drizzle/${dialect}`, import.meta.url)),
  });
