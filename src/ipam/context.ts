/** What every part of src/ipam works with: store, EC2, policy, clocks and log. */
import type { Cloud, Urgency } from '../cloud/cloud.ts';
import type { Allocation, Rest } from '../domain/allocation.ts';
import type { EniId, InstanceId } from '../domain/ids.ts';
import type { Log } from '../domain/log.ts';
import type { Observer } from '../domain/observer.ts';
import type { WarmTarget } from '../domain/pool-size.ts';
import type { Store } from '../store/store.ts';

/** The times and sizes that the settings give, in milliseconds where the name says so. */
export interface Policy extends Rest, WarmTarget {
  /** An EC2 call is sent only while its intent is younger than this. */
  readonly callDeadlineMs: number;
  /** The longest a request waits, counted from the start of an outage. */
  readonly requestTimeoutMs: number;
  /** Refuses a request rather than give an address that has not rested. */
  readonly strictReuse: boolean;
  /** Gives an address that left another ENI within the last 5 minutes only when EC2 shows it on its new ENI, or
   *  after 2 s. */
  readonly confirmMoves: boolean;
}

/** Reads ENIs after assigns that had no answer, and makes the addresses that arrived ready. */
export interface FollowUps {
  /** Reads the ENI because a call for it had no answer, until none of its rows is in doubt or 30 s after the call.
   *  `sentAt` is the time of the call on the process's monotonic clock. Several calls of one ENI share its reads. */
  watch(eni: EniId, sentAt: number): void;
  /** Resolves with the rows that the next read of the ENI makes ready; with none at once if the ENI is not watched.
   *  Never throws. */
  next(eni: EniId): Promise<readonly Allocation[]>;
  /** Registers a call that was sent; `stop` waits for it. */
  sent(settled: Promise<unknown>): void;
  /** Ends the reads. Resolves when every call that was sent has been settled or has timed out. Never throws. */
  stop(): Promise<void>;
}

/** What every part of src/ipam works with. The entry point provides clocks and waiting; tests provide their own. */
export interface IpamContext {
  readonly store: Store;
  readonly cloud: Cloud;
  readonly policy: Policy;
  /** The process's monotonic clock, in milliseconds. It stops while the host sleeps. */
  readonly clock: () => number;
  /** Runs at least as fast as real time, in milliseconds. For deadlines that other servers rely on; see
   *  domain/clock.ts. */
  readonly deadlineClock: () => number;
  /** Resolves after `ms`, or as soon as the signal is aborted. */
  readonly wait: (ms: number, signal?: AbortSignal) => Promise<void>;
  /** 0 to 1, exclusive. */
  readonly random: () => number;
  readonly log: Log;
  /** Embedded: the instance that this process runs on; only its ENIs are served. Null on a central server, and until
   *  the ledger has been opened. */
  readonly host: { readonly instance: InstanceId | null };
  /** Undefined in commands, which have no waiting requests. */
  readonly followUps?: FollowUps;
  /** Undefined where nobody watches. */
  readonly observer?: Observer | undefined;
}

/** Returns the time on the deadline clock until which the call of an intent may be sent. Read it before the intent
 *  is written: the intent's age counts from the write. */
export const callDeadline = ({ deadlineClock, policy }: IpamContext): number =>
  deadlineClock() + policy.callDeadlineMs;

/** Returns the context with EC2 calls for which a container waits, in the turn of an ENI or a host. */
export const inTurnOf = (context: IpamContext, turn: string): IpamContext =>
  urgently(context, () => 'cold', turn);

/** Returns the context with EC2 calls of this urgency. `urgency` is read at each call. `turn`: the ENI or the host whose
 *  turn they take. */
export const urgently = (context: IpamContext, urgency: () => Urgency, turn?: string): IpamContext => ({
  ...context,
  cloud: context.cloud.as(urgency, turn),
});
