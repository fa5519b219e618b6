/** Asks for what others look at often, but seldom and never twice at a time. */

/** Returns a function that gives the last answer of `ask` for `keptMs`, and asks again after that. Who comes while it asks
 *  gets the same answer. `clock`: milliseconds, monotonic. */
export function kept<T>(ask: () => Promise<T>, keptMs: number, clock: () => number): () => Promise<T> {
  let known: { readonly answer: T; readonly at: number } | null = null;
  let asking: Promise<T> | null = null;

  async function askOnce(): Promise<T> {
    try {
      const answer = await ask();
      known = { answer, at: clock() };
      return answer;
    } finally {
      asking = null;
    }
  }
  return async () => {
    if (known !== null && clock() - known.at < keptMs) return known.answer;
    asking ??= askOnce();
    return await asking;
  };
}

/** Returns what `work` gives; null when that takes longer. */
export async function within<T>(
  ms: number,
  work: Promise<T>,
  wait: (ms: number, signal?: AbortSignal) => Promise<void>,
): Promise<T | null> {
  const done = new AbortController();
  try {
    return await Promise.race([work, wait(ms, done.signal).then(() => null)]);
  } finally {
    done.abort();
  }
}
