/** Creates the store that a URL names. */
import { IpamError } from '../domain/error.ts';
import type { Observer } from '../domain/observer.ts';
import type { Store } from './store.ts';
import type { StoreSpec } from './url.ts';

export { ownerOf, settleInstance } from './sqlite/owner.ts';
export { parseStoreUrl, type StoreSpec } from './url.ts';

export interface OpenOptions {
  /** For MySQL, instead of a password in the URL. */
  readonly password?: string | null;
  /** The start of each token, which tells the process that made a move. */
  readonly origin?: string;
  /** Whether the history is written. Default: yes. */
  readonly history?: boolean;
  readonly observer?: Observer | undefined;
}

/** Loads the driver that the URL needs. Connects or opens the file at the first call. Throws bad-request. */
export async function createStore(
  spec: StoreSpec,
  { password = null, origin = '', history = true, observer }: OpenOptions = {},
): Promise<Store> {
  if (spec.kind === 'mysql') {
    const { createMysqlStore } = await import('./mysql/store.ts');
    return createMysqlStore({ spec, password, origin, history, observer });
  }
  if (spec.path === null)
    throw new IpamError('bad-request', 'the store "sqlite:" names no file', {
      hint: 'give it as sqlite:/absolute/path',
    });
  const { createSqliteStore } = await import('./sqlite/store.ts');
  return createSqliteStore(spec.path, { origin, history, observer });
}
