/** Init rows: the command on an empty store, with a subnet of 65,536 addresses. */
import { startSimulator } from '../../test/kit/servers/bundle.ts';
import type { Runtime } from '../tiers.ts';
import { highestDuring, peakBytes, start } from './program.ts';
import { type Bench, CIDRS, type InitRow, ROW_COUNTS } from './rows.ts';
import { SUBNET, worldOf } from './stand.ts';
import type { StoreKind } from './stores.ts';

const ENIS_FEW = 10;
const ENIS_MANY = 3_000;
const BYTES_PER_MB = 1024 * 1024;

/** What is promised is promised of MariaDB; SQLite is there to compare. */
export async function inits(bench: Bench): Promise<void> {
  const { quick, stores, runtimes } = bench.plan;
  for (const enis of quick ? [ENIS_FEW] : [ENIS_FEW, ENIS_MANY]) {
    const ec2 = await startSimulator(worldOf(CIDRS['65k'], enis));
    try {
      for (const store of stores)
        for (const runtime of quick || store === 'sqlite' ? runtimes.slice(0, 1) : runtimes)
          bench.found(await once(bench, runtime, store, enis, ec2.env));
    } finally {
      await ec2.stop();
    }
  }
}

async function once(
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
  // The kernel keeps the peak itself: only the last few milliseconds of the process can escape.
  const { result: status, highest } = await highestDuring(() => peakBytes(command.pid), command.ended);
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
    peakResidentMb: highest / BYTES_PER_MB,
    copySeconds: copyMs / 1000,
  };
}
