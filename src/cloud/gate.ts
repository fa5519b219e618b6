/**
 * The one way to ask EC2: each request of a process has a token of its API's bucket. A cloud sends by its
 * door only, one request at a time, so this door sees each page, each part of a long list and each repetition
 * of a read. A read takes its token at the door. A change has had its turn before, when its intent was not
 * yet written, and is let through once for each turn given. Tokens are taken to send and nobody waits for
 * answers: a hung call holds up none but its caller.
 */
import { IpamError, isError } from '../domain/error.ts';
import type { Log } from '../domain/log.ts';
import { type Rate, type TokenBucket, tokenBucket } from './bucket.ts';
import type { Cloud, Door, OpenCloud, Urgency } from './cloud.ts';
import { type Turns, turnsOf } from './turns.ts';

export interface GateOptions {
  /** The process's monotonic clock, in milliseconds. */
  readonly clock: () => number;
  /** Resolves after `ms`. */
  readonly wait: (ms: number) => Promise<void>;
  /** Our part of the account's calls, 0 to 1; read each time. */
  readonly share: () => number;
  /** The part of the account's bucket that we may empty for containers that wait, 0 to 1; read each time. */
  readonly burst: () => number;
  readonly log: Log;
}

// https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html: for each account and Region, each
// API its own bucket.
const READ: Rate = { capacity: 100, perSecond: 20 };
const CHANGE: Rate = { capacity: 100, perSecond: 5 };
const API = { assign: 'AssignPrivateIpAddresses', unassign: 'UnassignPrivateIpAddresses' } as const;
const CHANGES: readonly string[] = Object.values(API);

/** The longest wait for turns: of a change for its own, of a read for those of all its tries. */
export const TURN_MAX_MS = 60_000;
const READ_TRIES_MAX = 3;
const READ_PAUSE_MS = 200;

interface Api {
  readonly bucket: TokenBucket;
  readonly turns: Turns;
  /** Turns given to changes and not used yet. Some never are. */
  unused: number;
}

/** The cloud behind the gate. Until `as` says otherwise, its calls are cold. */
export function gate(cloud: OpenCloud, { clock, wait, share, burst, log }: GateOptions): Cloud {
  const apis = new Map<string, Api>();

  function apiOf(action: string): Api {
    let api = apis.get(action);
    if (api === undefined) {
      const bucket = tokenBucket(CHANGES.includes(action) ? CHANGE : READ, { clock, share, burst });
      api = { bucket, turns: turnsOf(action, bucket, clock, wait), unused: 0 };
      apis.set(action, api);
    }
    return api;
  }

  async function sent<T>(action: string, { bucket }: Api, send: () => Promise<T>): Promise<T> {
    try {
      return await send();
    } catch (error) {
      if (isError(error, 'ec2-throttled') && bucket.slow())
        log('warn', 'EC2 throttles; slowing down', { action, perSecond: bucket.perSecond });
      throw error;
    }
  }

  async function change<T>(action: string, send: () => Promise<T>): Promise<T> {
    const api = apiOf(action);
    if (api.unused < 1) throw new IpamError('internal', `not sent: ${action} has had no turn`);
    api.unused--;
    return sent(action, api, send);
  }

  /** Asks again, with growing pauses, while there is no answer. */
  async function read<T>(action: string, send: () => Promise<T>, urgency: () => Urgency): Promise<T> {
    const api = apiOf(action);
    const until = clock() + TURN_MAX_MS;
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
      async turn(kind, until = Number.POSITIVE_INFINITY) {
        const api = apiOf(API[kind]);
        await api.turns.take(urgency, Math.min(clock() + TURN_MAX_MS, until));
        api.unused++;
        await cloud.turn(kind);
      },
    };
  }
  return as(() => 'cold');
}
