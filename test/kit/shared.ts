/** Returns what starts one for all files of a run that ask before they run: the last of them to stop it ends it. */
export function shared<T extends { stop(): Promise<void> }>(start: () => Promise<T>): () => Promise<T> {
  let one: Promise<T> | null = null;
  let users = 0;
  return async () => {
    users++;
    one ??= start();
    const started = await one;
    const stop = async () => {
      if (--users > 0) return;
      one = null;
      await started.stop();
    };
    return { ...started, stop };
  };
}
