/**
 * Turns of a bucket that all servers of a ledger share, so that they come in the order in which any of them asked,
 * and together use what EC2 lets the account do, however many servers there are. A cold call takes its turn of the
 * account's bucket. What waits for nobody has to have one of our share before. A cold call takes one of our share
 * too, without waiting for it, so that after a burst nothing else is sent until that is made up for.
 */
import { isError } from '../domain/error.ts';
import type { Rate } from './bucket.ts';
import type { Urgency } from './cloud.ts';
import { LOOK_AGAIN_MS, notSent, TURN_MAX_MS, type Turns, WAITING_MAX } from './turns.ts';

/** The buckets that all servers share; the ledger is one. */
export interface Budget {
  /** Takes the next turn; returns in how many milliseconds it comes, null when that is not within `withinMs`. */
  takeTurn(turn: {
    readonly name: string;
    readonly capacity: number;
    readonly intervalMs: number;
    readonly withinMs: number;
    readonly aheadMs: number;
  }): Promise<number | null>;
  /** EC2 throttles; returns how often the bucket's speed is halved now, null when it was slowed already. */
  slowTurns(bucket: { readonly name: string; readonly aheadMs: number }): Promise<number | null>;
}

export interface SharedTurns extends Turns {
  /** EC2 throttles; returns the calls a second that are left when it was at full speed before, else null. */
  slow(): Promise<number | null>;
}

interface Parts {
  readonly budget: Budget;
  /** Of the account's calls, for what waits for nobody, 0 to 1. */
  readonly share: number;
  readonly clock: () => number;
  readonly wait: (ms: number) => Promise<void>;
  /** While the ledger is away. */
  readonly alone: Turns;
}

/** The part of the account's bucket that is never used: calls overtake each other on their way to EC2. */
const SPARE = 0.05;
const TRY_AGAIN = 'try again; EC2 lets an account make no more of these calls, whoever makes them';

export function createSharedTurns(
  api: string,
  rate: Rate,
  { budget, share, clock, wait, alone }: Parts,
): SharedTurns {
  const account = {
    name: api,
    capacity: rate.capacity * (1 - SPARE),
    intervalMs: 1000 / rate.perSecond,
    aheadMs: TURN_MAX_MS,
  };
  const ownCapacity = Math.max(1, rate.capacity * share);
  const ownIntervalMs = 1000 / (rate.perSecond * share);
  const debtMs = Math.max(0, rate.capacity - ownCapacity) * ownIntervalMs;
  const own = {
    name: `${api} share`,
    capacity: ownCapacity,
    intervalMs: ownIntervalMs,
    aheadMs: debtMs + TURN_MAX_MS,
  };
  let waiting = 0;

  /** Resolves when there is one of our share; false: it is not needed, or not any more, and was not taken. */
  async function ownTurn(urgency: () => Urgency, until: number): Promise<boolean> {
    if (urgency() === 'cold') return false;
    const waitMs = await budget.takeTurn({ ...own, withinMs: withinMs(until) });
    if (waitMs === null) {
      if (urgency() === 'cold') return false;
      throw notSent(api, 'its turn did not come in time');
    }
    const at = clock() + waitMs;
    while (urgency() !== 'cold' && clock() < at) await wait(Math.min(LOOK_AGAIN_MS, at - clock()));
    return true;
  }

  const withinMs = (until: number): number => Math.max(0, Math.min(until - clock(), TURN_MAX_MS));

  async function take(urgency: () => Urgency, until: number): Promise<void> {
    const isPaid = await ownTurn(urgency, until);
    const waitMs = await budget.takeTurn({ ...account, withinMs: withinMs(until) });
    if (waitMs === null) throw notSent(api, 'its turn did not come in time', TRY_AGAIN);
    if (!isPaid) budget.takeTurn({ ...own, withinMs: debtMs }).catch(unlessAway);
    if (waitMs > 0) await wait(waitMs);
  }

  return {
    async take(urgency, until) {
      if (waiting >= WAITING_MAX) throw notSent(api, 'too many calls wait', TRY_AGAIN);
      waiting++;
      try {
        await take(urgency, until);
      } catch (error) {
        unlessAway(error);
        await alone.take(urgency, until);
      } finally {
        waiting--;
      }
    },
    async slow() {
      const halvings = await budget.slowTurns(account).catch(unlessAway);
      return halvings === 1 ? rate.perSecond / 2 : null;
    },
  };
}

/** Turns only pace: without a ledger they are taken of the process's own bucket. */
function unlessAway(error: unknown): null {
  if (!isError(error, 'store-down')) throw error;
  return null;
}
