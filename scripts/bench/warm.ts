/** Warm rows: servers whose ENIs have addresses ready. The rows of one runtime and store are measured in
 *  turns: each round gives every row a window of no-ops, one of load, and one of each limit of the store,
 *  so that whatever else the machine does affects all of them. */
import type { Runtime } from '../tiers.ts';
import type { Driver, StoreResult, WindowResult } from './driver.ts';
import { latencyOf } from './load.ts';
import { CONTAINERS_PER_ENI, type Fixture, highestDuring, openFixture, residentMb } from './programs.ts';
import { type Bench, CIDRS, type EarlyRow, ROW_COUNTS, type RowCount, sum, type WarmRow } from './rows.ts';
import type { LedgerCopy, StoreKind } from './stores.ts';

const CLIENTS_PER_ENI = 10;
const NODE_ROWS = { clients: [1, 10, 50, 200], rows: ['4k', '65k'] } as const;
const OTHER_ROWS = { clients: [1, 50, 200], rows: ['4k'] } as const;
const EARLY_CLIENTS = [1, 50];
const QUICK_ROWS = { clients: [1, 50], rows: ['4k'] } as const;
/** Allocated and released on each ENI before the windows: more than its clients need. */
const WARMED_PER_ENI = 30;
const ENIS_WARMED_AT_ONCE = 10;

/** No cooldown: the clients request and release far faster than containers do. */
const SETTINGS = { EC2_IPAM_WARM_MAX: '49', EC2_IPAM_COOLDOWN: '0s' };
/** Nothing has rested, however long it takes. */
const EARLY_SETTINGS = { ...SETTINGS, EC2_IPAM_COOLDOWN: '24h' };

const WINDOWS = { rounds: 3, noopMs: 250, loadMs: 500, limitMs: 150 };
const QUICK_WINDOWS: typeof WINDOWS = { rounds: 1, noopMs: 100, loadMs: 150, limitMs: 50 };

/** A server, and a copy of its warm ledger for the limits. */
interface WarmServer {
  readonly rows: RowCount;
  /** Nothing on its ENIs has rested. */
  readonly early: boolean;
  readonly fixture: Fixture;
  readonly copy: LedgerCopy;
}
/** What was measured of one row in one round. */
interface Round {
  readonly noop: WindowResult;
  readonly load: WindowResult;
  readonly commits: StoreResult;
  /** Null: SQLite. */
  readonly pairs: StoreResult | null;
  readonly ec2Calls: number;
  readonly residentMb: number;
}
/** A row, and its rounds so far. */
interface Series {
  readonly server: WarmServer;
  readonly clients: number;
  readonly warmUp: Round;
  readonly rounds: Round[];
}

export async function warm(bench: Bench): Promise<void> {
  for (const runtime of bench.plan.runtimes)
    for (const store of bench.plan.stores) await warmServers(bench, runtime, store);
}

async function warmServers(bench: Bench, runtime: Runtime, store: StoreKind): Promise<void> {
  const { plan } = bench;
  const usual = plan.quick ? QUICK_ROWS : runtime === 'node' ? NODE_ROWS : OTHER_ROWS;
  const allClients = plan.clients ?? usual.clients;
  const sizes = plan.rows ?? usual.rows;
  const windows = plan.quick ? QUICK_WINDOWS : WINDOWS;
  const servers: WarmServer[] = [];
  const open = async (rows: RowCount, clients: readonly number[], early: boolean) =>
    void servers.push(await openServer(bench, runtime, store, rows, Math.max(...clients), early));
  try {
    for (const rows of sizes) await open(rows, allClients, false);
    await open(sizes[0] ?? '4k', EARLY_CLIENTS, true);
    const all = allClients.flatMap(clients =>
      servers
        .filter(({ early }) => !early || EARLY_CLIENTS.includes(clients))
        .map(server => ({ server, clients })),
    );
    bench.progress(`warm, ${store} on ${runtime}: ${all.length} rows`);
    const series: Series[] = [];
    for (const { server, clients } of all)
      series.push({ server, clients, warmUp: await measure(bench, server, clients, windows), rounds: [] });
    for (let round = 0; round < windows.rounds; round++)
      for (const { server, clients, rounds } of series)
        rounds.push(await measure(bench, server, clients, windows));
    const rows = series.map(one => ({ early: one.server.early, row: rowOf(one, windows, runtime, store) }));
    const warmRows = rows.filter(({ early }) => !early).map(({ row }) => row);
    for (const row of warmRows) bench.found(row);
    for (const { row } of rows.filter(({ early }) => early)) {
      const warm = warmRows.find(({ clients }) => clients === row.clients);
      if (warm !== undefined) bench.found(earlyRowOf(row, warm));
    }
  } finally {
    for (const { fixture } of servers) await fixture.close();
  }
}

async function openServer(
  { program, driver, stores }: Bench,
  runtime: Runtime,
  kind: StoreKind,
  rows: RowCount,
  clients: number,
  early: boolean,
): Promise<WarmServer> {
  const enis = Math.ceil(clients / CLIENTS_PER_ENI);
  const store = await stores(kind);
  const settings = early ? EARLY_SETTINGS : SETTINGS;
  const fixture = await openFixture({ program, runtime, store, cidr: CIDRS[rows], enis, settings });
  try {
    await warmEnis(driver, fixture, early ? CONTAINERS_PER_ENI : WARMED_PER_ENI);
    return { rows, early, fixture, copy: (await store.copy()).copied };
  } catch (error) {
    await fixture.close();
    throw error;
  }
}

async function warmEnis(driver: Driver, { url, enis, quiet }: Fixture, each: number): Promise<void> {
  for (let first = 0; first < enis.length; first += ENIS_WARMED_AT_ONCE) {
    const some = enis.slice(first, first + ENIS_WARMED_AT_ONCE);
    const taken = await driver.ask({ kind: 'burst', url, enis: some, each, atOnce: true });
    const released = await driver.ask({ kind: 'release', url, leases: taken.leases });
    const error = taken.firstError ?? released.firstError;
    if (error !== null) throw new Error(`the ENIs cannot be warmed: ${error}`);
  }
  await quiet();
}

async function measure(
  { driver, progress }: Bench,
  { fixture, copy }: WarmServer,
  clients: number,
  windows: typeof WINDOWS,
): Promise<Round> {
  const enis = fixture.enis.slice(0, Math.ceil(clients / CLIENTS_PER_ENI));
  const http = { url: fixture.url, clients, enis };
  const noop = await driver.ask({ ...http, kind: 'noop', ms: windows.noopMs });
  const callsBefore = await fixture.ec2Calls();
  const { result: load, highest } = await highestDuring(
    () => residentMb(fixture.server.pid),
    driver.ask({ ...http, kind: 'load', ms: windows.loadMs }),
  );
  const ec2Calls = (await fixture.ec2Calls()) - callsBefore;
  const error = load.firstError ?? noop.firstError;
  if (error !== null) progress(`a request failed: ${error}`);

  const limit = { store: copy, clients, enis, ms: windows.limitMs };
  const commits = await driver.ask({ ...limit, kind: 'commits' });
  const pairs = copy.kind === 'mariadb' ? await driver.ask({ ...limit, kind: 'pairs' }) : null;
  return { noop, load, commits, pairs, ec2Calls, residentMb: highest };
}

/** In the warm-up, runtimes compile what is hot and connections are opened: only its errors and
 *  duplicates count. */
function rowOf(series: Series, windows: typeof WINDOWS, runtime: Runtime, store: StoreKind): WarmRow {
  const { server, clients, warmUp, rounds } = series;
  const perSecond = (count: (round: Round) => number, windowMs: number) =>
    sum(rounds.map(count)) / ((windowMs * windows.rounds) / 1000);
  const all = [warmUp, ...rounds];
  return {
    what: 'warm',
    store,
    runtime,
    rows: ROW_COUNTS[server.rows],
    clients,
    callsPerSecond: perSecond(({ load }) => load.calls, windows.loadMs),
    requestMs: latencyOf(rounds.map(({ load }) => load.requests)),
    releaseMs: latencyOf(rounds.map(({ load }) => load.releases)),
    noopPerSecond: perSecond(({ noop }) => noop.calls, windows.noopMs),
    noopMs: latencyOf(rounds.map(({ noop }) => noop.requests)),
    commitsPerSecond: perSecond(({ commits }) => commits.done, windows.limitMs),
    commitMs: latencyOf(rounds.map(({ commits }) => commits.latencies)),
    durablePairsPerSecond:
      store === 'mariadb' ? perSecond(({ pairs }) => pairs?.done ?? 0, windows.limitMs) : null,
    duplicates: sum(all.map(({ load }) => load.duplicates)),
    errors: sum(all.map(({ load, noop }) => load.errors + noop.errors)),
    ec2Calls: sum(rounds.map(round => round.ec2Calls)),
    peakResidentMb: Math.max(...rounds.map(round => round.residentMb)),
  };
}

function earlyRowOf(row: WarmRow, warm: WarmRow): EarlyRow {
  const { store, runtime, clients, callsPerSecond, requestMs, releaseMs, duplicates, errors, ec2Calls } = row;
  const figures = { callsPerSecond, requestMs, releaseMs, duplicates, errors, ec2Calls };
  const beside = { callsPerSecond: warm.callsPerSecond, requestMs: warm.requestMs };
  return { what: 'early', store, runtime, clients, ...figures, warm: beside };
}
