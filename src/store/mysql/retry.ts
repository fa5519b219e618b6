/** Retries of MySQL calls, and their errors for callers. */
import { IpamError } from '../../domain/error.ts';
import type { Row } from '../rows.ts';
import type { MysqlSpec } from '../url.ts';
import type { Link, Statement } from './connection.ts';
import { DUPLICATE, LOCK_TIMEOUT, MysqlFailure, NO_SUCH_TABLE } from './errors.ts';

/** For a call of the store with all its tries, in milliseconds. */
export const CALL_TIMEOUT_MS = 10_000;
/** The tries of a call. A store that refuses connections is reported after about a second. */
const TRIES_MAX = 6;
const RETRY_PAUSE_MS = 50;

const NO_COLUMN = 1054;
const BUGS = new Set([1064, 1406]);

/** The store for error messages, without user and password. */
export const placeOf = (spec: MysqlSpec): string =>
  `mysql://${spec.host.includes(':') ? `[${spec.host}]` : spec.host}:${spec.port}/${spec.database}`;

/** Converts a failure to the error of the store's callers. */
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
    hint: 'check that the database runs and accepts this user',
    cause,
  });
}

export const pause = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms));

/** Tries `work` until it succeeds, fails permanently, or reaches a bound. Throws the last MysqlFailure. */
async function persist<T>(
  work: (deadline: number) => Promise<T>,
  timeoutMs: number,
  triesMax: number,
  mayRepeat: (failure: MysqlFailure) => boolean = () => true,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (let tries = 1; ; tries++) {
    try {
      return await work(deadline);
    } catch (error) {
      if (!(error instanceof MysqlFailure) || error.outcome === 'permanent') throw error;
      const pauseMs = RETRY_PAUSE_MS * Math.min(tries, 10);
      if (!mayRepeat(error) || tries >= triesMax || performance.now() + pauseMs >= deadline) throw error;
      await pause(pauseMs);
    }
  }
}

/** Sends a packet that may be executed twice, again while it fails. Throws MysqlFailure. */
export const repeat = (link: Link, packet: readonly Statement[], timeoutMs: number): Promise<Row[][]> =>
  persist(deadline => link.exchange(packet, deadline), timeoutMs, TRIES_MAX);

/** As `repeat`, but without a limit of tries. */
export const insist = (link: Link, packet: readonly Statement[], timeoutMs: number): Promise<Row[][]> =>
  persist(deadline => link.exchange(packet, deadline), timeoutMs, Number.POSITIVE_INFINITY);

/** Runs `work`, which must not be executed twice: again only while it surely was not executed. The caller handles
 *  locks and duplicate values. Throws MysqlFailure. */
export const once = <T>(work: (deadline: number) => Promise<T>, timeoutMs: number): Promise<T> =>
  persist(
    work,
    timeoutMs,
    TRIES_MAX,
    ({ outcome, errno }) =>
      outcome === 'unsent' || (outcome === 'notApplied' && ![LOCK_TIMEOUT, DUPLICATE].includes(errno)),
  );
