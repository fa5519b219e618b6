/** The VPC in the machine: two Docker hosts, and a third instance that only looks on. */
import type { EniId, InstanceId, SubnetId } from '../../src/domain/ids.ts';

const subnet = (digit: number) => ({
  id: `subnet-0a1b2c3d4e5f6000${digit}` as SubnetId,
  cidr: `10.0.${digit}.0/24`,
  prefix: `10.0.${digit}.`,
  router: `10.0.${digit}.1`,
});
export const SUBNETS = { hosts: subnet(0), red: subnet(1), blue: subnet(2) };
export type Tenant = 'red' | 'blue';
export const TENANTS: readonly Tenant[] = ['red', 'blue'];

interface EniSite {
  readonly id: EniId;
  readonly interface: string;
  readonly subnet: keyof typeof SUBNETS;
  readonly mac: string;
  readonly primary: string;
}
export interface InstanceSite {
  readonly id: InstanceId;
  readonly name: string;
  /** In the order of their device indexes. */
  readonly enis: readonly EniSite[];
}

function instance(name: string, digit: number, subnets: readonly (keyof typeof SUBNETS)[]): InstanceSite {
  return {
    id: `i-0a1b2c3d4e5f6000${digit}` as InstanceId,
    name,
    enis: subnets.map((subnet, index) => ({
      id: `eni-0a1b2c3d4e5f60${digit}0${index}` as EniId,
      interface: `ens${index + 5}`,
      subnet,
      mac: `02:0a:1b:2c:${digit}0:0${index}`,
      primary: `${SUBNETS[subnet].prefix}${digit}0`,
    })),
  };
}

export const A = instance('a', 1, ['hosts', 'red', 'blue']);
export const B = instance('b', 2, ['hosts', 'red', 'blue']);
/** A neighbour in the red subnet, without Docker. */
export const PEER = instance('peer', 3, ['red']);
export const INSTANCES = [A, B, PEER];

/** The interface that a tenant's containers are on. */
export const interfaceOf = (tenant: Tenant): string => (tenant === 'red' ? 'ens6' : 'ens7');

export const WORLD = {
  subnets: Object.values(SUBNETS).map(({ id, cidr }) => ({ id, cidr })),
  instances: INSTANCES.map(({ id }) => ({ id, type: 'm5.4xlarge' })),
  enis: INSTANCES.flatMap(({ id: instance, enis }) =>
    enis.map(({ id, subnet, mac, primary }, deviceIndex) => ({
      id,
      subnet: SUBNETS[subnet].id,
      mac,
      primary,
      tags: { 'ec2-ipam': 'yes' },
      attachment: { instance, deviceIndex },
    })),
  ),
};

// Services that every instance reaches by way of its router.
export const EC2 = '10.255.0.1';
export const DATABASE = '10.255.0.2';
export const SERVER = '10.255.0.3';
export const METADATA = '169.254.169.254';
export const HOSTS_FILE = `127.0.0.1 localhost
${EC2} ec2.internal
${DATABASE} db.internal
${SERVER} ipam.internal
`;

// Paths in the machine, and the one password in it.
export const CERTIFICATES = '/vpc/certificates';
export const IMAGE_FOLDER = '/tmp/image';
export const PASSWORD = 'of the tests';
