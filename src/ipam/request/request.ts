/** What is asked for an address, and what is given. */
import type { Ipv4 } from '../../domain/address.ts';
import type { Allocation } from '../../domain/allocation.ts';
import type { Pool } from '../../domain/ids.ts';
import type { Home } from '../ec2/enis.ts';

export interface AddressRequest {
  readonly pool: Pool;
  /** The address that must be given, or null for any. */
  readonly named: Ipv4 | null;
  /** The container's name, where the engine tells it. */
  readonly holder: string | null;
  /** Aborted when the caller has gone, with caller-gone. It ends waits: an EC2 call or a commit is seen through. */
  readonly caller: AbortSignal;
}
export interface Given {
  readonly row: Allocation;
  readonly home: Home;
}

/** A request on its way. */
export interface Asked extends AddressRequest {
  readonly home: Home;
  /** Aborted, too, when the request has waited for long enough. */
  readonly signal: AbortSignal;
  /** Whether it has, by now. Throws caller-gone. */
  isTimeUp(): boolean;
  /** Tries again while EC2 is away, until then. */
  withRetry<T>(work: () => Promise<T>): Promise<T>;
  /** Resolves when those releases of the address on the ENI have ended that this process has in hand; null: it has
   *  none. */
  releasing(ip: Ipv4): Promise<unknown> | null;
}
