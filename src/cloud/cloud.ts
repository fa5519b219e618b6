import type { Cidr, Ipv4 } from '../domain/address.ts';
import type { EniId, InstanceId, SubnetId } from '../domain/ids.ts';

/** An ENI as EC2 shows it. */
export interface CloudEni {
  readonly id: EniId;
  readonly subnet: SubnetId;
  readonly vpc: string;
  readonly primary: Ipv4;
  readonly secondaries: readonly Ipv4[];
  /** IPv4 prefixes delegated to it. */
  readonly prefixes: readonly Cidr[];
  readonly instance: InstanceId | null;
  readonly attachment: string | null;
  /** When it was attached, in milliseconds since 1970 by EC2's clock; null: it is not, or EC2 does not say. */
  readonly attachedAt: number | null;
}

/** A subnet as EC2 shows it. */
export interface CloudSubnet {
  readonly id: SubnetId;
  readonly vpc: string;
  readonly cidr: Cidr;
  /** EC2's AvailableIpAddressCount. */
  readonly available: number;
}

/** A CIDR reservation of a subnet. Addresses of a `prefix` one are never assigned one by one. */
export interface CidrReservation {
  readonly cidr: Cidr;
  readonly type: 'prefix' | 'explicit';
}

/**
 * What we ask of EC2, in lists, since EC2 counts and throttles calls. Reads may be late by seconds.
 * Errors are IpamErrors with a code `ec2-…`; any but `ec2-unknown` means that nothing was changed or ever will.
 */
export interface Cloud {
  /** Throws ec2-not-found. */
  eni(id: EniId): Promise<CloudEni>;
  /** All ENIs of the subnet, page by page as they come. */
  enis(subnet: SubnetId): AsyncIterable<readonly CloudEni[]>;
  /** Which of the addresses EC2 shows on an ENI of the subnet, and on which. */
  carriers(subnet: SubnetId, ips: readonly Ipv4[]): Promise<ReadonlyMap<Ipv4, CloudEni>>;
  subnet(id: SubnetId): Promise<CloudSubnet>;
  reservations(subnet: SubnetId): Promise<readonly CidrReservation[]>;
  /** IPv4 addresses that one ENI of the instance may hold, its primary included; null when EC2 does not say. */
  addressLimit(instance: InstanceId): Promise<number | null>;

  /** Puts all the addresses on the ENI, or none. Sent once, and only before `sendBefore` on the process's
   *  monotonic clock (milliseconds): later it throws ec2-unreachable and nothing was sent. */
  assign(eni: EniId, ips: readonly Ipv4[], sendBefore: number): Promise<void>;
  /** Puts `count` addresses of EC2's choice on the ENI; answers them. */
  assignCount(eni: EniId, count: number, sendBefore: number): Promise<Ipv4[]>;
  /** Takes all the addresses off the ENI, or none. */
  unassign(eni: EniId, ips: readonly Ipv4[], sendBefore: number): Promise<void>;
}
