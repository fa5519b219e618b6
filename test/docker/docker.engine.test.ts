// Goal: containers on a real Docker Engine get their addresses from the shipped bundle, and neither a dead
// dockerd nor a dead server loses one or gives one twice. Method: mknet.sh, docker and kill -9, with macvlan on
// veth pairs; after each step the containers' kernels, the ledger and the simulated EC2 must agree.
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../../scripts/tiers.ts';
import { mariaLedger, sqliteLedger } from '../kit/databases/ledgers.ts';
import { dockerdAvailable } from '../kit/docker/dockerd.ts';
import { ENI, EngineSite } from '../kit/docker/engine-site.ts';
import { ruleOf } from '../kit/docker/netns.ts';
import { byLength } from '../kit/length.ts';
import { range } from '../kit/rows.ts';
import { SUBNET } from '../kit/servers/site.ts';
import { assert, suite } from '../kit/uvu.ts';
import { until } from '../kit/wait.ts';

/** The default of --warm-max. */
const WARM_MAX = 6;
const TEN = range(10).map(i => `c${i}`);
const OUTLIVING = byLength({
  full: TEN,
  short: TEN.slice(0, 3),
  leftOut: '7 of 10 containers that outlive a dockerd',
});
const missing = await dockerdAvailable();

const STORES = byLength<readonly ('sqlite' | 'mariadb')[]>({
  full: ['sqlite', 'mariadb'],
  short: ['sqlite'],
  leftOut: 'the ledger of Docker Engine in MariaDB',
});
for (const kind of STORES) {
  const engine = suite(`Docker Engine, ledger in ${kind}`);
  const rule = ruleOf(engine, missing);
  let site: EngineSite;

  engine.before(async () => {
    if (missing !== null) return;
    site = await EngineSite.open(kind === 'mariadb' ? await mariaLedger() : sqliteLedger(), true);
  });
  engine.after(() => site?.close());
  engine.after.each(() => site?.remove());

  rule('mknet.sh: makes the network, which is warm before the first container comes', async () => {
    assert.match(await site.makeNetwork(), ENI);
    assert.equal(await site.held(), []);
    await until('the ENI to be warm', async () => (await site.ec2.secondaries(ENI)).length === WARM_MAX);
  });

  rule('ten containers: each has the address that ledger and EC2 say', async () => {
    await site.mustStart(...TEN);
    await site.agree(10);
    assert.match(await site.docker.must('exec', 'c0', 'ip', 'route'), 'default via 10.0.0.1');
  });

  rule('--ip: is honoured, and a second container with it is refused with the reason', async () => {
    const named = ['--ip', '10.0.1.77'];
    assert.is((await site.start('fixed', ...named)).code, 0);
    assert.is((await site.agree()).get('fixed'), '10.0.1.77');
    const { code, stderr } = await site.start('other', ...named);
    assert.is(code, 125);
    const reason = `10.0.1.77 is held by a container on ${ENI}; choose another address or leave out --ip`;
    assert.match(stderr, reason);
    await site.docker.must('restart', '-t', '0', 'fixed');
    assert.is((await site.agree()).get('fixed'), '10.0.1.77');
  });

  rule('stop, start, restart and rm: keep all in agreement', async () => {
    await site.mustStart(...TEN);
    await site.docker.must('stop', '-t', '0', 'c0', 'c1');
    await site.agree(8);
    await site.docker.must('start', 'c0', 'c1');
    await site.agree(10);
    await site.docker.must('restart', '-t', '0', 'c2', 'c3');
    await site.agree(10);
    await site.docker.must('rm', '-f', 'c4', 'c5');
    await site.agree(8);
  });

  rule('a dockerd that is stopped and started with --live-restore: containers live on', async () => {
    await site.mustStart(...OUTLIVING);
    const before = await site.agree();
    await site.docker.stop();
    await site.docker.startEngine();
    assert.equal(await site.agree(), before);
  });

  rule('a dockerd that is killed with -9: containers live on', async () => {
    await site.mustStart(...OUTLIVING);
    const before = await site.agree();
    await site.docker.kill9();
    await site.docker.startEngine();
    assert.equal(await site.agree(), before);
    await site.mustStart('late');
    await site.agree(OUTLIVING.length + 1);
  });

  rule('a server killed with -9 while containers start: gives nothing twice and loses nothing', async () => {
    const starting = TEN.map(name => site.start(name));
    await until('some containers', async () => (await site.held()).length >= 3);
    await site.server?.kill9();
    await site.startServer();
    const started = await Promise.all(starting);
    const inside = await site.inside();
    const held = await site.held();
    for (const [name, ip] of inside) assert.ok(held.includes(ip), `${name} still holds ${ip}`);
    // At most the one request that was in the dead server's hands can have been lost on its way.
    assert.ok(held.length - inside.size <= 1, `${held.length} held, ${inside.size} running`);
    for (const { code, stderr } of started)
      if (code !== 0) assert.match(stderr, /nothing was changed|EOF|connection/);
    const running = [...inside.values()];
    for (const ip of held.filter(ip => !running.includes(ip))) {
      const { code, stderr } = await site.command('release', SUBNET, ip, '--yes');
      assert.is(code, 0, stderr);
    }
    await site.mustStart('late');
    await site.agree();
  });

  rule('ec2-ipam.json: leads dockerd to the socket', async () => {
    // Under another name, since dockerd takes a socket of the name before it.
    copyFileSync(join(ROOT, 'dist/ec2-ipam.json'), join(site.docker.specDir, 'by-file.json'));
    const pool = `--subnet 10.0.0.0/22 --gateway 10.0.0.1 --ipam-opt eni-id=${ENI}`.split(' ');
    const create = '-d macvlan -o parent=ens5 --ipam-driver by-file'.split(' ');
    await site.docker.must('network', 'create', ...create, ...pool, 'by-file');
    await site.docker.must('network', 'rm', 'by-file');
  });

  rule('the network: is removed and nothing is held', async () => {
    await site.docker.must('network', 'rm', 'ec2');
    assert.equal(await site.held(), []);
  });
  engine.run();
}
