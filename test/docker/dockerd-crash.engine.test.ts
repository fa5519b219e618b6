// Goal: a dockerd killed with -9 while it waits for an address leaves nothing held for the container that never was,
// and nothing given twice. Method: the simulated EC2 is late, so that the engine dies in the middle of a start, with
// and without live-restore; afterwards the containers' kernels, the ledger and EC2 must agree.
import { sqliteLedger } from '../kit/databases/ledgers.ts';
import { dockerdAvailable } from '../kit/docker/dockerd.ts';
import { EngineSite } from '../kit/docker/engine-site.ts';
import { ruleOf } from '../kit/docker/netns.ts';
import { byLength } from '../kit/length.ts';
import { range } from '../kit/rows.ts';
import { TIMES } from '../kit/servers/site.ts';
import { assert, suite } from '../kit/uvu.ts';
import { until } from '../kit/wait.ts';

const ASSIGN = 'AssignPrivateIpAddresses';
const LATE_MS = 3000;
const RUNNING = 3;
const DYING = range(3).map(i => `dying${i}`);
const missing = await dockerdAvailable();

const LIVE_RESTORE = byLength({
  full: [true, false],
  short: [true],
  leftOut: 'a dockerd without live-restore that dies in a start',
});
for (const liveRestore of LIVE_RESTORE) {
  const crash = suite(`dockerd killed with -9 in a start, ${liveRestore ? 'with' : 'without'} live-restore`);
  const rule = ruleOf(crash, missing);
  let site: EngineSite;

  crash.before(async () => {
    if (missing !== null) return;
    // No pool is kept warm, so that each start asks EC2 and can be caught there.
    site = await EngineSite.open(sqliteLedger(), liveRestore, '--warm-min 0 --warm-max 0', TIMES);
    await site.makeNetwork();
  });
  crash.after(() => site?.close());

  rule('what it waited for: is held by nobody, and what runs keeps its address', async () => {
    const { ec2 } = site;
    await site.mustStart(...range(RUNNING).map(i => `before${i}`));
    await site.agree(RUNNING);
    const calls = await ec2.calls(ASSIGN);
    await ec2.tell('POST', 'faults', { kind: 'latency', ms: LATE_MS, action: ASSIGN });
    const starting = DYING.map(name => site.start(name));
    await until('EC2 is asked', async () => (await ec2.calls(ASSIGN)) > calls);
    await site.docker.kill9();
    for (const { code } of await Promise.all(starting)) assert.is.not(code, 0);
    await ec2.tell('DELETE', 'faults');
    await site.server?.says(/claim rolled back|request refused.*the caller has gone/);
    await until('nothing is held for the dead', async () => (await site.held()).length <= RUNNING);
    await site.docker.startEngine();
    // Without live-restore the engine ends what runs when it comes back, and gives the addresses up.
    await site.agree(liveRestore ? RUNNING : 0);
  });

  rule('the same names: start afterwards, each with an address of its own', async () => {
    await site.remove('dying');
    await site.mustStart(...DYING);
    await site.agree(DYING.length + (liveRestore ? RUNNING : 0));
    const { stdout } = await site.command('reconcile', '--dry-run', '--json');
    assert.equal(JSON.parse(stdout).drift, []);
    console.log(
      `  dockerd, live-restore ${liveRestore}: killed with ${DYING.length} starts in flight, ${RUNNING} running`,
    );
  });
  crash.run();
}
