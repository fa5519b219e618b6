/** The subnets, instances and ENIs of the simulated VPC, with their recent past and a journal of changes. */
import type { Cidr, Ipv4 } from '../../domain/address.ts';
import type { EniId, InstanceId, SubnetId } from '../../domain/ids.ts';
import { type Ec2Error, refuse } from './ec2-error.ts';
import { createHistory } from './history.ts';
import { createSubnetAddresses, type Reservation, type SubnetAddresses } from './subnet-addresses.ts';

/** The account that owns a resource unless another is named. */
export const ACCOUNT_ID = '123456789012';
/** The role of an instance unless another is named. */
export const ROLE = 'simulated-role';

export interface Subnet {
  readonly id: SubnetId;
  readonly owner: string;
  /** Other accounts that may have ENIs in it. */
  readonly sharedWith: readonly string[];
  readonly vpc: string;
  readonly cidr: Cidr;
  readonly zone: string;
}

export interface Instance {
  readonly id: InstanceId;
  readonly type: string;
  readonly state: 'running' | 'stopped' | 'terminated';
  readonly zone: string;
  /** The role whose credentials its metadata gives, and the instance profile that carries the role. */
  readonly role: string | null;
  readonly profile: string | null;
}

export interface Attachment {
  readonly id: string;
  readonly instance: InstanceId;
  /** Milliseconds since 1970. */
  readonly attachedAt: number;
  readonly deviceIndex: number;
  readonly deleteOnTermination: boolean;
}

export interface Eni {
  readonly id: EniId;
  /** In a shared subnet this may be another account than the subnet's. */
  readonly owner: string;
  readonly subnet: SubnetId;
  readonly vpc: string;
  readonly zone: string;
  readonly mac: string;
  /** Null: no IPv4 address, as on an EFA-only or IPv6-only ENI. */
  readonly primary: Ipv4 | null;
  readonly secondaries: readonly Ipv4[];
  readonly prefixes: readonly Cidr[];
  readonly attachment: Attachment | null;
  readonly tags: Readonly<Record<string, string>>;
  /** `interface`, `lambda`, `network_load_balancer`… */
  readonly interfaceType: string;
  /** An AWS service created it, and only that service may change it. */
  readonly requesterManaged: boolean;
  readonly description: string;
}

export const profileArn = (name: string): string => `arn:aws:iam::${ACCOUNT_ID}:instance-profile/${name}`;

/** The single IPv4 addresses of the ENI, its primary first. */
export const ipv4sOf = ({ primary, secondaries }: Eni): readonly Ipv4[] =>
  primary === null ? secondaries : [primary, ...secondaries];

/** One change of the VPC. */
export interface Mutation {
  readonly at: number;
  readonly action: string;
  readonly eni: EniId | null;
  readonly ips: readonly Ipv4[];
}

/** The largest age of the state that a read can return, in milliseconds. */
export const HISTORY_MS_MAX = 300_000;
/** A longer journal drops its older half. */
const JOURNAL_LENGTH_MAX = 100_000;

/** `now`: the simulator's clock, in milliseconds. Only network.ts changes the records. */
export function createRecords(now: () => number) {
  const addresses = new Map<SubnetId, SubnetAddresses>();
  const subnets = createHistory<SubnetId, Subnet>(HISTORY_MS_MAX);
  const instances = createHistory<InstanceId, Instance>(HISTORY_MS_MAX);
  const enis = createHistory<EniId, Eni>(HISTORY_MS_MAX);
  const watchers: ((eni: EniId) => void)[] = [];
  let journal: Mutation[] = [];
  let forgotten = 0;

  const addressesIn = (id: SubnetId): SubnetAddresses =>
    found(addresses.get(id) ?? null, () => refuse.noSuchSubnet(id));

  const reads = {
    // All in the order of their ids. The first one follows `after`; `at` asks for the past.
    subnets: (at?: number, after?: string) => subnets.values(at, after),
    instances: (at?: number, after?: string) => instances.values(at, after),
    enis: (at?: number, after?: string) => enis.values(at, after),

    subnet: (id: SubnetId, at?: number) => found(subnets.get(id, at), () => refuse.noSuchSubnet(id)),
    instance: (id: InstanceId, at?: number) => found(instances.get(id, at), () => refuse.noSuchInstance(id)),
    eni: (id: EniId, at?: number) => found(enis.get(id, at), () => refuse.noSuchEni(id)),

    /** The ENIs of the instance, in the order of their device indexes. */
    enisOf: (instance: InstanceId, at?: number): Eni[] =>
      [...enis.values(at)]
        .filter(eni => eni.attachment?.instance === instance)
        .sort((a, b) => (a.attachment?.deviceIndex ?? 0) - (b.attachment?.deviceIndex ?? 0)),

    /** EC2's AvailableIpAddressCount, as it is now. */
    available: (id: SubnetId): number => addressesIn(id).available(),
    reservations: (id: SubnetId): readonly Reservation[] => addressesIn(id).reservations,
    carrier: (subnet: SubnetId, ip: Ipv4): EniId | null => addressesIn(subnet).carrier(ip),

    /** The changes after the first `after` ones. `next` is the `after` of the next call. */
    journalAfter(after: number): { mutations: readonly Mutation[]; next: number } {
      const mutations = journal.slice(Math.max(after - forgotten, 0));
      return { mutations, next: forgotten + journal.length };
    },

    /** Calls `changed` with each ENI that is created, changed or deleted, before EC2's response. */
    watch: (changed: (eni: EniId) => void) => void watchers.push(changed),
  };

  return {
    reads,
    addressesIn,
    isUsed: (id: SubnetId | InstanceId | EniId): boolean =>
      [subnets, instances, enis].some(records => records.get(id as never) !== null),

    saveSubnet(subnet: Subnet): void {
      addresses.set(subnet.id, createSubnetAddresses(subnet.id, subnet.cidr));
      subnets.set(subnet.id, subnet, now());
    },
    saveInstance: (instance: Instance) => instances.set(instance.id, instance, now()),
    /** Null deletes the ENI. The caller changes `addressesIn` its subnet too. */
    saveEni(id: EniId, eni: Eni | null): void {
      enis.set(id, eni, now());
      for (const changed of watchers) changed(id);
    },
    note(action: string, eni: EniId | null = null, ips: readonly Ipv4[] = []): void {
      journal.push({ at: now(), action, eni, ips });
      if (journal.length <= JOURNAL_LENGTH_MAX) return;
      const kept = JOURNAL_LENGTH_MAX / 2;
      forgotten += journal.length - kept;
      journal = journal.slice(-kept);
    },
  };
}

function found<T>(value: T | null, refusal: () => Ec2Error): T {
  if (value === null) throw refusal();
  return value;
}
