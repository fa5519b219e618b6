/**
 * How many ready addresses a pool keeps.
 *
 * There are two marks, so that the pool does not oscillate. Below `low` it is refilled up to `high`; above `high` idle
 * addresses are unassigned. Both marks rise when the pool gains holders, and fall back within minutes.
 *
 * Examples for min 2 and max 6, on an ENI with enough room:
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

/** The marks of a pool without growth. A `warmMax` of 0 keeps no ready address. */
export interface WarmTarget {
  readonly warmMin: number;
  readonly warmMax: number;
}
export interface Marks {
  readonly low: number;
  readonly high: number;
}

/** The net number of holders that a pool gained, with exponential decay. */
export interface Growth {
  readonly level: number;
  /** The time of `level`, in milliseconds. */
  readonly at: number;
}

/** The half-life of the decay, in milliseconds. */
export const GROWTH_HALVES_IN_MS = 60_000;
export const NO_GROWTH: Growth = { level: 0, at: 0 };

const levelAt = ({ level, at }: Growth, now: number): number =>
  level * 2 ** (-Math.max(now - at, 0) / GROWTH_HALVES_IN_MS);

/** Growth after a claim (1) or a release (-1). A container that restarts again and again causes no growth. The level is
 *  never negative, since lost holders do not predict demand. */
export const grown = (before: Growth, change: 1 | -1, now: number): Growth => ({
  level: Math.max(levelAt(before, now) + change, 0),
  at: now,
});

export function marksOf({ warmMin, warmMax }: WarmTarget, growth: Growth, now: number): Marks {
  if (warmMax === 0) return { low: 0, high: 0 };
  const gained = Math.round(levelAt(growth, now));
  return { low: warmMin + gained, high: warmMax + 2 * gained };
}

/** The addresses of a pool. */
export interface Stock {
  /** Ready and rested. */
  readonly usable: number;
  /** Ready, and still cooling down. */
  readonly resting: number;
  /** Of assign calls under way. */
  readonly inFlight: number;
  /** How many more the ENI may have. */
  readonly room: number;
}

/** How many addresses to assign while no request waits. Addresses in cooldown count too, so that short-lived containers
 *  do not make the pool exceed twice the high mark. */
export function refillOf({ usable, resting, inFlight, room }: Stock, { low, high }: Marks): number {
  const have = usable + inFlight;
  if (have >= low) return 0;
  return Math.max(Math.min(high - have, 2 * high - have - resting, room), 0);
}

/** How many addresses to assign while requests wait. The pool was too small, so it gets at least twice its `warmMax`
 *  besides; addresses in flight count. */
export function batchFor(waiting: number, stock: Stock, target: WarmTarget, { high }: Marks): number {
  const { usable, resting, inFlight, room } = stock;
  const more = Math.max(Math.max(high, 2 * target.warmMax) - inFlight - resting, 0);
  return Math.max(Math.min(waiting + more - usable, room), 0);
}

/** A /28 prefix has 2^4 addresses. */
const PREFIX_BITS = 4;

/** How much of the limit of an ENI is used by `rows` (all that name it, without its primary) and by the `prefixes`
 *  that EC2 showed last. Each address and each prefix counts one; addresses inside a prefix count nothing. The ledger
 *  does not tell which those are, so the largest /28 blocks of foreign addresses are taken for prefixes, and whole
 *  blocks for prefixes that are gone. The result is rather too small: EC2 refuses a call that exceeds the limit. */
export function placesTaken(rows: readonly Allocation[], prefixes: number): number {
  const [strangers, ours] = [rows.filter(isStrangers), rows.filter(row => !isStrangers(row))];
  const present = strangers.filter(row => row.absentSince === null);
  const blocks = Map.groupBy(present, row => numberOf(row.ip) >>> PREFIX_BITS);
  const sizes = [...blocks.values()].map(block => block.length).sort((a, b) => b - a);
  const single = sizes.slice(prefixes).filter(size => size < 2 ** PREFIX_BITS);
  return ours.length + prefixes + single.reduce((sum, size) => sum + size, 0);
}
const isStrangers = (row: Allocation): boolean => row.status === 'occupied';

/** The size of a batch in a subnet with `free` addresses. Beyond the requests that wait, it leaves `reserve`
 *  addresses for requests on other ENIs, and half of all: a call without an answer keeps what it names from everybody
 *  for a quarter of an hour. */
export const affordable = (batch: number, waiting: number, free: number, reserve: number): number =>
  Math.min(batch, Math.max(waiting, Math.min(free - reserve, Math.floor(free / 2))), free);

/** The size of a batch for a tenant that may have `room` more addresses. Beyond the requests that wait, it leaves half of
 *  them for the tenant's other ENIs. */
export const withinRoom = (batch: number, waiting: number, room: number): number =>
  Math.min(batch, Math.max(waiting, Math.floor(room / 2)), room);

/** How many ready addresses exceed the high mark. */
export const excessOf = (ready: number, high: number): number => Math.max(ready - high, 0);
