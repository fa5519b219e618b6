/** What the windows of a warm row add up to. */
import type { Runtime } from '../tiers.ts';
import { type Histogram, newHistogram, quantile } from './histogram.ts';
import type { StoreAddress } from './messages.ts';
import type { Fixture } from './programs.ts';
import { type Latency, ROW_COUNTS, type RowCount, type WarmRow } from './rows.ts';
import type { StoreKind } from './stores.ts';

/** How often each row has its turn, and how long. */
export interface Windows {
  readonly rounds: number;
  readonly noopMs: number;
  readonly loadMs: number;
  readonly limitMs: number;
}
/** A server, and a copy of its warm ledger for the limits. */
export interface Place {
  readonly rows: RowCount;
  /** Nothing on its ENIs has rested. */
  readonly rests: boolean;
  readonly fixture: Fixture;
  readonly copy: StoreAddress;
}
export interface Sums {
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
  residentMb: number;
}

export const newSums = (place: Place, clients: number): Sums => ({
  place,
  clients,
  loadCalls: 0,
  noopCalls: 0,
  commits: 0,
  pairs: 0,
  requests: newHistogram(),
  releases: newHistogram(),
  noops: newHistogram(),
  commitLatencies: newHistogram(),
  duplicates: 0,
  errors: 0,
  ec2Calls: 0,
  residentMb: 0,
});

const latencyOf = (histogram: Histogram): Latency => ({
  p50: quantile(histogram, 0.5),
  p95: quantile(histogram, 0.95),
  p99: quantile(histogram, 0.99),
});

export function rowOf(sums: Sums, windows: Windows, runtime: Runtime, store: StoreKind): WarmRow {
  const perSecond = (count: number, windowMs: number) => count / ((windowMs * windows.rounds) / 1000);
  return {
    what: 'warm',
    store,
    runtime,
    rows: ROW_COUNTS[sums.place.rows],
    clients: sums.clients,
    callsPerSecond: perSecond(sums.loadCalls, windows.loadMs),
    requestMs: latencyOf(sums.requests),
    releaseMs: latencyOf(sums.releases),
    noopPerSecond: perSecond(sums.noopCalls, windows.noopMs),
    noopMs: latencyOf(sums.noops),
    commitsPerSecond: perSecond(sums.commits, windows.limitMs),
    commitMs: latencyOf(sums.commitLatencies),
    durablePairsPerSecond: store === 'mariadb' ? perSecond(sums.pairs, windows.limitMs) : null,
    duplicates: sums.duplicates,
    errors: sums.errors,
    ec2Calls: sums.ec2Calls,
    peakResidentMb: sums.residentMb,
  };
}
