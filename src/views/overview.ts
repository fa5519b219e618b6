/** The overview: what needs somebody's attention, and how full the subnets are. */
import * as v from 'valibot';
import { formatCidr, formatRange, fromNumber, sizeOf } from '../domain/address.ts';
import type { Allocation } from '../domain/allocation.ts';
import type { BlockCount } from '../store/looks.ts';
import type { LedgerSubnet, Store } from '../store/store.ts';
import { availableIn, fullOf, nextTurn, sumOf } from './parts/counts.ts';
import type { Forecast } from './parts/forecast.ts';
import { readProblems } from './parts/problems.ts';
import { type ReservedRange, reservedRanges } from './parts/reserved-ranges.ts';
import { Counts, count, text, time } from './shapes.ts';
import type { Sources } from './views.ts';

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

const Reserved = v.object({
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
  /** What operators have reserved. */
  reserved: v.array(Reserved),
});
export type Overview = v.InferOutput<typeof Overview>;

/** Problems of one kind that are listed. */
const LISTED_MAX = 100;
/** Blocks with such addresses that are read. */
const RESERVED_BLOCKS_MAX = 64;

export async function readOverview(sources: Sources): Promise<Overview> {
  const { store, counts, forecast } = sources;
  const lastEvent = sources.lastEvent();
  const subnets = await sources.subnets();
  const summaries: SubnetSummary[] = [];
  const reserved: ReservedRange[] = [];
  for (const subnet of subnets) {
    const blocks = await counts(subnet);
    summaries.push(await summaryOf(subnet, blocks, forecast));
    reserved.push(...(await reservedIn(store, subnet, blocks)));
  }
  const { now, problems } = await readProblems(sources, summaries);
  const listed = [...Map.groupBy(problems, ({ kind }) => kind).values()].map(of => of.slice(0, LISTED_MAX));
  const shown = listed.flat();
  return {
    ...{ now, lastEvent },
    problems: shown.sort((a, b) => PROBLEMS.indexOf(a.kind) - PROBLEMS.indexOf(b.kind)),
    problemsLeft: problems.length - shown.length,
    subnets: summaries.sort((a, b) => b.full - a.full || (a.id < b.id ? -1 : 1)),
    reserved: reserved.map(range => ({
      ...{ subnet: range.subnet, addresses: formatRange(range), first: fromNumber(range.first) },
      ...{ count: sizeOf(range), why: range.why, since: range.since },
    })),
  };
}

export async function summaryOf(
  { id, vpc, cidr }: LedgerSubnet,
  blocks: readonly BlockCount[],
  { fullInMs }: Forecast,
): Promise<SubnetSummary> {
  const counts = sumOf(blocks);
  return {
    ...{ id, vpc, cidr: formatCidr(cidr), size: sizeOf(cidr), counts, full: fullOf(counts) },
    fullInMs: await fullInMs(
      id,
      availableIn(counts),
      blocks.reduce((sum, { begun }) => sum + begun, 0),
    ),
  };
}

/** Only the blocks that have some are read. */
async function reservedIn(
  store: Store,
  { id }: LedgerSubnet,
  blocks: readonly BlockCount[],
): Promise<ReservedRange[]> {
  const withSome = blocks
    .filter(({ reservedByOperators }) => reservedByOperators > 0)
    .sort((a, b) => a.first - b.first);
  const rows: Allocation[] = [];
  for (const { first } of withSome.slice(0, RESERVED_BLOCKS_MAX)) {
    const block = await store.inRange(id, { first, last: first + 255 });
    rows.push(...block.rows.filter(row => row.reservedFor !== null));
    await nextTurn();
  }
  return reservedRanges(rows);
}
