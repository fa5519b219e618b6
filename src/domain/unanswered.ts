/**
 * When the next assign call of an ENI may be sent while earlier ones have no answer.
 *
 * It is not known whether such a call was applied. Its rows do not count against the limit of the ENI, since EC2
 * refuses a call when the ENI is full. The calls are limited, so that they do not use up the subnet: one companion
 * call at once, then calls for one address each, at growing intervals, until EC2 answers again.
 */
import type { Allocation } from './allocation.ts';

/** After this time without an answer, in milliseconds, a companion call is sent for a request that waits. */
export const ANSWERED_WITHIN_MS = 2_000;
/** Two calls may be sent together. This is the time before the next one for each batch in doubt, in milliseconds: the
 *  third call is sent 10 s after the first. */
const PACE_MS = 5_000;
const PACE_MS_MAX = 60_000;
/** The interval between calls for one address, in milliseconds: at least, and for each batch in doubt. It is short
 *  after a short outage, so that the end is found soon; after 15 minutes it is 30 s. */
const AGAIN_MS = 4_000;
const AGAIN_EACH_MS = 400;

/** The assign and unassign calls of one ENI that are not settled. */
export interface Asked {
  /** Rows of assign calls whose answer is awaited. */
  readonly inFlight: readonly Allocation[];
  /** Rows that may or may not be on the ENI. */
  readonly inDoubt: readonly Allocation[];
  /** The next call now: any, for one address only, or none. */
  readonly next: 'all' | 'one' | 'none';
}

/** `rows`: all that name the ENI. `now`: the time of that read, by the store's clock. `unanswered`: tokens of batches
 *  that are already known to have no answer. */
export function askedFor(
  rows: readonly Allocation[],
  now: number,
  unanswered: ReadonlySet<string> = new Set(),
): Asked {
  const isInDoubt = (row: Allocation) =>
    now - row.movedAt >= ANSWERED_WITHIN_MS || (row.token !== null && unanswered.has(row.token));
  const assigning = assigningIn(rows);
  const leaving = rows.filter(row => row.status === 'unassigning' && isInDoubt(row));
  const since = sinceAnswer(rows);
  return {
    inFlight: assigning.filter(row => !isInDoubt(row)),
    inDoubt: [...assigning.filter(isInDoubt), ...leaving],
    next: since.some(isInDoubt) ? nextInDoubt(rows, now) : 'all',
  };
}

/** When EC2 last put one of our addresses on the ENI. A call from before that says nothing about EC2 now. */
const answeredAt = (rows: readonly Allocation[]): number =>
  rows.reduce(
    (last, { status, placedAt }) => (status === 'assigning' ? last : Math.max(last, placedAt ?? last)),
    Number.NEGATIVE_INFINITY,
  );

/** The time from which another call may be sent, by the store's clock, while none of those that were sent since EC2 last
 *  answered is settled. Batches of all servers count. */
export function nextCallAt(rows: readonly Allocation[]): number {
  const writtenAt = new Map(sinceAnswer(rows).map(row => [row.token, row.movedAt]));
  const [last, before] = [...writtenAt.values()].sort((a, b) => b - a);
  if (last === undefined || before === undefined) return Number.NEGATIVE_INFINITY;
  const againMs = Math.max(AGAIN_MS, AGAIN_EACH_MS * writtenAt.size);
  return Math.min(last + againMs, before + Math.min(PACE_MS * writtenAt.size, PACE_MS_MAX));
}

const assigningIn = (rows: readonly Allocation[]) => rows.filter(row => row.status === 'assigning');
const sinceAnswer = (rows: readonly Allocation[]) => {
  const at = answeredAt(rows);
  return assigningIn(rows).filter(row => row.movedAt >= at);
};

function nextInDoubt(rows: readonly Allocation[], now: number): Asked['next'] {
  const at = nextCallAt(rows);
  if (at === Number.NEGATIVE_INFINITY) return 'all';
  return now >= at ? 'one' : 'none';
}
