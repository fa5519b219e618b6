/** The overview: what needs somebody's attention, and how full the subnets are. */
import * as v from 'valibot';
import { Counts, count, text, time } from './shapes.ts';

/** What may be wrong. The order is that of the overview. */
const PROBLEMS = [
  'drift', // held, but not on its ENI
  'suspect', // held, but perhaps without a container
  'overdue', // an EC2 call that should have been settled
  'in doubt', // an EC2 call without an answer
  'withheld', // in use on a host, but not held
  'throttled', // EC2 has refused calls of this server, since there were too many
  'pool', // an ENI that does not have the ready addresses that it should have
  'server', // a server that ended without a stop
  'host', // a host that was not seen or read for long
] as const;

const Problem = v.object({
  kind: v.picklist(PROBLEMS),
  /** One line. */
  text: v.string(),
  subnet: text,
  address: text,
  eni: text,
  instance: text,
  since: v.nullable(time),
});
export type Problem = v.InferOutput<typeof Problem>;

export const SubnetSummary = v.object({
  id: v.string(),
  vpc: v.string(),
  cidr: v.string(),
  size: count,
  counts: Counts,
  /** The part of the addresses that are not reserved which are neither free nor ready, 0 to 1. */
  full: v.number(),
  /** In so many milliseconds none is free or ready, if it goes on as lately; null: it does not get fuller, or it is not
   *  known yet. */
  fullInMs: v.nullable(v.number()),
});
export type SubnetSummary = v.InferOutput<typeof SubnetSummary>;

const ReservedRange = v.object({
  subnet: v.string(),
  /** As `10.0.1.20` or `10.0.1.20-10.0.1.29`. */
  addresses: v.string(),
  first: v.string(),
  count,
  why: v.string(),
  since: time,
});

export const Overview = v.object({
  now: time,
  /** Where `/api/v1/events?after=` goes on, so that no change after this reading is missed. */
  lastEvent: v.string(),
  problems: v.array(Problem),
  /** Problems that are not listed, since there are too many of their kind. */
  problemsLeft: count,
  subnets: v.array(SubnetSummary),
  /** What operators hold. */
  reserved: v.array(ReservedRange),
});
export type Overview = v.InferOutput<typeof Overview>;
