/**
 * A token bucket that all servers of a ledger share, by virtual scheduling (GCRA): it is known by the moment at
 * which it is empty, and a turn moves that moment on by the time that one token takes. So turns come in the order
 * in which they were asked for, a turn costs one statement, and nobody has to ask twice. mysql-turns.ts says the
 * same in SQL.
 */
import type { TurnQuery } from './store.ts';

export interface Bucket {
  /** When the last turn that was given may be used, in milliseconds of the store's clock: in the past, where tokens
   *  are left. */
  readonly emptyAt: number;
  /** How often its speed was halved, at the last throttle. */
  readonly halvings: number;
  /** When EC2 last throttled a call, in milliseconds; 0: never. */
  readonly throttledAt: number;
}

/** A bucket that nobody has used. */
export const FULL: Bucket = { emptyAt: 0, halvings: 0, throttledAt: 0 };

/** A sixteenth of the speed is the least. */
export const HALVINGS_MAX = 4;
/** After each such time without a throttle the speed doubles. */
export const RECOVERY_MS = 10_000;
/** Calls that are throttled together slow the bucket once. */
export const SLOW_AGAIN_MS = 1_000;

function halvingsAt({ halvings, throttledAt }: Bucket, now: number): number {
  // A throttle in the future is one of before the store's clock was set back.
  if (throttledAt > now) return 0;
  return Math.max(0, halvings - Math.floor((now - throttledAt) / RECOVERY_MS));
}

/** The bucket after a turn, and how long until that is; null: it would take longer than is asked for. */
export function turnIn(
  bucket: Bucket,
  { capacity, intervalMs, aheadMs, withinMs }: TurnQuery,
  now: number,
): { after: Bucket; waitMs: number } | null {
  const tokenMs = intervalMs * 2 ** halvingsAt(bucket, now);
  // A moment further ahead than turns are given is one of before the store's clock was set back.
  const from = bucket.emptyAt > now + aheadMs ? now : Math.max(bucket.emptyAt, now - capacity * tokenMs);
  const emptyAt = Math.round(from + tokenMs);
  const waitMs = Math.max(0, emptyAt - now);
  return waitMs > withinMs ? null : { after: { ...bucket, emptyAt }, waitMs };
}

/** The bucket after a throttle: empty, and half as fast; null: it was slowed for this one already. */
export function slowed(bucket: Bucket, now: number): Bucket | null {
  if (bucket.throttledAt <= now && now - bucket.throttledAt < SLOW_AGAIN_MS) return null;
  return {
    emptyAt: Math.max(bucket.emptyAt, now),
    halvings: Math.min(halvingsAt(bucket, now) + 1, HALVINGS_MAX),
    throttledAt: now,
  };
}
