/** Notices that the process was stopped: by a signal, with its machine, or by work that kept the event loop busy. Then it
 *  reads at once what clients sent long before. */

/** The shortest stop that counts, in milliseconds. An agent waits longer before it leaves a server. */
export const STOP_MS_MIN = 3_000;
/** The longest time after a stop in which the process reads what was sent during it, in milliseconds. */
export const OLD_INPUT_MS = 1_000;
const BEAT_MS = 1_000;

/** Returns a function that tells whether the process has just gone on after a stop. `deadlineClock`: see
 *  domain/clock.ts. */
export function createPulse(
  deadlineClock: () => number,
  every: (work: () => void, ms: number) => void = unreferenced,
): () => boolean {
  let beatAt = deadlineClock();
  let wentOnAt = Number.NEGATIVE_INFINITY;

  function beat(): number {
    const now = deadlineClock();
    if (now - beatAt >= STOP_MS_MIN) wentOnAt = now;
    beatAt = now;
    return now;
  }
  every(beat, BEAT_MS);
  // Sockets may be read before the timer of the beat is due.
  return () => beat() - wentOnAt < OLD_INPUT_MS;
}

const unreferenced = (work: () => void, ms: number): void => void setInterval(work, ms).unref();
