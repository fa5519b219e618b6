/** A clock for deadlines of EC2 calls, which never runs slower than real time. */
/** A larger step between two readings means that one of the clocks stopped or was set. */
const STEP_MS_MIN = 50;

/**
 * Returns a clock in milliseconds with no fixed origin. A monotonic clock stops while its machine sleeps, and the
 * time of day may be set back; so each reading adds the larger step of the two. A deadline may pass early when the
 * time of day is set forward, but never late.
 */
export function createDeadlineClock(monotonic: () => number, timeOfDay: () => number): () => number {
  let aheadMs = 0;
  let before = timeOfDay() - monotonic();
  return () => {
    const now = monotonic();
    const difference = timeOfDay() - now;
    if (difference - before >= STEP_MS_MIN) aheadMs += difference - before;
    before = difference;
    return now + aheadMs;
  };
}
