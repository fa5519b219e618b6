/** Warm rows: servers whose ENIs have addresses ready. The rows of one runtime and store are measured in
 *  turns: each round gives every row a window of no-ops, one of load, and one of each limit of the store,
 *  so that whatever else the machine does affects all of them. */
import { freePort } from '../../test/kit/servers/process.ts';
import type { Runtime } from '../tiers.ts';
import type { Driver } from './driver.ts';
import { latencyOf } from './load.ts';
import { CONTAINERS_PER_ENI, type Fixture, openFixture, withMemory } from './programs.ts';
import {
  type Bench,
  type BesideRow,
  CIDRS,
  median,
  PAGES,
  ROW_COUNTS,
  type RowCount,
  sum,
  type WarmRow,
} from './rows.ts';
import type { LedgerCopy, StoreKind } from './stores.ts';
import { openWatchers, type Watchers } from './watchers.ts';

const CLIENTS_PER_ENI = 10;
const NODE_ROWS = { clients: [1, 10, 50, 200], rows: ['4k', '65k'] } as const;
const OTHER_ROWS = { clients: [1, 50, 200], rows: ['4k'] } as const;
const BESIDE_CLIENTS = [1, 50];
const QUICK_ROWS = { clients: [1, 50], rows: ['4k'] } as const;
/** Allocated and released on each ENI before the windows: more than its clients need. */
const WARMED_PER_ENI = 30;
const ENIS_WARMED_AT_ONCE = 10;

/** No cooldown: the clients request and release far faster than containers do. */
const SETTINGS = { EC2_IPAM_WARM_MAX: '49', EC2_IPAM_COOLDOWN: '0s' };
/** What is measured in turns with the warm rows of the first size. */
const BESIDE: Readonly<Record<BesideRow['what'], typeof SETTINGS & { EC2_IPAM_HISTORY?: 'off' }>> = {
  // Nothing has rested, however long it takes.
  early: { ...SETTINGS, EC2_IPAM_COOLDOWN: '24h' },
  'no history': { ...SETTINGS, EC2_IPAM_HISTORY: 'off' },
  pages: SETTINGS,
};

/** Turns of the event loop are looked at for long enough that each page is fetched anew, and other servers are polled. */
const WINDOWS = { rounds: 3, noopMs: 250, loadMs: 500, limitMs: 150, turnsMs: 2_500 };
const QUICK_WINDOWS: typeof WINDOWS = { rounds: 1, noopMs: 100, loadMs: 150, limitMs: 50, turnsMs: 150 };

interface WarmServer {
  readonly runtime: Runtime;
  readonly store: StoreKind;
  readonly rows: RowCount;
  readonly what: 'warm' | BesideRow['what'];
  readonly fixture: Fixture;
  /** Of its warm ledger, for the limits. */
  readonly copy: LedgerCopy;
  /** Whether the turns of its event loop are measured: with pages open, and without. */
  readonly withTurns: boolean;
}
type Round = Awaited<ReturnType<typeof measure>>;
/** A row, and its rounds so far. In the first, runtimes compile what is hot and connections are opened. */
interface Series {
  readonly server: WarmServer;
  readonly clients: number;
  readonly rounds: Round[];
}

export async function warm(bench: Bench): Promise<void> {
  for (const runtime of bench.plan.runtimes)
    for (const store of bench.plan.stores) await warmServers(bench, runtime, store);
}

async function warmServers(bench: Bench, runtime: Runtime, store: StoreKind): Promise<void> {
  const { plan, found } = bench;
  const usual = plan.quick ? QUICK_ROWS : runtime === 'node' ? NODE_ROWS : OTHER_ROWS;
  const allClients = plan.clients ?? usual.clients;
  const sizes = plan.rows ?? usual.rows;
  const [first = '4k'] = sizes;
  const windows = plan.quick ? QUICK_WINDOWS : WINDOWS;
  const fixtures: Fixture[] = [];
  const watchers: Watchers[] = [];
  const open = async (
    rows: RowCount,
    clients: readonly number[],
    what: WarmServer['what'],
  ): Promise<WarmServer> => {
    const ledger = await bench.stores(store);
    const enis = Math.ceil(Math.max(...clients) / CLIENTS_PER_ENI);
    const admin = `http://127.0.0.1:${await freePort()}`;
    const settings = {
      ...(what === 'warm' ? SETTINGS : BESIDE[what]),
      ...(what === 'pages' ? { EC2_IPAM_ADMIN_LISTEN: admin } : {}),
    };
    const { program } = bench;
    // What is a turn differs on the other runtimes.
    const withTurns = runtime === 'node' && rows === first && (what === 'warm' || what === 'pages');
    const fixture = await openFixture({
      ...{ program, runtime, store: ledger, cidr: CIDRS[rows], enis, settings, withTurns },
    });
    fixtures.push(fixture);
    await warmEnis(bench.driver, fixture, what === 'early' ? CONTAINERS_PER_ENI : WARMED_PER_ENI);
    if (what === 'pages') watchers.push(await openWatchers(admin, PAGES));
    return { runtime, store, rows, what, fixture, copy: (await ledger.copy()).copied, withTurns };
  };
  try {
    const servers: WarmServer[] = [];
    for (const rows of sizes) servers.push(await open(rows, allClients, 'warm'));
    const besides = Object.keys(BESIDE) as BesideRow['what'][];
    for (const what of besides) servers.push(await open(first, BESIDE_CLIENTS, what));
    const series: Series[] = allClients.flatMap(clients =>
      servers
        .filter(({ what }) => what === 'warm' || BESIDE_CLIENTS.includes(clients))
        .map(server => ({ server, clients, rounds: [] })),
    );
    bench.progress(`warm, ${store} on ${runtime}: ${series.length} rows`);
    for (let round = 0; round <= windows.rounds; round++)
      for (const { server, clients, rounds } of series)
        rounds.push(await measure(bench, server, clients, windows));
    const rowsOf = (what: WarmServer['what']) =>
      series.filter(({ server }) => server.what === what).map(one => rowOf(one, windows));
    const warmRows = rowsOf('warm');
    for (const row of warmRows) found(row);
    for (const what of besides)
      for (const row of rowsOf(what)) {
        const warm = warmRows.find(({ clients }) => clients === row.clients);
        if (warm === undefined) continue;
        const { callsPerSecond, requestMs, releaseMs, longestTurnMs } = warm;
        found({ ...row, what, warm: { callsPerSecond, requestMs, releaseMs, longestTurnMs } });
      }
    for (const one of watchers.splice(0)) await one.close();
  } finally {
    for (const one of watchers) await one.close().catch(() => {}); // what failed before is told
    for (const fixture of fixtures) await fixture.close();
  }
}

async function warmEnis(driver: Driver, { url, enis, quiet }: Fixture, each: number): Promise<void> {
  for (let first = 0; first < enis.length; first += ENIS_WARMED_AT_ONCE) {
    const some = enis.slice(first, first + ENIS_WARMED_AT_ONCE);
    const asked = { url, enis: some, each, atOnce: true, thenRelease: true };
    const { firstError } = await driver.ask('burst', asked);
    if (firstError !== null) throw new Error(`the ENIs cannot be warmed: ${firstError}`);
  }
  await quiet();
}

async function measure(
  { driver, progress }: Bench,
  { fixture, copy, withTurns }: WarmServer,
  clients: number,
  { noopMs, loadMs, limitMs, turnsMs }: typeof WINDOWS,
) {
  const enis = fixture.enis.slice(0, Math.ceil(clients / CLIENTS_PER_ENI));
  const http = { url: fixture.url, clients, enis };
  const noop = await driver.ask('noop', { ...http, ms: noopMs });
  const callsBefore = await fixture.ec2Calls();
  const asked = driver.ask('load', { ...http, ms: loadMs });
  const { result: load, peakMb } = await withMemory(fixture.server.pid, 'VmRSS', asked);
  const ec2Calls = (await fixture.ec2Calls()) - callsBefore;
  const error = load.firstError ?? noop.firstError;
  if (error !== null) progress(`a request failed: ${error}`);

  const loadForTurns = () => driver.ask('load', { ...http, ms: turnsMs });
  const turns = withTurns && BESIDE_CLIENTS.includes(clients) ? await fixture.withTurns(loadForTurns) : null;

  const limit = { store: copy, clients, enis, ms: limitMs };
  const commits = await driver.ask('commits', limit);
  const pairs = copy.kind === 'mariadb' ? await driver.ask('pairs', limit) : null;
  return { noop, load, commits, pairs, ec2Calls, peakMb, turns };
}

/** Of the first round only errors and duplicates count. */
function rowOf({ server, clients, rounds: all }: Series, windows: typeof WINDOWS): WarmRow {
  const rounds = all.slice(1);
  const loads = all.flatMap(({ load, turns }) => [load, ...(turns === null ? [] : [turns.result])]);
  const longestTurns = rounds.flatMap(({ turns }) => turns?.longestMs ?? []);
  const perSecond = (count: (round: Round) => number, windowMs: number) =>
    sum(rounds.map(count)) / ((windowMs * rounds.length) / 1000);
  return {
    what: 'warm',
    store: server.store,
    runtime: server.runtime,
    rows: ROW_COUNTS[server.rows],
    clients,
    callsPerSecond: perSecond(({ load }) => load.calls, windows.loadMs),
    requestMs: latencyOf(rounds.flatMap(({ load }) => load.requestsMs)),
    releaseMs: latencyOf(rounds.flatMap(({ load }) => load.releasesMs)),
    noopPerSecond: perSecond(({ noop }) => noop.calls, windows.noopMs),
    noopMs: latencyOf(rounds.flatMap(({ noop }) => noop.requestsMs)),
    commitsPerSecond: perSecond(({ commits }) => commits.done, windows.limitMs),
    commitMs: latencyOf(rounds.flatMap(({ commits }) => commits.latenciesMs)),
    durablePairsPerSecond:
      server.store === 'mariadb' ? perSecond(({ pairs }) => pairs?.done ?? 0, windows.limitMs) : null,
    longestTurnMs: longestTurns.length === 0 ? null : median(longestTurns),
    duplicates: sum(loads.map(({ duplicates }) => duplicates)),
    errors: sum([...loads, ...all.map(({ noop }) => noop)].map(({ errors }) => errors)),
    ec2Calls: sum(rounds.map(({ ec2Calls }) => ec2Calls)),
    peakResidentMb: Math.max(...rounds.map(({ peakMb }) => peakMb)),
  };
}
