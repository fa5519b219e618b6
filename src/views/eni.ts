/** One ENI: its limit, its pool, its addresses and what happened to them last. */
import * as v from 'valibot';
import type { Allocation } from '../domain/allocation.ts';
import { marksOf, NO_GROWTH, placesTaken } from '../domain/pool-size.ts';
import { nextTurn } from '../store/next-turn.ts';
import type { LedgerEni } from '../store/store.ts';
import { sumOf } from './parts/counts.ts';
import { callsForEni, Ec2Call } from './parts/history-parts.ts';
import { namesOf } from './parts/names.ts';
import {
  boolean,
  Cell,
  Counts,
  cellOf,
  count,
  countOrNull,
  described,
  LAST_EVENT,
  NOW,
  string,
  stringOrNull,
  timeOrNull,
} from './shapes.ts';
import type { Sources } from './views.ts';

export const EniView = v.object({
  now: NOW,
  lastEvent: LAST_EVENT,
  id: string('The id of the ENI.'),
  subnet: string('The id of its subnet.'),
  instance: stringOrNull('The id of the instance that has it; null: none.'),
  tenant: stringOrNull('The tenant whose quota its addresses count against; null: none.'),
  primary: string('Its primary address, which no container gets.'),
  mac: stringOrNull('Its MAC address; null: not known.'),
  attachment: stringOrNull('The id of its attachment to the instance; null: none.'),
  ours: boolean('Whether it belongs to this ledger.'),
  releasedAt: timeOrNull('Since when Docker has no network on it; null: it has one, or never had.'),
  limit: countOrNull('How many addresses it may have, its primary included; null: not known.'),
  prefixes: count('Prefixes on it, each of which counts as one address.'),
  room: countOrNull('How many more addresses could be assigned to it; null: the limit is not known.'),
  marks: described(
    v.object({
      low: count('With fewer ready addresses the pool is filled.'),
      high: count('Up to so many ready addresses.'),
    }),
    'When the pool of ready addresses is filled. Both rise while the ENI gains containers.',
  ),
  usable: count('Ready addresses that have rested.'),
  resting: count('Ready addresses that rest.'),
  counts: described(Counts, 'Its addresses by status.'),
  addresses: described(v.array(Cell), 'Its addresses in order, the primary included.'),
  moves: described(v.array(Cell), 'The addresses that moved last, the last one first.'),
  calls: described(
    v.array(Ec2Call),
    "Its latest 50 EC2 calls, of the ledger's latest 2,000 and of the last day, newest first. Empty with `--history off`.",
  ),
});
export type EniView = v.InferOutput<typeof EniView>;

/** Addresses that moved last which are listed. */
const MOVES_MAX = 20;

/** How many more addresses could be assigned to the ENI that has these rows; null: its limit is not known. */
export function roomOn({ addressLimit, prefixes }: LedgerEni, rows: readonly Allocation[]): number | null {
  if (addressLimit === null) return null;
  const taken = placesTaken(
    rows.filter(row => !row.primary),
    prefixes,
  );
  return Math.max(addressLimit - 1 - taken, 0);
}

export async function readEni(sources: Sources, eni: LedgerEni): Promise<EniView> {
  const { store, policy } = sources;
  const lastEvent = sources.lastEvent();
  await nextTurn();
  const { now, rows } = await store.onEni(eni.id);
  const nameOf = await namesOf(store, eni.subnet, rows);
  const addresses = rows.map(row => cellOf(row, policy, now, nameOf(row)));
  const ready = addresses.filter(({ status }) => status === 'ready');
  const resting = ready.filter(({ restsUntil }) => restsUntil !== null).length;
  const { id, subnet, instance, tenant, primary, mac, attachment, ours, releasedAt, prefixes } = eni;
  return {
    ...{ now, lastEvent, id, subnet, instance, tenant, primary, mac, attachment, ours, releasedAt },
    ...{ limit: eni.addressLimit, prefixes },
    room: roomOn(eni, rows),
    marks: marksOf(policy, NO_GROWTH, 0),
    usable: ready.length - resting,
    resting,
    counts: sumOf(rows.map(({ status }) => ({ status, count: 1 }))),
    addresses,
    moves: addresses.toSorted((a, b) => b.since - a.since).slice(0, MOVES_MAX),
    calls: await callsForEni(store, id),
  };
}
