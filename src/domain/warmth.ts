/**
 * How many ready addresses a pool should have. Demand lies between two marks, so that it doesn't oscillate: below
 * `low` the pool is filled up to `high`, above `high` what has long been idle goes back, and between them nothing
 * happens. Both marks rise with the growth of the pool's holders and fall back within minutes.
 *
 * Worked numbers for min 2 and max 6, on an ENI with room enough:
 *
 * | holders gained lately | low | high | usable now | refill |
 * | ---: | ---: | ---: | ---: | --- |
 * | 0 | 2 | 6 | 2 | none: between the marks |
 * | 0 | 2 | 6 | 1 | 5, in one call |
 * | 4 (a small service started) | 6 | 14 | 5 | 9 |
 * | 20 (a deploy) | 22 | 46 | 21 | 25: the pool doubles with each call |
 */
import { numberOf } from './address.ts';
import type { Allocation } from './allocation.ts';

/** The marks of a quiet pool. A `max` of 0: none is kept. */
export interface WarmTarget {
  readonly warmMin: number;
  readonly warmMax: number;
}
export interface Marks {
  readonly low: number;
  readonly high: number;
}

/** The net number of holders that a pool gained, each counted less the longer ago it was. */
export interface Growth {
  readonly level: number;
  /** When that was so, on a clock in milliseconds. */
  readonly at: number;
}

/** In this time a gain comes to count half. */
export const GROWTH_HALVES_IN_MS = 60_000;
export const NO_GROWTH: Growth = { level: 0, at: 0 };

const levelAt = ({ level, at }: Growth, now: number): number =>
  level * 2 ** (-Math.max(now - at, 0) / GROWTH_HALVES_IN_MS);

/** After a claim (1) or a release (-1). One container that crashes and starts again grows nothing, and more releases
 *  than claims are not remembered: what a pool lost says nothing of what it will need. */
export const grown = (before: Growth, change: 1 | -1, now: number): Growth => ({
  level: Math.max(levelAt(before, now) + change, 0),
  at: now,
});

export function marksOf({ warmMin, warmMax }: WarmTarget, growth: Growth, now: number): Marks {
  if (warmMax === 0) return { low: 0, high: 0 };
  const gained = Math.round(levelAt(growth, now));
  return { low: warmMin + gained, high: warmMax + 2 * gained };
}

/** What a pool has. */
export interface Stock {
  /** Ready and rested. */
  readonly usable: number;
  /** Ready, and still cooling down. */
  readonly resting: number;
  /** A call is under way for them. */
  readonly inFlight: number;
  /** What its ENI may hold beside all it holds. */
  readonly room: number;
}

/** How many to assign while nobody waits. Containers that come and go without growth leave addresses that cool
 *  down, of which no more than the high mark again is kept. */
export function refillOf({ usable, resting, inFlight, room }: Stock, { low, high }: Marks): number {
  const have = usable + inFlight;
  if (have >= low) return 0;
  return Math.max(Math.min(high - have, 2 * high - have - resting, room), 0);
}

/** How many to assign for requests that wait, and for those that come after them: a pool in which somebody had to wait
 *  has been too small, so it gets twice its quiet maximum at least, of which what is in flight is a part. */
export function batchFor(waiting: number, stock: Stock, target: WarmTarget, { high }: Marks): number {
  const { usable, resting, inFlight, room } = stock;
  const more = Math.max(Math.max(high, 2 * target.warmMax) - inFlight - resting, 0);
  return Math.max(Math.min(waiting + more - usable, room), 0);
}

/** Addresses of a prefix, and the bits of an address that tell them apart. */
const PREFIX_BITS = 4;

/** The places of an ENI that are taken by `rows`, all that name it but its primary, and by the `prefixes` that EC2 showed
 *  on it last: one by each, but none by an address of a prefix. The ledger doesn't say which those are, and prefixes come
 *  and go: of the strangers' addresses the largest /28 blocks are taken for them, and whole blocks for what has gone.
 *  Too few rather than too many: EC2 refuses what is too much. */
export function placesTaken(rows: readonly Allocation[], prefixes: number): number {
  const [strangers, ours] = [rows.filter(isStrangers), rows.filter(row => !isStrangers(row))];
  const present = strangers.filter(row => row.absentSince === null);
  const blocks = Map.groupBy(present, row => numberOf(row.ip) >>> PREFIX_BITS);
  const sizes = [...blocks.values()].map(block => block.length).sort((a, b) => b - a);
  const single = sizes.slice(prefixes).filter(size => size < 2 ** PREFIX_BITS);
  return ours.length + prefixes + single.reduce((sum, size) => sum + size, 0);
}
const isStrangers = (row: Allocation): boolean => row.status === 'occupied';

/** The part of a batch that a subnet can afford of which `free` addresses are seen: beyond those who wait it leaves
 *  `reserve`, so that warmth here doesn't make a container wait elsewhere. */
export const affordable = (batch: number, waiting: number, free: number, reserve: number): number =>
  Math.min(batch, Math.max(waiting, free - reserve), free);

/** How many of the ready addresses are too many. */
export const excessOf = (ready: number, high: number): number => Math.max(ready - high, 0);
