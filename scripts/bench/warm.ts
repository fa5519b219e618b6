/** Warm rows. All rows of one server's kind are measured in turns: each round gives every row a window without work,
 *  one with, and one of each limit of the store, so that what else the machine does strikes all of them alike. */
import type { Runtime } from '../tiers.ts';
import { type Bench, CIDRS, ROW_COUNTS, type RowCount } from './bench.ts';
import { type Histogram, merge, newHistogram, quantile } from './histogram.ts';
import type { StoreAddress } from './messages.ts';
import { highestDuring, residentBytes } from './program.ts';
import type { Latency, WarmRow } from './rows.ts';
import { openStand, type Stand } from './stand.ts';
import type { StoreKind } from './stores.ts';

const CLIENTS_PER_ENI = 10;
const CLIENTS: Readonly<Record<'node' | 'other', readonly number[]>> = {
  node: [1, 10, 50, 200],
  other: [1, 50, 200],
};
const CLIENTS_QUICK = [1, 50];
/** Held once on each ENI before the windows: more than its clients will need, whatever refills are made of. */
const WARMED_PER_ENI = 30;
const ENIS_WARMED_AT_ONCE = 10;
const BYTES_PER_MB = 1024 * 1024;

/** Nothing rests: the clients take and give far faster than containers do. */
const SETTINGS = {
  EC2_IPAM_WARM_MAX: '49',
  EC2_IPAM_COOLDOWN: '0s',
  EC2_IPAM_LOG_LEVEL: 'warn',
};

interface Windows {
  readonly rounds: number;
  readonly noopMs: number;
  readonly loadMs: number;
  readonly limitMs: number;
}
const WINDOWS: Windows = { rounds: 4, noopMs: 300, loadMs: 500, limitMs: 200 };
const WINDOWS_QUICK: Windows = { rounds: 1, noopMs: 100, loadMs: 150, limitMs: 50 };

interface Place {
  readonly rows: RowCount;
  readonly stand: Stand;
  readonly copy: StoreAddress;
}
/** What the windows of one row add up to. */
interface Sums {
  readonly place: Place;
  readonly clients: number;
  loadCalls: number;
  noopCalls: number;
  commits: number;
  pairs: number;
  readonly requests: Histogram;
  readonly releases: Histogram;
  readonly noops: Histogram;
  readonly commitLatencies: Histogram;
  duplicates: number;
  errors: number;
  ec2Calls: number;
  residentBytes: number;
}

export async function warm(bench: Bench): Promise<void> {
  for (const runtime of bench.plan.runtimes)
    for (const store of bench.plan.stores) await warmServers(bench, runtime, store);
}

async function warmServers(bench: Bench, runtime: Runtime, store: StoreKind): Promise<void> {
  const { plan } = bench;
  const kind = runtime === 'node' ? 'node' : 'other';
  const clients = plan.clients ?? (plan.quick ? CLIENTS_QUICK : CLIENTS[kind]);
  const rows = plan.rows ?? (runtime === 'node' ? ['4k', '65k'] as const : ['4k'] as const);
  const places: Place[] = [];
  try {
    for (const count of rows) places.push(await openPlace(bench, runtime, store, count, Math.max(...clients)));
    const windows = plan.quick ? WINDOWS_QUICK : WINDOWS;
    const all = clients.flatMap(number => places.map(place => newSums(place, number)));
    bench.progress(`warm, ${store} on ${runtime}: ${all.length} rows`);
    for (const sums of all) await measure(bench, sums, windows, newSums(sums.place, sums.clients));
    for (let round = 0; round < windows.rounds; round++)
      for (const sums of all) await measure(bench, sums, windows, sums);
    for (const sums of all) bench.found(rowOf(sums, windows, runtime, store));
  } finally {
    for (const { stand } of places) await leave(bench, stand);
  }
}
