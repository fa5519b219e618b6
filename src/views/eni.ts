/** One ENI: its limit, its pool, its addresses and what happened to them last. */
import * as v from 'valibot';
import type { Allocation } from '../domain/allocation.ts';
import { marksOf, NO_GROWTH, placesTaken } from '../domain/pool-size.ts';
import type { LedgerEni } from '../store/store.ts';
import { sumOf } from './parts/counts.ts';
import { callsForEni, Ec2Call } from './parts/history-parts.ts';
import { namesOf } from './parts/names.ts';
import { Cell, Counts, cellOf, count, text, time } from './shapes.ts';
import type { Sources } from './views.ts';

export const EniView = v.object({
  now: time,
  lastEvent: v.string(),
  id: v.string(),
  subnet: v.string(),
  instance: text,
  tenant: text,
  primary: v.string(),
  mac: text,
  attachment: text,
  /** It belongs to this ledger. */
  ours: v.boolean(),
  /** Since when Docker has no network on it; null: it has, or never had. */
  releasedAt: v.nullable(time),
  /** How many addresses it may have, its primary included. */
  limit: v.nullable(count),
  /** Prefixes on it, each of which counts as one address. */
  prefixes: count,
  /** How many more could be assigned; null: the limit is not known. */
  room: v.nullable(count),
  /** The pool is filled up to `high` when fewer than `low` are ready. Both rise while the ENI gains containers. */
  marks: v.object({ low: count, high: count }),
  /** Of the ready ones, how many have rested and how many rest. */
  usable: count,
  resting: count,
  counts: Counts,
  /** In order, the primary included. */
  addresses: v.array(Cell),
  /** The addresses that moved last, the last one first. */
  moves: v.array(Cell),
  /** Of the last day, newest first. Empty with `--history off`. */
  calls: v.array(Ec2Call),
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
