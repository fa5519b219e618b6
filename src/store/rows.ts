import type { Allocation } from '../domain/allocation.ts';

/** A row of the table `allocation` as both drivers give it. Written out, since it is on the way of every request. */
export function toAllocation(row: Readonly<Record<string, unknown>>): Allocation {
  const allocation: Record<keyof Allocation, unknown> = {
    ip: row.ip,
    subnet: row.subnet,
    status: row.status,
    iface: row.iface,
    primary: row.primary === 1,
    generation: row.generation,
    movedAt: row.moved_at,
    restedSince: row.rested_since,
    restedFrom: row.rested_from,
    leftIface: row.left_iface,
    leftAt: row.left_at,
    leftUnsure: row.left_unsure === 1,
    placedAt: row.placed_at,
    missingSince: row.missing_since,
    absentSince: row.absent_since,
    refusedAt: row.refused_at,
    holder: row.holder,
    token: row.token,
  };
  return allocation as unknown as Allocation;
}
