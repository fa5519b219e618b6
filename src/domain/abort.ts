/** Waiting for an AbortSignal. A signal ends waits only: what was sent to EC2 or to the store is seen through. */

/** Resolves when the signal is aborted. */
export const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise(resolve => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
