/** The types of a request for an address and of its result. */
import type { Ipv4 } from '../../domain/address.ts';
import type { Allocation } from '../../domain/allocation.ts';
import type { Pool } from '../../domain/ids.ts';
import type { Log } from '../../domain/log.ts';
import type { Origin } from '../../domain/origin.ts';
import type { Home } from '../ec2/enis.ts';
import type { Authority } from './authority.ts';

export interface AddressRequest {
  readonly pool: Pool;
  /** The only address that will do, or null for any. */
  readonly named: Ipv4 | null;
  /** The container's name; null if the engine does not send it. */
  readonly holder: string | null;
  /** Aborted when the caller has disconnected. Ends waits, never an EC2 call or a commit. */
  readonly caller: AbortSignal;
  /** Default: a client that may use every ENI, and repeats nothing. */
  readonly from?: Origin;
  /** Where what happens to the request is logged. Default: the log of the server. */
  readonly log?: Log;
  /** The id of the call, for the history. */
  readonly call?: string | null;
}
export interface Given {
  readonly row: Allocation;
  readonly home: Home;
  /** The request was given the address before, perhaps by another server. Its client may have had that answer, so this
   *  one is not rolled back. */
  readonly isRepeated: boolean;
  /** Whether the claim was sent so long ago, since this process was suspended, that its holding may have ended by
   *  evidence: the response must not be written. */
  isStale(): boolean;
}

/** A request that is being served. */
export interface Asked extends AddressRequest {
  readonly home: Home;
  readonly from: Origin;
  readonly log: Log;
  readonly authority: Authority;
  /** Set when the address is one that the request was given before. */
  isRepeated: boolean;
  /** Tokens of its assigns that have had no answer. */
  readonly unanswered: Set<string>;
  /** When its claim was sent, on the deadline clock. */
  claimSentAt: number;
  /** When the request arrived, on the process's monotonic clock. */
  readonly startedAt: number;
  /** Aborted when the caller has disconnected or the request's deadline has passed. */
  readonly signal: AbortSignal;
  /** Returns whether the deadline has passed. Throws caller-gone. */
  isTimeUp(): boolean;
  /** Returns the time until the deadline, in milliseconds. */
  leftMs(): number;
  /** Retries `work` while EC2 is unavailable, until the deadline. */
  withRetry<T>(work: () => Promise<T>): Promise<T>;
  /** Returns who on the host uses the ready address, if it may not be given for that; else null. */
  withheld(row: Allocation): string | null;
  /** Resolves when the releases of the address on the ENI that this process is serving have ended; null if there
   *  are none. */
  releasing(ip: Ipv4): Promise<unknown> | null;
  /** Returns the addresses whose releases on the ENI are under way in this process, or owed. */
  releasesHere(): readonly Ipv4[];
}
