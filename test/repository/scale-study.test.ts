// Goal: what the scale study's table says is true. Method: the study itself, on a small fleet; its ledger is
// held against the contract of all stores.
import { openLedger } from '../../scripts/scale-study/ledger.ts';
import { coldStarts, dayAndDeploy, manyServers, restAndNoon } from '../../scripts/scale-study/study.ts';
import { newCounts, type Phase, rowOf, tableOf } from '../../scripts/scale-study/table.ts';
import { Clock } from '../kit/clock.ts';
import { assert, suite } from '../kit/uvu.ts';
import { contractByClock } from '../store/store.contract.ts';

contractByClock("the scale study's ledger", openLedger);

const SMALL = { hosts: 20, hours: 2, seed: 1 };

const brokenIn = (phases: readonly Phase[]): unknown[] =>
  phases.flatMap(({ name, counts: { duplicates, dead, errors } }) =>
    duplicates + dead + errors.size > 0 ? [{ name, duplicates, dead, errors }] : [],
  );

const test = suite('scale study');

test('a small fleet: no address is held twice or dead, and no start fails', async () => {
  const { phases } = await dayAndDeploy(SMALL);
  assert.equal(brokenIn(phases), []);
  const [join, day, deploy] = phases.map(rowOf);
  assert.ok((join?.starts ?? 0) >= 20 * 5, 'residents start on each host');
  assert.ok((join?.assigns ?? 0) >= 20, 'each new host costs an assign');
  assert.ok((day?.starts ?? 0) >= 20 * 2 * 4, 'containers come and go');
  assert.ok((deploy?.starts ?? 0) >= 100, 'five residents of each host are replaced');
  assert.ok((day?.waited ?? 1) < 0.05, `${day?.waited} of a day's starts waited for EC2`);
});

test('a seed: makes the same table again, another one another', async () => {
  const table = async (seed: number) =>
    tableOf((await dayAndDeploy({ ...SMALL, hours: 1, seed })).phases.map(rowOf));
  const first = await table(7);
  assert.is(await table(7), first);
  assert.is.not(await table(8), first);
});

test('1,000 cold starts over 100 hosts: take less than 10 s, and none fails', async () => {
  const phase = await coldStarts({ hosts: 100, seed: 1 });
  assert.equal(brokenIn([phase]), []);
  const { starts, maxMs, waited, assigns } = rowOf(phase);
  assert.is(starts, 1000);
  assert.ok(maxMs < 10_000, `the last one took ${maxMs} ms`);
  assert.ok(waited > 0 && waited < 1, 'networks are warm before their first container');
  assert.ok(assigns >= 100);
});

test('each of many servers has its part: five cold starts a second take less than 5 s each', async () => {
  const phases = await manyServers({ hosts: 1, servers: 120, seed: 1 });
  assert.equal(brokenIn(phases), []);
  const [steady, burst, rest] = phases.map(rowOf);
  assert.ok((steady?.starts ?? 0) > 1_400, `${steady?.starts} starts`);
  assert.is(steady?.assigns, steady?.starts, 'none was warm');
  assert.ok((steady?.maxMs ?? 5_000) < 5_000, `the slowest took ${steady?.maxMs} ms`);
  assert.ok((burst?.maxMs ?? 8_000) < 8_000, `the last of 120 at once took ${burst?.maxMs} ms`);
  assert.equal([steady?.throttles, burst?.throttles], [0, 0]);
  assert.ok((rest?.ledgerCalls ?? 100) < 100, `${rest?.ledgerCalls} ledger calls a second at rest`);
});

test('an embedded host at rest: reads a page in ten minutes', async () => {
  const phases = await restAndNoon({ hosts: 20, servers: 'embedded', seed: 1 });
  assert.equal(brokenIn(phases), []);
  const [rest, noon] = phases.map(rowOf);
  assert.ok((rest?.reads ?? 0) >= 20 && (rest?.reads ?? 0) <= 20 * 4, `${rest?.reads} in 20 minutes`);
  assert.ok((noon?.starts ?? 0) > 15, `${noon?.starts} starts`);
});

test('throttles: are counted, and no container hears of them', async () => {
  const phase = await coldStarts({ hosts: 20, seed: 1, bucketScale: 0.1 });
  assert.equal(brokenIn([phase]), []);
  assert.ok(phase.counts.throttles > 0);
});

test('the clock: carries out what is due in its order, each with all that follows', async () => {
  const clock = new Clock({ startAt: 1_000 });
  const happened: string[] = [];
  const say = (what: string) => happened.push(`${clock.now} ${what}`);
  clock.at(1_200, () => say('late'));
  clock.at(1_100, () => {
    void Promise.resolve()
      .then(() => clock.wait(0))
      .then(() => say('what follows'));
  });
  clock.at(1_100, () => say('second'));
  clock.at(1_100, () => say('third'));
  clock.at(1_301, () => say('never'));
  await clock.advance(300);
  assert.equal(happened, ['1100 second', '1100 third', '1100 what follows', '1200 late']);
  assert.is(clock.now, 1_300);
});

test('the table: says how long starts waited, and what that cost', () => {
  const counts = newCounts();
  for (let i = 1; i <= 200; i++) counts.latenciesMs.push(i <= 197 ? 1 : 1_000 * i);
  counts.assigns = 30;
  counts.unassigns = 15;
  counts.reads.set('DescribeNetworkInterfaces', 5);
  counts.errors.set('no address left', 2);
  const row = rowOf({ name: 'a phase', lastsMs: 10_000, counts });
  assert.equal(
    [row.starts, row.p50Ms, row.p99Ms, row.maxMs, row.waited, row.callsPerStart, row.errors],
    [200, 1, 199_000, 200_000, 0.015, 0.25, 2],
  );
  assert.match(tableOf([row]).split('\n')[2] ?? '', /^\| a phase \|.* 199,000 \|.* 1\.50 % \|.* 0\.250 \|/);
});

test.run();
