/** Creates the store that a URL names. */
import { IpamError } from '../domain/error.ts';
import { createMysqlStore } from './mysql/store.ts';
import { createSqliteStore } from './sqlite/store.ts';
import type { Store } from './store.ts';
import type { StoreSpec } from './url.ts';

export { ownerOf, settleInstance } from './sqlite/owner.ts';
export { parseStoreUrl, type StoreSpec } from './url.ts';

export interface OpenOptions {
  /** For MySQL, instead of a password in the URL. */
  readonly password?: string | null;
  /** The start of each token, which tells the process that made a move. */
  readonly origin?: string;
}

/** Connects or opens the file at the first call. Throws bad-request. */
export function createStore(spec: StoreSpec, { password = null, origin = '' }: OpenOptions = {}): Store {
  if (spec.kind === 'mysql') return createMysqlStore({ spec, password, origin });
  if (spec.path === null)
    throw new IpamError('bad-request', 'the store "sqlite:" names no file', {
      hint: 'give it as sqlite:/absolute/path',
    });
  return createSqliteStore(spec.path, { origin });
}
