/** The parts that several views have. Times are milliseconds since 1970 by the store's clock; `now` is its time when the
 *  view was read. What is not known, or is not there, is null. */
import * as v from 'valibot';
import { type Allocation, STATUSES, type Status } from '../domain/allocation.ts';

export const time = v.number();
export const text = v.nullable(v.string());
export const count = v.pipe(v.number(), v.integer(), v.minValue(0));

/** How many addresses have each status. */
export const Counts = v.object(
  Object.fromEntries(STATUSES.map(status => [status, count])) as Record<Status, typeof count>,
);
export type Counts = v.InferOutput<typeof Counts>;

/** One address of the map, and of a live event. */
export const Cell = v.object({
  subnet: v.string(),
  address: v.string(),
  status: v.picklist(STATUSES),
  /** It rises with each move. Of two cells of an address the one with the higher generation is the newer. */
  generation: count,
  /** When it came into this status; of a held one, when it was given. */
  since: time,
  eni: text,
  /** The instance that it was given to, as far as its request proved one; else see the ENI. */
  instance: text,
  container: text,
  /** Free or ready, and not given before then unless nothing else is left; null: it has rested. */
  restsUntil: v.nullable(time),
  /** Held, but not on its ENI, since then. */
  missingSince: v.nullable(time),
  /** Why an operator has reserved it. */
  reservedFor: text,
  /** The primary address of an ENI, which no container gets. */
  primary: v.boolean(),
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
    container: row.holder ?? name,
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
