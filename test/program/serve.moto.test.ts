// Goal: init, serve, request, release and recycle of the shipped bundle against an EC2 that others wrote.
import { EC2 } from '@aws-sdk/client-ec2';
import { removeFolder, tempFolder } from '../kit/folders.ts';
import { ec2Env, runBundle, startBundle } from '../kit/servers/bundle.ts';
import { startMoto } from '../kit/servers/moto.ts';
import { freePort, type Program } from '../kit/servers/process.ts';
import { assert, suite } from '../kit/uvu.ts';

const credentials = { accessKeyId: 'test', secretAccessKey: 'test' };
const folder = tempFolder();
let stopMoto = async () => {};
let ec2: EC2;
let subnet = '';
let eni = '';
let server: Program;
let url = '';
let env: Record<string, string> = {};

const onEni = async (): Promise<string[]> => {
  const { NetworkInterfaces } = await ec2.describeNetworkInterfaces({ NetworkInterfaceIds: [eni] });
  const addresses = NetworkInterfaces?.[0]?.PrivateIpAddresses ?? [];
  return addresses.filter(one => one.Primary !== true).map(one => one.PrivateIpAddress ?? '');
};
async function post(path: string, body: unknown): Promise<Record<string, string>> {
  const answer = await fetch(`${url}/IpamDriver.${path}`, { method: 'POST', body: JSON.stringify(body) });
  return JSON.parse(await answer.text());
}
async function request(): Promise<string> {
  const { Address = '' } = await post('RequestAddress', { PoolID: eni, Address: '', Options: null });
  return Address.replace('/24', '');
}
const release = (Address: string) => post('ReleaseAddress', { PoolID: eni, Address });
/** Runs a command that has to succeed; returns its JSON. */
async function run(...args: string[]) {
  const { code, stdout, stderr } = await runBundle([...args, '--json'], env);
  assert.is(code, 0, stderr);
  return JSON.parse(stdout);
}

/** An ENI at device 1 of an instance, in a subnet of its own. */
async function makeEni(): Promise<void> {
  const { Vpc } = await ec2.createVpc({ CidrBlock: '10.0.0.0/16' });
  const { Subnet } = await ec2.createSubnet({ VpcId: Vpc?.VpcId, CidrBlock: '10.0.7.0/24' });
  subnet = Subnet?.SubnetId ?? '';
  const ImageId = (await ec2.describeImages()).Images?.[0]?.ImageId;
  const one = { ImageId, MinCount: 1, MaxCount: 1, InstanceType: 'm5.large' } as const;
  const InstanceId = (await ec2.runInstances(one)).Instances?.[0]?.InstanceId;
  const created = await ec2.createNetworkInterface({ SubnetId: subnet, PrivateIpAddress: '10.0.7.10' });
  eni = created.NetworkInterface?.NetworkInterfaceId ?? '';
  await ec2.attachNetworkInterface({ NetworkInterfaceId: eni, InstanceId, DeviceIndex: 1 });
}

const story = suite('the bundle and moto');
story.before(async () => {
  const moto = await startMoto();
  stopMoto = moto.stop;
  ec2 = new EC2({ region: 'eu-west-1', credentials, endpoint: moto.endpoint });
  await makeEni();
  const own = { AWS_EC2_METADATA_SERVICE_ENDPOINT: 'http://127.0.0.1:9', AWS_REGION: 'eu-west-1' };
  env = { ...ec2Env(moto.endpoint), ...own, EC2_IPAM_STATE_DIR: folder };
});
story.after(async () => {
  await server?.stop();
  await stopMoto();
  removeFolder(folder);
});

story('init, serve, request, release, recycle: moto shows the addresses come and go', async () => {
  const { added, free } = await run('init', subnet);
  assert.is(added, 256);
  assert.is(free, 250, 'all but five of AWS and the primary');

  assert.equal(await onEni(), []);
  url = `http://127.0.0.1:${await freePort()}`;
  server = await startBundle(['serve', '--listen', url], env, 'ledger opened');
  const asked = { Pool: '10.0.7.0/24', SubPool: '', Options: { 'eni-id': eni }, V6: false };
  assert.is((await post('RequestPool', asked)).PoolID, eni);

  const held = [await request(), await request(), await request(), await request()];
  assert.is(new Set(held).size, 4);
  for (const ip of held) assert.ok((await onEni()).includes(ip), `${ip} is on the ENI`);
  const [kept = '', ...given] = held;
  for (const ip of given) assert.equal(await release(ip), {});

  const { plan } = await run('recycle', subnet, '--idle', '0s', '--dry-run');
  const warm = (await onEni()).filter(ip => ip !== kept).sort();
  assert.equal(plan.map((one: { ip: string }) => one.ip).sort(), warm);
  assert.ok(warm.length >= 3);
  assert.is((await run('recycle', subnet, '--idle', '0s')).freed, warm.length);
  assert.equal(await onEni(), [kept]);

  assert.equal(await release(kept), {});
  assert.is((await run('recycle', subnet, '--idle', '0s')).freed, 1);
  assert.equal(await onEni(), []);
  const { subnets, holders } = await run('status');
  assert.is(subnets[0].counts.free, 250);
  assert.equal(holders, []);
});
story.run();
