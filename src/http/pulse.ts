/** Notices that the process was stopped: by a signal, with its machine, or by work that kept the event loop busy. Then it
 *  reads at once what clients sent long before. */

/** The shortest stop that counts, in milliseconds. An agent waits longer before it leaves a server. */
export const STOP_MS_MIN = 3_000;
/** The longest time after a stop in which the process reads what was sent during it, in milliseconds. No container gets
 *  and gives up an address so quickly. */
export const OLD_INPUT_MS = 250;
const BEAT_MS = 1_000;

/** Returns a function that tells for how long what is read now may have been there, in milliseconds: 0, or the length of the
 *  stop after which the process has just gone on. `deadlineClock`: see domain/clock.ts. */
export function createPulse(
  deadlineClock: () => number,
  every: (work: () => void, ms: number) => void = unreferenced,
): () => number {
  let beatAt = deadlineClock();
  let last = { at: Number.NEGATIVE_INFINITY, ms: 0 };

  function beat(): number {
    const now = deadlineClock();
    if (now - beatAt >= STOP_MS_MIN) last = { at: now, ms: now - beatAt };
    beatAt = now;
    return now;
  }
  every(beat, BEAT_MS);
  return () => {
    const now = beat(); // sockets may be read before the timer of the beat is due
    return now - last.at < OLD_INPUT_MS ? now - last.at + last.ms : 0;
  };
}

const unreferenced = (work: () => void, ms: number): void => void setInterval(work, ms).unref();
