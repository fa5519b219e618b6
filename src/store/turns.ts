/**
 * A token bucket that all servers of a ledger share, by virtual scheduling (GCRA): it is known by the moment at
 * which it is empty, and a turn moves that moment on by the time that one token takes. So turns come in the order
 * in which they were asked for, a turn costs one statement, and nobody has to ask twice. mysql/turns.ts says the
 * same in SQL.
 */
import type { TurnQuery } from './store.ts';

export interface Bucket {
  /** When the last turn that was given may be used, in milliseconds of the store's clock: in the past, where tokens
   *  are left. */
  readonly emptyAt: number;
  /** How often its speed was halved by `throttledAt`. */
  readonly halvings: number;
  /** When the last turn may be used that was given before EC2's last throttle was known, in milliseconds; 0: never. */
  readonly throttledAt: number;
}

/** A bucket that nobody has used. */
export const FULL: Bucket = { emptyAt: 0, halvings: 0, throttledAt: 0 };

/** A sixteenth of the speed is the least. */
export const HALVINGS_MAX = 4;
/** After each such time without a throttle the speed doubles. */
export const RECOVERY_MS = 10_000;
/** Calls that are throttled together slow the bucket once, and so do all whose turns were given before. */
export const SLOW_AGAIN_MS = 1_000;

// What is further ahead than turns are given was written before the store's clock was set back.

function halvingsAt({ halvings, throttledAt }: Bucket, aheadMs: number, now: number): number {
  if (throttledAt > now + aheadMs) return 0;
  return Math.max(0, halvings - Math.max(0, Math.floor((now - throttledAt) / RECOVERY_MS)));
}
const emptyAtOf = ({ emptyAt }: Bucket, aheadMs: number, now: number): number =>
  emptyAt > now + aheadMs ? now : emptyAt;

/** The bucket after a turn, and how long until that is; null: it would take longer than is asked for. */
export function turnIn(
  bucket: Bucket,
  { capacity, intervalMs, aheadMs, withinMs }: TurnQuery,
  now: number,
): { after: Bucket; waitMs: number } | null {
  const tokenMs = intervalMs * 2 ** halvingsAt(bucket, aheadMs, now);
  const emptyAt = Math.round(Math.max(emptyAtOf(bucket, aheadMs, now), now - capacity * tokenMs) + tokenMs);
  const waitMs = Math.max(0, emptyAt - now);
  return waitMs > withinMs ? null : { after: { ...bucket, emptyAt }, waitMs };
}

/** The bucket after a throttle: empty, and half as fast behind the turns that are given; null: it was slowed for this
 *  one already. */
export function slowed(bucket: Bucket, aheadMs: number, now: number): Bucket | null {
  const { throttledAt } = bucket;
  if (throttledAt <= now + aheadMs && now - throttledAt < SLOW_AGAIN_MS) return null;
  const emptyAt = Math.max(emptyAtOf(bucket, aheadMs, now), now);
  const halvings = Math.min(halvingsAt(bucket, aheadMs, now) + 1, HALVINGS_MAX);
  return { emptyAt, halvings, throttledAt: emptyAt };
}
