// Goal: containers on a real Docker Engine get their addresses from the shipped bundle, and neither a dead
// dockerd nor a dead server loses one or gives one twice. Method: mknet.sh, docker and kill -9, with macvlan on
// veth pairs; after each step the containers' kernels, the ledger and the simulated EC2 must agree.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type MariaDb, startMariadb } from '../kit/databases/mariadb.ts';
import { type Dockerd, dockerdAvailable, IMAGE, startDockerd } from '../kit/docker/dockerd.ts';
import { byLength } from '../kit/length.ts';
import {
  type Bundle,
  removeFolder,
  runBundle,
  type Simulator,
  startBundle,
  startSimulator,
  tempFolder,
  until,
} from '../kit/servers/bundle.ts';
import { assert, suite } from '../kit/uvu.ts';

const MKNET = fileURLToPath(new URL('../../mknet.sh', import.meta.url));
const INSTANCE = 'i-0a1b2c3d4e5f60001';
const SUBNET = 'subnet-0a1b2c3d4e5f60001';
const ENI = 'eni-0a1b2c3d4e5f60001';
const MAC = '02:0a:1b:2c:3d:01';
const WORLD = {
  subnets: [{ id: SUBNET, cidr: '10.0.1.0/24' }],
  instances: [{ id: INSTANCE, type: 'm5.xlarge' }],
  enis: [
    {
      id: 'eni-0a1b2c3d4e5f60000',
      subnet: SUBNET,
      mac: '02:0a:1b:2c:3d:00',
      primary: '10.0.1.10',
      attachment: { instance: INSTANCE, deviceIndex: 0 },
    },
    {
      id: ENI,
      subnet: SUBNET,
      mac: MAC,
      primary: '10.0.1.11',
      attachment: { instance: INSTANCE, deviceIndex: 1 },
    },
  ],
};
/** The default of --warm-max. */
const WARM_MAX = 6;
const TEN = Array.from({ length: 10 }, (_, i) => `c${i}`);
const missing = await dockerdAvailable();

interface Holder {
  ip: string;
  eni: string;
  container: string | null;
}

const STORES = byLength<readonly ('sqlite' | 'mariadb')[]>({
  full: ['sqlite', 'mariadb'],
  short: ['sqlite'],
  leftOut: 'the ledger of Docker Engine in MariaDB',
});
for (const kind of STORES) {
  const engine = suite(`Docker Engine, ledger in ${kind}`);
  const rule =
    missing === null ? engine : (name: string) => engine.skip(`${name} (needs ${missing})`, () => {});
  const folder = tempFolder();
  let docker: Dockerd;
  let ec2: Simulator;
  let database: MariaDb | null = null;
  let server: Bundle;
  let storeEnv: Record<string, string> = {};

  const startServer = async () => {
    const socket = `unix:${join(docker.pluginDir, 'ec2-ipam.sock')}`;
    server = await startBundle(['serve', '--listen', socket], { ...ec2.env, ...storeEnv }, 'ledger opened');
  };
  const holders = async (): Promise<Holder[]> => {
    const { code, stdout, stderr } = await runBundle(['status', '--json'], storeEnv);
    assert.is(code, 0, stderr);
    return JSON.parse(stdout).holders;
  };
  /** What every running container's kernel says, by name. */
  const addresses = async (): Promise<Map<string, string>> => {
    const names = (await docker.must('ps', '--format', '{{.Names}}')).split('\n').filter(Boolean);
    const found = new Map<string, string>();
    for (const name of names) {
      const [address, ...more] = await docker.addressesOf(name);
      assert.equal(more, [], `${name} has one address`);
      found.set(name, (address ?? '').replace('/24', ''));
    }
    return found;
  };
  /** Containers, ledger and EC2 agree; returns the addresses by container. */
  const agree = async (): Promise<Map<string, string>> => {
    const inside = await addresses();
    const held = (await holders()).map(one => one.ip).sort();
    assert.is(new Set(inside.values()).size, inside.size, 'no address twice');
    assert.equal(
      [...inside.values()].sort(),
      held,
      'what containers have is what the ledger calls allocated',
    );
    const onEni = await ec2.secondaries(ENI);
    for (const [name, ip] of inside) assert.ok(onEni.includes(ip), `${name}'s ${ip} is on the ENI`);
    return inside;
  };
  const runTen = async () => {
    for (const name of TEN)
      await docker.must('run', '-d', '--name', name, '--network', 'ec2', IMAGE, 'sleep', '3600');
  };
  const removeAll = async () => {
    const ids = (await docker.must('ps', '-aq')).split('\n').filter(Boolean);
    if (ids.length > 0) await docker.must('rm', '-f', ...ids);
  };

  engine.before(async () => {
    if (missing !== null) return;
    docker = await startDockerd({ liveRestore: true });
    const imds = join(docker.folder, 'imds.sock');
    ec2 = await startSimulator(WORLD, [imds]);
    await docker.expose('169.254.169.254', 80, imds);
    await docker.makeParent('02:0a:1b:2c:3d:00', 'ens5');
    await docker.makeParent(MAC, 'ens6');
    await docker.importBusybox();
    if (kind === 'mariadb') {
      database = await startMariadb();
      await database.create('ipam');
      storeEnv = {
        EC2_IPAM_STORE: database.url('ipam'),
        EC2_IPAM_STORE_PASSWORD: database.password,
        EC2_IPAM_STATE_DIR: folder,
      };
    } else storeEnv = { EC2_IPAM_STATE_DIR: folder };
    await startServer();
  });
  engine.after(async () => {
    await docker?.close();
    await server?.stop();
    await ec2?.stop();
    await database?.stop();
    removeFolder(folder);
  });
  engine.after.each(removeAllUnlessMissing);
  async function removeAllUnlessMissing() {
    if (missing === null) await removeAll();
  }

  rule('mknet.sh makes the network, which is warm before the first container comes', async () => {
    const { code, stdout, stderr } = await docker.run(['bash', MKNET, '--driver', 'macvlan', 'ens6']);
    assert.is(code, 0, stderr);
    assert.match(stdout, ENI);
    assert.equal(await holders(), []);
    await until('the ENI to be warm', async () => (await ec2.secondaries(ENI)).length === WARM_MAX);
  });

  rule('each of ten containers has the address that ledger and EC2 say', async () => {
    await runTen();
    const inside = await agree();
    assert.is(inside.size, 10);
    const route = await docker.must('exec', 'c0', 'ip', 'route');
    assert.match(route, 'default via 10.0.1.1');
  });

  rule('--ip is honoured, and a second container with it is refused with the reason', async () => {
    await docker.must(
      'run',
      '-d',
      '--name',
      'fixed',
      '--network',
      'ec2',
      '--ip',
      '10.0.1.77',
      IMAGE,
      'sleep',
      '3600',
    );
    assert.is((await agree()).get('fixed'), '10.0.1.77');
    const { code, stderr } = await docker.docker(
      'run',
      '-d',
      '--name',
      'other',
      '--network',
      'ec2',
      '--ip',
      '10.0.1.77',
      IMAGE,
      'true',
    );
    assert.is(code, 125);
    assert.match(
      stderr,
      '10.0.1.77 is held by a container on eni-0a1b2c3d4e5f60001; choose another address or leave out --ip',
    );
    await docker.must('restart', '-t', '0', 'fixed');
    assert.is((await agree()).get('fixed'), '10.0.1.77');
  });

  rule('stop, start, restart and rm keep all in agreement', async () => {
    await runTen();
    await docker.must('stop', '-t', '0', 'c0', 'c1');
    assert.is((await agree()).size, 8);
    await docker.must('start', 'c0', 'c1');
    assert.is((await agree()).size, 10);
    await docker.must('restart', '-t', '0', 'c2', 'c3');
    assert.is((await agree()).size, 10);
    await docker.must('rm', '-f', 'c4', 'c5');
    assert.is((await agree()).size, 8);
  });

  rule('containers live through a dockerd that is stopped and started with --live-restore', async () => {
    await runTen();
    const before = await agree();
    await docker.stop();
    await docker.startEngine();
    assert.equal(await agree(), before);
  });

  rule('containers live through a dockerd that is killed with -9', async () => {
    await runTen();
    const before = await agree();
    await docker.kill9();
    await docker.startEngine();
    assert.equal(await agree(), before);
    await docker.must('run', '-d', '--name', 'late', '--network', 'ec2', IMAGE, 'sleep', '3600');
    assert.is((await agree()).size, 11);
  });

  rule('the server killed with -9 while containers start gives nothing twice and loses nothing', async () => {
    const starting = TEN.map(name =>
      docker.docker('run', '-d', '--name', name, '--network', 'ec2', IMAGE, 'sleep', '3600'),
    );
    await until('some containers', async () => (await holders()).length >= 3);
    await server.kill9();
    await startServer();
    const started = await Promise.all(starting);
    const inside = await addresses();
    assert.is(new Set(inside.values()).size, inside.size, 'no address twice');
    const held = (await holders()).map(one => one.ip);
    for (const [name, ip] of inside) assert.ok(held.includes(ip), `${name} still holds ${ip}`);
    // At most the one request that was in the dead server's hands can have been lost on its way.
    assert.ok(held.length - inside.size <= 1, `${held.length} held, ${inside.size} running`);
    for (const { code, stderr } of started)
      if (code !== 0) assert.match(stderr, /nothing was changed|EOF|connection/);
    for (const ip of held)
      if (![...inside.values()].includes(ip)) {
        const { code, stderr } = await runBundle(['release', SUBNET, ip, '--yes'], {
          ...ec2.env,
          ...storeEnv,
        });
        assert.is(code, 0, stderr);
      }
    await docker.must('run', '-d', '--name', 'late', '--network', 'ec2', IMAGE, 'sleep', '3600');
    await agree();
  });

  rule('the network is removed and nothing is held', async () => {
    await docker.must('network', 'rm', 'ec2');
    assert.equal(await holders(), []);
  });

  engine.run();
}
