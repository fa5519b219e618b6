/** The deadline of one request, as an `AbortSignal` that ends its waits. */
import { throwIfAborted } from '../../domain/abort.ts';
import { IpamError } from '../../domain/error.ts';
import type { IpamContext } from '../context.ts';

/** How often the deadline is computed anew, in milliseconds: it moves when an outage begins or ends. */
const LOOK_AGAIN_MS = 1_000;

export interface Deadline {
  /** Aborted when the caller has disconnected, or with unavailable when the deadline has passed. */
  readonly signal: AbortSignal;
  /** Returns whether the deadline has passed. Throws caller-gone. */
  isPast(): boolean;
  /** Returns the time until then, in milliseconds; 0 or less: it has passed. */
  leftMs(): number;
  /** Stops the timer, and aborts the signal: what still waits for it would be kept for ever. Call it when the request
   *  has ended. */
  end(): void;
}

/** `until` returns the deadline on the process's monotonic clock; it may change. The timer starts when `signal` is
 *  first read: most requests never wait. */
export function createDeadline(
  { clock, wait }: Pick<IpamContext, 'clock' | 'wait'>,
  caller: AbortSignal,
  until: () => number,
): Deadline {
  let watched: { readonly signal: AbortSignal; readonly passed: AbortSignal; end(): void } | null = null;

  function watch() {
    const ended = new AbortController();
    const passed = new AbortController();
    async function untilPassed(): Promise<void> {
      while (!ended.signal.aborted && clock() < until())
        await wait(Math.min(until() - clock(), LOOK_AGAIN_MS), ended.signal);
      if (!ended.signal.aborted) passed.abort(tooLate());
    }
    void untilPassed();
    const signal = AbortSignal.any([caller, passed.signal]);
    const end = () => {
      ended.abort();
      passed.abort(over());
    };
    return { signal, passed: passed.signal, end };
  }

  return {
    get signal() {
      watched ??= watch();
      return watched.signal;
    },
    isPast() {
      throwIfAborted(caller);
      return watched?.passed.aborted === true || clock() >= until();
    },
    leftMs: () => until() - clock(),
    end: () => watched?.end(),
  };
}

const over = (): IpamError => new IpamError('unavailable', 'the request has ended');
const tooLate = (): IpamError =>
  new IpamError('unavailable', 'the request has reached its time limit', { hint: 'try again' });
