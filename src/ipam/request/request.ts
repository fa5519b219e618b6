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
  /** Whether nobody waits for the answer any more. */
  readonly gone: () => boolean;
}
export interface Given {
  readonly row: Allocation;
  readonly home: Home;
}

/** A request on its way. */
export interface Asked extends AddressRequest {
  readonly home: Home;
  /** When it has waited long enough, on the process's monotonic clock. */
  readonly until: () => number;
  /** Tries again while EC2 is away, until then. */
  withRetry<T>(work: () => Promise<T>): Promise<T>;
  /** Throws caller-gone. */
  stopIfGone(): void;
  /** Resolves when those releases of the address on the ENI have ended that this process has in hand; null: it has
   *  none. */
  releasing(ip: Ipv4): Promise<unknown> | null;
}
