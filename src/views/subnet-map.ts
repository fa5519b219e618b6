/** The map of a subnet: cells of a block of at most a /24, and bars of the /24 of a larger one. */
import * as v from 'valibot';
import { SubnetSummary } from './overview.ts';
import { Cell, Counts, count, text, time } from './shapes.ts';

/** One /24 of a larger subnet. */
const Bar = v.object({
  cidr: v.string(),
  counts: Counts,
  /** Of them, how many operators hold, and how many are held but not on their ENIs. */
  heldFor: count,
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
