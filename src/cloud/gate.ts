/**
 * The one way to ask EC2: each request of a process has a token of its API's bucket. A cloud sends by its
 * door only, one request at a time, so this door sees each page, each part of a long list and each repetition
 * of a read. A read takes its token at the door. A change has had its turn before, when its intent was not
 * yet written, and is let through once for each turn given. Tokens are taken to send and nobody waits for
 * answers: a hung call holds up none but its caller. Servers that share a ledger share the buckets too.
 */
import { IpamError, isError } from '../domain/error.ts';
import type { Log } from '../domain/log.ts';
import { createTokenBucket, type Rate } from './bucket.ts';
import type { Cloud, Door, OpenCloud, Urgency } from './cloud.ts';
import { type Budget, createSharedTurns } from './shared-turns.ts';
import { createTurns, TURN_MAX_MS, type Turns } from './turns.ts';

export interface GateOptions {
  /** The process's monotonic clock, in milliseconds. */
  readonly clock: () => number;
  /** Resolves after `ms`. */
  readonly wait: (ms: number) => Promise<void>;
  /** Our part of the account's calls, 0 to 1. */
  readonly share: number;
  /** Where the servers that share the account take their turns; null: this process is the only one. */
  readonly budget: Budget | null;
  readonly log: Log;
}

// https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html: for each account and Region, each
// API its own bucket.
const READ: Rate = { capacity: 100, perSecond: 20 };
const CHANGE: Rate = { capacity: 100, perSecond: 5 };
const API = { assign: 'AssignPrivateIpAddresses', unassign: 'UnassignPrivateIpAddresses' } as const;
const CHANGES: readonly string[] = Object.values(API);

/** The same for what a container waits for, unless the caller says until when: the container's request has a bound too,
 *  and asks again. */
const COLD_TURN_MAX_MS = 15_000;
const READ_TRIES_MAX = 3;
const READ_PAUSE_MS = 200;

interface Api {
  readonly turns: Turns;
  /** EC2 throttles; returns the calls a second that are left when it was at full speed before, else null. */
  slow(): Promise<number | null>;
  /** Turns given to changes and not used yet. Some never are. */
  unused: number;
}

/** The cloud behind the gate. Until `as` says otherwise, its calls are cold. */
export function createGate(cloud: OpenCloud, { clock, wait, share, budget, log }: GateOptions): Cloud {
  const apis = new Map<string, Api>();

  function apiOf(action: string): Api {
    let api = apis.get(action);
    if (api === undefined) {
      const rate = CHANGES.includes(action) ? CHANGE : READ;
      const bucket = createTokenBucket(rate, { clock, share });
      const alone = createTurns(action, bucket, clock, wait);
      const slow = async () => (bucket.slow() ? bucket.perSecond : null);
      const shared =
        budget === null ? null : createSharedTurns(action, rate, { budget, share, clock, wait, alone });
      api = { turns: shared ?? alone, slow: shared?.slow ?? slow, unused: 0 };
      apis.set(action, api);
    }
    return api;
  }

  async function sent<T>(action: string, api: Api, send: () => Promise<T>): Promise<T> {
    try {
      return await send();
    } catch (error) {
      if (isError(error, 'ec2-throttled')) await slowDown(action, api);
      throw error;
    }
  }

  async function slowDown(action: string, api: Api): Promise<void> {
    const perSecond = await api.slow();
    if (perSecond !== null) log('warn', 'EC2 throttles; slowing down', { action, perSecond });
  }

  async function change<T>(action: string, send: () => Promise<T>): Promise<T> {
    const api = apiOf(action);
    if (api.unused < 1) throw new IpamError('internal', `not sent: ${action} has had no turn`);
    api.unused--;
    return sent(action, api, send);
  }

  const lastTurn = (urgency: Urgency): number =>
    clock() + (urgency === 'cold' ? COLD_TURN_MAX_MS : TURN_MAX_MS);

  /** Asks again, with growing pauses, while there is no answer. */
  async function read<T>(action: string, send: () => Promise<T>, urgency: () => Urgency): Promise<T> {
    const api = apiOf(action);
    const until = lastTurn(urgency());
    for (let tries = 1; ; tries++) {
      await api.turns.take(urgency, until);
      try {
        return await sent(action, api, send);
      } catch (error) {
        const again = isError(error, 'ec2-unknown', 'ec2-unreachable', 'ec2-throttled');
        if (!again || tries >= READ_TRIES_MAX) throw error;
      }
      await wait(READ_PAUSE_MS * 2 ** tries);
    }
  }

  function as(urgency: () => Urgency): Cloud {
    const door: Door = (action, send) =>
      CHANGES.includes(action) ? change(action, send) : read(action, send, urgency);
    return {
      ...cloud.through(door),
      as,
      async turn(kind, until = lastTurn(urgency())) {
        const api = apiOf(API[kind]);
        await api.turns.take(urgency, Math.min(clock() + TURN_MAX_MS, until));
        api.unused++;
        await cloud.turn(kind);
      },
    };
  }
  return as(() => 'cold');
}
