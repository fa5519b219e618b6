/** Waiting for an AbortSignal. A signal ends waits only: an EC2 call or a commit is seen through. */
import { IpamError } from './error.ts';

/** Resolves when the signal is aborted. */
export const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise(resolve => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });

/** Returns why the signal is aborted; null when it is not. The HTTP server aborts the signal of a request with a reason
 *  of its own, which means that the caller has gone. A signal for each request that says so would cost a sixth of the
 *  warm starts: it is what the garbage collector works on. */
export function reasonOf(signal: AbortSignal | undefined): IpamError | null {
  if (!signal?.aborted) return null;
  return signal.reason instanceof IpamError ? signal.reason : callerGone();
}

/** Throws the reason when the signal is aborted. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  const reason = reasonOf(signal);
  if (reason !== null) throw reason;
}

const callerGone = (): IpamError => new IpamError('caller-gone', 'the caller has gone');
