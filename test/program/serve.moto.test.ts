// Goal: init, serve, request, release and recycle of the shipped bundle against an EC2 that others wrote.
import {
  AttachNetworkInterfaceCommand,
  CreateNetworkInterfaceCommand,
  CreateSubnetCommand,
  CreateVpcCommand,
  DescribeImagesCommand,
  DescribeNetworkInterfacesCommand,
  EC2Client,
  RunInstancesCommand,
} from '@aws-sdk/client-ec2';
import {
  type Bundle,
  freePort,
  removeFolder,
  runBundle,
  startBundle,
  tempFolder,
} from '../kit/servers/bundle.ts';
import { startMoto } from '../kit/servers/moto.ts';
import { assert, suite } from '../kit/uvu.ts';

const credentials = { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'secret' };
const folder = tempFolder();
let stopMoto = async () => {};
let client: EC2Client;
let subnet = '';
let eni = '';
let server: Bundle;
let url = '';
let env: Record<string, string> = {};

const onEni = async (): Promise<string[]> => {
  const { NetworkInterfaces = [] } = await client.send(
    new DescribeNetworkInterfacesCommand({ NetworkInterfaceIds: [eni] }),
  );
  const addresses = NetworkInterfaces[0]?.PrivateIpAddresses ?? [];
  return addresses.filter(one => one.Primary !== true).map(one => one.PrivateIpAddress ?? '');
};
const post = async (path: string, body: unknown): Promise<Record<string, string>> =>
  (await (
    await fetch(`${url}/IpamDriver.${path}`, { method: 'POST', body: JSON.stringify(body) })
  ).json()) as Record<string, string>;
const request = async () =>
  (await post('RequestAddress', { PoolID: eni, Address: '', Options: null })).Address?.replace('/24', '') ??
  '';

const story = suite('the bundle and moto');
story.before(async () => {
  const moto = await startMoto();
  stopMoto = moto.stop;
  client = new EC2Client({ region: 'eu-west-1', credentials, endpoint: moto.endpoint });
  const { Vpc } = await client.send(new CreateVpcCommand({ CidrBlock: '10.0.0.0/16' }));
  const { Subnet } = await client.send(
    new CreateSubnetCommand({ VpcId: Vpc?.VpcId ?? '', CidrBlock: '10.0.7.0/24' }),
  );
  subnet = Subnet?.SubnetId ?? '';
  const { Images = [] } = await client.send(new DescribeImagesCommand({}));
  const { Instances = [] } = await client.send(
    new RunInstancesCommand({
      ImageId: Images[0]?.ImageId ?? '',
      MinCount: 1,
      MaxCount: 1,
      InstanceType: 'm5.large',
    }),
  );
  const { NetworkInterface } = await client.send(
    new CreateNetworkInterfaceCommand({ SubnetId: subnet, PrivateIpAddress: '10.0.7.10' }),
  );
  eni = NetworkInterface?.NetworkInterfaceId ?? '';
  await client.send(
    new AttachNetworkInterfaceCommand({
      NetworkInterfaceId: eni,
      InstanceId: Instances[0]?.InstanceId ?? '',
      DeviceIndex: 1,
    }),
  );
  env = {
    AWS_ENDPOINT_URL_EC2: moto.endpoint,
    AWS_EC2_METADATA_SERVICE_ENDPOINT: 'http://127.0.0.1:9',
    AWS_REGION: 'eu-west-1',
    AWS_ACCESS_KEY_ID: credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
    EC2_IPAM_STATE_DIR: folder,
  };
});
story.after(async () => {
  await server?.stop();
  await stopMoto();
  removeFolder(folder);
});

story('init, serve, request, release, recycle: moto shows the addresses come and go', async () => {
  const init = await runBundle(['init', subnet, '--json'], env);
  assert.is(init.code, 0, init.stderr);
  const { added, free } = JSON.parse(init.stdout);
  assert.is(added, 256);
  assert.is(free, 250, 'all but five of AWS and the primary');

  assert.equal(await onEni(), []);
  url = `http://127.0.0.1:${await freePort()}`;
  server = await startBundle(['serve', '--listen', url], env, 'ledger opened');
  const pool = await post('RequestPool', {
    Pool: '10.0.7.0/24',
    SubPool: '',
    Options: { 'eni-id': eni },
    V6: false,
  });
  assert.is(pool.PoolID, eni);

  const held = [await request(), await request(), await request(), await request()];
  assert.is(new Set(held).size, 4);
  for (const ip of held) assert.ok((await onEni()).includes(ip), `${ip} is on the ENI`);
  const [kept = '', ...given] = held;
  for (const Address of given) assert.equal(await post('ReleaseAddress', { PoolID: eni, Address }), {});

  const plan = await runBundle(['recycle', subnet, '--idle', '0s', '--dry-run', '--json'], env);
  assert.is(plan.code, 0, plan.stderr);
  const warm = (await onEni()).filter(ip => ip !== kept);
  assert.equal(
    JSON.parse(plan.stdout)
      .plan.map((one: { ip: string }) => one.ip)
      .sort(),
    warm.sort(),
  );
  assert.ok(warm.length >= 3);
  const recycled = await runBundle(['recycle', subnet, '--idle', '0s', '--json'], env);
  assert.is(recycled.code, 0, recycled.stderr);
  assert.is(JSON.parse(recycled.stdout).freed, warm.length);
  assert.equal(await onEni(), [kept]);

  assert.equal(await post('ReleaseAddress', { PoolID: eni, Address: kept }), {});
  const rest = await runBundle(['recycle', subnet, '--idle', '0s', '--json'], env);
  assert.is(JSON.parse(rest.stdout).freed, 1);
  assert.equal(await onEni(), []);
  const status = JSON.parse((await runBundle(['status', '--json'], env)).stdout);
  assert.is(status.subnets[0].counts.free, 250);
  assert.equal(status.holders, []);
});
story.run();
