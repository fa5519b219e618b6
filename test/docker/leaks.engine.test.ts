// Goal: whatever Docker forgets ends by evidence, and no address that anything still has is given up or given again.
// Method: a server inside the engine's machine, as on a host, that reads Docker and the kernel each second; dockerd is
// killed with -9 at each moment, the server is away, Docker's data is wiped. The kernel is read by the test itself.
import { sqliteLedger } from '../kit/databases/ledgers.ts';
import { complaintsAbout, ipsOf, kernelOf, SETTLES_MS, settled, statusOf } from '../kit/docker/agreement.ts';
import { dockerdAvailable } from '../kit/docker/dockerd.ts';
import { EngineSite } from '../kit/docker/engine-site.ts';
import { must, ruleOf } from '../kit/docker/netns.ts';
import { byLength } from '../kit/length.ts';
import { SUBNET, TIMES } from '../kit/servers/site.ts';
import { assert, suite } from '../kit/uvu.ts';
import { PROCESS_POLL_MS, pause, until } from '../kit/wait.ts';

const ASSIGN = 'AssignPrivateIpAddresses';
const WITNESS = {
  EC2_IPAM_WITNESS: 'release',
  EC2_IPAM_WITNESS_EVERY: '1s',
  EC2_IPAM_WITNESS_AGE: '2s',
};
/** After the answer, when dockerd is killed. */
const KILLS_MS = byLength<readonly number[]>({
  full: [0, 2, 5, 10, 20, 40, 60, 90, 120, 150, 180, 220, 260],
  short: [10, 120],
  leftOut: 'a dockerd that is killed at further moments of a start',
});
const IS_WHOLE = byLength({
  full: true,
  short: false,
  leftOut: 'leaks of a request that is pending, of a stop, and of a wiped data root',
});
const missing = await dockerdAvailable();

const LIVE_RESTORE = byLength({
  full: [true, false],
  short: [true],
  leftOut: 'leaks of a dockerd without live-restore',
});
for (const liveRestore of LIVE_RESTORE) {
  const leaks = suite(`leaks of a dockerd ${liveRestore ? 'with' : 'without'} live-restore`);
  const rule = ruleOf(leaks, missing);
  const longRule = IS_WHOLE ? rule : () => {};
  let site: EngineSite;
  let started = 0;
  let strays = 0;

  leaks.before(async () => {
    if (missing !== null) return;
    site = await EngineSite.open(sqliteLedger(), liveRestore, '', { ...TIMES, ...WITNESS }, true);
    await site.makeNetwork();
  });
  leaks.after(() => site?.close());

  const kernel = () => kernelOf(site);
  const status = () => statusOf(site);
  async function settles(): Promise<void> {
    strays = Math.max(strays, await settled(site));
  }
  /** New containers get addresses that nothing else has. */
  async function startsMore(): Promise<void> {
    await site.mustStart(`more${++started}`, `more${++started}`);
    assert.equal(
      (await complaintsAbout(site)).filter(one => one.includes('two namespaces')),
      [],
    );
    await settles();
  }
  /** Everything that Docker knows of ends; then what runs on is ended as an operator would. */
  async function clean(): Promise<void> {
    await site.remove();
    for (const { pid } of await kernel()) if (pid !== null) await site.docker.run(['kill', '-9', `${pid}`]);
    const areGone = async () => (await kernel()).every(one => one.pid === null);
    await until('the processes to end', areGone, SETTLES_MS, PROCESS_POLL_MS);
    for (const { path } of await kernel()) if (path !== null) await must(site.docker, ['umount', path]);
    await settles();
    assert.equal(await site.held(), []);
  }
  leaks.after.each(async () => {
    if (missing === null) await clean();
  });

  longRule('a request that is pending when dockerd is killed: leaves nothing held', async () => {
    await site.mustStart('before');
    const calls = await site.ec2.calls(ASSIGN);
    await site.ec2.tell('POST', 'faults', { kind: 'latency', ms: 2000, action: ASSIGN });
    const starting = site.start('dying');
    await until('EC2 is asked', async () => (await site.ec2.calls(ASSIGN)) > calls);
    await site.docker.kill9();
    await starting;
    await site.ec2.tell('DELETE', 'faults');
    await site.docker.startEngine();
    await settles();
    await startsMore();
  });

  rule('each container: has its id in the history, while it runs and when it has gone', async () => {
    await site.mustStart('web', 'db');
    const inside = await site.inside();
    const told = async (name: string) => {
      const { stdout } = await site.command('history', inside.get(name) ?? '', '--json');
      const [holding] = JSON.parse(stdout).holdings;
      return [holding.isHeld, holding.containerId];
    };
    const idOf = async (name: string) => (await site.docker.must('inspect', '-f', '{{.Id}}', name)).trim();
    const ids = new Map([
      ['web', await idOf('web')],
      ['db', await idOf('db')],
    ]);
    for (const [name, id] of ids) {
      await until(`the id of ${name} is known`, async () => (await told(name))[1] !== null, SETTLES_MS);
      assert.equal(await told(name), [true, id]);
    }
    await site.docker.must('rm', '-f', 'web');
    assert.equal(await told('web'), [false, ids.get('web')]);
    assert.equal(await told('db'), [true, ids.get('db')]);
  });

  rule(
    'an answer, or a process, that dockerd was killed right after: no leak stays, nothing is touched',
    async () => {
      await site.mustStart('before');
      for (const [i, afterMs] of KILLS_MS.entries()) {
        const held = await site.held();
        const starting = site.start(`dying${i}`);
        const ledger = site.ledger;
        await until('the address is given', async () => {
          const rows = await ledger.rows();
          return rows.filter(row => row.status === 'allocated').length > held.length;
        });
        await pause(afterMs);
        await site.docker.kill9();
        await starting;
        await site.docker.startEngine();
        await settles();
      }
      await startsMore();
      const { endedByEvidence } = await status();
      console.log(
        `  killed at ${KILLS_MS.length} moments: ${endedByEvidence} leaks ended, ${strays} ran on at once at most`,
      );
    },
  );

  longRule('a stop that dockerd is killed in: ends all the same', async () => {
    await site.mustStart('stopping', 'staying');
    const stopping = site.docker.docker('stop', '-t', '0', 'stopping');
    await pause(30);
    await site.docker.kill9();
    await stopping;
    await site.docker.startEngine();
    await settles();
    await startsMore();
  });

  rule(
    'rm -f while the server is away: the address is released by evidence, and others are not',
    async () => {
      await site.mustStart('gone', 'stays');
      const before = await site.inside();
      await site.server?.kill9();
      await site.docker.must('rm', '-f', 'gone');
      await site.startServer();
      const { endedByEvidence } = await status();
      await settles();
      assert.is((await status()).endedByEvidence, endedByEvidence + 1);
      assert.ok((await site.held()).includes(before.get('stays') ?? ''));
      await startsMore();
    },
  );

  if (liveRestore)
    longRule('a wiped data root: what runs on stays held until its namespace is gone', async () => {
      await site.mustStart('wiped1', 'wiped2');
      const held = await site.held();
      await site.docker.kill9();
      await must(site.docker, [
        'bash',
        '-c',
        'umount -R /run/docker-data/* 2>/dev/null; rm -rf /run/docker-data/*; true',
      ]);
      await site.docker.startEngine();
      await pause(6_000); // several readings
      assert.equal(await site.held(), held);
      const [one] = await kernel();
      await site.docker.run(['kill', '-9', `${one?.pid}`]);
      const isGone = async () => (await kernel()).every(({ pid }) => pid !== one?.pid);
      await until('the process to end', isGone, SETTLES_MS, PROCESS_POLL_MS);
      const left = (await kernel()).find(({ ip }) => ip === one?.ip);
      if (left?.path != null) {
        await pause(6_000);
        assert.equal(await site.held(), held, 'a mounted namespace keeps the address');
        await must(site.docker, ['umount', left.path]);
      }
      // Until then it is not known which driver the interface has, and so whether to probe.
      await site.docker.importBusybox();
      await site.makeNetwork();
      await until('the leak ends', async () => (await site.held()).length === held.length - 1, SETTLES_MS);
      await startsMore();
    });

  rule(
    'an address that a process runs on with: is refused by --ip, withheld, and comes back when it ends',
    async () => {
      await site.mustStart('runs-on');
      const ip = (await site.inside()).get('runs-on') ?? '';
      // As Docker does after a kill: the release is sent, the process stays.
      const { code, stderr } = await site.command('release', SUBNET, ip, '--yes');
      assert.is(code, 0, stderr);
      const isWithheld = async () => ipsOf((await status()).withheld).includes(ip);
      await until('it is withheld', isWithheld, SETTLES_MS, PROCESS_POLL_MS);
      const refused = await site.start('other', '--ip', ip);
      assert.is(refused.code, 125);
      assert.match(refused.stderr, /is in use/);
      await until('it is occupied', async () => {
        const rows = await site.ledger.rows();
        return rows.some(row => row.ip === ip && row.status === 'occupied');
      });
      const [{ finding } = { finding: '' }] = (await status()).withheld;
      assert.match(finding, /process \d+ \(sleep 3600\) of container [0-9a-f]{12} in network namespace/);
      await site.docker.must('rm', '-f', 'runs-on', 'other');
      await until('it is ready', async () => {
        const rows = await site.ledger.rows();
        return rows.some(row => row.ip === ip && row.status === 'ready');
      });
      assert.is((await site.start('again', '--ip', ip)).code, 0);
    },
  );
  leaks.run();
}
