import { IpamError } from '../../domain/error.ts';
import type { Row } from '../rows.ts';
import type { MysqlSpec } from '../url.ts';
import type { Link, Statement } from './connection.ts';
import { LOCK_TIMEOUT, MysqlFailure, NO_SUCH_TABLE } from './errors.ts';

/** For a whole call of the store, all its tries together. */
export const CALL_TIMEOUT_MS = 10_000;
/** After this many a call that may be repeated gives up, so that a store that refuses connections is
 *  reported in about a second. */
const TRIES_MAX = 6;
const RETRY_PAUSE_MS = 50;

const NO_COLUMN = 1054;
const BUGS = new Set([1064, 1406]);

/** Where the store is, for people: no user, no password. */
export const placeOf = (spec: MysqlSpec): string =>
  `mysql://${spec.host.includes(':') ? `[${spec.host}]` : spec.host}:${spec.port}/${spec.database}`;

/** The failure as the store's callers get it. */
export function ipamErrorOf(failure: MysqlFailure, place: string): IpamError {
  const cause = failure.cause ?? failure;
  if (failure.errno === NO_SUCH_TABLE || failure.errno === NO_COLUMN)
    return new IpamError('store-down', `the schema of the store at ${place} is not this program's`, {
      hint: 'run `ec2-ipam migrate`',
      cause,
    });
  if (BUGS.has(failure.errno))
    return new IpamError('internal', `the store at ${place}: ${failure.message}`, { cause });
  return new IpamError('store-down', `the store at ${place} cannot be used: ${failure.message}`, {
    hint: 'look whether the database runs and lets this user in',
    cause,
  });
}

export const pause = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms));

/** Tries `work` until it succeeds, cannot succeed, or a bound is reached. Throws the last MysqlFailure. */
async function persist<T>(
  work: (deadline: number) => Promise<T>,
  bounds: { deadline: number; triesMax: number; repeatable: (failure: MysqlFailure) => boolean },
): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await work(bounds.deadline);
    } catch (error) {
      if (!(error instanceof MysqlFailure) || error.outcome === 'permanent') throw error;
      const pauseMs = RETRY_PAUSE_MS * Math.min(tries, 10);
      if (!bounds.repeatable(error) || tries >= bounds.triesMax) throw error;
      if (performance.now() + pauseMs >= bounds.deadline) throw error;
      await pause(pauseMs);
    }
  }
}

/** Sends a packet that may as well be done twice, and again while it fails. Throws MysqlFailure. */
export const repeat = (link: Link, packet: readonly Statement[], timeoutMs: number): Promise<Row[][]> =>
  persist(deadline => link.exchange(packet, deadline), {
    deadline: performance.now() + timeoutMs,
    triesMax: TRIES_MAX,
    repeatable: () => true,
  });

/** Does `work`, which must not be done twice: again only while it surely was not done. A lock that somebody keeps is
 *  the caller's to deal with. Throws MysqlFailure. */
export const once = <T>(work: (deadline: number) => Promise<T>, timeoutMs: number): Promise<T> =>
  persist(work, {
    deadline: performance.now() + timeoutMs,
    triesMax: TRIES_MAX,
    repeatable: ({ outcome, errno }) =>
      outcome === 'unsent' || (outcome === 'notApplied' && errno !== LOCK_TIMEOUT),
  });

/** As `repeat`, but gives up only when the time is over. */
export const insist = (link: Link, packet: readonly Statement[], timeoutMs: number): Promise<Row[][]> =>
  persist(deadline => link.exchange(packet, deadline), {
    deadline: performance.now() + timeoutMs,
    triesMax: Number.POSITIVE_INFINITY,
    repeatable: () => true,
  });
