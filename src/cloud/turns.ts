/** Who may send next: the most urgent of those that wait for a bucket's tokens, among them the first come. */
import { IpamError } from '../domain/error.ts';
import type { TokenBucket } from './bucket.ts';
import { URGENCIES, type Urgency } from './cloud.ts';

export interface Turns {
  /** Resolves when the caller may send one call. Throws ec2-throttled when that is not by `until` on the
   *  clock, or when too many wait that go before it. `urgency` may change meanwhile. */
  take(urgency: () => Urgency, until: number): Promise<void>;
}

interface Waiter {
  readonly urgency: () => Urgency;
  readonly until: number;
  readonly go: () => void;
  readonly refuse: (error: IpamError) => void;
}

/** The longest wait for turns: of a change for its own, of a read for those of all its tries. */
export const TURN_MAX_MS = 60_000;
/** When more wait, the least urgent, last come is refused. */
export const WAITING_MAX = 1000;
/** By now a waiter may be more urgent, or too late. */
export const LOOK_AGAIN_MS = 100;

export function createTurns(
  action: string,
  bucket: TokenBucket,
  clock: () => number,
  wait: (ms: number) => Promise<void>,
): Turns {
  /** In the order in which they came. */
  let waiting: Waiter[] = [];
  let looking = false;

  function serve(): void {
    const line = waiting
      .map(waiter => ({ waiter, urgency: waiter.urgency() }))
      .sort((a, b) => URGENCIES.indexOf(a.urgency) - URGENCIES.indexOf(b.urgency));
    const done = new Set<Waiter>();
    for (const { waiter, urgency } of line) {
      if (!bucket.take(urgency)) break;
      waiter.go();
      done.add(waiter);
    }
    const left = line.filter(({ waiter }) => !done.has(waiter));
    for (const [place, { waiter }] of left.entries()) {
      if (place < WAITING_MAX && clock() < waiter.until) continue;
      waiter.refuse(
        notSent(action, place < WAITING_MAX ? 'its turn did not come in time' : 'too many calls wait'),
      );
      done.add(waiter);
    }
    waiting = waiting.filter(waiter => !done.has(waiter));
  }

  /** One timer for all that wait. */
  async function look(): Promise<void> {
    looking = true;
    while (waiting.length > 0) {
      const urgency = waiting.some(waiter => waiter.urgency() === 'cold') ? 'cold' : 'recycle';
      await wait(Math.max(1, Math.ceil(Math.min(bucket.readyInMs(urgency), LOOK_AGAIN_MS))));
      serve();
    }
    looking = false;
  }

  return {
    take: (urgency, until) =>
      new Promise((go, refuse) => {
        waiting.push({ urgency, until, go, refuse });
        serve();
        if (!looking) void look();
      }),
  };
}

export const notSent = (
  action: string,
  why: string,
  hint = 'raise --ec2-share if the other programs of the account leave room',
): IpamError => new IpamError('ec2-throttled', `not sent: ${action}: ${why}`, { hint });
