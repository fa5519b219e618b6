/** The VPCs that most tests run in, and the names of their parts and of EC2's actions. */
import type { EniId, SubnetId } from '../../src/domain/ids.ts';
import type { World as VpcDescription } from '../../src/simulator/model/world.ts';

export const SUBNET = 'subnet-0a1' as SubnetId;
export const ENI_A = 'eni-0a' as EniId;
export const ENI_B = 'eni-0b' as EniId;
/** A /28 with a router at .1, two ENIs with primaries .4 and .5, and .6 to .14 for containers. */
export const SMALL: VpcDescription = {
  subnets: [{ id: SUBNET, cidr: '10.0.1.0/28' }],
  instances: [
    { id: 'i-0a', type: 'm5.large' },
    { id: 'i-0b', type: 'm5.large' },
  ],
  enis: [
    { id: ENI_A, subnet: SUBNET, primary: '10.0.1.4', attachment: { instance: 'i-0a', deviceIndex: 1 } },
    { id: ENI_B, subnet: SUBNET, primary: '10.0.1.5', attachment: { instance: 'i-0b', deviceIndex: 1 } },
  ],
};
/** The same two ENIs in a /24. */
export const ROOMY: VpcDescription = { ...SMALL, subnets: [{ id: SUBNET, cidr: '10.0.1.0/24' }] };
/** The same two ENIs in a /22, on instances whose ENIs hold 49 beside their primary. */
export const LARGE: VpcDescription = {
  ...SMALL,
  subnets: [{ id: SUBNET, cidr: '10.0.0.0/22' }],
  instances: ['i-0a', 'i-0b'].map(id => ({ id, type: 'm5.24xlarge' })),
};

/** The same VPC with more ENIs in its subnet. */
export const withEnis = (vpc: VpcDescription, ...more: Omit<EniDescription, 'subnet'>[]): VpcDescription => ({
  ...vpc,
  enis: [...(vpc.enis ?? []), ...more.map(eni => ({ ...eni, subnet: SUBNET }))],
});
type EniDescription = NonNullable<VpcDescription['enis']>[number];

export const ASSIGN = 'AssignPrivateIpAddresses';
export const UNASSIGN = 'UnassignPrivateIpAddresses';
export const DESCRIBE = 'DescribeNetworkInterfaces';
