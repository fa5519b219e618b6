/** The handlers that run. A caller that hung up has no connection any more, while what it was promised is still to
 *  be undone: a server that stops has to wait for these, not for sockets only. */
export class InFlight {
  #count = 0;
  readonly #waiting = new Set<() => void>();

  async track(work: () => Promise<void>): Promise<void> {
    this.#count++;
    try {
      await work();
    } finally {
      this.#count--;
      if (this.#count === 0) for (const tell of this.#waiting) tell();
    }
  }

  /** Resolves when none runs, and after `boundMs` in any case. */
  ended(boundMs: number): Promise<void> {
    return new Promise(resolve => {
      if (this.#count === 0) {
        resolve();
        return;
      }
      const tell = () => {
        clearTimeout(bound);
        this.#waiting.delete(tell);
        resolve();
      };
      const bound = setTimeout(tell, boundMs);
      this.#waiting.add(tell);
    });
  }
}
