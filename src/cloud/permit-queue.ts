/** Gives the permits of one EC2 API to those that wait: the most urgent first, and of these the first come. */
import { reasonOf } from '../domain/abort.ts';
import { IpamError, isError } from '../domain/error.ts';
import type { TokenBucket } from './bucket.ts';
import { URGENCIES, type Urgency } from './cloud.ts';

export interface PermitQueue {
  /** Resolves when the caller may send one call. Throws ec2-throttled when that is not by `until` on the process's
   *  monotonic clock or before the signal aborts, and when too many wait that go before it; caller-gone when the caller
   *  has gone. `urgency` may change meanwhile. Returns what gives an unused permit back. */
  take(urgency: () => Urgency, until: number, signal?: AbortSignal): Promise<GiveBack>;
}

/** Lets another call be sent in the place of one that was not sent. */
export type GiveBack = () => void;

interface Waiter {
  readonly urgency: () => Urgency;
  readonly until: number;
  readonly signal: AbortSignal | undefined;
  readonly go: (giveBack: GiveBack) => void;
  readonly refuse: (error: IpamError) => void;
}

/** The longest wait for permits, in milliseconds: of a change for its own, of a read for those of all its tries. */
export const PERMIT_WAIT_MS_MAX = 60_000;
/** When more wait, the least urgent, last come is refused. */
export const WAITING_MAX = 1000;
/** Between two looks at a queue, in milliseconds: a waiter may have become more urgent. */
export const LOOK_AGAIN_MS = 100;

export function createPermitQueue(
  action: string,
  bucket: TokenBucket,
  clock: () => number,
  wait: (ms: number) => Promise<void>,
): PermitQueue {
  /** In the order in which they came. */
  let waiting: Waiter[] = [];
  let looking = false;

  function giveBack(): void {
    bucket.giveBack();
    serve();
  }

  function serve(): void {
    const line = waiting
      .map(waiter => ({ waiter, urgency: waiter.urgency() }))
      .sort((a, b) => URGENCIES.indexOf(a.urgency) - URGENCIES.indexOf(b.urgency));
    const done = new Set<Waiter>();
    for (const { waiter, urgency } of line) {
      if (waiter.signal?.aborted) continue;
      if (!bucket.take(urgency)) break;
      waiter.go(giveBack);
      done.add(waiter);
    }
    const left = line.filter(({ waiter }) => !done.has(waiter));
    for (const [place, { waiter }] of left.entries()) {
      const { signal, until } = waiter;
      if (place < WAITING_MAX && clock() < until && !signal?.aborted) continue;
      waiter.refuse(place < WAITING_MAX ? tooLate(action, signal) : notSent(action, 'too many calls wait'));
      done.add(waiter);
    }
    waiting = waiting.filter(waiter => !done.has(waiter));
  }

  /** One timer for all that wait. */
  async function look(): Promise<void> {
    looking = true;
    while (waiting.length > 0) {
      const urgency = waiting.some(waiter => waiter.urgency() === 'cold') ? 'cold' : 'idle';
      await wait(Math.max(1, Math.ceil(Math.min(bucket.readyInMs(urgency), LOOK_AGAIN_MS))));
      serve();
    }
    looking = false;
  }

  return {
    take: (urgency, until, signal) =>
      new Promise((go, refuse) => {
        waiting.push({ urgency, until, signal, go, refuse });
        serve();
        if (!looking) void look();
      }),
  };
}

/** Why one that waited has no permit. `signal`: that of its wait, if it had one. */
export function tooLate(action: string, signal?: AbortSignal, hint?: string): IpamError {
  const reason = reasonOf(signal);
  return isError(reason, 'caller-gone') ? reason : notSent(action, 'its permit did not come in time', hint);
}

export const notSent = (
  action: string,
  why: string,
  hint = 'raise --ec2-share if the other programs of the account leave room',
): IpamError => new IpamError('ec2-throttled', `not sent: ${action}: ${why}`, { hint });
