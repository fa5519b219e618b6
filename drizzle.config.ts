/** Settings of drizzle-kit for MySQL. For SQLite, package.json gives them as flags in `db:generate` and `db:check`. */
import { readFileSync } from 'node:fs';
import process from 'node:process';
import { defineConfig } from 'drizzle-kit';
import { parseStoreUrl } from './src/store/url.ts';

const { EC2_IPAM_STORE, EC2_IPAM_STORE_PASSWORD, EC2_IPAM_STORE_PASSWORD_FILE } = process.env;

function password(): string | undefined {
  if (EC2_IPAM_STORE_PASSWORD !== undefined) return EC2_IPAM_STORE_PASSWORD;
  if (EC2_IPAM_STORE_PASSWORD_FILE === undefined) return undefined;
  return readFileSync(EC2_IPAM_STORE_PASSWORD_FILE, 'utf8').replace(/\r?\n$/, '');
}

function credentials(url: string) {
  const spec = parseStoreUrl(url);
  if (spec.kind !== 'mysql') throw new Error('drizzle-kit migrates MySQL only; use `ec2-ipam migrate`');
  const secret = password() ?? spec.password;
  return {
    host: spec.host,
    port: spec.port,
    user: spec.user,
    database: spec.database,
    ...(secret === null ? {} : { password: secret }),
    ...(spec.ssl === 'off' ? {} : { ssl: spec.ssl === 'on' ? {} : spec.ssl }),
  };
}

export default defineConfig({
  dialect: 'mysql',
  schema: './src/store/mysql/schema.ts',
  out: './drizzle/mysql',
  ...(EC2_IPAM_STORE === undefined ? {} : { dbCredentials: credentials(EC2_IPAM_STORE) }),
});
