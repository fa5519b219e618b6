/** How long one request waits. */
import { IpamError, isError } from '../../domain/error.ts';
import type { IpamContext } from '../context.ts';

/** An outage that begins or ends meanwhile moves the deadline, which is looked at again so often, in milliseconds. */
const LOOK_AGAIN_MS = 1_000;

export interface Deadline {
  /** Aborted when the caller has gone, with caller-gone, or when the deadline has passed. */
  readonly signal: AbortSignal;
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
    end: () => ended.abort(),
  };
}

const tooLate = (): IpamError =>
  new IpamError('unavailable', 'the request has waited for long enough', { hint: 'try again' });

/** Whether the request has waited for long enough. Throws caller-gone when that is why its signal is aborted. */
export function isTimeUp({ aborted, reason }: AbortSignal): boolean {
  if (isError(reason, 'caller-gone')) throw reason;
  return aborted;
}
