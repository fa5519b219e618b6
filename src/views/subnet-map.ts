/** The map of a subnet: cells of a block of at most a /24, and bars of the /24 of a larger one. */
import * as v from 'valibot';
import { type Cidr, formatCidr, fromNumber } from '../domain/address.ts';
import type { BlockCount } from '../store/looks.ts';
import type { LedgerSubnet } from '../store/store.ts';
import { SubnetSummary, summaryOf } from './overview.ts';
import { sumOf } from './parts/counts.ts';
import { namesOf } from './parts/names.ts';
import { Cell, Counts, cellOf, count, text, time } from './shapes.ts';
import type { Sources } from './views.ts';

/** One /24 of a larger subnet. */
const Bar = v.object({
  cidr: v.string(),
  counts: Counts,
  /** Of them, how many operators have reserved, and how many are held but not on their ENIs. */
  reservedByOperators: count,
  missing: count,
});
export type Bar = v.InferOutput<typeof Bar>;

const MapEni = v.object({
  id: v.string(),
  instance: text,
  tenant: text,
  /** It belongs to this ledger. */
  ours: v.boolean(),
});

export const SubnetMap = v.object({
  now: time,
  lastEvent: v.string(),
  subnet: SubnetSummary,
  /** The part of the subnet that `cells` shows: all of it, or a /24; null: the subnet is larger, and `bars` shows all of
   *  it. */
  block: text,
  /** Every address of the block, in order. AWS reserves the first four of a subnet and the last. An address that is not
   *  in the ledger is absent. */
  cells: v.array(Cell),
  bars: v.array(Bar),
  /** The ENIs that the cells name. */
  enis: v.array(MapEni),
});
export type SubnetMap = v.InferOutput<typeof SubnetMap>;

/** The largest block of cells. */
const CELLS_MASK = 24;

/** `block`: a part of at most a /24; null: all of the subnet. */
export async function readSubnetMap(
  sources: Sources,
  subnet: LedgerSubnet,
  block: Cidr | null,
): Promise<SubnetMap> {
  const { store, policy, counts, forecast } = sources;
  const lastEvent = sources.lastEvent();
  const blocks = await counts(subnet);
  const summary = await summaryOf(subnet, blocks, forecast);
  const shown = block ?? (subnet.cidr.maskLength >= CELLS_MASK ? subnet.cidr : null);
  if (shown === null) {
    const { now } = await store.get(subnet.id, []);
    return { now, lastEvent, subnet: summary, block: null, cells: [], bars: barsOf(blocks), enis: [] };
  }
  const { now, rows } = await store.inRange(subnet.id, shown);
  const nameOf = await namesOf(store, subnet.id, rows);
  const cells = rows.map(row => cellOf(row, policy, now, nameOf(row)));
  const ids = [...new Set(rows.flatMap(({ iface }) => iface ?? []))];
  const enis = (await store.enisNamed(ids)).map(({ id, instance, tenant, ours }) => ({
    ...{ id, instance, tenant, ours },
  }));
  return { now, lastEvent, subnet: summary, block: formatCidr(shown), cells, bars: [], enis };
}

function barsOf(blocks: readonly BlockCount[]): Bar[] {
  const byBlock = [...Map.groupBy(blocks, ({ first }) => first)].sort(([a], [b]) => a - b);
  return byBlock.map(([first, ofBlock]) => ({
    cidr: `${fromNumber(first)}/24`,
    counts: sumOf(ofBlock),
    reservedByOperators: ofBlock.reduce((sum, one) => sum + one.reservedByOperators, 0),
    missing: ofBlock.reduce((sum, { missing }) => sum + missing, 0),
  }));
}
