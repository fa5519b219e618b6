/** Rows of the SQL databases as the program has them. */
import { Buffer } from 'node:buffer';
import type { Column } from 'drizzle-orm';
import { type Ipv4, numberOf } from '../domain/address.ts';
import { type Allocation, ofItsClaim } from '../domain/allocation.ts';

/** A row as both drivers return it, by column name. */
export type Row = Readonly<Record<string, unknown>>;

/** Returns a row of the table `allocation` from the values of its columns, in the order in which they are read here: it is
 *  that of ALLOCATION_KEYS. Written out because it is in the path of every request. */
export function allocationOf(values: readonly unknown[]): Allocation {
  let at = 0;
  const allocation: Record<keyof Allocation, unknown> = {
    ip: values[at++],
    subnet: values[at++],
    status: values[at++],
    iface: values[at++],
    primary: values[at++] === 1,
    generation: values[at++],
    movedAt: values[at++],
    restedSince: values[at++],
    restedFrom: values[at++],
    leftIface: values[at++],
    leftAt: values[at++],
    leftUnsure: values[at++] === 1,
    placedAt: values[at++],
    missingSince: values[at++],
    repairUnsureAt: values[at++],
    absentSince: values[at++],
    refusedAt: values[at++],
    holder: values[at++],
    containerId: values[at++],
    containerSince: values[at++],
    instance: values[at++],
    requestId: values[at++],
    releaseId: values[at++],
    claimedAt: values[at++],
    repeatedAt: values[at++],
    reservedFor: values[at++],
    token: values[at++],
  };
  return ofItsClaim(allocation as unknown as Allocation);
}

/** The columns of an allocation, by their keys in the schema. */
export const ALLOCATION_KEYS = Object.keys(allocationOf([])) as (keyof Allocation)[];

const NAMES = ALLOCATION_KEYS.map(key => key.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`));
export const toAllocation = (row: Row): Allocation => allocationOf(NAMES.map(name => row[name]));

type OfRow = { readonly row: Pick<Allocation, 'subnet' | 'ip'> };

/** The order in which statements lock rows. Batches that lock them in one order seldom deadlock. */
export const inKeyOrder = ({ row: a }: OfRow, { row: b }: OfRow): number =>
  compare(a.subnet, b.subnet) || compare(a.ip, b.ip);
const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

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
