/**
 * Gives permits of a bucket that all servers of a ledger share, so that they come in the order in which any server
 * asked, in each server to one ENI after the other, and together use what EC2 lets the account do, however many
 * servers there are. A cold call takes a permit of the account's bucket. A call for which no container waits needs
 * one of our share before that. A cold call takes one of our share too, without waiting for it, so that after a burst
 * nothing else is sent until that debt is paid.
 */
import { isError } from '../domain/error.ts';
import type { Turns } from '../domain/turns.ts';
import type { Rate } from './bucket.ts';
import { createLine, type Place } from './line.ts';
import {
  type GiveBack,
  LOOK_AGAIN_MS,
  notSent,
  PERMIT_WAIT_MS_MAX,
  type PermitAsked,
  type PermitQueue,
  SPARED,
  tooLate,
  WAITING_MAX,
} from './permit-queue.ts';

interface PermitQuery {
  readonly name: string;
  readonly capacity: number;
  readonly intervalMs: number;
  readonly withinMs: number;
  readonly aheadMs: number;
}

/** The buckets that all servers share; the ledger is one. */
export interface Budget {
  /** Takes the next permit; returns in how many milliseconds it may be used, null when that is not within `withinMs`. */
  takePermit(query: PermitQuery): Promise<number | null>;
  giveBackPermit(query: PermitQuery): Promise<void>;
  /** EC2 throttles; returns how often the bucket's speed is halved now, null when it was slowed already. */
  slowBucket(bucket: { readonly name: string; readonly aheadMs: number }): Promise<number | null>;
}

export interface SharedPermits extends PermitQueue {
  /** EC2 throttles; returns the calls a second that are left when it was at full speed before, else null. */
  slow(): Promise<number | null>;
}

interface Parts {
  readonly budget: Budget;
  /** The part of the account's rate for calls that no container waits for, 0 to 1. */
  readonly share: number;
  readonly turns: Turns;
  readonly clock: () => number;
  readonly wait: (ms: number, signal?: AbortSignal) => Promise<void>;
  /** While the ledger is away. */
  readonly alone: PermitQueue;
}

/** The part of the account's bucket that is never used: calls overtake each other on their way to EC2. */
const SPARE = 0.05;
const TRY_AGAIN = 'try again; EC2 lets an account make no more of these calls, whoever makes them';

export function createSharedPermits(
  api: string,
  rate: Rate,
  { budget, share, turns, clock, wait, alone }: Parts,
): SharedPermits {
  const line = createLine({ turns, clock, wait });
  const account = {
    name: api,
    capacity: rate.capacity * (1 - SPARE),
    intervalMs: 1000 / rate.perSecond,
    aheadMs: PERMIT_WAIT_MS_MAX,
  };
  /** What a greedy ENI leaves in the bucket, as the time in which it comes back. */
  const spareMs = rate.capacity * SPARED * account.intervalMs;
  const ownCapacity = Math.max(1, rate.capacity * share);
  const ownIntervalMs = 1000 / (rate.perSecond * share);
  const debtMs = Math.max(0, rate.capacity - ownCapacity) * ownIntervalMs;
  const own = {
    name: `${api} share`,
    capacity: ownCapacity,
    intervalMs: ownIntervalMs,
    aheadMs: debtMs + PERMIT_WAIT_MS_MAX,
  };
  /** Calls that wait for a permit of our share. */
  let waiting = 0;

  const withinMs = (until: number): number => Math.max(0, Math.min(until - clock(), PERMIT_WAIT_MS_MAX));
  /** Waits for a permit of our share. Returns false, without one, if the call is or becomes cold. */
  async function takeOwn({ urgency, until, signal }: PermitAsked): Promise<boolean> {
    if (urgency() === 'cold') return false;
    if (waiting >= WAITING_MAX) throw tooMany();
    waiting++;
    try {
      const waitMs = await budget.takePermit({ ...own, withinMs: withinMs(until) });
      if (waitMs === null) {
        if (urgency() === 'cold') return false;
        throw tooLate(api, signal);
      }
      const at = clock() + waitMs;
      while (urgency() !== 'cold' && clock() < at && !signal?.aborted)
        await wait(Math.min(LOOK_AGAIN_MS, at - clock()), signal);
      return true;
    } finally {
      waiting--;
    }
  }

  /** Waits for a permit of the account, and calls `granted` when it has one. */
  async function takeAccounts({ turn, until, signal }: PermitAsked, place: Place, granted: () => void) {
    while (turns.isGreedy(turn) && clock() < until && !signal?.aborted) {
      if ((await budget.takePermit({ ...account, withinMs: -spareMs })) !== null) return granted();
      await wait(account.intervalMs, signal);
    }
    if (signal?.aborted) return;
    const waitMs = await budget.takePermit({ ...account, withinMs: withinMs(until) });
    if (waitMs === null) return;
    granted();
    if (waitMs === 0) return place.granted();
    place.owes();
    await wait(waitMs, signal);
  }

  async function take(asked: PermitAsked): Promise<GiveBack> {
    const { signal } = asked;
    const taken: Bucket[] = [];
    const giveBack = (): void => {
      for (const bucket of taken.splice(0)) budget.giveBackPermit({ ...bucket, withinMs: 0 }).catch(ignored);
    };
    const hasOwn = await takeOwn(asked);
    if (hasOwn) taken.push(own);
    const place = signal?.aborted ? 'late' : await line.enter(asked);
    if (typeof place !== 'string') {
      const granted = () => {
        taken.push(account);
        if (hasOwn) return;
        budget.takePermit({ ...own, withinMs: debtMs }).then(ms => ms !== null && taken.push(own), ignored);
      };
      await takeAccounts(asked, place, granted).finally(() => place.leave());
      if (taken.includes(account) && !signal?.aborted) return giveBack;
    }
    giveBack();
    throw place === 'full' ? tooMany() : tooLate(api, signal, TRY_AGAIN);
  }

  const tooMany = () => notSent(api, 'too many calls wait', TRY_AGAIN);

  return {
    async take(asked) {
      try {
        return await take(asked);
      } catch (error) {
        unlessAway(error);
        return await alone.take(asked);
      }
    },
    async slow() {
      const halvings = await budget.slowBucket(account).catch(unlessAway);
      return halvings === 1 ? rate.perSecond / 2 : null;
    },
  };
}

type Bucket = Pick<PermitQuery, 'name' | 'capacity' | 'intervalMs' | 'aheadMs'>;

/** A permit that is not counted changes the pace a little, and that is all. */
const ignored = (): void => {};

/** Without a ledger permits are taken from the process's own bucket. */
function unlessAway(error: unknown): null {
  if (!isError(error, 'store-down')) throw error;
  return null;
}
