import { Buffer } from 'node:buffer';
import { type Ipv4, numberOf } from '../domain/address.ts';

const V4_MAPPED = Buffer.from('00000000000000000000ffff', 'hex');

/** The address as the column `number` holds it, which sorts and ranges as addresses do: 16 bytes, IPv4
 *  mapped into IPv6, as SQL's INET6_ATON(CONCAT('::ffff:', ip)). */
export function bytesOf(ip: Ipv4): Buffer {
  const last = Buffer.alloc(4);
  last.writeUInt32BE(numberOf(ip));
  return Buffer.concat([V4_MAPPED, last]);
}
