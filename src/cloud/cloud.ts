import type { Cidr, Ipv4 } from '../domain/address.ts';
import type { EniId, InstanceId, SubnetId } from '../domain/ids.ts';

/** An ENI as EC2 shows it. */
export interface CloudEni {
  readonly id: EniId;
  /** The account that it belongs to, in a shared subnet perhaps another than the subnet's; null: EC2 does not say. */
  readonly owner: string | null;
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
  /** For how long it has been attached, in milliseconds, by EC2's clock alone; null: it is not, or EC2 does not say. */
  readonly attachedForMs: number | null;
}

/** Which ENIs are meant; what is absent is any. */
export interface EniFilter {
  readonly owner?: string;
  readonly vpc?: string;
  /** Any but this one. */
  readonly but?: EniId;
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

/** What an EC2 call is for; the more urgent goes first: a container waits; addresses for the next ones; to
 *  make ledger and EC2 agree; to give idle addresses back. */
export const URGENCIES = ['cold', 'refill', 'reconcile', 'recycle'] as const;
export type Urgency = (typeof URGENCIES)[number];

/**
 * What we ask of EC2, in lists, since EC2 counts and throttles calls. Reads may be late by seconds.
 * Errors are IpamErrors, but for what is said below with a code `ec2-…`; any but `ec2-unknown` means that nothing was changed or ever will.
 */
export interface Cloud {
  /** The same cloud; its calls are as urgent as `urgency` says when a turn is given, so that one that waits
   *  already can become more urgent. */
  as(urgency: () => Urgency): Cloud;
  /** Resolves when one call of the kind may be sent. Each assign and unassign must have had a
   *  turn of its own, taken before its intent is written, so that no intent grows old in a queue. Throws
   *  ec2-throttled, and nothing was sent, when none came in time, or by `until` on the process's monotonic clock; absent, a
   *  cold call waits some seconds only. */
  turn(action: 'assign' | 'unassign', until?: number): Promise<void>;

  /** The Region that this client asks. Asks EC2 nothing. Throws ec2-denied where none is configured. */
  region(): Promise<string>;
  /** Some ENI that fits, of those that a listing by filter shows this client; null: it shows none. A client is shown
   *  the ENIs of its own account, and those of others in the VPCs that its account has shared with them. */
  someEni(filter: EniFilter): Promise<Pick<CloudEni, 'id' | 'owner'> | null>;
  /** Throws ec2-not-found, and bad-request for an ENI that has no IPv4 address. */
  eni(id: EniId): Promise<CloudEni>;
  /** Those of the ENIs that EC2 shows and that have an IPv4 address. One that is absent may be gone, or not shown yet: that proves nothing. */
  enisById(ids: readonly EniId[]): Promise<readonly CloudEni[]>;
  /** All ENIs of the subnet that have an IPv4 address, page by page as they come. */
  enis(subnet: SubnetId): AsyncIterable<readonly CloudEni[]>;
  /** Which of the addresses EC2 shows on an ENI of the subnet, and on which. */
  carriers(subnet: SubnetId, ips: readonly Ipv4[]): Promise<ReadonlyMap<Ipv4, CloudEni>>;
  subnet(id: SubnetId): Promise<CloudSubnet>;
  reservations(subnet: SubnetId): Promise<readonly CidrReservation[]>;
  /** The instance's type; null when EC2 does not say: it refuses, or knows no such instance. */
  instanceType(instance: InstanceId): Promise<string | null>;
  /** IPv4 addresses that one ENI of an instance of the type may hold, its primary included; null when EC2
   *  does not say. */
  addressLimit(type: string): Promise<number | null>;

  /** Puts all the addresses on the ENI, or none. Sent once, and only before `sendBefore` on the
   *  deadline clock (milliseconds; domain/clock.ts): later it throws ec2-unreachable and nothing was sent. */
  assign(eni: EniId, ips: readonly Ipv4[], sendBefore: number): Promise<void>;
  /** Takes all the addresses off the ENI, or none. */
  unassign(eni: EniId, ips: readonly Ipv4[], sendBefore: number): Promise<void>;
}

/** Sends one request of an EC2 API: a read when and as often as it sees fit, a change at once and once. */
export type Door = <T>(action: string, send: () => Promise<T>) => Promise<T>;

/** A cloud that has no gate: `as` and `turn` do nothing, and each request is sent at once, and once. */
export interface OpenCloud extends Cloud {
  /** The same cloud, all of whose requests go through the door: each page, and each part of a long list. */
  through(door: Door): Cloud;
}

export const OPEN_DOOR: Door = (_action, send) => send();
