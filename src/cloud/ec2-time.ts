/**
 * Follows EC2's time of day, from the `Date` of its answers. EC2 accepts a signature for 15 minutes of its time, and one
 * from the future for longer. So no change is sent while this process's time of day is ahead: the grace relies on that.
 */
import { IpamError } from '../domain/error.ts';
import type { Log } from '../domain/log.ts';

/** The largest accepted lead of our time of day over EC2's, in milliseconds. The latency of an answer and the fraction of
 *  a second that `Date` omits make the lead look larger than it is. */
export const CLOCK_AHEAD_MS_MAX = 5_000;
/** Clocks drift apart: an older reading is not used, in milliseconds. */
const HEARD_MS_MAX = 3_600_000;
/** https://www.rfc-editor.org/rfc/rfc9110#name-date-time-formats */
const HTTP_DATE = /[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT/g;
const HINT = "set this machine's clock right, for example with chrony";

export interface Ec2Time {
  /** Notes the headers of an answer that EC2 has just given. */
  heard(headers: Readonly<Record<string, string | undefined>>): void;
  /** Returns EC2's time of day, in milliseconds since 1970; null when it is not known. */
  now(): number | null;
  /** Whether EC2's time is known. */
  readonly isKnown: boolean;
  /** Whether EC2's time is known, and ours is not too far ahead. */
  readonly isSafe: boolean;
  /** Throws ec2-unreachable unless it is safe to send the action, whose signature has this time of day. */
  check(action: string, signedFor: number): void;
}

/** `clock` is monotonic, `timeOfDay` the clock of signatures; both in milliseconds. */
export function createEc2Time(clock: () => number, timeOfDay: () => number, log: Log): Ec2Time {
  let heard: { readonly date: number; readonly at: number } | null = null;
  let isLogged = false;

  /** After a sleep of the host our time looks too far ahead until the next answer. */
  function now(): number | null {
    if (heard === null || clock() - heard.at > HEARD_MS_MAX) return null;
    return heard.date + clock() - heard.at;
  }

  function aheadMs(at: number): number | null {
    const ms = now();
    return ms === null ? null : at - ms;
  }

  const isSafe = (): boolean => (aheadMs(timeOfDay()) ?? Number.POSITIVE_INFINITY) <= CLOCK_AHEAD_MS_MAX;

  return {
    heard({ date = '', age }) {
      // A proxy may add a Date of its own; the earliest counts.
      const ms = Math.min(...(date.match(HTTP_DATE) ?? []).map(Date.parse));
      if (!Number.isFinite(ms) || age !== undefined) return; // an answer with an Age comes from a cache
      heard = { date: ms, at: clock() };
      if (isLogged && isSafe()) log('info', 'changes of EC2 resumed, clock of this host right again');
      if (isSafe()) isLogged = false;
    },
    now,
    get isKnown() {
      return now() !== null;
    },
    get isSafe() {
      return isSafe();
    },
    check(action, signedFor) {
      const ms = aheadMs(Math.max(timeOfDay(), signedFor));
      if (ms !== null && ms <= CLOCK_AHEAD_MS_MAX) return;
      if (ms === null)
        throw new IpamError('ec2-unreachable', `not sent: ${action}: EC2's answers do not tell its time`, {
          hint: 'something between this machine and EC2 takes the Date out of its answers',
        });
      const error = clockAhead(action, ms);
      if (!isLogged)
        log('error', 'changes of EC2 suspended, clock of this host ahead', { error: error.line });
      isLogged = true;
      throw error;
    },
  };
}

export const clockAhead = (action: string, ms: number): IpamError =>
  new IpamError(
    'ec2-unreachable',
    `not sent: ${action}: this machine's clock is ${Math.round(ms / 1000)} s ahead of EC2's`,
    { hint: HINT },
  );
