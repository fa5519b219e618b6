/** Two clocks differ by less than this between two readings without either having stopped or been set. */
const STEP_MS_MIN = 50;

/**
 * A clock that never passes slower than real time, for deadlines that somebody else relies on: when they have passed
 * here, they have passed everywhere. A process's monotonic clock stands still while its machine sleeps, and the time
 * of day may be set back: each time that this is read, it has passed by the larger of the two. Setting the time of day
 * forward moves it too, so that a deadline may pass early, but never late. In milliseconds from nowhere.
 */
export function deadlineClock(monotonic: () => number, timeOfDay: () => number): () => number {
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
