// Goal: a dockerd killed with -9 while it waits for an address leaves nothing held for the container that never was,
// and nothing given twice. Method: the simulated EC2 is late, so that the engine dies in the middle of a start, with
// and without live-restore; afterwards the containers' kernels, the ledger and EC2 must agree.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
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
import { eniName, TIMES, worldOf } from '../kit/servers/site.ts';
import { assert, suite } from '../kit/uvu.ts';

const MKNET = fileURLToPath(new URL('../../mknet.sh', import.meta.url));
/** Of the primary ENI, which is the host's, and of the one for containers. */
const MACS = ['02:0a:1b:2c:3d:00', '02:0a:1b:2c:3d:01'] as const;
const ENI = eniName(1);
const ASSIGN = 'AssignPrivateIpAddresses';
const LATE_MS = 3000;
const RUNNING = 3;
const STARTING = 3;
const missing = await dockerdAvailable();

const LIVE_RESTORE = byLength({
  full: [true, false],
  short: [true],
  leftOut: 'a dockerd without live-restore that dies in a start',
});
for (const liveRestore of LIVE_RESTORE) {
  const crash = suite(`dockerd killed with -9 in a start, ${liveRestore ? 'with' : 'without'} live-restore`);
  const rule =
    missing === null ? crash : (name: string) => crash.skip(`${name} (needs ${missing})`, () => {});
  const folder = tempFolder();
  let docker: Dockerd;
  let ec2: Simulator;
  let server: Bundle;

  const run = (name: string) =>
    docker.docker('run', '-d', '--name', name, '--network', 'ec2', IMAGE, 'sleep', '3600');
  const held = async (): Promise<string[]> => {
    const { code, stdout, stderr } = await runBundle(['status', '--json'], { EC2_IPAM_STATE_DIR: folder });
    assert.is(code, 0, stderr);
    return JSON.parse(stdout)
      .holders.map((one: { ip: string }) => one.ip)
      .sort();
  };
  /** What the running containers' kernels say. */
  const inside = async (): Promise<string[]> => {
    const names = (await docker.must('ps', '--format', '{{.Names}}')).split('\n').filter(Boolean);
    const found = await Promise.all(names.map(name => docker.addressesOf(name)));
    return found
      .flat()
      .map(address => address.replace(/\/.*/, ''))
      .sort();
  };
  const agree = async (running: number) => {
    const addresses = await inside();
    assert.is(new Set(addresses).size, running, `${running} containers, each with an address of its own`);
    assert.equal(await held(), addresses, 'what containers have is what the ledger calls allocated');
    const onEni = await ec2.secondaries(ENI);
    for (const ip of addresses) assert.ok(onEni.includes(ip), `${ip} is on the ENI`);
  };

  crash.before(async () => {
    if (missing !== null) return;
    docker = await startDockerd({ liveRestore });
    const imds = join(docker.folder, 'imds.sock');
    const world = worldOf(MACS.length);
    ec2 = await startSimulator({ ...world, enis: world.enis.map((eni, i) => ({ ...eni, mac: MACS[i] })) }, [
      imds,
    ]);
    await docker.expose('169.254.169.254', 80, imds);
    await docker.makeParent(MACS[0], 'ens5');
    await docker.makeParent(MACS[1], 'ens6');
    await docker.importBusybox();
    server = await startBundle(
      // No pool is kept warm, so that each start asks EC2 and can be caught there.
      [
        'serve',
        '--warm-min',
        '0',
        '--warm-max',
        '0',
        '--listen',
        `unix:${join(docker.pluginDir, 'ec2-ipam.sock')}`,
      ],
      { ...ec2.env, ...TIMES, EC2_IPAM_STATE_DIR: folder },
      'ledger opened',
    );
    const { code, stderr } = await docker.run(['bash', MKNET, '--driver', 'macvlan', 'ens6']);
    assert.is(code, 0, stderr);
  });
  crash.after(async () => {
    await docker?.close();
    await server?.stop();
    await ec2?.stop();
    removeFolder(folder);
  });

  rule('what it waited for is held by nobody, and what runs keeps its address', async () => {
    for (let i = 0; i < RUNNING; i++) assert.is((await run(`before${i}`)).code, 0);
    await agree(RUNNING);
    const calls = await ec2.calls(ASSIGN);
    await ec2.tell('POST', 'faults', { kind: 'latency', ms: LATE_MS, action: ASSIGN });
    const starting = Array.from({ length: STARTING }, (_, i) => run(`dying${i}`));
    await until('EC2 is asked', async () => (await ec2.calls(ASSIGN)) > calls);
    await docker.kill9();
    for (const { code } of await Promise.all(starting)) assert.is.not(code, 0);
    await ec2.tell('DELETE', 'faults');
    await server.says(/claim rolled back|"refused".*the caller has gone/);
    await until('nothing is held for the dead', async () => (await held()).length <= RUNNING);
    await docker.startEngine();
    // Without live-restore the engine ends what runs when it comes back, and gives the addresses up.
    await agree(liveRestore ? RUNNING : 0);
  });

  rule('the same names start afterwards, each with an address of its own', async () => {
    const ids = (await docker.must('ps', '-aq', '--filter', 'name=dying')).split('\n').filter(Boolean);
    if (ids.length > 0) await docker.must('rm', '-f', ...ids);
    for (let i = 0; i < STARTING; i++) assert.is((await run(`dying${i}`)).code, 0);
    await agree(STARTING + (liveRestore ? RUNNING : 0));
    const drift = await runBundle(['reconcile', '--dry-run', '--json'], {
      ...ec2.env,
      ...TIMES,
      EC2_IPAM_STATE_DIR: folder,
    });
    assert.equal(JSON.parse(drift.stdout).drift, []);
    console.log(
      `  dockerd, live-restore ${liveRestore}: killed with ${STARTING} starts in flight, ${RUNNING} running`,
    );
  });
  crash.run();
}
