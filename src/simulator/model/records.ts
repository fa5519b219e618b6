import type { Cidr, Ipv4 } from '../../domain/address.ts';
import type { EniId, InstanceId, SubnetId } from '../../domain/ids.ts';
import { type Ec2Error, refuse } from './ec2-error.ts';
import { History } from './history.ts';
import { INSTANCE_TYPES, type InstanceType } from './instance-types.ts';
import { type Reservation, Space } from './space.ts';

/** The account that owns what nobody else is said to own. */
export const ACCOUNT_ID = '123456789012';

export interface Subnet {
  readonly id: SubnetId;
  readonly owner: string;
  /** Accounts that may have ENIs in it besides. */
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
  /** In a subnet that is shared, perhaps another account than the subnet's. */
  readonly owner: string;
  readonly subnet: SubnetId;
  readonly vpc: string;
  readonly zone: string;
  readonly mac: string;
  /** Null: it has no IPv4 address at all, as EFA-only and IPv6-only ones. */
  readonly primary: Ipv4 | null;
  readonly secondaries: readonly Ipv4[];
  readonly prefixes: readonly Cidr[];
  readonly attachment: Attachment | null;
  readonly tags: Readonly<Record<string, string>>;
  /** `interface`, `lambda`, `network_load_balancer`… */
  readonly interfaceType: string;
  /** An AWS service made it, and nobody else may change it. */
  readonly requesterManaged: boolean;
  readonly description: string;
}

/** The single IPv4 addresses that the ENI carries, its primary first. */
export const ipv4sOf = ({ primary, secondaries }: Eni): readonly Ipv4[] =>
  primary === null ? secondaries : [primary, ...secondaries];

/** One thing that was done to the VPC. */
export interface Mutation {
  readonly at: number;
  readonly action: string;
  readonly eni: EniId | null;
  readonly ips: readonly Ipv4[];
}

export interface RecordsOptions {
  /** The model's clock, in milliseconds. */
  readonly now: () => number;
  /** 0 to 1, exclusive. */
  readonly random: () => number;
}

/** How far back a read can be late, in milliseconds. */
export const HISTORY_MS_MAX = 300_000;
/** The journal forgets the older half when it gets longer. */
const JOURNAL_LENGTH_MAX = 100_000;

/** What there is in the VPC, now and a while ago, and what was done to it. Changed by Network alone. */
export class Records {
  protected readonly now: () => number;
  protected readonly random: () => number;
  readonly #spaces = new Map<SubnetId, Space>();
  readonly #subnets = new History<SubnetId, Subnet>(HISTORY_MS_MAX);
  readonly #instances = new History<InstanceId, Instance>(HISTORY_MS_MAX);
  readonly #enis = new History<EniId, Eni>(HISTORY_MS_MAX);
  #journal: Mutation[] = [];
  #forgotten = 0;
  readonly #watchers: ((eni: EniId) => void)[] = [];
  readonly instanceTypes = new Map<string, InstanceType>(INSTANCE_TYPES);

  constructor({ now, random }: RecordsOptions) {
    this.now = now;
    this.random = random;
  }

  // In the order of their ids, from behind `after`; `at` asks for the past.
  subnets = (at?: number, after?: string) => this.#subnets.values(at, after);
  instances = (at?: number, after?: string) => this.#instances.values(at, after);
  enis = (at?: number, after?: string) => this.#enis.values(at, after);

  subnet(id: SubnetId, at?: number): Subnet {
    return found(this.#subnets.get(id, at), () => refuse.noSuchSubnet(id));
  }
  instance(id: InstanceId, at?: number): Instance {
    return found(this.#instances.get(id, at), () => refuse.noSuchInstance(id));
  }
  eni(id: EniId, at?: number): Eni {
    return found(this.#enis.get(id, at), () => refuse.noSuchEni(id));
  }

  /** The ENIs of the instance, in the order of their device indexes. */
  enisOf(instance: InstanceId, at?: number): Eni[] {
    return [...this.#enis.values(at)]
      .filter(eni => eni.attachment?.instance === instance)
      .sort((a, b) => (a.attachment?.deviceIndex ?? 0) - (b.attachment?.deviceIndex ?? 0));
  }

  /** EC2's AvailableIpAddressCount, as it is now. */
  available = (id: SubnetId): number => this.space(id).available;
  reservations = (id: SubnetId): readonly Reservation[] => this.space(id).reservations;
  carrier = (subnet: SubnetId, ip: Ipv4): EniId | null => this.space(subnet).carrier(ip);

  /** What was done, but for the first `after` mutations; `next` is the `after` to go on with. */
  journalAfter(after: number): { mutations: readonly Mutation[]; next: number } {
    const mutations = this.#journal.slice(Math.max(after - this.#forgotten, 0));
    return { mutations, next: this.#forgotten + this.#journal.length };
  }
  get journal(): readonly Mutation[] {
    return this.#journal;
  }

  /** `changed` is told each ENI that is made, changed or deleted, before EC2's caller is answered. */
  watch(changed: (eni: EniId) => void): void {
    this.#watchers.push(changed);
  }

  protected space(id: SubnetId): Space {
    return found(this.#spaces.get(id) ?? null, () => refuse.noSuchSubnet(id));
  }

  protected saveSubnet(subnet: Subnet): void {
    this.#spaces.set(subnet.id, new Space(subnet.id, subnet.cidr));
    this.#subnets.set(subnet.id, subnet, this.now());
  }

  protected saveInstance(instance: Instance): void {
    this.#instances.set(instance.id, instance, this.now());
  }

  /** The addresses that it carries are the subnet's affair: see Space. */
  protected saveEni(id: EniId, eni: Eni | null): void {
    this.#enis.set(id, eni, this.now());
    for (const changed of this.#watchers) changed(id);
  }

  protected has(id: SubnetId | InstanceId | EniId): boolean {
    return [this.#subnets, this.#instances, this.#enis].some(records => records.get(id as never) !== null);
  }

  protected note(action: string, eni: EniId | null = null, ips: readonly Ipv4[] = []): void {
    this.#journal.push({ at: this.now(), action, eni, ips });
    if (this.#journal.length <= JOURNAL_LENGTH_MAX) return;
    const kept = JOURNAL_LENGTH_MAX / 2;
    this.#forgotten += this.#journal.length - kept;
    this.#journal = this.#journal.slice(-kept);
  }

  /** An id as EC2 makes them: 17 hexadecimal characters behind the prefix. */
  protected newId(prefix: string): string {
    const digits = Array.from({ length: 16 }, () => Math.floor(this.random() * 16).toString(16));
    return `${prefix}-0${digits.join('')}`;
  }

  protected newMac(): string {
    const bytes = Array.from({ length: 5 }, () => Math.floor(this.random() * 256));
    return ['02', ...bytes.map(byte => byte.toString(16).padStart(2, '0'))].join(':');
  }
}

function found<T>(value: T | null, refusal: () => Ec2Error): T {
  if (value === null) throw refusal();
  return value;
}
