// Goal: the simulator speaks IMDSv2 as the real programs expect it. Method: fetch and the AWS SDK against a served app.
import process from 'node:process';
import { EC2 } from '@aws-sdk/client-ec2';
import { type Simulation, simulatorSuite } from '../../kit/servers/simulator.ts';
import { ETH1, INSTANCE, ips, SUBNET } from '../../kit/simulated.ts';
import { assert } from '../../kit/uvu.ts';

const imds = simulatorSuite('instance metadata of the simulator');

const newToken = (url: string, ttl: string, more: Record<string, string> = {}): Promise<Response> =>
  fetch(`${url}/latest/api/token`, {
    method: 'PUT',
    headers: { 'x-aws-ec2-metadata-token-ttl-seconds': ttl, ...more },
  });
/** What asks with a token of its own. */
async function reader({ url }: Simulation): Promise<(path: string) => Promise<Response>> {
  const headers = { 'x-aws-ec2-metadata-token': await (await newToken(url, '60')).text() };
  return path => fetch(`${url}/latest/${path}`, { headers });
}

imds('tokens: live 1 to 21,600 seconds, and not at all behind a proxy', async ({ url }) => {
  for (const ttl of ['1', '21600']) assert.is((await newToken(url, ttl)).status, 200, `ttl ${ttl}`);
  for (const ttl of ['0', '21601', '', '1e3'])
    assert.is((await newToken(url, ttl)).status, 400, `ttl ${ttl}`);
  assert.is((await newToken(url, '60', { 'x-forwarded-for': '10.0.0.1' })).status, 403);
  assert.is((await fetch(`${url}/latest/api/token`)).status, 405);
});

imds('without a token, or with a wrong or an old one: nothing is told', async ({ vpc, url }) => {
  const get = async (headers: Record<string, string>) =>
    (await fetch(`${url}/latest/meta-data/mac`, { headers })).status;
  const token = await (await newToken(url, '60')).text();
  assert.is(await get({}), 401);
  assert.is(await get({ 'x-aws-ec2-metadata-token': 'nonsense' }), 401);
  assert.is(await get({ 'x-aws-ec2-metadata-token': token }), 200);
  vpc.advance(60_000);
  assert.is(await get({ 'x-aws-ec2-metadata-token': token }), 401);
});

const MACS = 'meta-data/network/interfaces/macs';
const MAC1 = '02:0a:1b:2c:3d:01';
const pages: [path: string, text: string][] = [
  ['meta-data/instance-id', INSTANCE],
  ['meta-data/mac', '02:0a:1b:2c:3d:00'],
  ['meta-data/placement/', 'availability-zone\nregion'],
  ['meta-data/placement/region', 'eu-central-1'],
  ['meta-data/placement/availability-zone', 'eu-central-1a'],
  [`${MACS}/`, `02:0a:1b:2c:3d:00/\n${MAC1}/\n02:0a:1b:2c:3d:02/`],
  [`${MACS}/${MAC1}/interface-id`, ETH1],
  [`${MACS}/${MAC1}/device-number`, '1'],
  [`${MACS}/${MAC1}/subnet-id`, SUBNET],
  [`${MACS}/${MAC1}/subnet-ipv4-cidr-block`, '10.0.1.0/24'],
  [`${MACS}/${MAC1}/local-ipv4s`, '10.0.1.11\n10.0.1.20'],
  [`${MACS}/${MAC1}/vpc-id`, 'vpc-0a1b2c3d4e5f60718'],
  ['meta-data/iam/security-credentials/', 'simulated-role'],
];
imds('files and folders: hold a value, or list their names, folders with a slash', async simulation => {
  const get = await reader(simulation);
  simulation.vpc.network.assign({ eni: ETH1, ips: ips('10.0.1.20') });
  for (const [path, text] of pages) {
    const response = await get(path);
    assert.equal([await response.text(), response.status], [text, 200], path);
  }
  for (const path of ['meta-data/colour', 'meta-data/mac/', 'meta-data/mac/x', 'meta-data/toString'])
    assert.is((await get(path)).status, 404, path);
});

imds('an ENI without an IPv4 address: has none in the metadata either', async simulation => {
  const get = await reader(simulation);
  const { network } = simulation.vpc;
  const type = network.instanceTypes.get('m5.large');
  network.instanceTypes.set('m5.large', { enis: 5, addressesPerEni: type?.addressesPerEni ?? 10 });
  for (const [index, interfaceType] of ['interface', 'efa-only'].entries()) {
    const { id, mac } = network.createEni({ subnet: SUBNET, primary: null, interfaceType });
    network.attach(id, INSTANCE, 3 + index);
    const at = (name: string) => get(`${MACS}/${mac}/${name}`);
    assert.is(await (await at('interface-id')).text(), id);
    assert.is((await at('local-ipv4s')).status, 404);
    assert.is((await at('subnet-ipv4-cidr-block')).status, index === 0 ? 404 : 200, interfaceType);
  }
});

imds('a detached ENI: is gone from the metadata', async simulation => {
  const get = await reader(simulation);
  const { network } = simulation.vpc;
  network.detach(network.eni(ETH1).attachment?.id ?? '');
  assert.is((await get(`${MACS}/${MAC1}/interface-id`)).status, 404);
});

imds('the identity document: names the instance', async simulation => {
  const get = await reader(simulation);
  const text = await (await get('dynamic/instance-identity/document')).text();
  const { instanceId, region, instanceType, privateIp } = JSON.parse(text);
  const found = [instanceId, region, instanceType, privateIp];
  assert.equal(found, [INSTANCE, 'eu-central-1', 'm5.large', '10.0.1.10']);
});

imds("the SDK's own chain: finds credentials here and signs with them", async ({ url }) => {
  const saved = Object.entries(process.env).filter(([name]) => name.startsWith('AWS_'));
  const removeAll = () => {
    for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) delete process.env[name];
  };
  removeAll();
  process.env.AWS_EC2_METADATA_SERVICE_ENDPOINT = url;
  process.env.AWS_CONFIG_FILE = process.env.AWS_SHARED_CREDENTIALS_FILE = '/dev/null';
  const client = new EC2({ endpoint: url, region: 'eu-central-1', maxAttempts: 1 });
  try {
    assert.is((await client.describeSubnets()).Subnets?.length, 2);
    assert.match((await client.config.credentials()).accessKeyId, /^ASIA[A-Z2-7]{16}$/);
  } finally {
    client.destroy();
    removeAll();
    Object.assign(process.env, Object.fromEntries(saved));
  }
});
imds.run();
