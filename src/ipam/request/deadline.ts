/** The deadline of one request, as an `AbortSignal` that ends its waits. */
import { IpamError } from '../../domain/error.ts';
import type { IpamContext } from '../context.ts';

/** How often the deadline is computed anew, in milliseconds: it moves when an outage begins or ends. */
const LOOK_AGAIN_MS = 1_000;

export interface Deadline {
  /** Aborted with caller-gone when the caller has disconnected, or with unavailable when the deadline has passed. */
  readonly signal: AbortSignal;
  /** Returns whether the deadline has passed. Throws caller-gone. */
  isPast(): boolean;
  /** Stops the timer. Call it when the request has ended. */
  end(): void;
}

/** `until` returns the deadline on the process's monotonic clock; it may change. The timer starts when `signal` is
 *  first read: most requests never wait. */
export function createDeadline(
  { clock, wait }: Pick<IpamContext, 'clock' | 'wait'>,
  caller: AbortSignal,
  until: () => number,
): Deadline {
  const ended = new AbortController();
  const passed = new AbortController();
  let signal: AbortSignal | null = null;

  async function watch(): Promise<void> {
    while (!ended.signal.aborted && clock() < until())
      await wait(Math.min(until() - clock(), LOOK_AGAIN_MS), ended.signal);
    if (!ended.signal.aborted) passed.abort(tooLate());
  }

  return {
    get signal() {
      if (signal === null) {
        signal = AbortSignal.any([caller, passed.signal]);
        void watch();
      }
      return signal;
    },
    isPast() {
      caller.throwIfAborted();
      return passed.signal.aborted || clock() >= until();
    },
    end: () => ended.abort(),
  };
}

const tooLate = (): IpamError =>
  new IpamError('unavailable', 'the request has reached its time limit', { hint: 'try again' });
