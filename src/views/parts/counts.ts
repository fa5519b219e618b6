/** How many addresses of a subnet have each status, by /24. */
import type { Cidr } from '../../domain/address.ts';
import { STATUSES } from '../../domain/allocation.ts';
import type { BlockCount } from '../../store/looks.ts';
import { nextTurn } from '../../store/next-turn.ts';
import type { LedgerSubnet, Store } from '../../store/store.ts';
import type { Counts } from '../shapes.ts';
import { kept } from './kept.ts';
import type { Moment } from './moments.ts';

/** Counts are good for so long. */
const KEPT_MS = 1000;
/** Subnets whose counts are kept. */
const SUBNETS_MAX = 1000;

export interface Counted {
  readonly blocks: readonly BlockCount[];
  readonly begun: Moment;
}
export type SubnetCounts = (subnet: LedgerSubnet) => Promise<Counted>;

/** Returns a function that counts a subnet at most once a second, never twice at a time. */
export function createSubnetCounts(
  store: Pick<Store, 'blocks' | 'partsOf'>,
  clock: () => number,
  moment: () => Moment,
): SubnetCounts {
  const byId = new Map<string, () => Promise<Counted>>();
  return ({ id, cidr }) => {
    const count =
      byId.get(id) ??
      kept(async () => ({ begun: moment(), blocks: await countAll(store, id, cidr) }), KEPT_MS, clock);
    if (byId.size < SUBNETS_MAX) byId.set(id, count);
    return count();
  };
}

async function countAll(store: Pick<Store, 'blocks' | 'partsOf'>, id: LedgerSubnet['id'], cidr: Cidr) {
  const found: BlockCount[] = [];
  for (const part of store.partsOf(cidr)) {
    found.push(...(await store.blocks(id, part)));
    await nextTurn();
  }
  return found;
}

export function sumOf(blocks: readonly Pick<BlockCount, 'status' | 'count'>[]): Counts {
  const counts = Object.fromEntries(STATUSES.map(status => [status, 0])) as Counts;
  for (const { status, count } of blocks) counts[status] += count;
  return counts;
}

/** Addresses that can still be given. */
export const availableIn = ({ free, ready }: Counts): number => free + ready;

/** The part of the addresses that are not reserved which are neither free nor ready. The alerts say the same. */
export function fullOf(counts: Counts): number {
  const usable = STATUSES.reduce((sum, status) => sum + (status === 'reserved' ? 0 : counts[status]), 0);
  return usable === 0 ? 0 : 1 - availableIn(counts) / usable;
}
