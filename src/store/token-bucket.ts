/**
 * A token bucket that all servers of a ledger share, by virtual scheduling (GCRA).
 *
 * Its state is the time of its last permit. A permit moves that time on by the interval of one token. So permits are
 * in the order of the calls, each needs one statement, and no caller has to ask twice. mysql/token-bucket.ts is the
 * same in SQL.
 */
import type { PermitQuery } from './store.ts';

export interface Bucket {
  /** The time of the last permit, in milliseconds of the store's clock. It is in the past while tokens are left. */
  readonly emptyAt: number;
  /** How often the rate had been halved at `throttledAt`. */
  readonly halvings: number;
  /** The time of the last permit that was given before EC2's last throttling was known, in milliseconds; 0: never. */
  readonly throttledAt: number;
}

/** A bucket without use. */
export const FULL: Bucket = { emptyAt: 0, halvings: 0, throttledAt: 0 };

/** The lowest rate is a sixteenth. */
export const HALVINGS_MAX = 4;
/** Each time without throttling after which the rate doubles, in milliseconds. */
export const RECOVERY_MS = 10_000;
/** Calls that are throttled within this time, in milliseconds, slow the bucket once; so do all calls with earlier
 *  permits. */
export const SLOW_AGAIN_MS = 1_000;

// A time more than `aheadMs` ahead was written before the store's clock was set back, and is ignored.

function halvingsAt({ halvings, throttledAt }: Bucket, aheadMs: number, now: number): number {
  if (throttledAt > now + aheadMs) return 0;
  return Math.max(0, halvings - Math.max(0, Math.floor((now - throttledAt) / RECOVERY_MS)));
}
const emptyAtOf = ({ emptyAt }: Bucket, aheadMs: number, now: number): number =>
  emptyAt > now + aheadMs ? now : emptyAt;

/** Returns the bucket after the next permit, and the wait until then; null when the wait would exceed `withinMs`. */
export function permitIn(
  bucket: Bucket,
  { capacity, intervalMs, aheadMs, withinMs }: PermitQuery,
  now: number,
): { after: Bucket; waitMs: number } | null {
  const tokenMs = intervalMs * 2 ** halvingsAt(bucket, aheadMs, now);
  const emptyAt = Math.round(Math.max(emptyAtOf(bucket, aheadMs, now), now - capacity * tokenMs) + tokenMs);
  const waitMs = emptyAt - now;
  return waitMs > withinMs ? null : { after: { ...bucket, emptyAt }, waitMs: Math.max(0, waitMs) };
}

/** Returns the bucket after a permit was given back unused. */
export function withoutPermit(bucket: Bucket, { intervalMs, aheadMs }: PermitQuery, now: number): Bucket {
  const tokenMs = intervalMs * 2 ** halvingsAt(bucket, aheadMs, now);
  return { ...bucket, emptyAt: Math.max(0, Math.round(emptyAtOf(bucket, aheadMs, now) - tokenMs)) };
}

/** Returns the bucket after a throttling: empty, and with half the rate after the permits that are given; null when
 *  it was slowed for this one already. */
export function slowed(bucket: Bucket, aheadMs: number, now: number): Bucket | null {
  const { throttledAt } = bucket;
  if (throttledAt <= now + aheadMs && now - throttledAt < SLOW_AGAIN_MS) return null;
  const emptyAt = Math.max(emptyAtOf(bucket, aheadMs, now), now);
  const halvings = Math.min(halvingsAt(bucket, aheadMs, now) + 1, HALVINGS_MAX);
  return { emptyAt, halvings, throttledAt: emptyAt };
}
