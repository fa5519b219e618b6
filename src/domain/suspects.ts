import type { Allocation } from './allocation.ts';

/** A held address that its container may never have been told of. It is listed and never freed by itself. */
export interface Suspect {
  readonly row: Allocation;
  readonly why: string;
}

/** A server process that wrote into the ledger. Times are of the store's clock, in milliseconds. */
export interface Witness {
  readonly id: string;
  readonly seenAt: number;
  readonly stoppedAt: number | null;
}

/** How long a server may be out of sight before it counts as dead. It notes its life every five seconds. */
export const DEAD_AFTER_MS = 30_000;

/** A claim that is made may be left unanswered for so long while its server notes that it lives: 5 s for a reply that is
 *  lost, 10 s to learn what became of it, and where that fails or the client has gone as much again and 30 s for the
 *  rollback. To list too many is harmless. */
export const UNANSWERED_MAX_MS = 60_000;

/** Whether the server claimed the row so late before it was last seen alive, or afterwards, that the answer may not have
 *  reached dockerd. Tokens begin with the id of the server that wrote them. */
export const mayBeUnanswered = ({ token, movedAt }: Allocation, { id, seenAt }: Witness): boolean =>
  token?.startsWith(id) === true && movedAt >= seenAt - UNANSWERED_MAX_MS;

/** The held rows whose claim was perhaps not answered: their server died without noting its end. And of several that one
 *  container name holds on one ENI, all but the newest, since a container has one address in a network. */
export function suspects(held: readonly Allocation[], servers: readonly Witness[], now: number): Suspect[] {
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
