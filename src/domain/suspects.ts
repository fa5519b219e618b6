/** Held addresses that may have no container: suspects, for `ec2-ipam status`. */
import type { Allocation } from './allocation.ts';

/** A held address that may have no container. It is listed; only evidence of its host frees it automatically. */
export interface Suspect {
  readonly row: Allocation;
  readonly why: string;
}

/** A server process that wrote to the ledger. Times are by the store's clock, in milliseconds. */
export interface Writer {
  readonly id: string;
  readonly seenAt: number;
  readonly stoppedAt: number | null;
}

/** A server that has not written its heartbeat for so long counts as dead. It writes one every five seconds. */
export const DEAD_AFTER_MS = 30_000;

/** For how long a claim may be unanswered while its server is alive, in milliseconds: 5 s for a lost reply of the
 *  store, 10 s to learn its outcome, as much again when that fails or the client has disconnected, and 30 s for the
 *  rollback. A larger bound only lists more suspects. */
export const UNANSWERED_MAX_MS = 60_000;

/** Whether the server made the claim less than UNANSWERED_MAX_MS before its last heartbeat, or after it: dockerd may
 *  have no answer. A token begins with the id of the server that wrote it. */
export const mayBeUnanswered = ({ token, movedAt }: Allocation, { id, seenAt }: Writer): boolean =>
  token?.startsWith(id) === true && movedAt >= seenAt - UNANSWERED_MAX_MS;

/** Returns the held rows whose claim may be unanswered, because their server died. And of several rows with the same
 *  container name on one ENI all but the newest, since a container has one address in a network. */
export function suspects(held: readonly Allocation[], servers: readonly Writer[], now: number): Suspect[] {
  const dead = servers.filter(server => server.stoppedAt === null && now - server.seenAt > DEAD_AFTER_MS);
  const newest = new Map<string, Allocation>();
  for (const row of held) {
    const before = newest.get(nameOf(row));
    if (before === undefined || before.movedAt < row.movedAt) newest.set(nameOf(row), row);
  }
  return held.flatMap((row): Suspect[] => {
    const by = dead.find(server => mayBeUnanswered(row, server));
    if (by !== undefined) return [{ row, why: `server ${by.id} died around the time it gave this address` }];
    const other = newest.get(nameOf(row));
    if (row.holder !== null && other !== row)
      return [{ row, why: `${row.holder} was given ${other?.ip} on ${row.iface} later` }];
    return [];
  });
}

const nameOf = (row: Allocation): string => `${row.iface} ${row.holder ?? row.ip}`;
