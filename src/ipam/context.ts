/** What every part of src/ipam works with: store, EC2, policy, clocks and log. */
import type { Cloud, Urgency } from '../cloud/cloud.ts';
import type { Allocation, Rest } from '../domain/allocation.ts';
import type { EniId, InstanceId } from '../domain/ids.ts';
import type { Log } from '../domain/log.ts';
import type { WarmTarget } from '../domain/pool-size.ts';
import type { Store } from '../store/store.ts';

/** The times and sizes that the settings give, in milliseconds where the name says so. */
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

/** What every part works with. The entry point provides clocks and waiting; tests provide their own. */
export interface IpamContext {
  readonly store: Store;
  readonly cloud: Cloud;
  readonly policy: Policy;
  /** The process's monotonic clock, in milliseconds. It stops while the host sleeps. */
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
  /** Absent in commands, which have no waiting requests. */
  readonly sights?: Sights;
}

/** Returns until when the call of an intent that is written now may be sent, on the deadline clock. It is called before the
 *  intent is written, since the intent's age counts from then. */
export const callDeadline = ({ deadlineClock, policy }: IpamContext): number =>
  deadlineClock() + policy.callDeadlineMs;

/** Returns the context with EC2 calls of this urgency, read when a call may be sent. */
export const urgently = (context: IpamContext, urgency: () => Urgency): IpamContext =>
  changed(context, { cloud: context.cloud.as(urgency) });

/** Returns the context with `sights`, which follow up calls without an answer. */
export const withSights = (context: IpamContext, sights: Sights): IpamContext => changed(context, { sights });

/** A copy that still reads the instance from the original, where it may be set later. */
const changed = (context: IpamContext, parts: Partial<IpamContext>): IpamContext => ({
  ...context,
  ...parts,
  get instance() {
    return context.instance;
  },
});
