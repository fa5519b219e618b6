/** IPv4 addresses and CIDR blocks: parsing, formatting and arithmetic. */
import { IpamError } from './error.ts';
import { shown } from './text.ts';

/** An IPv4 address in dotted decimals, without leading zeros. */
export type Ipv4 = string & { readonly brand: 'Ipv4' };

/** Addresses in a row; `first` and `last` are both in it. */
export interface AddressRange {
  readonly first: number;
  readonly last: number;
}

/** A block of addresses. */
export interface Cidr extends AddressRange {
  readonly maskLength: number;
}

const DECIMAL = /^(0|[1-9]\d{0,2})$/;
const [DOT, ZERO, NINE] = ['.', '0', '9'].map(char => char.charCodeAt(0)) as [number, number, number];

/** Returns the address as a number from 0 to 2^32 - 1; null when `text` is not in dotted decimals. It creates no
 *  strings, because a survey calls it several times for each of 65,536 addresses. */
export function toNumber(text: string): number | null {
  let [number, part, digits, dots] = [0, 0, 0, 0];
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === DOT) {
      if (digits === 0 || ++dots > 3) return null;
      number = number * 256 + part;
      [part, digits] = [0, 0];
    } else {
      if (code < ZERO || code > NINE || (digits > 0 && part === 0)) return null;
      part = part * 10 + code - ZERO;
      digits++;
      if (part > 255) return null;
    }
  }
  return dots === 3 && digits > 0 ? number * 256 + part : null;
}

/** Whether the name or address is that of the loopback interface. */
export const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '::1' || (host.startsWith('127.') && toNumber(host) !== null);

/** Returns `text` as an address. Throws bad-request; `what` names the field in the error. */
export function parseIpv4(text: string, what = 'address'): Ipv4 {
  if (toNumber(text) === null)
    throw new IpamError('bad-request', `${what} "${shown(text)}" is not an IPv4 address`, {
      hint: 'give it as four decimal numbers, for example 10.0.1.20',
    });
  return text as Ipv4;
}

export const fromNumber = (number: number): Ipv4 =>
  `${(number >>> 24) & 255}.${(number >>> 16) & 255}.${(number >>> 8) & 255}.${number & 255}` as Ipv4;

export const numberOf = (ip: Ipv4): number => toNumber(ip) ?? Number.NaN;

/** Returns `text` as a block. Throws bad-request, also for an address with host bits. */
export function parseCidr(text: string, what = 'CIDR'): Cidr {
  const [address = '', mask = ''] = text.split('/');
  const number = toNumber(address);
  const maskLength = DECIMAL.test(mask) ? Number(mask) : Number.NaN;
  if (number === null || !(maskLength <= 32) || text !== `${address}/${mask}`)
    throw new IpamError('bad-request', `${what} "${shown(text)}" is not an IPv4 CIDR`, {
      hint: 'give it as an address and a mask length, for example 10.0.1.0/24',
    });
  const size = 2 ** (32 - maskLength);
  if (number % size !== 0)
    throw new IpamError('bad-request', `${what} "${shown(text)}" has host bits`, {
      hint: `did you mean ${fromNumber(number - (number % size))}/${mask}?`,
    });
  return { first: number, last: number + size - 1, maskLength };
}

/** Returns `text` as an address, a range such as 10.0.1.20-10.0.1.29, or a block. Throws bad-request. */
export function parseRange(text: string): AddressRange {
  if (text.includes('/')) return parseCidr(text);
  const [from = '', to = from, ...more] = text.split('-');
  const [first, last] = [from, to].map(one => numberOf(parseIpv4(one))) as [number, number];
  if (first > last || more.length > 0)
    throw new IpamError('bad-request', `"${shown(text)}" is not a range of addresses`, {
      hint: 'give the first and the last, for example 10.0.1.20-10.0.1.29',
    });
  return { first, last };
}

export const formatRange = ({ first, last }: AddressRange): string =>
  first === last ? fromNumber(first) : `${fromNumber(first)}-${fromNumber(last)}`;

export const formatCidr = (cidr: Cidr): string => `${fromNumber(cidr.first)}/${cidr.maskLength}`;
export const sameCidr = (a: Cidr, b: Cidr): boolean => a.first === b.first && a.last === b.last;
export const contains = (cidr: Cidr, ip: Ipv4): boolean =>
  cidr.first <= numberOf(ip) && numberOf(ip) <= cidr.last;
export const covers = (outer: AddressRange, inner: AddressRange): boolean =>
  outer.first <= inner.first && inner.last <= outer.last;
export const sizeOf = ({ first, last }: AddressRange): number => last - first + 1;

/** The VPC router of a subnet: its second address.
 *  https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html */
export const routerOf = (subnet: Cidr): Ipv4 => fromNumber(subnet.first + 1);

/** Whether AWS reserves the address: the first four of a subnet and the last.
 *  https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html */
export const isReserved = (subnet: Cidr, ip: Ipv4): boolean =>
  numberOf(ip) < subnet.first + 4 || numberOf(ip) === subnet.last;

const CRC_TABLE = Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value >>> 0;
});

/** CRC-32 (ISO 3309) of ASCII text, 0 to 2^32 - 1. It equals SQL's CRC32, so that the database can fill the column
 *  `spread` too. */
export function spreadOf(text: string): number {
  let crc = 0xffffffff;
  for (let i = 0; i < text.length; i++)
    crc = (CRC_TABLE[(crc ^ text.charCodeAt(i)) & 0xff] ?? 0) ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}
