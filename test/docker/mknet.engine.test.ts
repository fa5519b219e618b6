// Goal: what mknet.sh says to Docker is what Docker understands, and what it reads back is what Docker says.
// Method: a real Docker Engine, macvlan on veth pairs, the simulator's IMDSv2, and a plugin that lives for this
// test: it gives out addresses in a row and remembers nothing.
import { createServer, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { createAdaptorServer } from '@hono/node-server';
import { parseInstanceId } from '../../src/domain/ids.ts';
import { createImdsApi } from '../../src/simulator/imds/imds-api.ts';
import { buildVpc, DEFAULT_WORLD } from '../../src/simulator/model/world.ts';
import { type Dockerd, dockerdAvailable, IMAGE, startDockerd } from '../kit/docker/dockerd.ts';
import { linesOf, MKNET, type Result, ruleOf } from '../kit/docker/netns.ts';
import { assert, suite } from '../kit/uvu.ts';

const INSTANCE = parseInstanceId('i-0a1b2c3d4e5f60001');
const ENI = 'eni-0a1b2c3d4e5f60001';

const pools: { Pool: string; Options: Record<string, string> }[] = []; // as asked for
let lastByte = 100;
async function plugin(request: IncomingMessage): Promise<object> {
  let body = '';
  for await (const chunk of request) body += chunk;
  const asked = body === '' ? {} : JSON.parse(body);
  switch (request.url) {
    case '/Plugin.Activate':
      return { Implements: ['IpamDriver'] };
    case '/IpamDriver.GetDefaultAddressSpaces':
      return { LocalDefaultAddressSpace: 'x', GlobalDefaultAddressSpace: 'x' };
    case '/IpamDriver.RequestPool':
      pools.push(asked);
      return { PoolID: asked.Options['eni-id'], Pool: asked.Pool || '10.0.1.0/24' };
    case '/IpamDriver.RequestAddress':
      return { Address: `${asked.Address || `10.0.1.${asked.Options === null ? ++lastByte : 1}`}/24` };
    default:
      return {};
  }
}
const driver = createServer((request, response) => {
  plugin(request).then(answer => response.end(JSON.stringify(answer)));
});
const vpc = buildVpc(DEFAULT_WORLD, { now: () => performance.now(), random: Math.random });
const metadata = createImdsApi(vpc, { instance: INSTANCE, wallClock: () => Date.now() });
const imds = createAdaptorServer({ fetch: metadata.fetch, overrideGlobalObjects: false });

let engine: Dockerd;
const missing = await dockerdAvailable();
const mknet = suite('mknet.sh and a real Docker Engine');
const rule = ruleOf(mknet, missing);

mknet.before(async () => {
  if (missing !== null) return;
  engine = await startDockerd();
  await new Promise<void>(resolve => driver.listen(join(engine.pluginDir, 'ec2-ipam.sock'), resolve));
  await new Promise<void>(resolve => imds.listen(join(engine.folder, 'imds.sock'), resolve));
  await engine.expose('169.254.169.254', 80, join(engine.folder, 'imds.sock'));
  for (const [index, { mac }] of DEFAULT_WORLD.enis.entries())
    await engine.makeParent(mac, `ens${index + 5}`);
});
mknet.before.each(() => void pools.splice(0));
mknet.after.each(async () => {
  const ids = linesOf(await engine.must('network', 'ls', '-q', '--filter', 'type=custom'));
  if (ids.length > 0) await engine.must('network', 'rm', ...ids);
});
mknet.after(async () => {
  driver.close();
  driver.closeAllConnections();
  imds.close();
  await engine?.close();
});

const run = (...args: string[]): Promise<Result> =>
  engine.run(['bash', MKNET, '--driver', 'macvlan', ...args], { AWS_EC2_METADATA_SERVICE_ENDPOINT: '' });
async function succeeds(says: RegExp | string, ...args: string[]): Promise<void> {
  const { code, stdout, stderr } = await run(...args);
  assert.is(code, 0, stderr);
  assert.match(stdout, says);
}
const inspect = async (name: string) => JSON.parse(await engine.must('network', 'inspect', name))[0];
const create = (line: string) => engine.must('network', 'create', '-d', 'macvlan', ...line.split(' '));

rule('a network: is kept by Docker as it was asked for, and containers get its addresses', async () => {
  await succeeds(`network ec2: created on ens6 (${ENI}), 10.0.1.0/24, router 10.0.1.1`, 'ens6');
  const options = { 'eni-id': ENI, 'instance-id': INSTANCE };
  const asked = pools.map(pool => [pool.Pool, pool.Options]);
  assert.equal(asked, [['10.0.1.0/24', options]]);
  const network = await inspect('ec2');
  assert.is(network.Options.parent, 'ens6');
  const Config = [{ Subnet: '10.0.1.0/24', Gateway: '10.0.1.1' }];
  assert.equal(network.IPAM, { Driver: 'ec2-ipam', Options: options, Config });
  await engine.importBusybox();
  await engine.must('run', '-d', '--rm', '--name', 'c1', '--network', 'ec2', IMAGE, 'sleep', '600');
  assert.equal(await engine.addressesOf('c1'), ['10.0.1.101/24']);
  await engine.must('rm', '-f', 'c1');
});

rule('a network that is there: is left alone', async () => {
  await run('ens6');
  const before = await inspect('ec2');
  await succeeds(/network ec2: exists and is correct; not changed/, 'ens6');
  assert.equal(await inspect('ec2'), before);
  assert.is(pools.length, 1);
});

rule("the ancestor's network, made without subnet and gateway: is right", async () => {
  const ipam = `--ipam-driver ec2-ipam --ipam-opt instance-id=${INSTANCE} --ipam-opt eni-id=${ENI}`;
  await create(`-o parent=ens6 ${ipam} ec2`);
  await succeeds(/not changed/, 'ens6');
});

rule('a network that differs: has each difference said, and is left as it is', async () => {
  await create('-o parent=ens7 --subnet 10.0.9.0/24 --gateway 10.0.9.254 ec2');
  const before = await inspect('ec2');
  const { code, stderr } = await run('ens6');
  assert.is(code, 3);
  assert.equal(stderr.split('\n').slice(1), [
    '  IPAM driver: expected ec2-ipam, found default',
    '  parent: expected ens6, found ens7',
    '  subnet: expected 10.0.1.0/24, found 10.0.9.0/24',
    '  gateway: expected 10.0.1.1, found 10.0.9.254',
    `  eni-id: expected ${ENI}, found nothing`,
    `  instance-id: expected ${INSTANCE}, found nothing`,
    '',
  ]);
  assert.equal(await inspect('ec2'), before);
});

rule('an interface that carries another network: is told by the name of that network', async () => {
  await run('-n', 'older', 'ens6');
  const { code, stderr } = await run('ens6');
  assert.is(code, 1);
  assert.match(stderr, /ens6 has network older already/);
});

rule("a name that is the beginning of another network's id: is still free", async () => {
  await run('-n', 'older', 'ens6');
  const name = (await inspect('older')).Id.slice(0, 4);
  await succeeds(`network ${name}: created on ens7`, '-n', name, 'ens7');
});

rule('several ENIs: are listed and none is guessed; the primary is refused', async () => {
  const several = await run();
  assert.is(several.code, 2);
  assert.match(several.stderr, /ens6 {2}eni-0a1b2c3d4e5f60001 .*\n {2}ens7 {2}eni-0a1b2c3d4e5f60002 /);
  assert.is((await run('ens5')).code, 2);
  assert.equal(pools, []);
});
mknet.run();
