/**
 * A model of one of EC2's token buckets, for a process that shares no ledger: the account's bucket, which other programs
 * draw from too, and within it our share. Each call takes a token of both. Calls for which no container waits keep to the
 * share at all times. A cold call, for which a container waits, may draw ahead of the share as far as the account's bucket
 * goes, and until that debt is paid nothing else is sent: the share limits what is used in the long run, not how fast a
 * burst of containers starts.
 *
 * Worked, for assign (100 and 5 a second) with a share of 5 %: after a quiet time 100 cold calls go at once,
 * the next ones 0.25 a second; the first refill goes 384 s after the hundredth cold call. With no debt 5
 * refills go at once, then 0.25 a second.
 */
import type { Urgency } from './cloud.ts';

/** Tokens that the account has at most, and how fast they come back. */
export interface Rate {
  readonly capacity: number;
  readonly perSecond: number;
}

export interface TokenBucket {
  /** Takes a token, if a call of the urgency may have one now and leaves `spare` in the account's bucket. */
  take(urgency: Urgency, spare?: number): boolean;
  /** Puts a token back that such a call has not used. */
  giveBack(): void;
  /** No earlier than after this long, in milliseconds, can `take` do so; Infinity where the share is 0. */
  readyInMs(urgency: Urgency, spare?: number): number;
  /** EC2 said that there are too many calls: the bucket is empty and fills at half its speed. Returns
   *  whether it was at full speed before. */
  slow(): boolean;
  /** Calls of our own that may be sent at once; below 0 while cold calls have drawn ahead. */
  left(): number;
  /** Tokens of our own that come in a second, by now. */
  readonly perSecond: number;
}

/** Of the full speed. */
const SPEED_MIN = 1 / 16;
/** Calls that are refused together slow the bucket once. */
const SLOW_AGAIN_MS = 1000;
/** After each such time without a throttle the speed doubles. */
const RECOVERY_MS = 10_000;
/** What is missing of a token by the rounding of sums. */
const ROUNDING = 1e-9;

interface Parts {
  /** In milliseconds. */
  readonly clock: () => number;
  /** Of the account's calls in the long run, 0 to 1. */
  readonly share: number;
}

export function createTokenBucket(rate: Rate, { clock, share }: Parts): TokenBucket {
  let speed = 1;
  let throttledAt = Number.NEGATIVE_INFINITY;
  let slowedAt = Number.NEGATIVE_INFINITY;
  let filledAt = clock();
  let account = rate.capacity;
  let own = rate.capacity;

  const perSecond = () => rate.perSecond * share * speed;
  /** A small share is still one call at a time. */
  const ownCapacity = Math.max(1, rate.capacity * share);

  function fillUntil(at: number): void {
    const grown = (Math.max(0, at - filledAt) / 1000) * rate.perSecond * speed;
    account = Math.min(account + grown, rate.capacity);
    own = Math.min(own + grown * share, ownCapacity);
    filledAt = Math.max(filledAt, at);
  }

  function fill(): void {
    while (speed < 1 && clock() - throttledAt >= RECOVERY_MS) {
      throttledAt += RECOVERY_MS;
      fillUntil(throttledAt);
      speed *= 2;
    }
    fillUntil(clock());
  }

  /** What is missing of a token: the account's, and our own. */
  function missing(urgency: Urgency, spare: number): [account: number, own: number] {
    fill();
    const ahead = urgency === 'cold' ? rate.capacity - ownCapacity : 0;
    return [1 + spare - account - ROUNDING, 1 + spare - own - ahead - ROUNDING];
  }

  return {
    take(urgency, spare = 0) {
      if (Math.max(...missing(urgency, spare)) > 0) return false;
      account--;
      own--;
      return true;
    },
    giveBack() {
      account = Math.min(account + 1, rate.capacity);
      own = Math.min(own + 1, ownCapacity);
    },
    readyInMs(urgency, spare = 0) {
      const [ofAccount, ofOurs] = missing(urgency, spare);
      const seconds = Math.max(ofAccount / (rate.perSecond * speed), ofOurs > 0 ? ofOurs / perSecond() : 0);
      return Math.max(0, seconds * 1000);
    },
    slow() {
      fill();
      account = 0;
      own = Math.min(own, 0);
      throttledAt = clock();
      if (throttledAt - slowedAt < SLOW_AGAIN_MS) return false;
      slowedAt = throttledAt;
      const wasFull = speed === 1;
      speed = Math.max(SPEED_MIN, speed / 2);
      return wasFull;
    },
    left() {
      fill();
      return Math.min(account, own);
    },
    get perSecond() {
      return perSecond();
    },
  };
}
