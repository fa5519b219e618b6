/** One address: what it is now, who held it, and the EC2 calls that named it. */
import * as v from 'valibot';
import { Ec2Call, Tenure } from './history-parts.ts';
import { Cell, text, time } from './shapes.ts';

export const AddressView = v.object({
  now: time,
  lastEvent: v.string(),
  cell: Cell,
  /** Of its ENI. */
  instance: text,
  /** AWS reserves it. */
  isAws: v.boolean(),
  /** The last release, and the ENI that it was on then. */
  restedSince: v.nullable(time),
  restedFrom: text,
  /** The last time that it left an ENI. */
  leftAt: v.nullable(time),
  leftEni: text,
  /** Occupied, but on no ENI since then. */
  absentSince: v.nullable(time),
  /** What a reading of its host has shown: who uses it though nobody holds it, and since when nobody uses it though it is
   *  held. */
  usedBy: text,
  unseenSince: v.nullable(time),
  /** Newest first. Empty without `--history on`. */
  tenures: v.array(Tenure),
  calls: v.array(Ec2Call),
});
export type AddressView = v.InferOutput<typeof AddressView>;
