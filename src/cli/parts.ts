import type { Log } from '../domain/log.ts';
import type { Service } from '../http/driver.ts';
import type { IpamContext } from '../ipam/context.ts';
import type { Keeper } from '../ipam/sync/keeper.ts';
import type { Store } from '../store/store.ts';
import type { Config } from './settings/config.ts';

/** What a configuration comes to. Nothing has been touched when it is made. */
export interface Parts {
  readonly store: Store;
  readonly context: IpamContext;
  /** Makes the ledger ready for who serves or fills it: migrated, and an embedded one this instance's and this
   *  boot's. One of another instance is set aside and begun anew. */
  open(): Promise<void>;
  /** Makes sure that an embedded ledger is this instance's, for who acts on EC2 by it. Changes nothing. Throws
   *  conflict when it is another's, and store-down when nobody says which instance this is. */
  own(): Promise<void>;
  service(opened: Service['opened']): Service;
  readonly keeper: Keeper;
}

/** Ties the parts together; the roof hands it in. */
export type Assemble = (config: Config, log: Log) => Parts;
