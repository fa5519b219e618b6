// Goal: the process itself: all that it says arrives, and whatever ends it is told in a line. Method: the bundle
// in processes of its own, with readers that are slow or gone.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, copyFileSync, openSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { fromNumber } from '../../src/domain/address.ts';
import { openFile, whileLocked } from '../../src/store/sqlite/file.ts';
import { createSqliteStore } from '../../src/store/sqlite/store.ts';
import { CHANGES_MAX } from '../../src/store/store.ts';
import { removeFolder, tempFolder } from '../kit/folders.ts';
import { eniWith, newRow } from '../kit/ledger.ts';
import { ENI, range, SUBNET } from '../kit/rows.ts';
import { BUNDLE } from '../kit/servers/bundle.ts';
import { freePort } from '../kit/servers/process.ts';
import { assert, suite } from '../kit/uvu.ts';
import { pause, until } from '../kit/wait.ts';

const ROWS = 8 * CHANGES_MAX;
const LIMIT_MS = 30_000;
const program = 'Deno' in globalThis ? ['run', '-A'] : [];

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

interface Started {
  readonly child: ChildProcess;
  readonly ended: Promise<{ status: number | null; out: string; err: string }>;
  /** Resolves when stderr matches. */
  says(pattern: RegExp): Promise<void>;
}

/** `reader` of stdout: a process with time, one that is gone, or a file. */
function start(args: readonly string[], reader: 'slow' | 'gone' | number = 'slow'): Started {
  const env = { ...process.env, AWS_EC2_METADATA_SERVICE_ENDPOINT: 'http://127.0.0.1:9', NO_COLOR: '1' };
  const child = spawn(process.execPath, [...program, BUNDLE, ...args], {
    env,
    stdio: ['ignore', typeof reader === 'number' ? reader : 'pipe', 'pipe'],
  });
  running.add(child);
  const said = { out: '', err: '' };
  child.stderr?.setEncoding('utf8').on('data', chunk => {
    said.err += chunk;
  });
  if (reader === 'gone') child.stdout?.destroy();
  const read = reader === 'slow' ? readSlowly(child, said) : null;
  const late = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS);
  const ended = new Promise<number | null>(resolve => child.once('exit', resolve)).then(async status => {
    clearTimeout(late);
    running.delete(child);
    await read;
    return { status, ...said };
  });
  const says = (pattern: RegExp) =>
    until(`it says ${pattern}`, () => {
      if (!running.has(child)) throw new Error(`it ended before it said ${pattern}: ${said.err}`);
      return pattern.test(said.err);
    });
  return { child, ended, says };
}

async function readSlowly(child: ChildProcess, said: { out: string }): Promise<void> {
  for await (const chunk of child.stdout ?? []) {
    said.out += chunk;
    await pause(10);
  }
}

let folder = '';
let store = '';
/** What becomes of a server whose ledger is locked. */
let served: Promise<void>;
const streams = suite('what the program says');
streams.before(async () => {
  folder = tempFolder();
  store = `sqlite:${join(folder, 'ledger.sqlite')}`;
  const ledger = createSqliteStore(join(folder, 'ledger.sqlite'));
  await ledger.migrate();
  await ledger.saveSubnet({ id: SUBNET, vpc: 'vpc-1', cidr: { first: 0, last: 65_535, maskLength: 16 } });
  await ledger.add(range(ROWS + 100).map(i => newRow(0, { ip: fromNumber(i) })));
  const { rows } = await ledger.withStatus(SUBNET, ['free']);
  for (let i = 0; i < ROWS; i += CHANGES_MAX)
    await ledger.move(rows.slice(i, i + CHANGES_MAX).map(row => ({ row, move: 'assign', iface: ENI })));
  const eni = { primary: fromNumber(ROWS), instance: null, attachment: null, addressLimit: 9000, ours: true };
  await ledger.saveEnis([eniWith(eni)]);
  await ledger.close();
  // Takes its time, so it begins first, with a ledger of its own.
  copyFileSync(join(folder, 'ledger.sqlite'), join(folder, 'locked.sqlite'));
  served = serveWhileLocked(join(folder, 'locked.sqlite'));
  served.catch(() => {});
});
streams.after(() => removeFolder(folder));

streams('a reader that is slow: gets all of it', async () => {
  const { status, out, err } = await start(['status', '--json', '--store', store]).ended;
  assert.equal({ status, err }, { status: 0, err: '' });
  assert.ok(out.length > 700_000, `${out.length} characters`);
  assert.is(JSON.parse(out).drift.length, ROWS);
});

streams('a reader that goes away: is no error, and nothing waits for it', async () => {
  const { status, err } = await start(['status', '--json', '--store', store], 'gone').ended;
  assert.equal({ status, err }, { status: 0, err: '' });
});

// Deno itself loses the error of a write to a file.
if (!('Deno' in globalThis))
  streams('output that cannot be written: is status 1', async () => {
    const full = openSync('/dev/full', 'w');
    const { status } = await start(['status', '--store', store], full).ended;
    closeSync(full);
    assert.is(status, 1);
  });

streams('serve: outlives the reader of its log', async () => {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const { child, ended, says } = start(['serve', '--listen', url, '--store', store]);
  await says(/ledger opened/);
  child.stderr?.destroy();
  for (let i = 0; i < 5; i++) {
    const refused = await fetch(`${url}/IpamDriver.RequestPool`, { method: 'POST', body: '{}' });
    assert.match(await refused.text(), /does not say which ENI/); // and is logged
  }
  process.kill(child.pid ?? 0, 'SIGTERM');
  assert.is((await ended).status, 0);
});

streams('serve: answers and stops in good order while another process has its ledger locked', () => served);
streams.run();

async function serveWhileLocked(file: string): Promise<void> {
  const url = `http://127.0.0.1:${await freePort()}`;
  const args = ['serve', '--listen', url, '--store', `sqlite:${file}`, '--request-timeout', '2s'];
  const { child, ended, says } = start(args);
  await says(/ledger opened/);
  const other = openFile(file);
  await whileLocked(() => other.client.exec('BEGIN IMMEDIATE'));
  const body = JSON.stringify({ PoolID: ENI, Address: '' });
  const ask = () => fetch(`${url}/IpamDriver.RequestAddress`, { method: 'POST', body }).catch(() => {});
  const asked = range(20).map(ask);
  let isAnswered = false;
  void Promise.race(asked).then(() => {
    isAnswered = true;
  });
  // Other processes may take the processor away for long, but not each time.
  let leastMs = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 3; round++) {
    const startedAt = performance.now();
    await (await fetch(`${url}/Plugin.Activate`, { method: 'POST' })).text();
    if (round === 0) assert.not.ok(isAnswered, 'Plugin.Activate waited as long as the requests');
    leastMs = Math.min(leastMs, performance.now() - startedAt);
  }
  assert.ok(leastMs < 1000, 'Plugin.Activate waited for the ledger');
  process.kill(child.pid ?? 0, 'SIGTERM');
  const { status, err } = await ended;
  other.client.exec('ROLLBACK');
  other.client.close();
  assert.is(status, 0, err);
  await Promise.all(asked);
}
