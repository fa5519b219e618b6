/** Builds a simulated VPC from its description in JSON. */
import * as v from 'valibot';
import { type Cidr, type Ipv4, parseCidr, toNumber } from '../../domain/address.ts';
import { IpamError } from '../../domain/error.ts';
import {
  type EniId,
  type InstanceId,
  parseEniId,
  parseInstanceId,
  parseSubnetId,
  type SubnetId,
} from '../../domain/ids.ts';
import { Ec2Error } from './ec2-error.ts';
import type { Network, NewEni } from './network.ts';
import { createVpc, type Vpc, type VpcOptions } from './vpc.ts';

// An error of `parse` becomes an issue of valibot, with the place in the description.
const parsed = <T>(parse: (text: string) => T) =>
  v.pipe(
    v.string(),
    v.rawTransform<string, T>(({ dataset, addIssue, NEVER }) => {
      try {
        return parse(dataset.value);
      } catch (error) {
        addIssue({ message: error instanceof IpamError ? error.line : String(error) });
        return NEVER;
      }
    }),
  );
export const ipv4 = v.pipe(
  v.string(),
  v.check(
    text => toNumber(text) !== null,
    issue => `"${issue.input}" is not an IPv4 address`,
  ),
  v.transform(text => text as Ipv4),
);
const cidr = parsed<Cidr>(text => parseCidr(text));
export const eniId = parsed<EniId>(text => parseEniId(text));
export const subnetId = parsed<SubnetId>(text => parseSubnetId(text));
const instanceId = parsed<InstanceId>(text => parseInstanceId(text));
const mac = v.pipe(v.string(), v.regex(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/, 'a MAC is 02:00:00:00:00:01'));
const roleName = v.pipe(v.string(), v.regex(/^[\w+=,.@-]{1,64}$/, 'a role is named like ec2-ipam-host'));
export const account = v.pipe(v.string(), v.regex(/^\d{12}$/, 'an account is 123456789012'));
const count = (min: number) => v.pipe(v.number(), v.integer(), v.minValue(min));

export const SubnetSchema = v.strictObject({
  id: v.optional(subnetId),
  vpc: v.optional(v.string(), 'vpc-0a1b2c3d4e5f60718'),
  owner: v.optional(account),
  sharedWith: v.optional(v.array(account)),
  cidr,
  zone: v.optional(v.string()),
  reservations: v.optional(v.array(v.strictObject({ cidr, type: v.picklist(['prefix', 'explicit']) })), []),
});
export const InstanceSchema = v.strictObject({
  id: v.optional(instanceId),
  type: v.optional(v.string(), 'm5.large'),
  state: v.optional(v.picklist(['running', 'stopped'])),
  zone: v.optional(v.string()),
  role: v.optional(v.nullable(roleName)),
  profile: v.optional(v.nullable(roleName)),
});
export const AttachmentSchema = v.strictObject({
  instance: instanceId,
  deviceIndex: count(0),
  deleteOnTermination: v.optional(v.boolean()),
});
export const EniSchema = v.strictObject({
  id: v.optional(eniId),
  subnet: subnetId,
  owner: v.optional(account),
  mac: v.optional(mac),
  primary: v.optional(v.nullable(ipv4)),
  secondaries: v.optional(v.array(ipv4)),
  prefixes: v.optional(v.array(cidr)),
  tags: v.optional(v.record(v.string(), v.string())),
  interfaceType: v.optional(v.string()),
  requesterManaged: v.optional(v.boolean()),
  description: v.optional(v.string()),
  attachment: v.optional(AttachmentSchema),
});
const InstanceTypeSchema = v.strictObject({ enis: count(1), addressesPerEni: count(1) });

const WorldSchema = v.strictObject({
  region: v.optional(v.string()),
  /** Types beside those of the table, or in place of them. */
  instanceTypes: v.optional(v.record(v.string(), InstanceTypeSchema), {}),
  subnets: v.optional(v.array(SubnetSchema), []),
  instances: v.optional(v.array(InstanceSchema), []),
  enis: v.optional(v.array(EniSchema), []),
});
export type World = v.InferInput<typeof WorldSchema>;

/** Returns `input` checked by the schema. Throws bad-request with every issue in one line. */
export function parseInput<S extends v.GenericSchema>(
  schema: S,
  input: unknown,
  what: string,
): v.InferOutput<S> {
  const result = v.safeParse(schema, input);
  if (result.success) return result.output;
  const issues = result.issues.map(issue => `${v.getDotPath(issue) ?? what}: ${issue.message}`);
  throw new IpamError('bad-request', `${what} is not right: ${issues.join('; ')}`, {
    hint: 'GET /simulator shows what can be given',
  });
}

/** The VPC of a description: `{ subnets: […], instances: […], enis: […] }`. Throws bad-request with every issue of
 *  form, or with EC2's first refusal. */
export function buildVpc(description: unknown, options: VpcOptions): Vpc {
  const world = parseInput(WorldSchema, description, 'the description of the VPC');
  const vpc = createVpc(world.region === undefined ? options : { ...options, region: world.region });
  const { network } = vpc;
  for (const [name, type] of Object.entries(world.instanceTypes)) network.instanceTypes.set(name, type);
  addAll('subnets', world.subnets, subnet => addSubnet(vpc, subnet));
  addAll('instances', world.instances, instance => addInstance(vpc, instance));
  addAll('enis', world.enis, eni => addEni(network, eni));
  return vpc;
}

function addAll<T>(list: string, members: readonly T[], add: (member: T) => unknown): void {
  for (const [index, member] of members.entries())
    try {
      add(member);
    } catch (error) {
      if (!(error instanceof Ec2Error)) throw error;
      throw new IpamError('bad-request', `${list}.${index}: ${error.message} (${error.code})`);
    }
}

const defined = <T extends object>(object: T): { [K in keyof T]: Exclude<T[K], undefined> } =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as never;

export function addSubnet(vpc: Vpc, { reservations, ...subnet }: v.InferOutput<typeof SubnetSchema>) {
  const made = vpc.network.addSubnet(defined({ ...subnet, zone: subnet.zone ?? `${vpc.region}a` }));
  for (const { cidr, type } of reservations) vpc.network.addReservation(made.id, cidr, type);
  return made;
}

export const addInstance = (vpc: Vpc, instance: v.InferOutput<typeof InstanceSchema>) =>
  vpc.network.addInstance(defined({ ...instance, zone: instance.zone ?? `${vpc.region}a` }));

export function addEni(network: Network, { attachment, ...eni }: v.InferOutput<typeof EniSchema>) {
  const made = network.createEni(defined(eni) as NewEni);
  if (attachment !== undefined)
    network.attach(made.id, attachment.instance, attachment.deviceIndex, attachment.deleteOnTermination);
  return network.eni(made.id);
}

/** The default VPC: two subnets and one instance with three ENIs. The second ENI is for containers. */
export const DEFAULT_WORLD = {
  subnets: [
    { id: 'subnet-0a1b2c3d4e5f60001', cidr: '10.0.1.0/24' },
    { id: 'subnet-0a1b2c3d4e5f60002', cidr: '10.0.2.0/24' },
  ],
  instances: [{ id: 'i-0a1b2c3d4e5f60001', type: 'm5.large' }],
  enis: [
    {
      id: 'eni-0a1b2c3d4e5f60000',
      subnet: 'subnet-0a1b2c3d4e5f60001',
      mac: '02:0a:1b:2c:3d:00',
      primary: '10.0.1.10',
      attachment: { instance: 'i-0a1b2c3d4e5f60001', deviceIndex: 0, deleteOnTermination: true },
    },
    {
      id: 'eni-0a1b2c3d4e5f60001',
      subnet: 'subnet-0a1b2c3d4e5f60001',
      mac: '02:0a:1b:2c:3d:01',
      primary: '10.0.1.11',
      attachment: { instance: 'i-0a1b2c3d4e5f60001', deviceIndex: 1 },
    },
    {
      id: 'eni-0a1b2c3d4e5f60002',
      subnet: 'subnet-0a1b2c3d4e5f60002',
      mac: '02:0a:1b:2c:3d:02',
      primary: '10.0.2.11',
      attachment: { instance: 'i-0a1b2c3d4e5f60001', deviceIndex: 2 },
    },
  ],
} satisfies World;
