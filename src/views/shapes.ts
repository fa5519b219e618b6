/** The parts that several views have. Times are milliseconds since 1970 by the store's clock; `now` is its time when the
 *  view was read. What is not known, or is not there, is null. */
import * as v from 'valibot';
import { type Allocation, containerIdOf, STATUSES, type Status } from '../domain/allocation.ts';

/** The schema with what it means, which the description of the API tells. */
export const described = <const S extends v.GenericSchema>(
  schema: S,
  meaning: string,
): v.SchemaWithPipe<readonly [S, v.DescriptionAction<v.InferOutput<S>, string>]> =>
  v.pipe(schema, v.description(meaning));

const SINCE_1970 = "In milliseconds since 1970 by the ledger's clock.";
const counted = v.pipe(v.number(), v.integer(), v.minValue(0));

export const string = (meaning: string) => described(v.string(), meaning);
export const stringOrNull = (meaning: string) => described(v.nullable(v.string()), meaning);
export const time = (meaning: string) => described(v.number(), `${meaning} ${SINCE_1970}`);
export const timeOrNull = (meaning: string) => described(v.nullable(v.number()), `${meaning} ${SINCE_1970}`);
export const number = (meaning: string) => described(v.number(), meaning);
export const numberOrNull = (meaning: string) => described(v.nullable(v.number()), meaning);
export const count = (meaning: string) => described(counted, meaning);
export const countOrNull = (meaning: string) => described(v.nullable(counted), meaning);
export const boolean = (meaning: string) => described(v.boolean(), meaning);

/** What nearly all views have. */
export const NOW = time('When the view was read.');
export const LAST_EVENT = string(
  'Where `/api/v1/events?after=` goes on, so that no change after this reading is missed.',
);

const MEANINGS: Readonly<Record<Status, string>> = {
  free: 'On no ENI, and to be given.',
  assigning: 'EC2 is asked to put it on an ENI.',
  ready: 'On its ENI, and no container has it.',
  allocated: 'Held by a container.',
  unassigning: 'EC2 is asked to take it off its ENI.',
  occupied: 'In use by something else.',
  reserved: 'Never given.',
};
const statusMeanings = STATUSES.map(status => `\`${status}\`: ${MEANINGS[status]}`).join(' ');

/** How many addresses have each status. */
export const Counts = v.object(
  Object.fromEntries(STATUSES.map(status => [status, count(MEANINGS[status])])) as Record<
    Status,
    ReturnType<typeof count>
  >,
);
export type Counts = v.InferOutput<typeof Counts>;

/** One address of the map, and of a live event. */
export const Cell = v.object({
  subnet: string('The id of its subnet.'),
  address: string('The IPv4 address.'),
  status: described(v.picklist(STATUSES), statusMeanings),
  generation: count(
    'Rises with each move. Of two cells of an address the one with the higher generation is the newer.',
  ),
  since: time('When it came into this status; of a held one, when it was given.'),
  eni: stringOrNull('The id of the ENI that it is on, or that EC2 is asked about; null: none.'),
  instance: stringOrNull(
    'The id of the instance that it was given to, as far as its request proved one; null: see the ENI.',
  ),
  container: stringOrNull(
    'The name of the container that has it, as Docker named it or a reading of its host showed; null: none, or not known.',
  ),
  containerId: stringOrNull(
    'The id of that container, 64 digits in hexadecimal; null: none, or no reading of its host has shown it yet.',
  ),
  restsUntil: timeOrNull(
    'Free or ready, and not given before then unless nothing else is left; null: it has rested.',
  ),
  missingSince: timeOrNull('Held, but not on its ENI, since then; null: it is not missing.'),
  reservedFor: stringOrNull('Why an operator has reserved it; null: no operator has.'),
  primary: boolean('Whether it is the primary address of an ENI, which no container gets.'),
});
export type Cell = v.InferOutput<typeof Cell>;

/** In milliseconds. */
export interface RestTimes {
  readonly cooldownMs: number;
  readonly quarantineMs: number;
}

/** `name`: of the container, as a reading of its host has shown it. */
export function cellOf(row: Allocation, rest: RestTimes, now: number, name: string | null = null): Cell {
  const { subnet, ip: address, status, generation, iface: eni, instance, missingSince, primary } = row;
  return {
    ...{ subnet, address, status, generation, since: row.movedAt, eni, instance },
    ...{ container: row.holder ?? name, containerId: containerIdOf(row) },
    restsUntil: restsUntil(row, rest, now),
    ...{ missingSince, reservedFor: row.reservedFor, primary },
  };
}

/** A ready address rests for its own ENI, a free one for any. */
function restsUntil(row: Allocation, { cooldownMs, quarantineMs }: RestTimes, now: number): number | null {
  if (row.restedSince === null || (row.status !== 'free' && row.status !== 'ready')) return null;
  const isOwn = row.status === 'ready' && row.restedFrom === row.iface;
  const until = row.restedSince + (isOwn ? cooldownMs : quarantineMs);
  return until > now ? until : null;
}
