import {
  type Cidr,
  covers,
  formatCidr,
  fromNumber,
  type Ipv4,
  isReserved,
  sizeOf,
  toNumber,
} from '../../domain/address.ts';
import type { EniId, InstanceId, SubnetId } from '../../domain/ids.ts';
import { Ec2Error, refuse } from './ec2-error.ts';
import { ADDRESSES_PER_ENI_DEFAULT } from './instance-types.ts';
import {
  ACCOUNT_ID,
  type Attachment,
  type Eni,
  type Instance,
  ipv4sOf,
  Records,
  type RecordsOptions,
  type Subnet,
} from './records.ts';
import type { Reservation, Space } from './space.ts';

export type NewEni = Pick<Eni, 'subnet'> & Partial<Omit<Eni, 'subnet' | 'vpc' | 'zone' | 'attachment'>>;

export interface AssignRequest {
  readonly eni: EniId;
  readonly ips?: readonly Ipv4[];
  readonly count?: number;
  /** Takes secondaries away from other ENIs instead of refusing. */
  readonly allowReassignment?: boolean;
}

const PREFIX_MASK_LENGTH = 28;

/** What may be done to the VPC, and what EC2 would refuse. Every change is made whole or not at all. */
export class Network extends Records {
  readonly #unnamedRefusals: boolean;

  constructor(options: RecordsOptions & { readonly unnamedRefusals: boolean }) {
    super(options);
    this.#unnamedRefusals = options.unnamedRefusals;
  }

  /** How many addresses and prefixes the ENI may hold together, its primary included. */
  limitOf(eni: Eni): number {
    if (eni.attachment === null) return ADDRESSES_PER_ENI_DEFAULT;
    const { type } = this.instance(eni.attachment.instance);
    return this.instanceTypes.get(type)?.addressesPerEni ?? ADDRESSES_PER_ENI_DEFAULT;
  }

  addSubnet(subnet: Pick<Subnet, 'vpc' | 'cidr' | 'zone'> & Partial<Subnet>): Subnet {
    const made: Subnet = {
      owner: ACCOUNT_ID,
      sharedWith: [],
      ...subnet,
      id: subnet.id ?? (this.newId('subnet') as SubnetId),
    };
    for (const other of this.subnets())
      if (other.id === made.id || (other.vpc === made.vpc && overlap(other.cidr, made.cidr)))
        throw new Ec2Error(
          'InvalidSubnet.Conflict',
          `The CIDR '${formatCidr(made.cidr)}' conflicts with another subnet`,
        );
    this.saveSubnet(made);
    this.note('CreateSubnet');
    return made;
  }

  addReservation(subnet: SubnetId, cidr: Cidr, type: Reservation['type']): Reservation {
    if (!covers(this.subnet(subnet).cidr, cidr))
      throw new Ec2Error(
        'InvalidParameterValue',
        `${formatCidr(cidr)} is not within the subnet's CIDR range`,
      );
    const reservation: Reservation = { id: this.newId('scr'), cidr, type };
    this.space(subnet).reservations.push(reservation);
    this.note('CreateSubnetCidrReservation');
    return reservation;
  }

  addInstance(instance: Partial<Instance> & Pick<Instance, 'type' | 'zone'>): Instance {
    const made: Instance = {
      state: 'running',
      ...instance,
      id: instance.id ?? (this.newId('i') as InstanceId),
    };
    if (this.has(made.id))
      throw new Ec2Error('InvalidInstanceID.Duplicate', `The instance '${made.id}' exists already`);
    this.saveInstance(made);
    this.note('RunInstances');
    return made;
  }

  createEni(wanted: NewEni): Eni {
    const subnet = this.subnet(wanted.subnet);
    const space = this.space(subnet.id);
    if (wanted.id !== undefined && this.has(wanted.id))
      throw new Ec2Error('InvalidNetworkInterface.InUse', `The interface '${wanted.id}' exists already`);
    const named = [wanted.primary, ...(wanted.secondaries ?? [])].filter(ip => ip != null);
    const prefixes = wanted.prefixes ?? [];
    if (wanted.primary === null && named.length + prefixes.length > 0) throw refuse.withoutIpv4();
    this.#checkAddresses(space, named);
    for (const prefix of prefixes) this.#checkPrefix(subnet, prefix);
    const asked = [...named, ...prefixes.flatMap(addressesOf)];
    if (new Set(asked).size < asked.length || asked.some(ip => space.carrier(ip) !== null))
      throw refuse.takenUnnamed();
    const [primary = null] =
      wanted.primary === undefined ? space.choose(1, this.random, asked) : [wanted.primary];
    const eni: Eni = {
      owner: subnet.owner,
      mac: this.newMac(),
      secondaries: [],
      tags: {},
      interfaceType: 'interface',
      requesterManaged: false,
      description: '',
      ...wanted,
      id: wanted.id ?? (this.newId('eni') as EniId),
      primary,
      prefixes,
      vpc: subnet.vpc,
      zone: subnet.zone,
      attachment: null,
    };
    if (placesOf(eni) > ADDRESSES_PER_ENI_DEFAULT) throw refuse.overLimit();
    this.saveEni(eni.id, eni);
    for (const ip of carriedBy(eni)) space.put(ip, eni.id);
    this.note('CreateNetworkInterface', eni.id, ipv4sOf(eni));
    return eni;
  }

  // Addresses.

  /** Answers the addresses that were put on the ENI. */
  assign(request: AssignRequest): readonly Ipv4[] {
    const eni = this.#changeable(request.eni);
    if (eni.primary === null) throw refuse.withoutIpv4();
    const space = this.space(eni.subnet);
    const ips = request.ips ?? [];
    if (ips.length > 0 && request.count !== undefined) throw refuse.listAndCount();
    if (ips.length === 0 && request.count === undefined)
      throw refuse.missing('privateIpAddresses or secondaryPrivateIpAddressCount');
    if (request.count !== undefined && !(Number.isInteger(request.count) && request.count > 0))
      throw refuse.badCount(request.count);
    this.#checkAddresses(space, ips);
    const taken = ips.filter(ip => space.carrier(ip) !== null);
    const unmovable = request.allowReassignment ? taken.filter(ip => !this.#canMove(space, ip)) : taken;
    if (unmovable.length > 0) throw this.#unnamedRefusals ? refuse.takenUnnamed() : refuse.taken(unmovable);
    if (placesOf(eni) + (request.count ?? ips.length) > this.limitOf(eni)) throw refuse.overLimit();
    const given = request.count === undefined ? ips : space.choose(request.count, this.random);
    for (const ip of taken) this.#take(space, ip);
    const before = this.eni(eni.id);
    this.saveEni(eni.id, { ...before, secondaries: [...before.secondaries, ...given] });
    for (const ip of given) space.put(ip, eni.id);
    this.note('AssignPrivateIpAddresses', eni.id, given);
    return given;
  }

  unassign(id: EniId, ips: readonly Ipv4[]): void {
    const eni = this.#changeable(id);
    if (ips.length === 0) throw refuse.missing('privateIpAddresses');
    for (const ip of ips) if (toNumber(ip) === null) throw refuse.notAnAddress(ip);
    if (eni.primary !== null && ips.includes(eni.primary)) throw refuse.primary(eni.primary);
    if (!ips.every(ip => eni.secondaries.includes(ip))) throw refuse.notAssigned(id);
    const space = this.space(eni.subnet);
    for (const ip of ips) space.drop(ip);
    this.saveEni(eni.id, { ...eni, secondaries: eni.secondaries.filter(ip => !ips.includes(ip)) });
    this.note('UnassignPrivateIpAddresses', id, ips);
  }

  // ENIs and instances.

  attach(id: EniId, instanceId: InstanceId, deviceIndex: number, deleteOnTermination = false): Attachment {
    const eni = this.#changeable(id);
    const instance = this.instance(instanceId);
    if (eni.attachment !== null) throw refuse.inUse(id);
    if (instance.state === 'terminated') throw refuse.notRunning(instanceId);
    if (instance.zone !== eni.zone) throw refuse.otherZone();
    const attached = this.enisOf(instanceId);
    if (attached.some(other => other.attachment?.deviceIndex === deviceIndex))
      throw refuse.deviceTaken(instanceId, deviceIndex);
    const type = this.instanceTypes.get(instance.type);
    if (type !== undefined && attached.length >= type.enis)
      throw refuse.tooManyEnis(attached.length + 1, instance.type);
    if (type !== undefined && placesOf(eni) > type.addressesPerEni) throw refuse.overLimit();
    const attachment = {
      id: this.newId('eni-attach'),
      instance: instanceId,
      attachedAt: this.now(),
      deviceIndex,
      deleteOnTermination,
    };
    this.saveEni(eni.id, { ...eni, attachment });
    this.note('AttachNetworkInterface', id, []);
    return attachment;
  }

  detach(attachmentId: string): void {
    const eni = [...this.enis()].find(one => one.attachment?.id === attachmentId);
    if (eni?.attachment == null) throw refuse.noSuchAttachment(attachmentId);
    if (eni.attachment.deviceIndex === 0) throw refuse.deviceZero();
    this.#changeable(eni.id);
    this.saveEni(eni.id, { ...eni, attachment: null });
    this.note('DetachNetworkInterface', eni.id, []);
  }

  /** `by` its owner: also a service's. */
  deleteEni(id: EniId, by: 'the account' | 'its owner' = 'the account'): void {
    const eni = by === 'its owner' ? this.eni(id) : this.#changeable(id);
    if (eni.attachment !== null) throw refuse.inUse(id);
    this.#remove(eni);
    this.note('DeleteNetworkInterface', id, ipv4sOf(eni));
  }

  setInstanceState(id: InstanceId, state: 'running' | 'stopped'): void {
    const instance = this.instance(id);
    if (instance.state === 'terminated') throw refuse.notRunning(id);
    this.saveInstance({ ...instance, state });
    this.note(state === 'running' ? 'StartInstances' : 'StopInstances');
  }

  /** Its ENIs are deleted with it where they were attached so, else detached. */
  terminate(id: InstanceId): void {
    const instance = this.instance(id);
    for (const eni of this.enisOf(id)) {
      if (eni.attachment?.deleteOnTermination) this.#remove(eni);
      else this.saveEni(eni.id, { ...eni, attachment: null });
    }
    this.saveInstance({ ...instance, state: 'terminated' });
    this.note('TerminateInstances');
  }

  #changeable(id: EniId): Eni {
    const eni = this.eni(id);
    if (eni.requesterManaged) throw refuse.notYours();
    return eni;
  }

  #checkAddresses(space: Space, ips: readonly Ipv4[]): void {
    for (const [index, ip] of ips.entries()) {
      if (toNumber(ip) === null) throw refuse.notAnAddress(ip);
      if (ips.indexOf(ip) !== index) throw refuse.repeated(ip);
      space.check(ip);
    }
  }

  #checkPrefix(subnet: Subnet, prefix: Cidr): void {
    if (
      prefix.maskLength !== PREFIX_MASK_LENGTH ||
      !covers(subnet.cidr, prefix) ||
      addressesOf(prefix).some(ip => isReserved(subnet.cidr, ip))
    )
      throw new Ec2Error(
        'InvalidParameterValue',
        `invalid value for parameter prefix: ${formatCidr(prefix)}`,
      );
  }

  /** Only a secondary address moves, and only off an ENI that is not a service's. */
  #canMove(space: Space, ip: Ipv4): boolean {
    const carrier = space.carrier(ip);
    if (carrier === null) return false;
    const eni = this.eni(carrier);
    return !eni.requesterManaged && eni.secondaries.includes(ip);
  }

  #take(space: Space, ip: Ipv4): void {
    const carrier = space.carrier(ip);
    if (carrier === null) return;
    const eni = this.eni(carrier);
    this.saveEni(eni.id, { ...eni, secondaries: eni.secondaries.filter(one => one !== ip) });
  }

  #remove(eni: Eni): void {
    for (const ip of carriedBy(eni)) this.space(eni.subnet).drop(ip);
    this.saveEni(eni.id, null);
  }
}

const overlap = (a: Cidr, b: Cidr): boolean => a.first <= b.last && b.first <= a.last;
const addressesOf = (cidr: Cidr): Ipv4[] =>
  Array.from({ length: sizeOf(cidr) }, (_, index) => fromNumber(cidr.first + index));
const carriedBy = (eni: Eni): Ipv4[] => [...ipv4sOf(eni), ...eni.prefixes.flatMap(addressesOf)];
const placesOf = (eni: Eni): number => ipv4sOf(eni).length + eni.prefixes.length;
