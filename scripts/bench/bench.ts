/** What all parts of one run share. */
import type { Runtime } from '../tiers.ts';
import type { Driver } from './driver.ts';
import type { Row } from './rows.ts';
import type { StoreKind, Stores } from './stores.ts';

export const SECTIONS = ['warm', 'cold', 'start', 'init'] as const;
export type Section = (typeof SECTIONS)[number];
/** Addresses of a subnet. */
export const ROW_COUNTS = { '4k': 4_096, '65k': 65_536 } as const;
export type RowCount = keyof typeof ROW_COUNTS;
export const CIDRS: Readonly<Record<RowCount, string>> = { '4k': '10.0.0.0/20', '65k': '10.0.0.0/16' };

/** What is to be measured; null: what is usual for a runtime. */
export interface Plan {
  readonly quick: boolean;
  readonly sections: readonly Section[];
  readonly stores: readonly StoreKind[];
  readonly runtimes: readonly Runtime[];
  readonly clients: readonly number[] | null;
  readonly rows: readonly RowCount[] | null;
}

export interface Bench {
  readonly plan: Plan;
  /** The bundle under test: a copy, alone in its folder. */
  readonly program: string;
  /** For all that is made; gone at the end. */
  readonly folder: string;
  readonly driver: Driver;
  readonly stores: Stores;
  /** Says what is going on. */
  progress(text: string): void;
  found(row: Row): void;
}
