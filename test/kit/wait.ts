/** Waiting in real time. */
const UNTIL_MS = 30_000;
const POLL_MS = 20;
/** Between two looks for which a process has to start. */
export const PROCESS_POLL_MS = 500;

export const pause = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms));

/** Looks again and again until it holds; fails when that takes too long. */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  deadlineMs = UNTIL_MS,
  pollMs = POLL_MS,
): Promise<void> {
  const deadline = performance.now() + deadlineMs;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`${what}: not within ${deadlineMs} ms`);
    await pause(pollMs);
  }
}
