/**
 * Intents whose EC2 call has had no answer: nobody knows whether their addresses are on the ENI. They take no place of
 * it, since EC2 says when it is full. While an ENI has such rows, what is asked for it is bounded, so that calls without
 * answers don't use up the subnet.
 */
import type { Allocation } from './allocation.ts';

/** After this long without an answer, in milliseconds, a request that waits has another call sent. */
export const ANSWERED_WITHIN_MS = 2_000;
/** For each batch that an ENI has in flight or in doubt, this long has to pass before the last but one is followed by
 *  another, in milliseconds. Two go at once, the third 10 s after the first, and the pauses grow from there. */
const PACE_MS = 5_000;
const AT_ONCE_MAX = 2;

/** What is being asked of EC2 for one ENI. */
export interface Asked {
  /** Rows that EC2 is being asked to put there, and may yet answer for. */
  readonly inFlight: readonly Allocation[];
  /** Rows that may or may not be there. */
  readonly inDoubt: readonly Allocation[];
  /** Whether another call may be sent, by the number of those that are open. */
  readonly mayCall: boolean;
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
  const intents = rows.filter(row => row.status === 'assigning' || row.status === 'unassigning');
  const assigning = intents.filter(row => row.status === 'assigning');
  const inDoubt = intents.filter(isInDoubt);
  return {
    inFlight: assigning.filter(row => !isInDoubt(row)),
    inDoubt,
    mayCall: !assigning.some(isInDoubt) || openLately(assigning, now) < AT_ONCE_MAX,
  };
}

/** Batches that were written within the pace that their number asks for. */
function openLately(assigning: readonly Allocation[], now: number): number {
  const writtenAt = new Map(assigning.map(row => [row.token, row.movedAt]));
  const paceMs = PACE_MS * writtenAt.size;
  return [...writtenAt.values()].filter(at => now - at < paceMs).length;
}
