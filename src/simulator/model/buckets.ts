interface Rate {
  readonly capacity: number;
  readonly perSecond: number;
}

// https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html: per account and Region, each
// action its own bucket.
const READ: Rate = { capacity: 100, perSecond: 20 };
/** Reads that neither filter nor paginate. */
const SWEEPING_READ: Rate = { capacity: 50, perSecond: 10 };
const WRITE: Rate = { capacity: 100, perSecond: 5 };

const rateOf = (action: string, sweeping: boolean): Rate =>
  !/^(Describe|Get)/.test(action) ? WRITE : sweeping ? SWEEPING_READ : READ;

/** EC2's token buckets. A scale of 2 makes them twice as large and fills them twice as fast; null turns them off. */
export class Buckets {
  scale: number | null;
  readonly #now: () => number;
  readonly #levels = new Map<string, { tokens: number; at: number }>();

  constructor(scale: number | null, now: () => number) {
    this.scale = scale;
    this.#now = now;
  }

  /** Takes a token for the action; false: there is none. */
  take(action: string, sweeping: boolean): boolean {
    if (this.scale === null) return true;
    const rate = rateOf(action, sweeping);
    const key = sweeping ? `${action} (sweeping)` : action;
    const now = this.#now();
    const level = this.#levels.get(key) ?? { tokens: rate.capacity * this.scale, at: now };
    const refilled = level.tokens + ((now - level.at) / 1000) * rate.perSecond * this.scale;
    const tokens = Math.min(refilled, rate.capacity * this.scale);
    this.#levels.set(key, { tokens: tokens >= 1 ? tokens - 1 : tokens, at: now });
    return tokens >= 1;
  }
}
