/** The addresses of one subnet: which ENI has which, and which may be assigned. */
import {
  type Cidr,
  contains,
  formatCidr,
  fromNumber,
  type Ipv4,
  isReserved,
  sizeOf,
} from '../../domain/address.ts';
import type { EniId, SubnetId } from '../../domain/ids.ts';
import { refuse } from './ec2-error.ts';

/** A CIDR reservation of a subnet. In a `prefix` reservation no single address can be assigned; in an `explicit` one
 *  only an address that the call names.
 *  https://docs.aws.amazon.com/vpc/latest/userguide/subnet-cidr-reservation.html */
export interface Reservation {
  readonly id: string;
  readonly cidr: Cidr;
  readonly type: 'prefix' | 'explicit';
}

/** The first four addresses of a subnet and the last. */
const RESERVED_BY_AWS = 5;

export type SubnetAddresses = ReturnType<typeof createSubnetAddresses>;

export function createSubnetAddresses(subnet: SubnetId, cidr: Cidr) {
  const carriers = new Map<Ipv4, EniId>();
  const reservations: Reservation[] = [];
  const size = sizeOf(cidr);

  /** Throws EC2's refusal when no ENI of the subnet can have the address as a single one. */
  function check(ip: Ipv4): void {
    if (!contains(cidr, ip)) throw refuse.outside(ip);
    if (isReserved(cidr, ip)) throw refuse.reserved(ip);
    const reservation = reservations.find(one => one.type === 'prefix' && contains(one.cidr, ip));
    if (reservation !== undefined) throw refuse.inPrefixReservation(ip, formatCidr(reservation.cidr));
  }

  /** Returns `count` addresses that no ENI has and no reservation covers, in order from a random one. */
  function choose(count: number, random: () => number, except: readonly Ipv4[] = []): Ipv4[] {
    const start = Math.floor(random() * size);
    const chosen: Ipv4[] = [];
    for (let step = 0; step < size && chosen.length < count; step++) {
      const ip = fromNumber(cidr.first + ((start + step) % size));
      if (carriers.has(ip) || isReserved(cidr, ip) || except.includes(ip)) continue;
      if (reservations.some(one => contains(one.cidr, ip))) continue;
      chosen.push(ip);
    }
    if (chosen.length < count) throw refuse.subnetFull(subnet);
    return chosen;
  }

  return {
    reservations,
    /** EC2's AvailableIpAddressCount. */
    available: () => size - RESERVED_BY_AWS - carriers.size,
    carrier: (ip: Ipv4): EniId | null => carriers.get(ip) ?? null,
    put: (ip: Ipv4, eni: EniId) => void carriers.set(ip, eni),
    drop: (ip: Ipv4) => void carriers.delete(ip),
    check,
    choose,
  };
}
