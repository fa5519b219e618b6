// Goal: the benchmark runs, and its counts of what must never happen can be trusted. Method: one quick run of all of
// it, whose times are nobody's business here, and a server that does wrong before the load driver.
import { join } from 'node:path';
import process from 'node:process';
import { burst, latencyOf, loadWindow } from '../../scripts/bench/load.ts';
import { targetsOf } from '../../scripts/bench/report.ts';
import { type Row, rowsOf } from '../../scripts/bench/rows.ts';
import { ROOT, RUNTIMES } from '../../scripts/tiers.ts';
import { byLength } from '../kit/length.ts';
import { range } from '../kit/rows.ts';
import { runProgram } from '../kit/servers/process.ts';
import { serve } from '../kit/simulated.ts';
import { assert, suite } from '../kit/uvu.ts';

const ENI = 'eni-0abc0000000000001';
const WINDOW_MS = 50;
const MEASURED = byLength<readonly string[]>({
  full: RUNTIMES,
  short: ['node'],
  leftOut: 'the measurements on Bun and Deno',
});

const quick = suite('a quick run of the benchmark');
let output = '';
let complaints = '';
let status: number | null = null;
let rows: Row[] = [];

quick.before(async () => {
  const args = [join(ROOT, 'scripts/bench.ts'), '--quick', '--runtime', MEASURED.join()];
  const ran = await runProgram(process.execPath, args);
  [status, output, complaints] = [ran.code, ran.stdout, ran.stderr];
  const lines = output.split('\n').filter(line => line.startsWith('{'));
  rows = lines.map(line => JSON.parse(line));
});

quick('every part: comes to its end', () => {
  assert.is(status, 0, complaints);
});
quick('stores and runtimes: all have rows, and each row stands beside its limits', () => {
  const names = rowsOf(rows, 'warm').map(({ store, runtime, clients }) => `${store} ${runtime} ${clients}`);
  const beside = ['sqlite', 'mariadb'].flatMap(store => [1, 50].map(clients => [store, clients]));
  const all = MEASURED.flatMap(runtime => beside.map(([store, clients]) => `${store} ${runtime} ${clients}`));
  assert.equal(names.sort(), all.sort());
  for (const row of rowsOf(rows, 'warm')) {
    assert.ok(row.callsPerSecond > 0 && row.noopPerSecond > 0 && row.commitsPerSecond > 0);
    assert.is((row.durablePairsPerSecond ?? 0) > 0, row.store === 'mariadb');
  }
  for (const what of ['early', 'pages', 'no history'] as const)
    assert.is(rowsOf(rows, what).length, 4 * MEASURED.length);
  for (const { runtime, longestTurnMs, warm } of rowsOf(rows, 'pages'))
    assert.is((longestTurnMs ?? 0) > 0 && (warm.longestTurnMs ?? 0) > 0, runtime === 'node');
  assert.is(rowsOf(rows, 'cold').length, 6);
  assert.is(rowsOf(rows, 'start').length, MEASURED.length);
  assert.is(rowsOf(rows, 'init').length, 2);
});
quick('the table: has a line for each row and each target', () => {
  const [, ...parts] = output.split(/\n\n(?=[\w ]+: |Targets|\d+ cores)/);
  const lines = parts.map(part => part.split('\n').length);
  const heads = [3, 3, 3, 3, 3, 3, 3, 2]; // a title, and the columns in two lines or one
  const kinds: Row['what'][] = ['warm', 'early', 'pages', 'no history', 'cold', 'start', 'init'];
  const counts = kinds.map(what => rowsOf(rows, what).length);
  const expected = [...counts, targetsOf(rows).length].map((count, i) => count + (heads[i] ?? 0));
  assert.equal(lines.slice(0, 8), expected, output);
});
quick('an address: is not given twice, and no request is answered with an error', () => {
  const asked = [
    ...rowsOf(rows, 'warm'),
    ...rowsOf(rows, 'early'),
    ...rowsOf(rows, 'pages'),
    ...rowsOf(rows, 'no history'),
    ...rowsOf(rows, 'cold'),
  ];
  assert.ok(asked.length > 0);
  for (const { duplicates, errors } of asked)
    assert.equal({ duplicates, errors }, { duplicates: 0, errors: 0 });
});
quick('a warm start: asks nothing of EC2', () => {
  assert.ok(rowsOf(rows, 'warm').length > 0);
  for (const row of rowsOf(rows, 'warm')) assert.is(row.ec2Calls, 0, JSON.stringify(row));
});
quick.run();

const counting = suite('counts of the load driver');

/** A window of two clients, before a server that gives each that asks what `give` says. */
async function windowOf(give: () => object, work: (url: string) => Promise<void> = async () => {}) {
  const fetch = async (request: Request) => {
    await request.text();
    return Response.json(request.url.endsWith('/IpamDriver.RequestAddress') ? give() : {});
  };
  const { url, close } = await serve({ fetch });
  try {
    const found = await loadWindow({ url, clients: 2, enis: [ENI], ms: WINDOW_MS });
    await work(url);
    return found;
  } finally {
    close();
  }
}

counting('duplicates: an address given to two at once, in a window and in a burst', async () => {
  const give = () => ({ Address: '10.0.0.9/24', Data: {} });
  const { duplicates, errors } = await windowOf(give, async url =>
    assert.is((await burst({ url, enis: [ENI], each: 3, atOnce: true })).duplicates, 2),
  );
  assert.ok(duplicates > 0);
  assert.is(errors, 0);
});
counting('duplicates: none where each address is another', async () => {
  let given = 0;
  const give = () => ({ Address: `10.0.${++given >> 8}.${given % 256}/16`, Data: {} });
  const { duplicates, calls } = await windowOf(give);
  assert.is(duplicates, 0);
  assert.ok(calls > 0);
});
counting('errors: with the text of the first', async () => {
  const { errors, firstError } = await windowOf(() => ({ Error: 'the subnet is full' }));
  assert.ok(errors > 0);
  assert.is(firstError, '{"Error":"the subnet is full"}');
});
counting.run();

const latencies = suite('latencies of the benchmark');
latencies('a quantile: is at most 1 % too high', () => {
  const { p50, p95, p99 } = latencyOf(range(1000).map(i => 1000 - i));
  const isNear = (found: number, exact: number) =>
    assert.ok(found >= exact && found <= exact * 1.01, `${exact}: ${found}`);
  isNear(p50, 500);
  isNear(p95, 950);
  isNear(p99, 990);
});
latencies('a quantile of nothing: is no number', () => {
  assert.ok(Number.isNaN(latencyOf([]).p50));
});
latencies.run();
