/** EC2 as the driver sees it: what it reads, and what it may change. */
import type { Cidr, Ipv4 } from '../domain/address.ts';
import type { EniId, InstanceId, SubnetId } from '../domain/ids.ts';

/** An ENI as EC2 shows it. */
export interface CloudEni {
  readonly id: EniId;
  /** The account that it belongs to, in a shared subnet perhaps another than the subnet's; null: EC2 does not say. */
  readonly owner: string | null;
  readonly subnet: SubnetId;
  readonly vpc: string;
  /** Null: EC2 does not say. */
  readonly mac: string | null;
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
  /** The tenant that its tag names; null: none. */
  readonly tenant: string | null;
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

/** An instance as EC2 shows it. */
export interface CloudInstance {
  readonly id: InstanceId;
  readonly isRunning: boolean;
  /** Its primary private address. */
  readonly primary: Ipv4 | null;
  /** The ARN of its instance profile; null: it has none. */
  readonly profile: string | null;
}

/** A CIDR reservation of a subnet. Addresses of a `prefix` one are never assigned one by one. */
export interface CidrReservation {
  readonly cidr: Cidr;
  readonly type: 'prefix' | 'explicit';
}

/** What an EC2 call is for; the more urgent goes first: a container waits; addresses for the next ones; to
 *  make ledger and EC2 agree; to unassign idle addresses. */
export const URGENCIES = ['cold', 'refill', 'reconcile', 'idle'] as const;
export type Urgency = (typeof URGENCIES)[number];

/** A change that EC2 is asked for: to put addresses on an ENI, or to take them off. */
export type ChangeKind = 'assign' | 'unassign';

/**
 * What EC2 is asked without changing anything, in lists, since EC2 counts and throttles calls. Reads may be seconds old.
 * Errors are IpamErrors, but for what is said below with a code `ec2-…`.
 */
export interface Ec2Reads {
  /** The Region that this client asks. Asks EC2 nothing. Throws ec2-denied where none is configured. */
  region(): Promise<string>;
  /** Some ENI that fits, of those that a listing by filter shows this client; null: it shows none. A client is shown
   *  the ENIs of its own account, and those of others in the VPCs that its account has shared with them. */
  someEni(filter: EniFilter): Promise<Pick<CloudEni, 'id' | 'owner'> | null>;
  /** Throws ec2-not-found, and bad-request for an ENI that has no IPv4 address. */
  eni(id: EniId): Promise<CloudEni>;
  /** Those of the ENIs that EC2 shows and that have an IPv4 address. One that is absent may be gone, or not shown
   *  yet: that proves nothing. */
  enisById(ids: readonly EniId[]): Promise<readonly CloudEni[]>;
  /** All ENIs of the subnet that have an IPv4 address, page by page as they come. */
  enis(subnet: SubnetId): AsyncIterable<readonly CloudEni[]>;
  /** Which of the addresses EC2 shows on an ENI of the subnet, and on which. */
  carriers(subnet: SubnetId, ips: readonly Ipv4[]): Promise<ReadonlyMap<Ipv4, CloudEni>>;
  subnet(id: SubnetId): Promise<CloudSubnet>;
  reservations(subnet: SubnetId): Promise<readonly CidrReservation[]>;
  /** Throws ec2-not-found. */
  instance(id: InstanceId): Promise<CloudInstance>;
  /** The ARNs of the instance profiles of those of the instances that EC2 shows; null: it has none. */
  profiles(instances: readonly InstanceId[]): Promise<ReadonlyMap<InstanceId, string | null>>;
  /** The instance's type; null when EC2 does not say: it refuses, or knows no such instance. */
  instanceType(instance: InstanceId): Promise<string | null>;
  /** IPv4 addresses that one ENI of an instance of the type may hold, its primary included; null when EC2
   *  does not say. */
  addressLimit(type: string): Promise<number | null>;
}

/** EC2 as the driver asks it, within the rate that EC2 allows the account. */
export interface Cloud extends Ec2Reads {
  /** The same cloud. Its calls are as urgent as `urgency` says at the time that one may be sent, so that a waiting call
   *  can become more urgent. Of equally urgent calls those of one `turn`, an ENI or a host, take turns with the others;
   *  without it the call is the server's own. */
  as(urgency: () => Urgency, turn?: string): Cloud;
  /** Resolves when one change of the kind may be sent. It is waited for before the intent is written, so that no intent
   *  grows old in a queue. Throws ec2-throttled when that is not within a minute or before the signal aborts, and
   *  caller-gone when the signal is that of a caller that has gone. */
  permit(kind: ChangeKind, signal?: AbortSignal): Promise<Permit>;
}

/** Leave to send one change. Disposing of a permit gives it back, unless it was used. */
export interface Permit extends Disposable {
  /** Puts all the addresses on the ENI or takes all of them off, by the permit's kind; or none. Sent at once and once, and
   *  only before `sendBefore` on the deadline clock (milliseconds; domain/clock.ts): later it throws ec2-unreachable.
   *  A permit is used up by one call, whatever EC2 answers, and expires: then this throws ec2-throttled.
   *  Any error but `ec2-unknown` means that nothing was changed, and that nothing ever will be. */
  send(eni: EniId, ips: readonly Ipv4[], sendBefore: number): Promise<void>;
}

/** How a client sends one request of an EC2 API: a read when and as often as it likes, a change at once and once. */
export type Sender = <T>(action: string, send: () => Promise<T>) => Promise<T>;

/** A client of EC2 that knows of no rate. It sends each request at once, and once. */
export interface Ec2Client extends Ec2Reads {
  /** As a permit sends it. */
  readonly assign: Permit['send'];
  readonly unassign: Permit['send'];
  /** The same client, which sends each request by the sender: each page, and each part of a long list. */
  sendingBy(sender: Sender): Ec2Client;
}

export const SEND_AT_ONCE: Sender = (_action, send) => send();
