/** Retries while the store or EC2 is away, within the longest wait of a request. */
import { type IpamError, isError } from '../../domain/error.ts';
import type { EniId } from '../../domain/ids.ts';
import type { IpamContext } from '../context.ts';

/** The pauses between tries, in milliseconds: doubling from the first to the last. */
const PAUSE_MIN_MS = 50;
const PAUSE_MAX_MS = 2000;
/** An outage that nobody has met for this long counts as over. */
const FORGOTTEN_AFTER_MS = 60_000;

interface Waiting {
  readonly clock: () => number;
  readonly wait: (ms: number, signal?: AbortSignal) => Promise<void>;
}

/** How long a request waits. */
export interface Patience {
  /** When the request started, on the process's monotonic clock, in milliseconds; absent: now. The work may be one of
   *  several tries. */
  readonly startedAt?: number;
  /** Aborted when the caller has gone. */
  readonly caller?: AbortSignal | undefined;
}

/**
 * A dependency that is away: the store, or EC2 for one ENI. Requests that meet its outage wait, but only until a bound
 * after it began, so that a queue of them fails together instead of each waiting for itself: Docker sends the requests of
 * one network one after the other and has no time limit of its own.
 */
export interface Outage {
  /** When a request that started at `startedAt` has waited long enough, on the same clock. */
  deadline(startedAt: number): number;
  /** Tries `work` until it does not fail for this outage's reason, the deadline has passed, or the caller's signal aborts,
   *  whose reason it then throws. Always tries once. */
  retryWhile<T>(
    passing: (error: unknown) => error is IpamError,
    work: () => Promise<T>,
    patience?: Patience,
  ): Promise<T>;
}

/** `boundMs`: the longest wait after an outage began. */
export function createOutage(boundMs: number, { clock, wait }: Waiting): Outage {
  let since: number | null = null;
  let metAt = 0;

  function deadline(startedAt: number): number {
    const forgotten = startedAt - metAt > FORGOTTEN_AFTER_MS;
    return Math.min(startedAt, (forgotten ? null : since) ?? startedAt) + boundMs;
  }

  function met(now: number): void {
    if (since === null || now - metAt > FORGOTTEN_AFTER_MS) since = now;
    metAt = now;
  }

  return {
    deadline,
    async retryWhile(passing, work, { startedAt = clock(), caller } = {}) {
      for (let pauseMs = PAUSE_MIN_MS; ; pauseMs = Math.min(pauseMs * 2, PAUSE_MAX_MS)) {
        try {
          const result = await work();
          since = null;
          return result;
        } catch (error) {
          if (!passing(error)) {
            if (!isError(error, 'caller-gone')) since = null;
            throw error;
          }
          met(clock());
          const left = deadline(startedAt) - clock();
          if (left <= 0) throw error;
          caller?.throwIfAborted();
          await wait(Math.min(pauseMs, left), caller);
        }
      }
    },
  };
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
    store: createOutage(boundMs, context),
    ec2(eni) {
      const known = ofEnis.get(eni);
      if (known !== undefined) return known;
      const [oldest] = ofEnis.size >= ENIS_MAX ? ofEnis.keys() : [];
      if (oldest !== undefined) ofEnis.delete(oldest);
      const outage = createOutage(boundMs, context);
      ofEnis.set(eni, outage);
      return outage;
    },
  };
}

export const isStoreDown = (error: unknown): error is IpamError => isError(error, 'store-down');
export const isEc2Away = (error: unknown): error is IpamError =>
  isError(error, 'ec2-unknown', 'ec2-unreachable', 'ec2-throttled');

/** Tries again while the store or EC2 is away, for as long as the request may wait. */
export const withRetry =
  (outages: Outages, eni: EniId, patience: Patience) =>
  <T>(work: () => Promise<T>): Promise<T> =>
    outages.store.retryWhile(
      isStoreDown,
      () => outages.ec2(eni).retryWhile(isEc2Away, work, patience),
      patience,
    );
