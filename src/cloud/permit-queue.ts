/** Gives the permits of one EC2 API to those that wait: the most urgent first, and of these each ENI in its turn. */
import { reasonOf } from '../domain/abort.ts';
import { IpamError, isError } from '../domain/error.ts';
import type { Turns } from '../domain/turns.ts';
import type { TokenBucket } from './bucket.ts';
import { URGENCIES, type Urgency } from './cloud.ts';

export interface PermitQueue {
  /** Resolves when the caller may send one call. Throws ec2-throttled when that is not by `until` on the process's
   *  monotonic clock or before the signal aborts, and when too many wait that go before it; caller-gone when the caller
   *  has gone. Returns what gives an unused permit back. */
  take(asked: PermitAsked): Promise<GiveBack>;
}

export interface PermitAsked {
  /** May change meanwhile. */
  readonly urgency: () => Urgency;
  /** Who takes turns: an ENI or a host; NO_KEY for work of the server itself. */
  readonly turn: string;
  readonly until: number;
  readonly signal?: AbortSignal | undefined;
}

/** Lets another call be sent in the place of one that was not sent. */
export type GiveBack = () => void;

interface Waiter extends PermitAsked {
  readonly place: number;
  readonly go: (giveBack: GiveBack) => void;
  readonly refuse: (error: IpamError) => void;
}

/** The longest wait for permits, in milliseconds: of a change for its own, of a read for those of all its tries. */
export const PERMIT_WAIT_MS_MAX = 60_000;
/** When more wait, the least urgent, last come is refused. */
export const WAITING_MAX = 1000;
/** The part of a bucket that a greedy ENI leaves to others: their calls go at once, whatever it asks for. */
export const SPARED = 0.2;
/** Between two looks at a queue, in milliseconds: a waiter may have become more urgent. */
export const LOOK_AGAIN_MS = 100;

interface Parts {
  readonly bucket: TokenBucket;
  /** Tokens that a greedy ENI leaves in the bucket. */
  readonly spare: number;
  readonly turns: Turns;
  readonly clock: () => number;
  readonly wait: (ms: number) => Promise<void>;
}

export function createPermitQueue(action: string, parts: Parts): PermitQueue {
  const { bucket, turns, clock, wait } = parts;
  let waiting: Waiter[] = [];
  let looking = false;

  const spareOf = ({ turn }: PermitAsked): number => (turns.isGreedy(turn) ? parts.spare : 0);

  function giveBack(): void {
    bucket.giveBack();
    serve();
  }

  function serve(): void {
    const line = inLine(waiting);
    const done = new Set<Waiter>();
    /** A greedy one waits for a token that others may have now, but not those that are less urgent. */
    let blocked: Urgency | null = null;
    for (const { waiter, urgency } of line) {
      if (waiter.signal?.aborted) continue;
      if (blocked !== null && blocked !== urgency) break;
      const spare = spareOf(waiter);
      if (blocked !== null && spare > 0) continue;
      if (bucket.take(urgency, spare)) {
        turns.served(waiter.turn, waiter.place);
        waiter.go(giveBack);
        done.add(waiter);
      } else if (spare === 0) break;
      else blocked = urgency;
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
      const cold = waiting.filter(waiter => waiter.urgency() === 'cold');
      const spare = Math.min(...(cold.length > 0 ? cold : waiting).map(spareOf));
      const readyInMs = bucket.readyInMs(cold.length > 0 ? 'cold' : 'idle', spare);
      await wait(Math.max(1, Math.ceil(Math.min(readyInMs, LOOK_AGAIN_MS))));
      serve();
    }
    looking = false;
  }

  return {
    take: asked =>
      new Promise((go, refuse) => {
        waiting.push({ ...asked, place: turns.arrive(asked.turn), go, refuse });
        serve();
        if (!looking) void look();
      }),
  };
}

/** Orders those that wait: the most urgent first, of these each ENI in its turn. */
export function inLine<W extends { readonly urgency: () => Urgency; readonly place: number }>(
  waiting: readonly W[],
): { readonly waiter: W; readonly urgency: Urgency }[] {
  return waiting
    .map(waiter => ({ waiter, urgency: waiter.urgency() }))
    .sort(
      (a, b) =>
        URGENCIES.indexOf(a.urgency) - URGENCIES.indexOf(b.urgency) || a.waiter.place - b.waiter.place,
    );
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
