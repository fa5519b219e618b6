/** The overview: what needs somebody's attention, and how full the subnets are. */
import * as v from 'valibot';
import { formatCidr, formatRange, fromNumber, sizeOf } from '../domain/address.ts';
import type { Allocation } from '../domain/allocation.ts';
import type { BlockCount } from '../store/looks.ts';
import { nextTurn } from '../store/next-turn.ts';
import type { LedgerSubnet, Store } from '../store/store.ts';
import { availableIn, fullOf, sumOf } from './parts/counts.ts';
import type { Forecast } from './parts/forecast.ts';
import { lastEventBefore, type Moment } from './parts/moments.ts';
import { readProblems } from './parts/problems.ts';
import { type ReservedRange, reservedRanges } from './parts/reserved-ranges.ts';
import {
  Counts,
  count,
  described,
  LAST_EVENT,
  NOW,
  number,
  numberOrNull,
  string,
  stringOrNull,
  time,
  timeOrNull,
} from './shapes.ts';
import type { Sources } from './views.ts';

/** What may be wrong. The order is that of the overview. */
const MEANINGS = {
  drift: 'held, but not on its ENI',
  suspect: 'held, but perhaps without a container',
  overdue: 'an EC2 call that should have been settled',
  'in doubt': 'an EC2 call without an answer',
  withheld: 'in use on a host, but not held',
  throttled: 'EC2 has refused calls of this server, since there were too many',
  pool: 'an ENI that does not have the ready addresses that it should have',
  server: 'a server that ended without a stop',
  host: 'a host that was not seen or read for long',
} as const;
const PROBLEMS = Object.keys(MEANINGS) as (keyof typeof MEANINGS)[];

const Problem = v.object({
  kind: described(
    v.picklist(PROBLEMS),
    Object.entries(MEANINGS)
      .map(([kind, meaning]) => `\`${kind}\`: ${meaning}.`)
      .join(' '),
  ),
  text: string('One line for people.'),
  subnet: stringOrNull('The id of the subnet; null: it is about none.'),
  address: stringOrNull('The IPv4 address; null: it is about none.'),
  eni: stringOrNull('The id of the ENI; null: it is about none.'),
  instance: stringOrNull('The id of the instance; null: it is about none.'),
  since: timeOrNull('Since when; null: not known.'),
});
export type Problem = v.InferOutput<typeof Problem>;

export const SubnetSummary = v.object({
  id: string('The id of the subnet.'),
  vpc: string('The id of its VPC.'),
  cidr: string('Its CIDR.'),
  size: count('How many addresses it has, with those that AWS reserves.'),
  counts: described(Counts, 'Its addresses by status.'),
  full: number('The part of the addresses that are not reserved which are neither free nor ready, 0 to 1.'),
  fullInMs: numberOrNull(
    'In so many milliseconds none is free or ready, if it goes on as lately; null: it does not get fuller, or it is ' +
      'not known yet.',
  ),
});
export type SubnetSummary = v.InferOutput<typeof SubnetSummary>;

const Reserved = v.object({
  subnet: string('The id of the subnet.'),
  addresses: string('As `10.0.1.20` or `10.0.1.20-10.0.1.29`.'),
  first: string('The first of them.'),
  count: count('How many they are.'),
  why: string('The reason that the operator gave.'),
  since: time('When the first of them was reserved.'),
});

export const Overview = v.object({
  now: NOW,
  lastEvent: LAST_EVENT,
  problems: described(v.array(Problem), "What needs somebody's attention, the worst kind first."),
  problemsLeft: count('Problems that are not listed, since there are too many of their kind.'),
  subnets: described(v.array(SubnetSummary), 'The fullest first.'),
  reserved: described(v.array(Reserved), 'What operators have reserved.'),
});
export type Overview = v.InferOutput<typeof Overview>;

/** Problems of one kind that are listed. */
const LISTED_MAX = 100;
/** Blocks with such addresses that are read. */
const RESERVED_BLOCKS_MAX = 64;

export async function readOverview(sources: Sources): Promise<Overview> {
  const { store, counts, forecast } = sources;
  const moments: [Moment, ...Moment[]] = [sources.moment()];
  const subnets = await sources.subnets();
  const summaries: SubnetSummary[] = [];
  const reserved: ReservedRange[] = [];
  for (const subnet of subnets) {
    const { blocks, begun } = await counts(subnet);
    moments.push(begun);
    summaries.push(await summaryOf(subnet, blocks, forecast));
    reserved.push(...(await reservedIn(store, subnet, blocks)));
  }
  const { now, problems } = await readProblems(sources, summaries);
  const listed = [...Map.groupBy(problems, ({ kind }) => kind).values()].map(of => of.slice(0, LISTED_MAX));
  const shown = listed.flat();
  return {
    ...{ now, lastEvent: lastEventBefore(...moments) },
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
