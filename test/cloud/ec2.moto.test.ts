// Goal: what the SDK sends and reads is EC2's wire format, not only our simulator's. Method: moto, which others
// wrote, over HTTP. It is lax: it knows no pages, CIDR reservations or limits of addresses, finds ENIs by their
// primary address only and answers an assign with all addresses of the ENI. The rest is tested on the simulator.
import process from 'node:process';
import {
  AttachNetworkInterfaceCommand,
  CreateNetworkInterfaceCommand,
  CreateSubnetCommand,
  CreateTagsCommand,
  CreateVpcCommand,
  DescribeImagesCommand,
  EC2Client,
  RunInstancesCommand,
} from '@aws-sdk/client-ec2';
import type { CloudEni } from '../../src/cloud/cloud.ts';
import { createEc2Client } from '../../src/cloud/ec2.ts';
import { createEc2Time } from '../../src/cloud/ec2-time.ts';
import { metadataDisabled } from '../../src/cloud/imds.ts';
import { formatCidr, type Ipv4 } from '../../src/domain/address.ts';
import { isError } from '../../src/domain/error.ts';
import type { EniId, InstanceId, SubnetId } from '../../src/domain/ids.ts';
import { startMoto } from '../kit/servers/moto.ts';
import { assert, suite } from '../kit/uvu.ts';

const ENIS = 7;
const LATER = Number.POSITIVE_INFINITY;
const credentials = { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'secret' };

let stop = async () => {};
let vpcId = '';
let subnet = '' as SubnetId;
let eni = '' as EniId;
let instance = '' as InstanceId;
const cloud = () =>
  createEc2Client({
    region: 'eu-west-1',
    credentials,
    log: () => {},
    metadata: metadataDisabled,
    time: createEc2Time(
      () => performance.now(),
      Date.now,
      () => {},
    ),
    deadlineClock: () => 0,
  });

const wire = suite('EC2 on the wire, by moto');
wire.before(async () => {
  const moto = await startMoto();
  stop = moto.stop;
  process.env.AWS_ENDPOINT_URL_EC2 = moto.endpoint;
  const client = new EC2Client({ region: 'eu-west-1', credentials });
  const { Vpc } = await client.send(new CreateVpcCommand({ CidrBlock: '10.0.0.0/16' }));
  vpcId = Vpc?.VpcId ?? '';
  const made = await client.send(new CreateSubnetCommand({ VpcId: vpcId, CidrBlock: '10.0.0.0/20' }));
  subnet = made.Subnet?.SubnetId as SubnetId;
  for (let i = 0; i < ENIS; i++) {
    const PrivateIpAddress = `10.0.1.${i + 10}`;
    const { NetworkInterface } = await client.send(
      new CreateNetworkInterfaceCommand({ SubnetId: subnet, PrivateIpAddress }),
    );
    eni = NetworkInterface?.NetworkInterfaceId as EniId;
  }
  const { Images = [] } = await client.send(new DescribeImagesCommand({}));
  const { Instances = [] } = await client.send(
    new RunInstancesCommand({
      ImageId: Images[0]?.ImageId ?? '',
      MinCount: 1,
      MaxCount: 1,
      InstanceType: 't3.large',
    }),
  );
  instance = Instances[0]?.InstanceId as InstanceId;
  await client.send(
    new AttachNetworkInterfaceCommand({ NetworkInterfaceId: eni, InstanceId: instance, DeviceIndex: 1 }),
  );
});
wire.after(() => stop());

wire('reads one ENI with its primary, its subnet and what it is attached to', async () => {
  const found = await cloud().eni(eni);
  assert.is(found.id, eni);
  assert.is(found.subnet, subnet);
  assert.is(found.vpc, vpcId);
  assert.is(found.primary, '10.0.1.16');
  assert.equal(found.secondaries, []);
  assert.is(found.instance, instance);
  assert.match(found.attachment ?? '', /^eni-attach-/);
});

wire('reads all ENIs of a subnet', async () => {
  const all: CloudEni[] = [];
  for await (const page of cloud().enis(subnet)) all.push(...page);
  assert.is(new Set(all.map(one => one.id)).size, ENIS);
  assert.ok(all.every(one => one.subnet === subnet));
});

wire('reads a subnet, and how many addresses EC2 says it has left', async () => {
  const found = await cloud().subnet(subnet);
  assert.is(formatCidr(found.cidr), '10.0.0.0/20');
  assert.is(found.vpc, vpcId);
  assert.is(found.available, 4096 - 5 - ENIS);
});

wire('asks for the type of an instance, and for the limit of a type', async () => {
  assert.is(await cloud().instanceType(instance), 't3.large');
  assert.is(await cloud().instanceType('i-0123456789abcdef0' as InstanceId), null);
  assert.is(await cloud().addressLimit('t3.large'), 12);
  assert.is(await cloud().addressLimit('x9.unheard-of'), null);
});

wire('reads the tenant in the tags of an ENI, and the profiles of the instances that are there', async () => {
  const client = new EC2Client({ region: 'eu-west-1', credentials });
  assert.is((await cloud().eni(eni)).tenant, null);
  const Tags = [{ Key: 'ec2-ipam:tenant', Value: 'red' }];
  await client.send(new CreateTagsCommand({ Resources: [eni], Tags }));
  assert.is((await cloud().eni(eni)).tenant, 'red');
  const profiles = await cloud().profiles([instance, 'i-0123456789abcdef0' as InstanceId]);
  assert.equal([...profiles], [[instance, null]]);
});

wire('finds the ENI that carries an address', async () => {
  const carriers = await cloud().carriers(subnet, ['10.0.1.16', '10.0.1.200'] as Ipv4[]);
  assert.equal(
    [...carriers].map(([ip, { id }]) => [ip, id]),
    [['10.0.1.16', eni]],
  );
});

wire('assigns the named addresses and unassigns them', async () => {
  const ips = ['10.0.15.10', '10.0.15.11'] as Ipv4[];
  await cloud().assign(eni, ips, LATER);
  assert.equal((await cloud().eni(eni)).secondaries, ips);
  await cloud().unassign(eni, ips, LATER);
  assert.equal((await cloud().eni(eni)).secondaries, []);
});

wire('an ENI or a subnet that is not there is ec2-not-found', async () => {
  for (const ask of [
    () => cloud().eni('eni-0123456789abcdef0' as EniId),
    () => cloud().subnet('subnet-0123456789abcdef0' as SubnetId),
    () => cloud().assign('eni-0123456789abcdef0' as EniId, ['10.0.15.10' as Ipv4], LATER),
    () => cloud().unassign('eni-0123456789abcdef0' as EniId, ['10.0.15.10' as Ipv4], LATER),
  ]) {
    const error = await ask().then(
      () => null,
      (thrown: unknown) => thrown,
    );
    assert.ok(isError(error, 'ec2-not-found'), String(error));
  }
});
wire.run();
