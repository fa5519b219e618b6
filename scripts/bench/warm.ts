/** Warm rows. All rows of one server's kind are measured in turns: each round gives every row a window without work,
 *  one with, and one of each limit of the store, so that what else the machine does strikes all of them alike. */
import type { Runtime } from '../tiers.ts';
import type { Driver } from './driver.ts';
import { merge } from './histogram.ts';
import { CONTAINERS_PER_ENI, type Fixture, highestDuring, openFixture, residentMb } from './programs.ts';
import { type Bench, CIDRS, type EarlyRow, type RowCount, type WarmRow } from './rows.ts';
import type { StoreKind } from './stores.ts';
import { newSums, type Place, rowOf, type Sums, type Windows } from './warm-sums.ts';

const CLIENTS_PER_ENI = 10;
const NODE_ROWS = { clients: [1, 10, 50, 200], rows: ['4k', '65k'] } as const;
const OTHER_ROWS = { clients: [1, 50, 200], rows: ['4k'] } as const;
/** Of the row with nothing rested. */
const RESTING_CLIENTS = [1, 50];
const CLIENTS_QUICK = [1, 50];
const ROWS_QUICK = ['4k'] as const;
/** Held once on each ENI before the windows: more than its clients will need, whatever refills are made of. */
const WARMED_PER_ENI = 30;
const ENIS_WARMED_AT_ONCE = 10;

/** Nothing rests: the clients take and give far faster than containers do. */
const SETTINGS = {
  EC2_IPAM_WARM_MAX: '49',
  EC2_IPAM_COOLDOWN: '0s',
};

/** And nothing has rested, for as long as it takes. */
const RESTING_SETTINGS = { ...SETTINGS, EC2_IPAM_COOLDOWN: '24h' };

const WINDOWS: Windows = { rounds: 3, noopMs: 250, loadMs: 500, limitMs: 150 };
const WINDOWS_QUICK: Windows = { rounds: 1, noopMs: 100, loadMs: 150, limitMs: 50 };

export async function warm(bench: Bench): Promise<void> {
  for (const runtime of bench.plan.runtimes)
    for (const store of bench.plan.stores) await warmServers(bench, runtime, store);
}

async function warmServers(bench: Bench, runtime: Runtime, store: StoreKind): Promise<void> {
  const { quick } = bench.plan;
  const usual = runtime === 'node' ? NODE_ROWS : OTHER_ROWS;
  const clients = bench.plan.clients ?? (quick ? CLIENTS_QUICK : usual.clients);
  const places: Place[] = [];
  try {
    for (const rows of bench.plan.rows ?? (quick ? ROWS_QUICK : usual.rows))
      places.push(await openPlace(bench, runtime, store, rows, Math.max(...clients), false));
    const size = places[0]?.rows ?? '4k';
    places.push(await openPlace(bench, runtime, store, size, Math.max(...RESTING_CLIENTS), true));
    const windows = quick ? WINDOWS_QUICK : WINDOWS;
    const isMeasured = (place: Place, number: number) => !place.rests || RESTING_CLIENTS.includes(number);
    const all = clients.flatMap(number =>
      places.filter(place => isMeasured(place, number)).map(place => newSums(place, number)),
    );
    bench.progress(`warm, ${store} on ${runtime}: ${all.length} rows`);
    for (const sums of all) await warmUp(bench, sums, windows);
    for (let round = 0; round < windows.rounds; round++)
      for (const sums of all) await measure(bench, sums, windows);
    const rows = all.map(sums => ({ sums, row: rowOf(sums, windows, runtime, store) }));
    for (const { sums, row } of rows) if (!sums.place.rests) bench.found(row);
    for (const { sums, row } of rows) {
      const warm = rows.find(one => !one.sums.place.rests && one.row.clients === row.clients)?.row;
      if (sums.place.rests && warm !== undefined) bench.found(earlyRowOf(row, warm));
    }
  } finally {
    for (const { fixture } of places) await fixture.close();
  }
}

async function openPlace(
  { program, driver, stores }: Bench,
  runtime: Runtime,
  kind: StoreKind,
  rows: RowCount,
  clients: number,
  rests: boolean,
): Promise<Place> {
  const enis = Math.ceil(clients / CLIENTS_PER_ENI);
  const store = await stores(kind);
  const settings = rests ? RESTING_SETTINGS : SETTINGS;
  const fixture = await openFixture({ program, runtime, store, cidr: CIDRS[rows], enis, settings });
  try {
    await warmEnis(driver, fixture, rests ? CONTAINERS_PER_ENI : WARMED_PER_ENI);
    return { rows, rests, fixture, copy: (await store.copy()).copied };
  } catch (error) {
    await fixture.close();
    throw error;
  }
}

async function warmEnis(driver: Driver, { url, enis, quiet }: Fixture, each: number): Promise<void> {
  for (let first = 0; first < enis.length; first += ENIS_WARMED_AT_ONCE) {
    const some = enis.slice(first, first + ENIS_WARMED_AT_ONCE);
    const taken = await driver.ask({ kind: 'burst', url, enis: some, each, atOnce: true });
    const given = await driver.ask({ kind: 'release', url, leases: taken.leases });
    const error = taken.firstError ?? given.firstError;
    if (error !== null) throw new Error(`the ENIs cannot be warmed: ${error}`);
  }
  await quiet();
}

const earlyRowOf = (row: WarmRow, { callsPerSecond, requestMs }: WarmRow): EarlyRow => ({
  what: 'early',
  store: row.store,
  runtime: row.runtime,
  clients: row.clients,
  callsPerSecond: row.callsPerSecond,
  requestMs: row.requestMs,
  releaseMs: row.releaseMs,
  duplicates: row.duplicates,
  errors: row.errors,
  ec2Calls: row.ec2Calls,
  warm: { callsPerSecond, requestMs },
});

/** Runtimes compile what is hot, and connections are opened: none of that counts, but a wrong answer does. */
async function warmUp(bench: Bench, sums: Sums, windows: Windows): Promise<void> {
  const { duplicates, errors } = await measure(bench, newSums(sums.place, sums.clients), windows);
  sums.duplicates += duplicates;
  sums.errors += errors;
}

async function measure({ driver, progress }: Bench, sums: Sums, windows: Windows): Promise<Sums> {
  const { place, clients } = sums;
  const { fixture, copy } = place;
  const enis = fixture.enis.slice(0, Math.ceil(clients / CLIENTS_PER_ENI));
  const asked = { url: fixture.url, clients, enis };

  const noop = await driver.ask({ ...asked, kind: 'noop', ms: windows.noopMs });
  sums.noopCalls += noop.calls;
  merge(sums.noops, noop.requests);

  const callsBefore = await fixture.ec2Calls();
  const { result: load, highest } = await highestDuring(
    () => residentMb(fixture.server.pid),
    driver.ask({ ...asked, kind: 'load', ms: windows.loadMs }),
  );
  sums.ec2Calls += (await fixture.ec2Calls()) - callsBefore;
  sums.loadCalls += load.calls;
  merge(sums.requests, load.requests);
  merge(sums.releases, load.releases);
  sums.duplicates += load.duplicates;
  sums.errors += load.errors + noop.errors;
  sums.residentMb = Math.max(sums.residentMb, highest);
  const error = load.firstError ?? noop.firstError;
  if (error !== null) progress(`an error as an answer: ${error}`);

  const limit = { store: copy, clients, enis, ms: windows.limitMs };
  const commits = await driver.ask({ ...limit, kind: 'commits' });
  sums.commits += commits.done;
  merge(sums.commitLatencies, commits.latencies);
  if (copy.kind === 'mariadb') sums.pairs += (await driver.ask({ ...limit, kind: 'pairs' })).done;
  return sums;
}
