/** How long one request waits. */
import { IpamError } from '../../domain/error.ts';
import type { IpamContext } from '../context.ts';

/** An outage that begins or ends meanwhile moves the deadline, which is looked at again so often, in milliseconds. */
const LOOK_AGAIN_MS = 1_000;

export interface Deadline {
  /** Aborted when the caller has gone, with caller-gone, or when the deadline has passed: it ends waits. */
  readonly signal: AbortSignal;
  /** Whether the deadline has passed, as the clock says. Throws caller-gone. */
  isPast(): boolean;
  /** The request has ended. */
  end(): void;
}

/** Aborts when the caller does, and at `until` on the process's monotonic clock, which may change. Costs nothing before its
 *  signal is asked for: most requests never wait. */
export function createDeadline(
  { clock, wait }: Pick<IpamContext, 'clock' | 'wait'>,
  caller: AbortSignal,
  until: () => number,
): Deadline {
  const ended = new AbortController();
  let signal: AbortSignal | null = null;

  async function watch(passed: AbortController): Promise<void> {
    while (!ended.signal.aborted && clock() < until())
      await wait(Math.min(until() - clock(), LOOK_AGAIN_MS), ended.signal);
    if (!ended.signal.aborted) passed.abort(tooLate());
  }

  return {
    get signal() {
      if (signal === null) {
        const passed = new AbortController();
        signal = AbortSignal.any([caller, passed.signal]);
        void watch(passed);
      }
      return signal;
    },
    isPast() {
      caller.throwIfAborted();
      return clock() >= until();
    },
    end: () => ended.abort(),
  };
}

const tooLate = (): IpamError =>
  new IpamError('unavailable', 'the request has waited for long enough', { hint: 'try again' });
