/**
 * Keeps the process within the rate that EC2 allows the account: each API has a token bucket, and each request takes one
 * of its tokens. A client sends by this limiter's sender only, so the limiter sees each page, each part of a long list and
 * each repetition of a read. A read takes its token when it is sent. A change takes it before its intent is written, as a
 * permit. Tokens are taken to send, and nobody waits for answers: a hung call delays none but its caller. Servers that
 * share a ledger share the buckets too. ENIs take turns, and one that asks for much leaves some tokens to the others.
 */
import { IpamError, isError } from '../domain/error.ts';
import type { Log } from '../domain/log.ts';
import type { Observer } from '../domain/observer.ts';
import { createTurns, NO_KEY } from '../domain/turns.ts';
import { createTokenBucket, type Rate } from './bucket.ts';
import type { ChangeKind, Cloud, Ec2Client, Permit, Sender, Urgency } from './cloud.ts';
import {
  createPermitQueue,
  type GiveBack,
  notSent,
  PERMIT_WAIT_MS_MAX,
  type PermitAsked,
  type PermitQueue,
  SPARED,
} from './permit-queue.ts';
import { type Budget, createSharedPermits } from './shared-permits.ts';

export interface RateLimiterOptions {
  /** The process's monotonic clock, in milliseconds. */
  readonly clock: () => number;
  /** Resolves after `ms`, or as soon as the signal is aborted. */
  readonly wait: (ms: number, signal?: AbortSignal) => Promise<void>;
  /** Our part of the account's calls, 0 to 1. */
  readonly share: number;
  /** Where the servers that share the account take their permits; null: this process is the only one. */
  readonly budget: Budget | null;
  readonly log: Log;
  /** Undefined: nobody watches. */
  readonly observer?: Observer | undefined;
}

// https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html: for each account and Region, each
// API its own bucket.
const READ: Rate = { capacity: 100, perSecond: 20 };
const CHANGE: Rate = { capacity: 100, perSecond: 5 };
const API = { assign: 'AssignPrivateIpAddresses', unassign: 'UnassignPrivateIpAddresses' } as const;
const CHANGES: readonly string[] = Object.values(API);

/** A permit is good for so long, in milliseconds. EC2's bucket is the account's: what was free then is used by now. */
export const PERMIT_MS = 30_000;
/** The longest wait of a read for which a container waits, in milliseconds: the container's request has a bound too, and
 *  asks again. */
const COLD_READ_WAIT_MS_MAX = 15_000;
/** The part of our rate at which an ENI may take permits for ever without counting as greedy. */
const MODEST_PART = 0.1;
const READ_TRIES_MAX = 3;
const READ_PAUSE_MS = 200;

interface Api {
  readonly queue: PermitQueue;
  /** EC2 throttles; returns the calls a second that are left when it was at full speed before, else null. */
  slow(): Promise<number | null>;
}

/** The cloud behind the limiter. Until `as` says otherwise, its calls are cold. */
export function createRateLimiter(
  client: Ec2Client,
  { clock, wait, share, budget, log, observer }: RateLimiterOptions,
): Cloud {
  const apis = new Map<string, Api>();

  function apiOf(action: string): Api {
    let api = apis.get(action);
    if (api === undefined) {
      const rate = CHANGES.includes(action) ? CHANGE : READ;
      const bucket = createTokenBucket(rate, { clock, share });
      observer?.tokens(action, bucket.left);
      const turns = createTurns(clock, rate.perSecond * share * MODEST_PART);
      const spare = rate.capacity * SPARED;
      const alone = createPermitQueue(action, { bucket, spare, turns, clock, wait });
      const shared =
        budget === null
          ? null
          : createSharedPermits(action, rate, { budget, share, turns, clock, wait, alone });
      async function slow() {
        const wasFull = bucket.slow(); // the process's own bucket too, for when the ledger is away
        return shared === null ? (wasFull ? bucket.perSecond : null) : await shared.slow();
      }
      api = { queue: shared ?? alone, slow };
      apis.set(action, api);
    }
    return api;
  }

  async function sent<T>(action: string, send: () => Promise<T>): Promise<T> {
    try {
      return await send();
    } catch (error) {
      if (isError(error, 'ec2-throttled')) await slowDown(action);
      throw error;
    }
  }

  async function slowDown(action: string): Promise<void> {
    const perSecond = await apiOf(action).slow();
    if (perSecond !== null) log('warn', 'throttled by EC2, slowing down', { action, perSecond });
  }

  /** Asks again, with growing pauses, while there is no answer. */
  async function read<T>(
    action: string,
    send: () => Promise<T>,
    { urgency, turn }: Pick<PermitAsked, 'urgency' | 'turn'>,
  ): Promise<T> {
    const until = clock() + (urgency() === 'cold' ? COLD_READ_WAIT_MS_MAX : PERMIT_WAIT_MS_MAX);
    for (let tries = 1; ; tries++) {
      await apiOf(action).queue.take({ urgency, turn, until });
      try {
        return await sent(action, send);
      } catch (error) {
        const again = isError(error, 'ec2-unknown', 'ec2-unreachable', 'ec2-throttled');
        if (!again || tries >= READ_TRIES_MAX) throw error;
      }
      await wait(READ_PAUSE_MS * 2 ** tries);
    }
  }

  function createPermit(kind: ChangeKind, send: Permit['send'], giveBack: GiveBack): Permit {
    const expiresAt = clock() + PERMIT_MS;
    let isUsed = false;
    return {
      async send(...call) {
        if (isUsed) throw new IpamError('internal', `not sent: ${API[kind]} has no permit any more`);
        isUsed = true;
        if (clock() > expiresAt) throw notSent(API[kind], 'its permit expired', 'try again');
        await send(...call);
      },
      [Symbol.dispose]() {
        if (!isUsed) giveBack();
        isUsed = true;
      },
    };
  }

  function as(urgency: () => Urgency, turn = NO_KEY): Cloud {
    const sender: Sender = (action, send) =>
      CHANGES.includes(action) ? sent(action, send) : read(action, send, { urgency, turn });
    const { assign, unassign, sendingBy: _, ...reads } = client.sendingBy(sender);
    return {
      ...reads,
      as,
      async permit(kind, signal) {
        const until = clock() + PERMIT_WAIT_MS_MAX;
        const giveBack = await apiOf(API[kind]).queue.take({ urgency, turn, until, signal });
        return createPermit(kind, kind === 'assign' ? assign : unassign, giveBack);
      },
    };
  }
  return as(() => 'cold');
}
