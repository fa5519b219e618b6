/** The pace and the bounds of a probe's calls: real EC2 is asked slowly, and never often. */
import { IpamError } from '../domain/error.ts';

/** Of one run, and of one `--undo`. */
export const CALLS_MAX = 40;
/** Those of them that change something. */
export const CHANGES_MAX = 16;
/** From the start of a call to the start of the next, at least. */
export const PACE_MS = 1000;

export interface Pacing {
  /** A monotonic clock, in milliseconds. */
  readonly clock: () => number;
  readonly wait: (ms: number) => Promise<void>;
}

export type Meter = ReturnType<typeof createMeter>;

export function createMeter({ clock, wait }: Pacing) {
  let calls = 0;
  let changes = 0;
  let nextAt = Number.NEGATIVE_INFINITY;

  async function take<T>(kind: 'read' | 'change', send: () => Promise<T>): Promise<T> {
    if (calls >= CALLS_MAX || (kind === 'change' && changes >= CHANGES_MAX))
      throw new IpamError(
        'exhausted',
        `the probe makes ${CALLS_MAX} calls at most, ${CHANGES_MAX} of them changing`,
      );
    calls++;
    if (kind === 'change') changes++;
    const pauseMs = nextAt - clock();
    if (pauseMs > 0) await wait(pauseMs);
    nextAt = clock() + PACE_MS;
    return await send();
  }

  return {
    read: <T>(send: () => Promise<T>): Promise<T> => take('read', send),
    change: <T>(send: () => Promise<T>): Promise<T> => take('change', send),
    /** The next call is not sent before so many milliseconds have passed. */
    pause(ms: number): void {
      nextAt = Math.max(nextAt, clock() + ms);
    },
    get calls() {
      return calls;
    },
    get changes() {
      return changes;
    },
    /** Whether so many more calls are allowed. */
    has: (wanted: number, changing: number): boolean =>
      calls + wanted <= CALLS_MAX && changes + changing <= CHANGES_MAX,
  };
}
