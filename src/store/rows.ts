/** Rows of the SQL databases as the program has them. */
import { Buffer } from 'node:buffer';
import type { Column } from 'drizzle-orm';
import { type Ipv4, numberOf } from '../domain/address.ts';
import { type Allocation, ofItsClaim } from '../domain/allocation.ts';

/** A row as both drivers return it, by column name. */
export type Row = Readonly<Record<string, unknown>>;

/** Returns a row of the table `allocation`. Written out because it is in the path of every request. */
export function toAllocation(row: Row): Allocation {
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
    containerId: row.container_id,
    containerSince: row.container_since,
    instance: row.instance,
    requestId: row.request_id,
    releaseId: row.release_id,
    claimedAt: row.claimed_at,
    repeatedAt: row.repeated_at,
    reservedFor: row.reserved_for,
    token: row.token,
  };
  return ofItsClaim(allocation as unknown as Allocation);
}

/** The columns that toAllocation reads, by their keys in the schema. */
export const ALLOCATION_KEYS = Object.keys(toAllocation({})) as (keyof Allocation)[];

/** Returns a row of another table with the keys and types of the schema. A view decodes hundreds of them at a time. */
export function decode<T>(columns: Readonly<Record<string, Column>>, row: Row): T {
  const decoded: Record<string, unknown> = {};
  for (const [key, column] of Object.entries(columns)) {
    const value = row[column.name] ?? null;
    decoded[key] = value === null ? null : column.mapFromDriverValue(value);
  }
  return decoded as T;
}

const V4_MAPPED = Buffer.from('00000000000000000000ffff', 'hex');

/** Returns the value of the column `number`: 16 bytes, the IPv4 address mapped into IPv6, as SQL's
 *  INET6_ATON(CONCAT('::ffff:', ip)). It sorts as addresses do. */
export function bytesOf(ip: Ipv4): Buffer {
  const last = Buffer.alloc(4);
  last.writeUInt32BE(numberOf(ip));
  return Buffer.concat([V4_MAPPED, last]);
}
