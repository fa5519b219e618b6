import { Buffer } from 'node:buffer';
import { type Ipv4, numberOf } from '../domain/address.ts';
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

const V4_MAPPED = Buffer.from('00000000000000000000ffff', 'hex');

/** The address as the column `number` holds it, which sorts and ranges as addresses do: 16 bytes, IPv4
 *  mapped into IPv6, as SQL's INET6_ATON(CONCAT('::ffff:', ip)). */
export function bytesOf(ip: Ipv4): Buffer {
  const last = Buffer.alloc(4);
  last.writeUInt32BE(numberOf(ip));
  return Buffer.concat([V4_MAPPED, last]);
}
