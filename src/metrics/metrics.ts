/** The metrics of a server, in Prometheus's text format. https://prometheus.io/docs/practices/naming/ */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { STATUSES, type Status } from '../domain/allocation.ts';
import { methodOf, type Observer, type Result } from '../domain/observer.ts';
import type { Store, Tally } from '../store/store.ts';
import { kept, within } from '../views/parts/kept.ts';
import { INTENT_AGES, type IntentTimes, type LedgerView, viewOf } from '../views/parts/ledger-tally.ts';

/** A reading of the ledger, and a text, are good for so long, so that scrapes do not load the store. */
const LEDGER_KEPT_MS = 5000;
const TEXT_KEPT_MS = 1000;
/** The longest wait of a scrape for the store. */
const LEDGER_MAX_MS = 3000;

/** Of the library's own; its others are many, and some are refused by `promtool check metrics`. */
const DEFAULTS = [
  'process_cpu_user_seconds_total', // the first: it fills the two others
  'process_cpu_system_seconds_total',
  'process_cpu_seconds_total',
  'process_start_time_seconds',
  'process_resident_memory_bytes',
  'process_open_fds',
  'process_max_fds',
  'nodejs_eventloop_lag_seconds',
  'nodejs_eventloop_lag_p99_seconds',
];

const REQUEST_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120];
const EC2_SECONDS = [0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const COMMIT_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5];
const COMMIT_MOVES = [1, 2, 5, 10, 20, 50, 100, 200, 500];

type Wait = Parameters<typeof within>[2];

export interface Metrics {
  readonly observer: Observer;
  readonly contentType: string;
  /** What EC2's last answer to this server was, in a word. */
  ec2(): string;
  /** Returns a function that gives the metrics as text. It reads the store at most once in five seconds, never twice at a
   *  time, and waits for it three seconds at most. It never throws. */
  textOf(store: Pick<Store, 'tally' | 'intents' | 'usedSightings'>, wait: Wait): () => Promise<string>;
}

export interface MetricsOptions extends IntentTimes {
  readonly version: string;
  /** With its version, as in `node 24.1.0`. */
  readonly runtime: string;
  /** The setting: the pause between two comparisons with EC2. */
  readonly reconcileEveryMs: number;
  /** Milliseconds, monotonic; and the time of day, in milliseconds since 1970. */
  readonly clock: () => number;
  readonly timeOfDay: () => number;
}

export function createMetrics(options: MetricsOptions): Metrics {
  const { clock } = options;
  const register = defaults();
  const all = {
    ...requestMetrics(register),
    ...ec2Metrics(register),
    ...ledgerMetrics(register),
  };
  new Gauge({
    name: 'ec2_ipam_build_info',
    help: 'Version of the program and of its runtime; always 1.',
    labelNames: ['version', 'runtime'],
    registers: [register],
  }).set({ version: options.version, runtime: options.runtime }, 1);

  new Gauge({
    name: 'ec2_ipam_reconcile_interval_seconds',
    help: 'The pause between two comparisons of ledger and EC2 that is set: --reconcile-every.',
    registers: [register],
  }).set(options.reconcileEveryMs / 1000);

  const startedAt = options.timeOfDay() / 1000;
  /** The subnets that this server has compared with EC2. */
  const compared = new Set<string>();
  let lastEc2: Result | null = null;
  const tokensOf = new Map<string, () => number>();
  let remembered = () => ({ usable: 0, resting: 0 });

  const observer: Observer = {
    answered(path, result, ms) {
      const method = methodOf(path);
      all.requests.inc({ method, result });
      all.requestSeconds.observe({ method }, ms / 1000);
    },
    ec2Called(action, result, ms) {
      lastEc2 = result;
      all.ec2Requests.inc({ action, result: 'ec2-throttled' }, 0); // so that the first one is an increase
      all.ec2Requests.inc({ action, result });
      all.ec2Seconds.observe({ action }, ms / 1000);
    },
    tokens: (action, left) => void tokensOf.set(action, left),
    warm: what => (what === 'hit' ? all.warmHits : all.warmMisses).inc(),
    remembers(ready) {
      remembered = ready;
    },
    reusedEarly: () => all.earlyReuses.inc(),
    committed(rows, ms) {
      all.commitMoves.observe(rows.length);
      all.commitSeconds.observe(ms / 1000);
    },
    drifted: kind => all.drift.inc({ kind }),
    reconciled(subnet) {
      compared.add(subnet);
      all.reconciledAt.set({ subnet }, options.timeOfDay() / 1000);
    },
  };

  function show(view: LedgerView | null): void {
    all.storeUp.set(view === null ? 0 : 1);
    for (const gauge of [all.addresses, all.intents, all.oldestIntent, all.withheld]) gauge.reset();
    for (const [action, left] of tokensOf) all.ec2Tokens.set({ action }, left());
    const ready = remembered();
    all.ready.set({ state: 'usable' }, ready.usable);
    all.ready.set({ state: 'resting' }, ready.resting);
    // What the ledger said before the store went away is not shown as if it were so now.
    for (const gauge of [all.oldestIntent, all.withheld]) if (view === null) gauge.remove();
    if (view === null) return;
    // The alerts sum what is there: a series that goes away at zero would hide a full subnet, and one that appears with
    // the first comparison, that there is none.
    for (const [subnet, ofSubnet] of Map.groupBy(view.tally, one => one.subnet)) {
      for (const status of STATUSES) all.addresses.set({ subnet, status }, countOf(ofSubnet, status));
      if (!compared.has(subnet)) all.reconciledAt.set({ subnet }, startedAt);
    }
    for (const age of INTENT_AGES) all.intents.set({ age }, view.intents[age]);
    all.oldestIntent.set(view.oldestIntentMs / 1000);
    all.withheld.set(view.withheld);
  }

  return {
    observer,
    contentType: register.contentType,
    ec2: () => lastEc2 ?? 'not asked yet',
    textOf(store, wait) {
      const ledger = kept(() => viewOf(store, options).catch(() => null), LEDGER_KEPT_MS, clock);
      const write = async () => {
        show(await within(LEDGER_MAX_MS, ledger(), wait));
        return await register.metrics();
      };
      return kept(write, TEXT_KEPT_MS, clock);
    },
  };
}

const countOf = (tally: readonly Tally[], status: Status): number =>
  tally.find(one => one.status === status)?.count ?? 0;

/** Those of the library's own metrics that are wanted. */
function defaults(): Registry {
  const all = new Registry();
  const register = new Registry();
  collectDefaultMetrics({ register: all });
  for (const name of DEFAULTS) {
    const metric = all.getSingleMetric(name);
    if (metric !== undefined) register.registerMetric(metric);
  }
  return register;
}

function requestMetrics(register: Registry) {
  const registers = [register];
  return {
    requests: new Counter({
      name: 'ec2_ipam_requests_total',
      help: "Calls of Docker by method and result: ok, or the error's code.",
      labelNames: ['method', 'result'],
      registers,
    }),
    requestSeconds: new Histogram({
      name: 'ec2_ipam_request_duration_seconds',
      help: 'Time from a call of Docker to its answer.',
      labelNames: ['method'],
      buckets: REQUEST_SECONDS,
      registers,
    }),
    warmHits: new Counter({
      name: 'ec2_ipam_warm_hits_total',
      help: 'Requests that found a ready address.',
      registers,
    }),
    warmMisses: new Counter({
      name: 'ec2_ipam_warm_misses_total',
      help: 'Requests that found no ready address, and waited for EC2 or for one to rest.',
      registers,
    }),
    earlyReuses: new Counter({
      name: 'ec2_ipam_early_reuses_total',
      help: 'Addresses that were given before they had rested.',
      registers,
    }),
    ready: new Gauge({
      name: 'ec2_ipam_remembered_ready_addresses',
      help: 'Ready addresses that this server remembers, by whether they have rested.',
      labelNames: ['state'],
      registers,
    }),
  };
}

function ec2Metrics(register: Registry) {
  const registers = [register];
  return {
    ec2Requests: new Counter({
      name: 'ec2_ipam_ec2_requests_total',
      help: "Requests to EC2 by action and result: ok, or the error's code.",
      labelNames: ['action', 'result'],
      registers,
    }),
    ec2Seconds: new Histogram({
      name: 'ec2_ipam_ec2_request_duration_seconds',
      help: 'Time from a request to EC2 to its answer.',
      labelNames: ['action'],
      buckets: EC2_SECONDS,
      registers,
    }),
    ec2Tokens: new Gauge({
      name: 'ec2_ipam_ec2_tokens',
      help: "Requests that this server may send at once by its own count; servers of a MySQL ledger share the ledger's, and use this while it is away.",
      labelNames: ['action'],
      registers,
    }),
  };
}

function ledgerMetrics(register: Registry) {
  const registers = [register];
  return {
    storeUp: new Gauge({
      name: 'ec2_ipam_store_up',
      help: 'Whether the ledger could be read, 1 or 0.',
      registers,
    }),
    addresses: new Gauge({
      name: 'ec2_ipam_addresses',
      help: 'Addresses in the ledger by subnet and status.',
      labelNames: ['subnet', 'status'],
      registers,
    }),
    intents: new Gauge({
      name: 'ec2_ipam_intents',
      help: 'Unfinished EC2 calls in the ledger: sent just now, in doubt, or overdue; at most 1000 are read.',
      labelNames: ['age'],
      registers,
    }),
    oldestIntent: new Gauge({
      name: 'ec2_ipam_oldest_intent_age_seconds',
      help: 'Age of the oldest unfinished EC2 call in the ledger; 0 without any.',
      registers,
    }),
    withheld: new Gauge({
      name: 'ec2_ipam_withheld_addresses',
      help: 'Addresses that hosts show in use, and that nobody holds.',
      registers,
    }),
    commitMoves: new Histogram({
      name: 'ec2_ipam_commit_moves',
      help: 'Moves of addresses in one transaction.',
      buckets: COMMIT_MOVES,
      registers,
    }),
    commitSeconds: new Histogram({
      name: 'ec2_ipam_commit_duration_seconds',
      help: 'Time of one transaction that moves addresses.',
      buckets: COMMIT_SECONDS,
      registers,
    }),
    drift: new Counter({
      name: 'ec2_ipam_drift_total',
      help: 'Differences between ledger and EC2 that this server has found, by kind.',
      labelNames: ['kind'],
      registers,
    }),
    reconciledAt: new Gauge({
      name: 'ec2_ipam_last_reconcile_timestamp_seconds',
      help: 'When this server last compared the subnet with EC2, or else when it started, in seconds since 1970.',
      labelNames: ['subnet'],
      registers,
    }),
  };
}
