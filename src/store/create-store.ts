import { IpamError } from '../domain/error.ts';
import { createMysqlStore } from './mysql/store.ts';
import { createSqliteStore } from './sqlite/store.ts';
import type { Store } from './store.ts';
import type { StoreSpec } from './url.ts';

export { ownerOf, settleInstance } from './sqlite/owner.ts';
export { parseStoreUrl, type StoreSpec } from './url.ts';

export interface OpenOptions {
  /** Of a mysql store; goes before one in its URL. */
  readonly password?: string | null;
  /** Begins the tokens of this process's moves. */
  readonly origin?: string;
}

/** The store that the spec names. Nothing is touched before the first call. Throws bad-request. */
export function createStore(spec: StoreSpec, { password = null, origin = '' }: OpenOptions = {}): Store {
  if (spec.kind === 'mysql') return createMysqlStore({ spec, password, origin });
  if (spec.path === null)
    throw new IpamError('bad-request', 'the store "sqlite:" names no file', {
      hint: 'give it as sqlite:/absolute/path',
    });
  return createSqliteStore(spec.path, { origin });
}
