/**
 * Intents whose EC2 call has had no answer: nobody knows whether their addresses are on the ENI. They take no place of
 * it, since EC2 says when it is full. While an ENI has such rows, what is asked for it is bounded, so that calls without
 * answers don't use up the subnet: the first has a companion at once, and when that has no answer either, one address
 * at a time is tried, at growing intervals, until EC2 answers again.
 */
import type { Allocation } from './allocation.ts';

/** After this long without an answer, in milliseconds, a request that waits has another call sent. */
export const ANSWERED_WITHIN_MS = 2_000;
/** Calls that may go together, and for each batch in doubt the time before the next one may, in milliseconds: the third
 *  call goes 10 s after the first. */
const TOGETHER_MAX = 2;
const PACE_MS = 5_000;
const PACE_MS_MAX = 60_000;
/** One address is tried so long after the last one, in milliseconds, at the least and for each batch in doubt: the shorter
 *  an outage was, the sooner those who wait find that EC2 is back. After a quarter of an hour it is half a minute. */
const AGAIN_MS = 4_000;
const AGAIN_EACH_MS = 400;

/** What is being asked of EC2 for one ENI. */
export interface Asked {
  /** Rows that EC2 is being asked to put there, and may yet answer for. */
  readonly inFlight: readonly Allocation[];
  /** Rows that may or may not be there. */
  readonly inDoubt: readonly Allocation[];
  /** Whether another call may be sent now, and whether it may name one address only. */
  readonly next: 'all' | 'one' | 'none';
}

/** `rows`: all that name the ENI, read at `now`, both by the store's clock. `unanswered`: tokens of batches that are
 *  known to have had no answer already. */
export function askedFor(
  rows: readonly Allocation[],
  now: number,
  unanswered: ReadonlySet<string> = new Set(),
): Asked {
  const isInDoubt = (row: Allocation) =>
    now - row.movedAt >= ANSWERED_WITHIN_MS || (row.token !== null && unanswered.has(row.token));
  const assigning = rows.filter(row => row.status === 'assigning');
  const lost = assigning.filter(isInDoubt);
  const leaving = rows.filter(row => row.status === 'unassigning' && isInDoubt(row));
  return {
    inFlight: assigning.filter(row => !isInDoubt(row)),
    inDoubt: [...lost, ...leaving],
    next: lost.length === 0 || hasAnswered(rows, lost) ? 'all' : nextInDoubt(assigning, now),
  };
}

/** Whether EC2 has answered a call for the ENI that came after all those in doubt. */
function hasAnswered(rows: readonly Allocation[], lost: readonly Allocation[]): boolean {
  const newest = Math.max(...lost.map(row => row.movedAt));
  return rows.some(row => row.status !== 'assigning' && row.placedAt !== null && row.placedAt > newest);
}

/** Every batch counts, whoever wrote it. */
function nextInDoubt(assigning: readonly Allocation[], now: number): Asked['next'] {
  const writtenAt = new Map(assigning.map(row => [row.token, row.movedAt]));
  if (writtenAt.size < TOGETHER_MAX) return 'all';
  const againMs = Math.max(AGAIN_MS, AGAIN_EACH_MS * writtenAt.size);
  if (now - Math.max(...writtenAt.values()) >= againMs) return 'one';
  const paceMs = Math.min(PACE_MS * writtenAt.size, PACE_MS_MAX);
  const lately = [...writtenAt.values()].filter(at => now - at < paceMs).length;
  return lately < TOGETHER_MAX ? 'one' : 'none';
}
