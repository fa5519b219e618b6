/** The VPC of the study: hosts with one ENI each for containers, in three subnets of one zone. */
import { type Cidr, parseCidr } from '../../src/domain/address.ts';
import type { EniId, InstanceId, SubnetId } from '../../src/domain/ids.ts';
import { INSTANCE_TYPES } from '../../src/simulator/model/instance-types.ts';
import type { World } from '../../src/simulator/model/world.ts';
import type { Random } from '../../test/kit/random.ts';

/** The part of the hosts that is of a type. */
const TYPES = { 'm5.4xlarge': 0.7, 'm5.2xlarge': 0.15, 'm5.16xlarge': 0.15 };

/** Beyond it a subnet would be larger than EC2 lets one be. */
export const HOSTS_MAX = 1_000;

/** Addresses for each host of the fleet, rounded up to a CIDR, and the part of the hosts that is there. The
 *  last one is tight: some 20 addresses for each host that is in it, where the others have a hundred. */
const SUBNETS = [
  { id: 'subnet-0a1', cidr: '10.0.0.0', perHost: 64, hosts: 0.6 },
  { id: 'subnet-0a2', cidr: '10.1.0.0', perHost: 32, hosts: 0.3 },
  { id: 'subnet-0a3', cidr: '10.2.0.0', perHost: 2, hosts: 0.1 },
] as const;
const MASK_LENGTH_MAX = 28;
/** Of embedded hosts each has a range of its own, so that no ledger is larger than that. */
const EMBEDDED_SUBNETS = [
  { id: 'subnet-0a1', cidr: '10.0.0.0', perHost: 64, hosts: 0.6 },
  { id: 'subnet-0a2', cidr: '10.1.0.0', perHost: 64, hosts: 0.4 },
] as const;
const RANGE_SIZE = 32;

export interface HostPlace {
  readonly eni: EniId;
  readonly instance: InstanceId;
  readonly subnet: SubnetId;
  /** Of the subnet. */
  readonly cidr: string;
  /** The part of it that is this host's, where it has a ledger of its own. */
  readonly range: Cidr;
  /** Containers that its ENI can hold. */
  readonly room: number;
}

export interface Fleet {
  readonly hosts: readonly HostPlace[];
  readonly vpc: World;
  /** Of all subnets. */
  readonly addresses: number;
}

export function fleetOf(count: number, random: Random, kind: 'central' | 'embedded'): Fleet {
  const parts = kind === 'central' ? SUBNETS : EMBEDDED_SUBNETS;
  const subnets = parts.map(({ id, cidr, perHost }) => {
    const bits = Math.max(Math.ceil(Math.log2(perHost * count)), 32 - MASK_LENGTH_MAX);
    return { id, cidr: `${cidr}/${32 - bits}`, size: 2 ** bits };
  });
  // EC2 gives the first addresses to the ENIs themselves.
  const taken = Math.ceil(count / RANGE_SIZE) + 1;
  const built = Array.from({ length: count }, (_, index) => {
    const number = index.toString(16).padStart(4, '0');
    const instance = `i-0${number}` as InstanceId;
    const type = random.weighted(TYPES);
    const room = (INSTANCE_TYPES.get(type)?.addressesPerEni ?? 1) - 1;
    const { id, cidr } = subnets[subnetAt(parts, index / count)] as (typeof subnets)[number];
    const eni = `eni-0${number}` as EniId;
    const first = parseCidr(cidr).first + (taken + index) * RANGE_SIZE;
    const range = { first, last: first + RANGE_SIZE - 1, maskLength: 32 - Math.log2(RANGE_SIZE) };
    return { host: { eni, instance, subnet: id as SubnetId, cidr, range, room }, type };
  });
  return {
    hosts: built.map(({ host }) => host),
    addresses: subnets.reduce((sum, { size }) => sum + size, 0),
    vpc: {
      subnets: subnets.map(({ id, cidr }) => ({ id, cidr })),
      instances: built.map(({ host, type }) => ({ id: host.instance, type })),
      enis: built.map(({ host: { eni, instance, subnet } }) => ({
        id: eni,
        subnet,
        attachment: { instance, deviceIndex: 1 },
      })),
    },
  };
}

/** The index of the subnet in which that part of the hosts ends. */
function subnetAt(parts: readonly { readonly hosts: number }[], part: number): number {
  let upTo = 0;
  return Math.max(
    parts.findIndex(({ hosts }) => {
      upTo += hosts;
      return part < upTo;
    }),
    0,
  );
}
