/** The VPC of the study: hosts with one ENI each for containers, in three subnets of one zone. */
import { type Cidr, parseCidr } from '../../src/domain/address.ts';
import type { EniId, InstanceId, SubnetId } from '../../src/domain/ids.ts';
import { INSTANCE_TYPES } from '../../src/simulator/model/instance-types.ts';
import type { World } from '../../src/simulator/model/world.ts';
import type { Random } from '../../test/kit/random.ts';

/** The part of the hosts with each instance type. */
const TYPES = { 'm5.4xlarge': 0.7, 'm5.2xlarge': 0.15, 'm5.16xlarge': 0.15 };

/** With more hosts a subnet would exceed EC2's largest. */
export const HOSTS_MAX = 1_000;

/** Addresses per host of the fleet, rounded up to a CIDR; the hosts up to the part `upTo` are in the subnet,
 *  unless in an earlier one. The last subnet is small: some 20 addresses for each host in it, the others have a
 *  hundred. */
const SUBNETS = [
  { id: 'subnet-0a1', cidr: '10.0.0.0', perHost: 64, upTo: 0.6 },
  { id: 'subnet-0a2', cidr: '10.1.0.0', perHost: 32, upTo: 0.9 },
  { id: 'subnet-0a3', cidr: '10.2.0.0', perHost: 2, upTo: 1 },
];
const MASK_LENGTH_MAX = 28;
/** Each embedded host has a range of its own, which bounds its ledger. */
const EMBEDDED_SUBNETS = [
  { id: 'subnet-0a1', cidr: '10.0.0.0', perHost: 64, upTo: 0.6 },
  { id: 'subnet-0a2', cidr: '10.1.0.0', perHost: 64, upTo: 1 },
];
const RANGE_SIZE = 32;

export interface HostPlace {
  readonly eni: EniId;
  readonly instance: InstanceId;
  readonly type: string;
  readonly subnet: SubnetId;
  /** CIDR of the subnet. */
  readonly cidr: string;
  /** The range of this host, if its ledger is embedded. */
  readonly range: Cidr;
  /** Containers that its ENI can hold. */
  readonly room: number;
}

export function fleetOf(count: number, random: Random, kind: 'central' | 'embedded') {
  const subnets = (kind === 'central' ? SUBNETS : EMBEDDED_SUBNETS).map(({ id, cidr, perHost, upTo }) => {
    const bits = Math.max(Math.ceil(Math.log2(perHost * count)), 32 - MASK_LENGTH_MAX);
    return { id, cidr: `${cidr}/${32 - bits}`, size: 2 ** bits, upTo };
  });
  // EC2 gives the first addresses to the ENIs themselves.
  const taken = Math.ceil(count / RANGE_SIZE) + 1;
  const hosts = Array.from({ length: count }, (_, index): HostPlace => {
    const number = index.toString(16).padStart(4, '0');
    const type = random.weighted(TYPES);
    const room = (INSTANCE_TYPES.get(type)?.addressesPerEni ?? 1) - 1;
    const { id = '', cidr = '' } = subnets.find(({ upTo }) => index / count < upTo) ?? {};
    const first = parseCidr(cidr).first + (taken + index) * RANGE_SIZE;
    const range = { first, last: first + RANGE_SIZE - 1, maskLength: 32 - Math.log2(RANGE_SIZE) };
    const [eni, instance] = [`eni-0${number}` as EniId, `i-0${number}` as InstanceId];
    return { eni, instance, type, subnet: id as SubnetId, cidr, range, room };
  });
  const vpc: World = {
    subnets: subnets.map(({ id, cidr }) => ({ id, cidr })),
    instances: hosts.map(({ instance, type }) => ({ id: instance, type })),
    enis: hosts.map(({ eni, instance, subnet }) => ({
      id: eni,
      subnet,
      attachment: { instance, deviceIndex: 1 },
    })),
  };
  return { hosts, vpc, addresses: subnets.reduce((sum, { size }) => sum + size, 0) };
}
