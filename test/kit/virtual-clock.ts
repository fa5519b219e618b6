/** Time that only the test moves, and callers in it. */
import { IpamError } from '../../src/domain/error.ts';

const settled = () => new Promise<void>(resolve => setImmediate(resolve));

/** Moves from one wait that is due to the next. */
export class Clock {
  now = 0;
  #timers: { at: number; wake: () => void }[] = [];
  wait = (ms: number): Promise<void> =>
    new Promise(wake => {
      this.#timers.push({ at: this.now + ms, wake });
      this.#timers.sort((a, b) => a.at - b.at);
    });

  async advance(ms: number): Promise<void> {
    const until = this.now + ms;
    await settled();
    for (;;) {
      const [next] = this.#timers;
      if (next === undefined || next.at > until) break;
      this.#timers.shift();
      this.now = Math.max(this.now, next.at);
      next.wake();
      await settled();
    }
    this.now = until;
  }
}

/** Asks so many times at once; counts the answers and keeps the errors. */
export function crowd(size: number, ask: () => Promise<unknown>) {
  const told = { done: 0, errors: [] as IpamError[] };
  for (let i = 0; i < size; i++)
    ask().then(
      () => told.done++,
      (error: IpamError) => told.errors.push(error),
    );
  return told;
}

export const codeOf = (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => 'done',
    error => (error instanceof IpamError ? error.code : String(error)),
  );
