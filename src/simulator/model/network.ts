/** The changes that the simulated VPC accepts, with the checks and refusals of EC2. */
import {
  type Cidr,
  covers,
  formatCidr,
  fromNumber,
  type Ipv4,
  isReserved,
  sameCidr,
  sizeOf,
  toNumber,
} from '../../domain/address.ts';
import type { EniId, InstanceId, SubnetId } from '../../domain/ids.ts';
import { Ec2Error, refuse } from './ec2-error.ts';
import { ADDRESSES_PER_ENI_DEFAULT, INSTANCE_TYPES, type InstanceType } from './instance-types.ts';
import {
  ACCOUNT_ID,
  type Attachment,
  createRecords,
  type Eni,
  type Instance,
  ipv4sOf,
  ROLE,
  type Subnet,
} from './records.ts';
import type { Reservation, SubnetAddresses } from './subnet-addresses.ts';

export type NewEni = Pick<Eni, 'subnet'> & Partial<Omit<Eni, 'subnet' | 'vpc' | 'zone' | 'attachment'>>;

export interface AssignRequest {
  readonly eni: EniId;
  readonly ips?: readonly Ipv4[];
  readonly count?: number;
  /** Moves secondary addresses from other ENIs instead of refusing. */
  readonly allowReassignment?: boolean;
}

export interface NetworkOptions {
  /** The simulator's clock, in milliseconds. */
  readonly now: () => number;
  /** 0 to 1, exclusive. */
  readonly random: () => number;
  /** A refusal does not name the addresses that are taken, as EC2 sometimes does not. */
  readonly unnamedRefusals: boolean;
}

const PREFIX_MASK_LENGTH = 28;

export type Network = ReturnType<typeof createNetwork>;

/** An empty VPC. Each change is made as a whole or refused with Ec2Error. */
export function createNetwork({ now, random, unnamedRefusals }: NetworkOptions) {
  const { reads, addressesIn, isUsed, saveSubnet, saveInstance, saveEni, note } = createRecords(now);
  const instanceTypes = new Map<string, InstanceType>(INSTANCE_TYPES);

  // Subnets and instances.

  function addSubnet(subnet: Pick<Subnet, 'vpc' | 'cidr' | 'zone'> & Partial<Subnet>): Subnet {
    const made: Subnet = {
      owner: ACCOUNT_ID,
      sharedWith: [],
      ...subnet,
      id: subnet.id ?? (newId('subnet', random) as SubnetId),
    };
    for (const other of reads.subnets())
      if (other.id === made.id || (other.vpc === made.vpc && overlap(other.cidr, made.cidr)))
        throw new Ec2Error(
          'InvalidSubnet.Conflict',
          `The CIDR '${formatCidr(made.cidr)}' conflicts with another subnet`,
        );
    saveSubnet(made);
    note('CreateSubnet');
    return made;
  }

  function addReservation(subnet: SubnetId, cidr: Cidr, type: Reservation['type']): Reservation {
    if (!covers(reads.subnet(subnet).cidr, cidr))
      throw new Ec2Error(
        'InvalidParameterValue',
        `${formatCidr(cidr)} is not within the subnet's CIDR range`,
      );
    const reservation: Reservation = { id: newId('scr', random), cidr, type };
    addressesIn(subnet).reservations.push(reservation);
    note('CreateSubnetCidrReservation');
    return reservation;
  }

  function addInstance(instance: Partial<Instance> & Pick<Instance, 'type' | 'zone'>): Instance {
    const role = instance.role === undefined ? ROLE : instance.role;
    const made: Instance = {
      state: 'running',
      role,
      profile: role,
      ...instance,
      id: instance.id ?? (newId('i', random) as InstanceId),
    };
    if (isUsed(made.id))
      throw new Ec2Error('InvalidInstanceID.Duplicate', `The instance '${made.id}' exists already`);
    saveInstance(made);
    note('RunInstances');
    return made;
  }

  function setInstanceState(id: InstanceId, state: 'running' | 'stopped'): void {
    const instance = reads.instance(id);
    if (instance.state === 'terminated') throw refuse.notRunning(id);
    saveInstance({ ...instance, state });
    note(state === 'running' ? 'StartInstances' : 'StopInstances');
  }

  /** Deletes the ENIs that were attached with `deleteOnTermination`, and detaches the others. */
  function terminate(id: InstanceId): void {
    const instance = reads.instance(id);
    for (const eni of reads.enisOf(id)) {
      if (eni.attachment?.deleteOnTermination) remove(eni);
      else saveEni(eni.id, { ...eni, attachment: null });
    }
    saveInstance({ ...instance, state: 'terminated' });
    note('TerminateInstances');
  }

  // Addresses.

  /** Returns the addresses that were assigned. */
  function assign(request: AssignRequest): readonly Ipv4[] {
    const eni = changeable(request.eni);
    if (eni.primary === null) throw refuse.withoutIpv4();
    const addresses = addressesIn(eni.subnet);
    const { ips = [], count } = request;
    if (ips.length > 0 && count !== undefined) throw refuse.listAndCount();
    if (ips.length === 0 && count === undefined)
      throw refuse.missing('privateIpAddresses or secondaryPrivateIpAddressCount');
    if (count !== undefined && !(Number.isInteger(count) && count > 0)) throw refuse.badCount(count);
    checkAddresses(addresses, ips);
    const taken = ips.filter(ip => addresses.carrier(ip) !== null);
    const unmovable = request.allowReassignment ? taken.filter(ip => !canMove(addresses, ip)) : taken;
    if (unmovable.length > 0) throw unnamedRefusals ? refuse.takenUnnamed() : refuse.taken(unmovable);
    if (placesOf(eni) + (count ?? ips.length) > limitOf(eni)) throw refuse.overLimit();
    const given = count === undefined ? ips : addresses.choose(count, random);
    for (const ip of taken) takeFromCarrier(addresses, ip);
    const before = reads.eni(eni.id);
    saveEni(eni.id, { ...before, secondaries: [...before.secondaries, ...given] });
    for (const ip of given) addresses.put(ip, eni.id);
    note('AssignPrivateIpAddresses', eni.id, given);
    return given;
  }

  function unassign(id: EniId, ips: readonly Ipv4[]): void {
    const eni = changeable(id);
    if (ips.length === 0) throw refuse.missing('privateIpAddresses');
    for (const ip of ips) if (toNumber(ip) === null) throw refuse.notAnAddress(ip);
    if (eni.primary !== null && ips.includes(eni.primary)) throw refuse.primary(eni.primary);
    if (!ips.every(ip => eni.secondaries.includes(ip))) throw refuse.notAssigned(id);
    for (const ip of ips) addressesIn(eni.subnet).drop(ip);
    saveEni(eni.id, { ...eni, secondaries: eni.secondaries.filter(ip => !ips.includes(ip)) });
    note('UnassignPrivateIpAddresses', id, ips);
  }

  /** The texts with which EC2 refuses prefixes are not known. */
  function assignPrefixes(id: EniId, prefixes: readonly Cidr[]): void {
    const eni = changeable(id);
    const addresses = addressesIn(eni.subnet);
    if (prefixes.length === 0) throw refuse.missing('ipv4Prefixes');
    for (const prefix of prefixes) checkPrefix(reads.subnet(eni.subnet), prefix);
    const ips = prefixes.flatMap(addressesOf);
    if (new Set(ips).size < ips.length || ips.some(ip => addresses.carrier(ip) !== null))
      throw refuse.takenUnnamed();
    if (placesOf(eni) + prefixes.length > limitOf(eni)) throw refuse.overLimit();
    saveEni(id, { ...eni, prefixes: [...eni.prefixes, ...prefixes] });
    for (const ip of ips) addresses.put(ip, id);
    note('AssignPrivateIpAddresses', id);
  }

  function unassignPrefixes(id: EniId, prefixes: readonly Cidr[]): void {
    const eni = changeable(id);
    if (prefixes.length === 0) throw refuse.missing('ipv4Prefixes');
    const isNamed = (prefix: Cidr) => prefixes.some(one => sameCidr(one, prefix));
    if (!prefixes.every(prefix => eni.prefixes.some(one => sameCidr(one, prefix))))
      throw refuse.notAssigned(id);
    for (const ip of prefixes.flatMap(addressesOf)) addressesIn(eni.subnet).drop(ip);
    saveEni(id, { ...eni, prefixes: eni.prefixes.filter(one => !isNamed(one)) });
    note('UnassignPrivateIpAddresses', id);
  }

  function checkAddresses(addresses: SubnetAddresses, ips: readonly Ipv4[]): void {
    for (const [index, ip] of ips.entries()) {
      if (toNumber(ip) === null) throw refuse.notAnAddress(ip);
      if (ips.indexOf(ip) !== index) throw refuse.repeated(ip);
      addresses.check(ip);
    }
  }

  /** Only a secondary address can move, and only from an ENI that no AWS service owns. */
  function canMove(addresses: SubnetAddresses, ip: Ipv4): boolean {
    const carrier = addresses.carrier(ip);
    if (carrier === null) return false;
    const eni = reads.eni(carrier);
    return !eni.requesterManaged && eni.secondaries.includes(ip);
  }

  function takeFromCarrier(addresses: SubnetAddresses, ip: Ipv4): void {
    const carrier = addresses.carrier(ip);
    if (carrier === null) return;
    const eni = reads.eni(carrier);
    saveEni(eni.id, { ...eni, secondaries: eni.secondaries.filter(one => one !== ip) });
  }

  // ENIs.

  function createEni(wanted: NewEni): Eni {
    const subnet = reads.subnet(wanted.subnet);
    const addresses = addressesIn(subnet.id);
    if (wanted.id !== undefined && isUsed(wanted.id))
      throw new Ec2Error('InvalidNetworkInterface.InUse', `The interface '${wanted.id}' exists already`);
    const named = [wanted.primary, ...(wanted.secondaries ?? [])].filter(ip => ip != null);
    const prefixes = wanted.prefixes ?? [];
    if (wanted.primary === null && named.length + prefixes.length > 0) throw refuse.withoutIpv4();
    checkAddresses(addresses, named);
    for (const prefix of prefixes) checkPrefix(subnet, prefix);
    const asked = [...named, ...prefixes.flatMap(addressesOf)];
    if (new Set(asked).size < asked.length || asked.some(ip => addresses.carrier(ip) !== null))
      throw refuse.takenUnnamed();
    const [primary = null] =
      wanted.primary === undefined ? addresses.choose(1, random, asked) : [wanted.primary];
    const eni: Eni = {
      owner: subnet.owner,
      mac: newMac(random),
      secondaries: [],
      tags: {},
      interfaceType: 'interface',
      requesterManaged: false,
      description: '',
      ...wanted,
      id: wanted.id ?? (newId('eni', random) as EniId),
      primary,
      prefixes,
      vpc: subnet.vpc,
      zone: subnet.zone,
      attachment: null,
    };
    if (placesOf(eni) > ADDRESSES_PER_ENI_DEFAULT) throw refuse.overLimit();
    saveEni(eni.id, eni);
    for (const ip of carriedBy(eni)) addresses.put(ip, eni.id);
    note('CreateNetworkInterface', eni.id, ipv4sOf(eni));
    return eni;
  }

  function attach(id: EniId, instanceId: InstanceId, deviceIndex: number, deleteOnTermination = false) {
    const eni = changeable(id);
    const instance = reads.instance(instanceId);
    if (eni.attachment !== null) throw refuse.inUse(id);
    if (instance.state === 'terminated') throw refuse.notRunning(instanceId);
    if (instance.zone !== eni.zone) throw refuse.otherZone();
    const attached = reads.enisOf(instanceId);
    if (attached.some(other => other.attachment?.deviceIndex === deviceIndex))
      throw refuse.deviceTaken(instanceId, deviceIndex);
    const type = instanceTypes.get(instance.type);
    if (type !== undefined && attached.length >= type.enis)
      throw refuse.tooManyEnis(attached.length + 1, instance.type);
    if (type !== undefined && placesOf(eni) > type.addressesPerEni) throw refuse.overLimit();
    const attachment: Attachment = {
      id: newId('eni-attach', random),
      instance: instanceId,
      attachedAt: now(),
      deviceIndex,
      deleteOnTermination,
    };
    saveEni(eni.id, { ...eni, attachment });
    note('AttachNetworkInterface', id, []);
    return attachment;
  }

  function detach(attachmentId: string): void {
    const eni = [...reads.enis()].find(one => one.attachment?.id === attachmentId);
    if (eni?.attachment == null) throw refuse.noSuchAttachment(attachmentId);
    if (eni.attachment.deviceIndex === 0) throw refuse.deviceZero();
    changeable(eni.id);
    saveEni(eni.id, { ...eni, attachment: null });
    note('DetachNetworkInterface', eni.id, []);
  }

  /** The tags that it has from now on. */
  function tag(id: EniId, tags: Eni['tags']): void {
    saveEni(id, { ...reads.eni(id), tags });
    note('CreateTags', id, []);
  }

  /** `by` the owner: an ENI of an AWS service can be deleted too. */
  function deleteEni(id: EniId, by: 'the account' | 'its owner' = 'the account'): void {
    const eni = by === 'its owner' ? reads.eni(id) : changeable(id);
    if (eni.attachment !== null) throw refuse.inUse(id);
    remove(eni);
    note('DeleteNetworkInterface', id, ipv4sOf(eni));
  }

  function remove(eni: Eni): void {
    for (const ip of carriedBy(eni)) addressesIn(eni.subnet).drop(ip);
    saveEni(eni.id, null);
  }

  function changeable(id: EniId): Eni {
    const eni = reads.eni(id);
    if (eni.requesterManaged) throw refuse.notYours();
    return eni;
  }

  /** How many addresses and prefixes the ENI may have together, its primary included. */
  function limitOf({ attachment }: Eni): number {
    if (attachment === null) return ADDRESSES_PER_ENI_DEFAULT;
    const { type } = reads.instance(attachment.instance);
    return instanceTypes.get(type)?.addressesPerEni ?? ADDRESSES_PER_ENI_DEFAULT;
  }

  const subnetChanges = { addSubnet, addReservation };
  const instanceChanges = { addInstance, setInstanceState, terminate };
  const eniChanges = { createEni, attach, detach, tag, deleteEni };
  const addressChanges = { assign, unassign, assignPrefixes, unassignPrefixes };
  const changes = { ...subnetChanges, ...instanceChanges, ...eniChanges, ...addressChanges };
  return { ...reads, instanceTypes, limitOf, ...changes };
}

function checkPrefix(subnet: Subnet, prefix: Cidr): void {
  const isValid =
    prefix.maskLength === PREFIX_MASK_LENGTH &&
    covers(subnet.cidr, prefix) &&
    !addressesOf(prefix).some(ip => isReserved(subnet.cidr, ip));
  if (!isValid) throw refuse.badPrefix(formatCidr(prefix));
}

const overlap = (a: Cidr, b: Cidr): boolean => a.first <= b.last && b.first <= a.last;
const addressesOf = (cidr: Cidr): Ipv4[] =>
  Array.from({ length: sizeOf(cidr) }, (_, index) => fromNumber(cidr.first + index));
const carriedBy = (eni: Eni): Ipv4[] => [...ipv4sOf(eni), ...eni.prefixes.flatMap(addressesOf)];
const placesOf = (eni: Eni): number => ipv4sOf(eni).length + eni.prefixes.length;

/** An id as EC2 makes them: 17 hexadecimal characters after the prefix. */
const newId = (prefix: string, random: () => number): string =>
  `${prefix}-0${Array.from({ length: 16 }, () => Math.floor(random() * 16).toString(16)).join('')}`;

function newMac(random: () => number): string {
  const bytes = Array.from({ length: 5 }, () => Math.floor(random() * 256));
  return ['02', ...bytes.map(byte => byte.toString(16).padStart(2, '0'))].join(':');
}
