/** The map of a subnet: cells of a block of at most a /24, and bars of the /24 of a larger one. */
import * as v from 'valibot';
import { type Cidr, formatCidr, fromNumber } from '../domain/address.ts';
import type { BlockCount } from '../store/looks.ts';
import { nextTurn } from '../store/next-turn.ts';
import type { LedgerSubnet } from '../store/store.ts';
import { SubnetSummary, summaryOf } from './overview.ts';
import { sumOf } from './parts/counts.ts';
import { lastEventBefore } from './parts/moments.ts';
import { namesOf } from './parts/names.ts';
import {
  boolean,
  Cell,
  Counts,
  cellOf,
  count,
  described,
  LAST_EVENT,
  NOW,
  string,
  stringOrNull,
} from './shapes.ts';
import type { Sources } from './views.ts';

/** One /24 of a larger subnet. */
const Bar = v.object({
  cidr: string('The /24.'),
  counts: described(Counts, 'Its addresses by status.'),
  reservedByOperators: count('How many of them operators have reserved.'),
  missing: count('How many of them are held, but not on their ENIs.'),
});
export type Bar = v.InferOutput<typeof Bar>;

const MapEni = v.object({
  id: string('The id of the ENI.'),
  instance: stringOrNull('The id of the instance that has it; null: none.'),
  tenant: stringOrNull('The tenant whose quota its addresses count against; null: none.'),
  ours: boolean('Whether it belongs to this ledger.'),
});

export const SubnetMap = v.object({
  now: NOW,
  lastEvent: LAST_EVENT,
  subnet: described(SubnetSummary, 'How full the subnet is.'),
  block: stringOrNull(
    'The part of the subnet that `cells` shows: all of it, or a /24; null: the subnet is larger, and `bars` shows all ' +
      'of it.',
  ),
  cells: described(
    v.array(Cell),
    'Every address of the block, in order. AWS reserves the first four of a subnet and the last. An address that is ' +
      'not in the ledger is absent.',
  ),
  bars: described(v.array(Bar), 'One for each /24 of a larger subnet.'),
  enis: described(v.array(MapEni), 'The ENIs that the cells name.'),
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
  const moment = sources.moment();
  const { blocks, begun } = await counts(subnet);
  const lastEvent = lastEventBefore(moment, begun); // the counts may be kept from before
  const summary = await summaryOf(subnet, blocks, forecast);
  const shown = block ?? (subnet.cidr.maskLength >= CELLS_MASK ? subnet.cidr : null);
  if (shown === null) {
    const { now } = await store.get(subnet.id, []);
    return { now, lastEvent, subnet: summary, block: null, cells: [], bars: barsOf(blocks), enis: [] };
  }
  await nextTurn(); // who asked for the counts meanwhile has them in this turn too
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
