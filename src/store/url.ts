/** The URL of the store. */
import { isLoopback, toNumber } from '../domain/address.ts';
import { IpamError } from '../domain/error.ts';
import { shown } from '../domain/text.ts';

export type StoreSpec = SqliteSpec | MysqlSpec;
export interface SqliteSpec {
  readonly kind: 'sqlite';
  /** Null: in the state directory. */
  readonly path: string | null;
}
export interface MysqlSpec {
  readonly kind: 'mysql';
  readonly host: string;
  readonly port: number;
  readonly user: string;
  /** The password in the URL, if any. */
  readonly password: string | null;
  readonly database: string;
  readonly ssl: Ssl;
}
/** `on`: the certificate and the host name are checked, by the runtime's authorities. `Amazon RDS`: by Amazon's. */
export type Ssl = 'off' | 'on' | 'Amazon RDS';

const SSL: readonly Ssl[] = ['off', 'on', 'Amazon RDS'];
const ACCEPTED =
  'give sqlite: (a file in the state directory), sqlite:/absolute/path or mysql://user@host:3306/database?ssl=on (or off, or Amazon RDS)';
const DEFAULT_PORT = 3306;

const refusal = (what: string, hint = ACCEPTED): IpamError => new IpamError('bad-request', what, { hint });

/** Throws bad-request, which never quotes a part that may be a password. */
export function parseStoreUrl(text: string): StoreSpec {
  if (text.startsWith('sqlite:')) return parseSqlite(text.slice('sqlite:'.length));
  if (text.startsWith('mysql:')) return parseMysql(text);
  const scheme = /^[a-z][a-z0-9+.-]*:/i.exec(text)?.[0];
  throw refusal(scheme === undefined ? 'the store is not a URL' : `no store is known for "${shown(scheme)}"`);
}

function parseSqlite(path: string): SqliteSpec {
  if (path === '') return { kind: 'sqlite', path: null };
  if (!path.startsWith('/') || path.endsWith('/') || path.includes('\0'))
    throw refusal(`sqlite path "${shown(path)}" is not an absolute path of a file`);
  return { kind: 'sqlite', path };
}

function parseMysql(text: string): MysqlSpec {
  if (!URL.canParse(text)) throw refusal('the mysql: URL of the store cannot be read');
  const url = new URL(text);
  const database = decoded(url.pathname.slice(1), 'database');
  const user = decoded(url.username, 'user');
  if (url.hostname === '') throw refusal('the mysql: URL of the store names no host');
  if (user === '') throw refusal('the mysql: URL of the store names no user');
  if (database === '' || database.includes('/'))
    throw refusal('the mysql: URL of the store names no database');
  for (const name of url.searchParams.keys())
    if (name !== 'ssl') throw refusal(`"${shown(name)}" is no setting of a mysql: URL`);
  // An IPv6 address has brackets only in a URL.
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  return {
    kind: 'mysql',
    host,
    port: url.port === '' ? DEFAULT_PORT : Number(url.port),
    user,
    password: url.password === '' ? null : decoded(url.password, 'password'),
    database,
    ssl: sslOf(url.searchParams.get('ssl'), host),
  };
}

function decoded(text: string, what: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw refusal(`the ${what} in the mysql: URL of the store has a wrong percent-encoding`);
  }
}

function sslOf(given: string | null, host: string): Ssl {
  if (given === null) {
    if (isLoopback(host)) return 'off';
    throw refusal(
      `the connection to the store at ${host} would be without TLS`,
      'add ?ssl=on or ?ssl=Amazon+RDS to its URL, or ?ssl=off if nobody else uses the network in between',
    );
  }
  const ssl = SSL.find(name => name.toLowerCase() === given.toLowerCase());
  if (ssl === undefined) throw refusal(`ssl="${shown(given)}" is not known`);
  // For an address the driver would look for the name "localhost" in the certificate.
  if (ssl !== 'off' && (toNumber(host) !== null || host.includes(':')))
    throw refusal(
      `ssl=${ssl} checks the name in the server's certificate, and ${host} is an address`,
      'give the name of the server instead',
    );
  return ssl;
}
