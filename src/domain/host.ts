/** Docker hosts that prove by certificates which instance they are. Times are milliseconds of the store's clock. */
import type { InstanceId } from './ids.ts';

export interface Host {
  readonly instance: InstanceId;
  /** When its last certificate was made, and until when it is valid; null: it has a certificate made by hand. */
  readonly enrolledAt: number | null;
  readonly expiresAt: number | null;
  /** When it was last connected to a server. */
  readonly seenAt: number | null;
  readonly revokedAt: number | null;
  /** When it was allowed after that. */
  readonly allowedAt: number | null;
}

/** How long a host is noted after its certificate has expired and it was last seen. A revoked one stays noted. */
export const HOST_KEPT_MS = 30 * 24 * 3_600_000;

/** Whether the host is revoked, and has not been allowed since. */
export const isBlocked = ({ revokedAt, allowedAt }: Host): boolean =>
  revokedAt !== null && allowedAt === null;

/** Whether a certificate of the host is accepted. `issuedAt` is null for one that was made by hand: it counts again once
 *  the host is allowed. */
export const isAccepted = (host: Host, issuedAt: number | null): boolean =>
  !isBlocked(host) && (issuedAt === null || host.revokedAt === null || issuedAt > host.revokedAt);
