/** One ENI: its limit, its pool, its addresses and what happened to them last. */
import * as v from 'valibot';
import { Ec2Call } from './history-parts.ts';
import { Cell, Counts, count, text, time } from './shapes.ts';

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
  /** Of the last day, newest first. Empty without `--history on`. */
  calls: v.array(Ec2Call),
});
export type EniView = v.InferOutput<typeof EniView>;
