import { IpamError, isError } from '../../domain/error.ts';
import type { EniId } from '../../domain/ids.ts';
import type { IpamContext } from '../context.ts';

/** The pauses between tries, in milliseconds: doubling from the first to the last. */
const PAUSE_MIN_MS = 50;
const PAUSE_MAX_MS = 2000;
/** An outage that nobody has met for this long counts as over. */
const FORGOTTEN_AFTER_MS = 60_000;

interface Waiting {
  readonly clock: () => number;
  readonly wait: (ms: number) => Promise<void>;
}

/**
 * Something that we depend on is away. Requests that meet it wait, but only until `boundMs` after it began, so
 * that a queue of them fails together instead of each waiting its own turn: Docker sends the requests of one
 * network one after the other and has no time limit of its own.
 */
export class Outage {
  readonly #boundMs: number;
  readonly #waiting: Waiting;
  #since: number | null = null;
  #metAt = 0;

  constructor(boundMs: number, waiting: Waiting) {
    this.#boundMs = boundMs;
    this.#waiting = waiting;
  }

  /** When a request that started at `startedAt` has waited long enough, on the same clock. */
  deadline(startedAt: number): number {
    const forgotten = startedAt - this.#metAt > FORGOTTEN_AFTER_MS;
    return Math.min(startedAt, (forgotten ? null : this.#since) ?? startedAt) + this.#boundMs;
  }

  /** Tries `work` until it does not fail for this outage's reason, the bound has passed, or the caller has gone.
   *  Always tries once. `startedAt`: when the request did, of which this may be one of several tries. */
  async retryWhile<T>(
    passing: (error: unknown) => error is IpamError,
    gone: () => boolean,
    work: () => Promise<T>,
    startedAt = this.#waiting.clock(),
  ): Promise<T> {
    for (let pauseMs = PAUSE_MIN_MS; ; pauseMs = Math.min(pauseMs * 2, PAUSE_MAX_MS)) {
      try {
        const result = await work();
        this.#since = null;
        return result;
      } catch (error) {
        if (!passing(error)) {
          if (!isError(error, 'caller-gone')) this.#since = null;
          throw error;
        }
        const now = this.#waiting.clock();
        if (this.#since === null || now - this.#metAt > FORGOTTEN_AFTER_MS) this.#since = now;
        this.#metAt = now;
        const left = this.deadline(startedAt) - now;
        if (left <= 0) throw error;
        if (gone()) throw new IpamError('caller-gone', 'the caller has gone');
        await this.#waiting.wait(Math.min(pauseMs, left));
      }
    }
  }
}

/** ENIs whose outages are remembered: whoever asks may name any. */
const ENIS_MAX = 10_000;

/** The outages that the requests of one server meet. */
export interface Outages {
  readonly store: Outage;
  /** An EC2 outage is an ENI's own: a call that hangs on one ENI delays no other. */
  ec2(eni: EniId): Outage;
}

export function createOutages(context: IpamContext): Outages {
  const boundMs = context.policy.requestTimeoutMs;
  const ofEnis = new Map<EniId, Outage>();
  return {
    store: new Outage(boundMs, context),
    ec2(eni) {
      const known = ofEnis.get(eni);
      if (known !== undefined) return known;
      const [oldest] = ofEnis.size >= ENIS_MAX ? ofEnis.keys() : [];
      if (oldest !== undefined) ofEnis.delete(oldest);
      const outage = new Outage(boundMs, context);
      ofEnis.set(eni, outage);
      return outage;
    },
  };
}

export const isStoreDown = (error: unknown): error is IpamError => isError(error, 'store-down');
export const isEc2Away = (error: unknown): error is IpamError =>
  isError(error, 'ec2-unknown', 'ec2-unreachable', 'ec2-throttled');

/** Tries again while the store or EC2 is away, for as long as a request that started at `startedAt` may take. */
export const patience =
  (outages: Outages, eni: EniId, gone: () => boolean, startedAt: number) =>
  <T>(work: () => Promise<T>): Promise<T> =>
    outages.store.retryWhile(
      isStoreDown,
      gone,
      () => outages.ec2(eni).retryWhile(isEc2Away, gone, work, startedAt),
      startedAt,
    );
