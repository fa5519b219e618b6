/** Retries work that failed because the store or EC2 is unavailable, within the longest wait of a request. */
import { throwIfAborted } from '../../domain/abort.ts';
import { type IpamError, isError } from '../../domain/error.ts';
import type { EniId } from '../../domain/ids.ts';
import type { IpamContext } from '../context.ts';

/** The pauses between tries, in milliseconds: doubling from the first to the last. */
const PAUSE_MIN_MS = 50;
const PAUSE_MAX_MS = 2000;
/** An outage that no request has met for this long counts as over. */
const OVER_AFTER_MS = 60_000;

interface Timing {
  readonly clock: () => number;
  readonly wait: (ms: number, signal?: AbortSignal) => Promise<void>;
}

/** How long a request waits. */
export interface RetryOptions {
  /** When the request started, on the process's monotonic clock, in milliseconds. Default: now. The request may
   *  have tried other work before. */
  readonly startedAt?: number;
  /** Aborted when the caller has disconnected. */
  readonly caller?: AbortSignal | undefined;
  /** The longest wait of a caller who can go elsewhere, in milliseconds. */
  readonly withinMs?: number;
  /** Work that failed since a call had no answer is tried until then at least, on the same clock, even after the
   *  deadline: it may have failed before EC2 was asked for it. */
  readonly leastUntil?: number;
}

/**
 * The outages of one dependency: the store, or EC2 for one ENI. Requests that meet an outage wait until a deadline
 * that counts from its beginning, so that a queue of them fails together. Docker sends the requests of one network
 * one after the other, without a time limit: deadlines of their own would add up.
 */
export interface Outage {
  /** Returns the deadline of a request that started at `startedAt`, on the same clock. */
  deadline(startedAt: number): number;
  /** Repeats `work` while it fails with an error that `isTransient` accepts. Throws that error after the deadline,
   *  and the reason of the caller's signal once that is aborted. Tries at least once. */
  retryWhile<T>(
    isTransient: (error: unknown) => error is IpamError,
    work: () => Promise<T>,
    options?: RetryOptions,
  ): Promise<T>;
}

/** `boundMs` is the longest wait after the beginning of an outage. */
export function createOutage(boundMs: number, { clock, wait }: Timing): Outage {
  let beganAt: number | null = null;
  let lastFailureAt = 0;

  function deadline(startedAt: number): number {
    const isOver = startedAt - lastFailureAt > OVER_AFTER_MS;
    return Math.min(startedAt, (isOver ? null : beganAt) ?? startedAt) + boundMs;
  }

  function noteFailure(now: number): void {
    if (beganAt === null || now - lastFailureAt > OVER_AFTER_MS) beganAt = now;
    lastFailureAt = now;
  }

  return {
    deadline,
    async retryWhile(isTransient, work, options = {}) {
      const { startedAt = clock(), caller, withinMs = Number.POSITIVE_INFINITY } = options;
      for (let pauseMs = PAUSE_MIN_MS; ; pauseMs = Math.min(pauseMs * 2, PAUSE_MAX_MS)) {
        try {
          const result = await work();
          beganAt = null;
          return result;
        } catch (error) {
          if (!isTransient(error)) {
            if (!isError(error, 'caller-gone')) beganAt = null;
            throw error;
          }
          if (!isLocked(error)) noteFailure(clock());
          const { leastUntil = startedAt }: RetryOptions = isError(error, 'ec2-unknown') ? options : {};
          const until = Math.max(deadline(startedAt), leastUntil);
          const left = Math.min(until, startedAt + withinMs) - clock();
          if (left <= 0) throw error;
          throwIfAborted(caller);
          await wait(Math.min(pauseMs, left), caller);
        }
      }
    },
  };
}

/** ENIs whose outages are remembered. Bounded, since a request may name any ENI. */
const ENIS_MAX = 10_000;

/** The outages of the dependencies of one server. */
export interface Outages {
  readonly store: Outage;
  /** Each ENI has an outage of its own, so that a call that hangs for one ENI delays no other. */
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

/** Another session keeps rows locked. The store serves requests for all other rows, so this is no outage. */
export const isLocked = (error: IpamError): boolean =>
  error.code === 'store-down' && error.addresses.length > 0;
export const isStoreDown = (error: unknown): error is IpamError => isError(error, 'store-down');
export const isEc2Away = (error: unknown): error is IpamError =>
  isError(error, 'ec2-unknown', 'ec2-unreachable', 'ec2-throttled');

/** Returns a function that retries work while the store or EC2 is unavailable, until the request's deadline. */
export const withRetry =
  (outages: Outages, eni: EniId, options: RetryOptions) =>
  <T>(work: () => Promise<T>): Promise<T> =>
    outages.store.retryWhile(
      isStoreDown,
      () => outages.ec2(eni).retryWhile(isEc2Away, work, options),
      options,
    );
