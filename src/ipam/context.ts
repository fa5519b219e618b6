import type { Cloud, Urgency } from '../cloud/cloud.ts';
import type { Allocation, Rest } from '../domain/allocation.ts';
import type { EniId, InstanceId } from '../domain/ids.ts';
import type { Log } from '../domain/log.ts';
import type { WarmTarget } from '../domain/pool-size.ts';
import type { Store } from '../store/store.ts';

/** The times and sizes of the driver, in milliseconds where the name says so. */
export interface Policy extends Rest, WarmTarget {
  /** An EC2 call is sent only while its intent is younger than this. */
  readonly callDeadlineMs: number;
  /** The longest a request waits, counted from the start of an outage. */
  readonly requestTimeoutMs: number;
  /** Refuse a start rather than give an address that has not rested. */
  readonly strictReuse: boolean;
  /** Give an address that was on another ENI just now only once EC2 shows it on its new one, or after 2 s. */
  readonly confirmMoves: boolean;
}

/** Finds what calls without an answer have put on ENIs. */
export interface Sights {
  /** A call for the ENI, sent at `sentAt` on the process's monotonic clock, has no answer: reads the ENI until none of
   *  its rows is in doubt, or 30 s after it was sent. Those who watch one ENI share its reads. */
  watch(eni: EniId, sentAt: number): void;
  /** The rows that the next read of the ENI makes ready; none at once where it is not being watched. Never throws. */
  next(eni: EniId): Promise<readonly Allocation[]>;
  /** A call has been sent; it is waited for when the process stops. */
  sent(settled: Promise<unknown>): void;
  /** Reads no more; resolves when the calls that were sent have been settled, or had no answer. Never throws. */
  stop(): Promise<void>;
}

/** What every part of this floor works with. Clocks and waiting come in from the roof. */
export interface IpamContext {
  readonly store: Store;
  readonly cloud: Cloud;
  readonly policy: Policy;
  /** The process's monotonic clock, in milliseconds. It stands still while the machine sleeps. */
  readonly clock: () => number;
  /** Passes at least as fast as real time, in milliseconds: for deadlines on which others rely. See domain/clock.ts. */
  readonly deadlineClock: () => number;
  /** Resolves after `ms`, or as soon as the signal is aborted. */
  readonly wait: (ms: number, signal?: AbortSignal) => Promise<void>;
  /** 0 to 1, exclusive. */
  readonly random: () => number;
  readonly log: Log;
  /** Embedded: the instance this process runs on; only its ENIs are served. Null: any. */
  readonly instance: InstanceId | null;
  /** Finds what calls without an answer have put on ENIs; absent in commands, for which no request waits. */
  readonly sights?: Sights;
}

/** Until when the call of an intent that is written now may be sent, on the deadline clock. To be read before the intent
 *  is written, since its age counts from then. */
export const callDeadline = ({ deadlineClock, policy }: IpamContext): number =>
  deadlineClock() + policy.callDeadlineMs;

/** The same context, whose EC2 calls are as urgent as it says by the time that they may be sent. */
export const urgently = (context: IpamContext, urgency: () => Urgency): IpamContext =>
  changed(context, { cloud: context.cloud.as(urgency) });

/** The same context, whose calls without an answer are followed up. */
export const withSights = (context: IpamContext, sights: Sights): IpamContext => changed(context, { sights });

/** Its instance may be learned later. */
const changed = (context: IpamContext, parts: Partial<IpamContext>): IpamContext => ({
  ...context,
  ...parts,
  get instance() {
    return context.instance;
  },
});
