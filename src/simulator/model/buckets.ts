/** EC2's request throttling: one token bucket for each action. */
interface Rate {
  readonly capacity: number;
  readonly perSecond: number;
}

// https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html: per account and Region, and for each action.
const READ: Rate = { capacity: 100, perSecond: 20 };
/** A read without filter and without pagination. */
const SWEEPING_READ: Rate = { capacity: 50, perSecond: 10 };
const WRITE: Rate = { capacity: 100, perSecond: 5 };

const rateOf = (action: string, sweeping: boolean): Rate =>
  !/^(Describe|Get)/.test(action) ? WRITE : sweeping ? SWEEPING_READ : READ;

export interface Buckets {
  /** 2: twice the capacity and twice the rate. Null: no throttling. */
  scale: number | null;
  /** Takes a token for the action; returns false when the bucket has none. */
  take(action: string, sweeping: boolean): boolean;
}

/** Full buckets. `now` is a clock in milliseconds. */
export function createBuckets(initialScale: number | null, now: () => number): Buckets {
  const levels = new Map<string, { tokens: number; at: number }>();
  const buckets: Buckets = {
    scale: initialScale,
    take(action, sweeping) {
      const { scale } = buckets;
      if (scale === null) return true;
      const { capacity, perSecond } = rateOf(action, sweeping);
      const key = sweeping ? `${action} (sweeping)` : action;
      const at = now();
      const level = levels.get(key) ?? { tokens: capacity * scale, at };
      const refilled = level.tokens + ((at - level.at) / 1000) * perSecond * scale;
      const tokens = Math.min(refilled, capacity * scale);
      levels.set(key, { tokens: tokens >= 1 ? tokens - 1 : tokens, at });
      return tokens >= 1;
    },
  };
  return buckets;
}
