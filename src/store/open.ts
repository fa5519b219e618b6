import { IpamError } from '../domain/error.ts';
import { openMysql } from './mysql.ts';
import { openSqlite } from './sqlite.ts';
import type { Store } from './store.ts';
import type { SqliteSpec, StoreSpec } from './url.ts';

export { settleInstance } from './instance.ts';
export { parseStoreUrl, type StoreSpec } from './url.ts';

export interface OpenOptions {
  /** Of a mysql store; goes before one in its URL. */
  readonly password?: string | null;
  /** Where `sqlite:` without a path is. */
  readonly defaultSqlitePath?: string;
  /** Begins the tokens of this process's moves. */
  readonly origin?: string;
}

/** The store that the spec names. Nothing is touched before the first call. Throws bad-request. */
export function openStore(spec: StoreSpec, options: OpenOptions = {}): Store {
  const { origin = '' } = options;
  return spec.kind === 'sqlite'
    ? openSqlite(pathOf(spec, options), { origin })
    : openMysql({ spec, password: options.password ?? null, origin });
}

function pathOf(spec: SqliteSpec, options: OpenOptions): string {
  const path = spec.path ?? options.defaultSqlitePath;
  if (path === undefined)
    throw new IpamError('bad-request', 'the store "sqlite:" names no file', {
      hint: 'give it as sqlite:/absolute/path',
    });
  return path;
}
