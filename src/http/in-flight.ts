/** Counts the request handlers that run, so that a server that stops can wait for them. A handler runs on after its
 *  client has disconnected: its claim is still to be rolled back. */
export interface InFlight {
  /** Counts the handler until it has ended. */
  track(handler: () => Promise<void>): Promise<void>;
  /** Resolves when no handler runs, or after `boundMs`. */
  ended(boundMs: number): Promise<void>;
}

export function createInFlight(): InFlight {
  let count = 0;
  const waiting = new Set<() => void>();

  return {
    async track(handler) {
      count++;
      try {
        await handler();
      } finally {
        count--;
        if (count === 0) for (const tell of waiting) tell();
      }
    },
    ended: boundMs =>
      new Promise(resolve => {
        if (count === 0) {
          resolve();
          return;
        }
        const tell = () => {
          clearTimeout(bound);
          waiting.delete(tell);
          resolve();
        };
        const bound = setTimeout(tell, boundMs);
        waiting.add(tell);
      }),
  };
}
