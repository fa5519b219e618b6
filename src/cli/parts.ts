import type { Cloud } from '../cloud/cloud.ts';
import type { Log } from '../domain/log.ts';
import type { Service } from '../http/driver.ts';
import type { Keeper } from '../ipam/keeper.ts';
import type { Machine } from '../ipam/machine.ts';
import type { Store } from '../store/store.ts';
import type { Config } from './config.ts';

/** What a configuration comes to. Nothing has been touched when it is made. */
export interface Parts {
  readonly store: Store;
  readonly cloud: Cloud;
  readonly machine: Machine;
  /** Makes the ledger ready for a server: migrated, and an embedded one this instance's and this boot's. */
  open(): Promise<void>;
  service(opened: Service['opened']): Service;
  readonly keeper: Keeper;
}

/** Ties the parts together; the roof hands it in. */
export type Assemble = (config: Config, log: Log) => Parts;
