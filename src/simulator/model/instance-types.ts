/** The limits of instance types: ENIs, and IPv4 addresses on each, the primary included.
 *  https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/AvailableIpPerENI.html */
export interface InstanceType {
  readonly enis: number;
  readonly addressesPerEni: number;
}

/** The limit of an ENI that is not attached, or attached to an instance type outside the table. */
export const ADDRESSES_PER_ENI_DEFAULT = 50;

const SIZES: [types: string, enis: number, addressesPerEni: number][] = [
  ['t2.micro t3.nano t3.micro t4g.nano t4g.micro', 2, 2],
  ['m6g.medium c6g.medium m7g.medium', 2, 4],
  ['t2.small t3.small t4g.small', 3, 4],
  ['t2.medium t3.medium t4g.medium', 3, 6],
  ['m5.large c5.large r5.large m6i.large c6i.large m6g.large c6g.large m7g.large m7i.large', 3, 10],
  ['t2.large t3.large t4g.large', 3, 12],
  ['t3.xlarge t3.2xlarge m5.xlarge m5.2xlarge c5.xlarge c5.2xlarge r5.xlarge r5.2xlarge', 4, 15],
  ['m6i.xlarge m6i.2xlarge m6g.xlarge m6g.2xlarge c6i.xlarge c6i.2xlarge m7i.xlarge m7g.xlarge', 4, 15],
  ['m5.4xlarge m5.8xlarge m5.12xlarge c5.4xlarge c5.9xlarge c5.12xlarge r5.4xlarge m6i.4xlarge', 8, 30],
  ['m5.16xlarge m5.24xlarge c5.18xlarge c5.24xlarge r5.16xlarge r5.24xlarge m6i.16xlarge', 15, 50],
];

export const INSTANCE_TYPES: ReadonlyMap<string, InstanceType> = new Map(
  SIZES.flatMap(([types, enis, addressesPerEni]) =>
    types.split(' ').map((type): [string, InstanceType] => [type, { enis, addressesPerEni }]),
  ),
);
