import type { Cloud, Urgency } from '../cloud/cloud.ts';
import type { Rest } from '../domain/allocation.ts';
import type { InstanceId } from '../domain/ids.ts';
import type { Log } from '../domain/log.ts';
import type { WarmTarget } from '../domain/warmth.ts';
import type { Store } from '../store/store.ts';

/** The times and sizes the machine keeps to, in milliseconds where the name says so. */
export interface Policy extends Rest, WarmTarget {
  /** An EC2 call is sent only while its intent is younger than this. */
  readonly callDeadlineMs: number;
  /** The longest a request waits, counted from the start of an outage. */
  readonly requestTimeoutMs: number;
  /** Refuse a start rather than give an address that has not rested. */
  readonly strictReuse: boolean;
}

/** What every part of this floor works with. Clocks and waiting come in from the roof. */
export interface Machine {
  readonly store: Store;
  readonly cloud: Cloud;
  readonly policy: Policy;
  /** The process's monotonic clock, in milliseconds. */
  readonly clock: () => number;
  /** Resolves after `ms`. */
  readonly wait: (ms: number) => Promise<void>;
  /** 0 to 1, exclusive. */
  readonly random: () => number;
  readonly log: Log;
  /** Embedded: the instance this process runs on; only its ENIs are served. Null: any. */
  readonly instance: InstanceId | null;
}

/** The same machine, whose EC2 calls are as urgent as it says by the time their turn comes. */
export const urgently = (machine: Machine, urgency: () => Urgency): Machine => ({
  ...machine,
  cloud: machine.cloud.as(urgency),
  get instance() {
    return machine.instance;
  },
});
