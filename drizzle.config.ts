/** Settings of drizzle-kit for MySQL. For SQLite, package.json gives them as flags in `db:generate` and `db:check`. */
import process from 'node:process';
import { defineConfig } from 'drizzle-kit';
import { tlsOptions } from './src/store/mysql/tls.ts';
import { readPrivate } from './src/store/private-file.ts';
import { parseStoreUrl } from './src/store/url.ts';

const { EC2_IPAM_STORE, EC2_IPAM_STORE_PASSWORD, EC2_IPAM_STORE_PASSWORD_FILE } = process.env;

function password(): string | undefined {
  if (EC2_IPAM_STORE_PASSWORD !== undefined) return EC2_IPAM_STORE_PASSWORD;
  if (EC2_IPAM_STORE_PASSWORD_FILE === undefined) return undefined;
  return readPrivate(EC2_IPAM_STORE_PASSWORD_FILE, 'EC2_IPAM_STORE_PASSWORD_FILE').replace(/\r?\n$/, '');
}

/** As a URL, since drizzle-kit drops `verifyIdentity` from options, and then the driver accepts a certificate for
 *  another name. */
function credentials(text: string) {
  const spec = parseStoreUrl(text);
  if (spec.kind !== 'mysql') throw new Error('drizzle-kit migrates MySQL only; use `ec2-ipam migrate`');
  const host = spec.host.includes(':') ? `[${spec.host}]` : spec.host;
  const url = new URL(`mysql://${host}:${spec.port}/${encodeURIComponent(spec.database)}`);
  url.username = encodeURIComponent(spec.user);
  url.password = encodeURIComponent(password() ?? spec.password ?? '');
  const ssl = tlsOptions(spec.ssl);
  if (ssl !== null) url.searchParams.set('ssl', JSON.stringify(ssl));
  return { url: url.href };
}

export default defineConfig({
  dialect: 'mysql',
  schema: './src/store/mysql/schema.ts',
  out: './drizzle/mysql',
  ...(EC2_IPAM_STORE === undefined ? {} : { dbCredentials: credentials(EC2_IPAM_STORE) }),
});
