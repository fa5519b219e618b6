// Goal: the benchmark runs, and its counts of what must never happen can be trusted. Method: one quick run of all of
// it, whose times are nobody's business here, and a server that does wrong before the load driver.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import process from 'node:process';
import { burst, latencyOf, loadWindow } from '../../scripts/bench/load.ts';
import { targetsOf } from '../../scripts/bench/report.ts';
import { type Row, rowsOf } from '../../scripts/bench/rows.ts';
import { ROOT, RUNTIMES } from '../../scripts/tiers.ts';
import { byLength } from '../kit/length.ts';
import { assert, suite } from '../kit/uvu.ts';

const ENI = 'eni-0abc0000000000001';
const WINDOW_MS = 50;
const MEASURED = byLength<readonly string[]>({
  full: RUNTIMES,
  short: ['node'],
  leftOut: 'the measurements on Bun and Deno',
});

const quick = suite('a quick run');
let output = '';
let complaints = '';
let status: number | null = null;
let rows: Row[] = [];

quick.before(async () => {
  const child = spawn(process.execPath, [
    join(ROOT, 'scripts/bench.ts'),
    '--quick',
    '--runtime',
    MEASURED.join(),
  ]);
  child.stdout.on('data', chunk => {
    output += chunk;
  });
  child.stderr.on('data', chunk => {
    complaints += chunk;
  });
  [status] = await once(child, 'close');
  const lines = output.split('\n').filter(line => line.startsWith('{'));
  rows = lines.map(line => JSON.parse(line));
});

quick('every part comes to its end', () => {
  assert.is(status, 0, complaints);
});
quick('all stores and runtimes have rows, and each row stands beside its limits', () => {
  const names = rowsOf(rows, 'warm').map(({ store, runtime, clients }) => `${store} ${runtime} ${clients}`);
  const all = MEASURED.flatMap(runtime =>
    ['sqlite', 'mariadb'].flatMap(store => [1, 50].map(clients => `${store} ${runtime} ${clients}`)),
  );
  assert.equal(names.sort(), all.sort());
  for (const row of rowsOf(rows, 'warm')) {
    assert.ok(row.callsPerSecond > 0 && row.noopPerSecond > 0 && row.commitsPerSecond > 0);
    assert.is((row.durablePairsPerSecond ?? 0) > 0, row.store === 'mariadb');
  }
  assert.is(rowsOf(rows, 'early').length, 4 * MEASURED.length);
  assert.is(rowsOf(rows, 'cold').length, 6);
  assert.is(rowsOf(rows, 'start').length, MEASURED.length);
  assert.is(rowsOf(rows, 'init').length, 2);
});
quick('the table has a line for each row and each target', () => {
  const [, ...parts] = output.split(/\n\n(?=[\w ]+: |Targets|\d+ cores)/);
  const lines = parts.map(part => part.split('\n').length);
  const heads = [3, 3, 3, 3, 3, 2]; // a title, and the columns in two lines or one
  const counts = ['warm', 'early', 'cold', 'start', 'init'].map(
    what => rowsOf(rows, what as Row['what']).length,
  );
  const expected = [...counts, targetsOf(rows).length].map((count, i) => count + (heads[i] ?? 0));
  assert.equal(lines.slice(0, 6), expected, output);
});
quick('no address is given twice, and no request is answered with an error', () => {
  const asked = [...rowsOf(rows, 'warm'), ...rowsOf(rows, 'early'), ...rowsOf(rows, 'cold')];
  assert.ok(asked.length > 0);
  for (const { duplicates, errors } of asked)
    assert.equal({ duplicates, errors }, { duplicates: 0, errors: 0 });
});
quick('a warm start asks nothing of EC2', () => {
  assert.ok(rowsOf(rows, 'warm').length > 0);
  for (const row of rowsOf(rows, 'warm')) assert.is(row.ec2Calls, 0, JSON.stringify(row));
});
quick.run();

const counting = suite('the load driver counts');

/** Gives each client that asks what `give` says. */
async function withServer(give: () => object, work: (url: string) => Promise<void>): Promise<void> {
  const server: Server = createServer((request, response) => {
    request.resume().once('end', () => {
      response.end(`${JSON.stringify(request.url === '/IpamDriver.RequestAddress' ? give() : {})}\n`);
    });
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  try {
    await work(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}
const windowOfTwo = (url: string) => loadWindow({ url, clients: 2, enis: [ENI], ms: WINDOW_MS });

counting('an address given to two at once, in a window and in a burst', () =>
  withServer(
    () => ({ Address: '10.0.0.9/24', Data: {} }),
    async url => {
      const { duplicates, errors } = await windowOfTwo(url);
      assert.ok(duplicates > 0);
      assert.is(errors, 0);
      assert.is((await burst({ url, enis: [ENI], each: 3, atOnce: true })).duplicates, 2);
    },
  ),
);
counting('no duplicate where each address is another', () => {
  let given = 0;
  return withServer(
    () => ({ Address: `10.0.${++given >> 8}.${given % 256}/16`, Data: {} }),
    async url => {
      const { duplicates, calls } = await windowOfTwo(url);
      assert.is(duplicates, 0);
      assert.ok(calls > 0);
    },
  );
});
counting('errors, with the text of the first', () =>
  withServer(
    () => ({ Error: 'the subnet is full' }),
    async url => {
      const { errors, firstError } = await windowOfTwo(url);
      assert.ok(errors > 0);
      assert.is(firstError, '{"Error":"the subnet is full"}');
    },
  ),
);
counting.run();

const latencies = suite('latencies');
latencies('a quantile is at most 1 % too high', () => {
  const { p50, p95, p99 } = latencyOf(Array.from({ length: 1000 }, (_, i) => 1000 - i));
  for (const [found, exact] of [
    [p50, 500],
    [p95, 950],
    [p99, 990],
  ] as const)
    assert.ok(found >= exact && found <= exact * 1.01, `${exact}: ${found}`);
});
latencies('a quantile of nothing is no number', () => {
  assert.ok(Number.isNaN(latencyOf([]).p50));
});
latencies.run();
