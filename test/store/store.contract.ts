// Goal: every store does what the memory store does. Method: one suite, run on each; what a move does to a
// row is compared with the domain's `moved`, for every move of the table.
import type { Store } from '../../src/store/store.ts';
import { suite } from '../kit/uvu.ts';
import { containers } from './contract/containers.ts';
import { choosingFree } from './contract/free.ts';
import { history } from './contract/history.ts';
import { hosts } from './contract/hosts.ts';
import { looks } from './contract/looks.ts';
import { compareAndSet, everyMove } from './contract/moves.ts';
import { adding, reading } from './contract/rows.ts';
import { enis, leases, permits, servers } from './contract/servers.ts';
import { sightings } from './contract/sightings.ts';
import { tenants } from './contract/tenants.ts';

export interface Opened {
  readonly store: Store;
  /** Sets the store's clock forward. */
  advance(ms: number): void;
  close(): Promise<void>;
}
export type Test = ReturnType<typeof suite<Opened>>;

export function contract(name: string, open: () => Promise<Opened>): void {
  const test = suite<Opened>(`store: ${name}`);
  test.before.each(async context => {
    Object.assign(context, await open());
    await context.store.migrate();
  });
  test.after.each(context => context.close());
  for (const group of [
    everyMove,
    compareAndSet,
    adding,
    reading,
    choosingFree,
    enis,
    servers,
    leases,
    permits,
    hosts,
    sightings,
    tenants,
    history,
    containers,
    looks,
  ])
    group(test);
  test.run();
}

const STARTED_AT = 1_700_000_000_000;
/** The contract of a store in this process, on a clock that only tests move. */
export function contractByClock(name: string, open: (clock: () => number) => Store): void {
  contract(name, async () => {
    let now = STARTED_AT;
    const store = open(() => now);
    const advance = (ms: number) => {
      now += ms;
    };
    return { store, advance, close: () => store.close() };
  });
}
