/** Start rows: how long a process needs to its first response, and its memory when idle, beside the
 *  smallest server on the same stack. Init rows: the command on an empty store, with a subnet of 65,536
 *  addresses. */
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { build } from 'esbuild';
import { startSimulator } from '../../test/kit/servers/bundle.ts';
import { freePort, type Program } from '../../test/kit/servers/process.ts';
import { BUNDLING, plugins } from '../bundling.ts';
import { ROOT, type Runtime } from '../tiers.ts';
import { errorIn, exchangeOnce, NOOP_PATH, noopFor } from './load.ts';
import { eniName, memoryMb, SERVER_READY, SUBNET, start, withMemory, worldOf } from './programs.ts';
import { type Bench, CIDRS, type InitRow, median, ROW_COUNTS } from './rows.ts';
import type { StoreKind } from './stores.ts';

const STARTS = { count: 5, idleMs: 500 };
const QUICK_STARTS: typeof STARTS = { count: 1, idleMs: 200 };
const FIRST_RESPONSE_LIMIT_MS = 20_000;
const TRY_EVERY_MS = 1;
const ENIS_FEW = 10;
const ENIS_MANY = 3_000;

const NOOP = `
import process from 'node:process';
import { serve } from '@hono/node-server';
import { Hono } from 'hono';
const app = new Hono();
const response = { LocalDefaultAddressSpace: 'noop', GlobalDefaultAddressSpace: 'noop' };
app.post('${NOOP_PATH}', c => c.json(response));
const port = Number(process.argv[2]);
serve({ fetch: app.fetch, hostname: '127.0.0.1', port, overrideGlobalObjects: false });
process.on('SIGTERM', () => process.exit(0));
`;

export async function starts({ plan, program, folder, stores, progress, found }: Bench): Promise<void> {
  const noop = await buildNoop(folder);
  const { count, idleMs } = plan.quick ? QUICK_STARTS : STARTS;
  for (const runtime of plan.runtimes) {
    progress(`start on ${runtime}`);
    const ours: Start[] = [];
    const noops: Start[] = [];
    // In turns, so that whatever else the machine does affects both.
    for (let i = 0; i < count; i++) {
      noops.push(await startOnce(port => start(runtime, noop, [`${port}`], {}), '', idleMs));
      const { env } = await stores('sqlite');
      const serve = (port: number) =>
        start(runtime, program, ['serve', '--listen', `http://127.0.0.1:${port}`], env);
      ours.push(await startOnce(serve, SERVER_READY, idleMs));
    }
    const medianOf = (all: readonly Start[], what: keyof Start) => median(all.map(one => one[what]));
    found({
      what: 'start',
      runtime,
      firstAnswerMs: medianOf(ours, 'firstMs'),
      idleResidentMb: medianOf(ours, 'idleMb'),
      noopFirstAnswerMs: medianOf(noops, 'firstMs'),
      noopIdleResidentMb: medianOf(noops, 'idleMb'),
    });
  }
}

/** Bundles the no-op server with the settings of scripts/build.ts; returns its path. */
async function buildNoop(folder: string): Promise<string> {
  const outfile = join(folder, 'noop.mjs');
  await build({
    stdin: { contents: NOOP, resolveDir: ROOT },
    outfile,
    ...BUNDLING,
    plugins: plugins.filter(({ name }) => name === 'node-prefix'),
  });
  return outfile;
}

type Start = Awaited<ReturnType<typeof startOnce>>;

/** The process is idle for `idleMs` after its first response, and after it has written `ready`. */
async function startOnce(startOn: (port: number) => Program, ready: string, idleMs: number) {
  const port = await freePort();
  const startedAt = performance.now();
  const program = startOn(port);
  try {
    const response = await firstResponse(`http://127.0.0.1:${port}`);
    const firstMs = performance.now() - startedAt;
    if (errorIn(response) !== null) throw new Error(`${NOOP_PATH}: ${response}`);
    await program.says(ready);
    await pause(idleMs);
    return { firstMs, idleMb: memoryMb(program.pid, 'VmRSS') };
  } finally {
    await program.stop();
  }
}

/** Tries until the server listens. */
async function firstResponse(url: string): Promise<string> {
  const limit = performance.now() + FIRST_RESPONSE_LIMIT_MS;
  for (;;) {
    try {
      return await exchangeOnce(url, noopFor(eniName(0)));
    } catch (error) {
      if (performance.now() > limit) throw error;
      await pause(TRY_EVERY_MS);
    }
  }
}

/** All runtimes on MariaDB, which has the targets; one on SQLite, to compare. */
export async function inits(bench: Bench): Promise<void> {
  const { quick, stores, runtimes } = bench.plan;
  for (const enis of quick ? [ENIS_FEW] : [ENIS_FEW, ENIS_MANY]) {
    const ec2 = await startSimulator(worldOf(CIDRS['65k'], enis));
    try {
      for (const store of stores)
        for (const runtime of quick || store === 'sqlite' ? runtimes.slice(0, 1) : runtimes)
          bench.found(await initOnce(bench, runtime, store, enis, ec2.env));
    } finally {
      await ec2.stop();
    }
  }
}

async function initOnce(
  { program, progress, stores }: Bench,
  runtime: Runtime,
  kind: StoreKind,
  enis: number,
  ec2: Readonly<Record<string, string>>,
): Promise<InitRow> {
  progress(`init, ${kind} on ${runtime}, ${enis} ENIs`);
  const store = await stores(kind);
  const startedAt = performance.now();
  const command = start(runtime, program, ['init', SUBNET], { ...ec2, ...store.env });
  // The kernel keeps the peak; only the last few milliseconds of the process can be missed.
  const { result: status, peakMb } = await withMemory(command.pid, 'VmHWM', command.ended);
  const seconds = (performance.now() - startedAt) / 1000;
  if (status !== 0) throw new Error(`init ended with ${status}: ${command.output()}`);
  const { ms: copyMs } = await store.copy();
  return {
    what: 'init',
    store: kind,
    runtime,
    rows: ROW_COUNTS['65k'],
    enis,
    seconds,
    peakResidentMb: peakMb,
    copySeconds: copyMs / 1000,
  };
}
