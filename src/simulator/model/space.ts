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

/** A CIDR reservation of a subnet: of a `prefix` one, no single address can be assigned; of an `explicit`
 *  one, only by name. https://docs.aws.amazon.com/vpc/latest/userguide/subnet-cidr-reservation.html */
export interface Reservation {
  readonly id: string;
  readonly cidr: Cidr;
  readonly type: 'prefix' | 'explicit';
}

/** The first four addresses of a subnet and the last. */
const RESERVED_BY_AWS = 5;

/** The addresses of one subnet, and which ENI carries which. */
export class Space {
  readonly #subnet: SubnetId;
  readonly #cidr: Cidr;
  readonly #carriers = new Map<Ipv4, EniId>();
  readonly reservations: Reservation[] = [];

  constructor(subnet: SubnetId, cidr: Cidr) {
    this.#subnet = subnet;
    this.#cidr = cidr;
  }

  /** EC2's AvailableIpAddressCount. */
  get available(): number {
    return sizeOf(this.#cidr) - RESERVED_BY_AWS - this.#carriers.size;
  }

  carrier(ip: Ipv4): EniId | null {
    return this.#carriers.get(ip) ?? null;
  }

  put(ip: Ipv4, eni: EniId): void {
    this.#carriers.set(ip, eni);
  }

  drop(ip: Ipv4): void {
    this.#carriers.delete(ip);
  }

  /** Throws when no ENI of the subnet may ever carry the address as a single one. */
  check(ip: Ipv4): void {
    if (!contains(this.#cidr, ip)) throw refuse.outside(ip);
    if (isReserved(this.#cidr, ip)) throw refuse.reserved(ip);
    const reservation = this.reservations.find(one => one.type === 'prefix' && contains(one.cidr, ip));
    if (reservation !== undefined) throw refuse.inPrefixReservation(ip, formatCidr(reservation.cidr));
  }

  /** `count` addresses that nobody carries and nobody reserved, from a random one onward. */
  choose(count: number, random: () => number, except: readonly Ipv4[] = []): Ipv4[] {
    const size = sizeOf(this.#cidr);
    const start = Math.floor(random() * size);
    const chosen: Ipv4[] = [];
    for (let step = 0; step < size && chosen.length < count; step++) {
      const ip = fromNumber(this.#cidr.first + ((start + step) % size));
      if (this.#carriers.has(ip) || isReserved(this.#cidr, ip) || except.includes(ip)) continue;
      if (this.reservations.some(one => contains(one.cidr, ip))) continue;
      chosen.push(ip);
    }
    if (chosen.length < count) throw refuse.subnetFull(this.#subnet);
    return chosen;
  }
}
