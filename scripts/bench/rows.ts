/** What the benchmark measures: the plan of a run, and a row for each measurement, with its limits of the
 *  same run. */
import type { Runtime } from '../tiers.ts';
import type { Driver } from './driver.ts';
import type { StoreKind, Stores } from './stores.ts';

export const PARTS = ['warm', 'cold', 'start', 'init'] as const;
export type Part = (typeof PARTS)[number];
/** Addresses of a subnet. */
export const ROW_COUNTS = { '4k': 4_096, '65k': 65_536 } as const;
export type RowCount = keyof typeof ROW_COUNTS;
export const CIDRS: Readonly<Record<RowCount, string>> = { '4k': '10.0.0.0/20', '65k': '10.0.0.0/16' };

/** What to measure; null: the usual numbers for the runtime. */
export interface Plan {
  readonly quick: boolean;
  readonly parts: readonly Part[];
  readonly stores: readonly StoreKind[];
  readonly runtimes: readonly Runtime[];
  readonly clients: readonly number[] | null;
  readonly rows: readonly RowCount[] | null;
}

/** What the parts of one run share. */
export interface Bench {
  readonly plan: Plan;
  /** A copy of the bundle, alone in its folder. */
  readonly program: string;
  /** For temporary files; removed at the end. */
  readonly folder: string;
  readonly driver: Driver;
  readonly stores: Stores;
  /** Prints what is being measured. */
  progress(text: string): void;
  found(row: Row): void;
}

/** Milliseconds. */
export interface Latency {
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}

/** Clients request and release addresses that are ready on their ENIs. */
export interface WarmRow {
  readonly what: 'warm';
  readonly store: StoreKind;
  readonly runtime: Runtime;
  /** Addresses of the subnet. */
  readonly rows: number;
  readonly clients: number;
  /** RequestAddress and ReleaseAddress together. */
  readonly callsPerSecond: number;
  readonly requestMs: Latency;
  readonly releaseMs: Latency;
  /** The same server, driver and clients, with requests that need no work. */
  readonly noopPerSecond: number;
  readonly noopMs: Latency;
  /** Durable commits of one row each, by as many connections (SQLite: one), without a server. */
  readonly commitsPerSecond: number;
  readonly commitMs: Latency;
  /** Durable claims of one statement, each with its release, by as many connections. Null: SQLite. */
  readonly durablePairsPerSecond: number | null;
  /** The longest turn of the server's event loop in a window of this load, in milliseconds of CPU time: the median of the
   *  rounds. Null: it was not measured. */
  readonly longestTurnMs: number | null;
  readonly duplicates: number;
  readonly errors: number;
  readonly ec2Calls: number;
  /** Under this load; the process serves the other rows of its runtime and store in turns with this one. */
  readonly peakResidentMb: number;
}

export const PAGES = 10;
/** The same on ENIs that hold as many addresses as they may, of which none has rested; or with
 *  `--history off`; or while PAGES maps of the subnet are open. */
export interface BesideRow extends Omit<WarmRow, 'what'> {
  readonly what: 'early' | 'no history' | 'pages';
  /** The warm row with as many clients, measured in turns with this one. */
  readonly warm: Pick<WarmRow, 'callsPerSecond' | 'requestMs' | 'releaseMs' | 'longestTurnMs'>;
}

/** Requests on ENIs that have no address ready. */
export interface ColdRow {
  readonly what: 'cold';
  readonly store: StoreKind;
  readonly runtime: Runtime;
  readonly shape: 'at once' | 'one by one' | 'many ENIs';
  readonly enis: number;
  readonly requests: number;
  readonly p50Ms: number;
  readonly maxMs: number;
  /** Requests that took longer than a tenth of an EC2 call. */
  readonly waited: number;
  /** One AssignPrivateIpAddresses, sent to the simulator directly. */
  readonly assignMs: number;
  readonly assignCalls: number;
  readonly duplicates: number;
  readonly errors: number;
}

/** From the start of the server's process to its first response, and its memory when idle. */
export interface StartRow {
  readonly what: 'start';
  readonly runtime: Runtime;
  readonly firstAnswerMs: number;
  readonly idleResidentMb: number;
  /** Of a Hono app with one POST, bundled with the same settings. */
  readonly noopFirstAnswerMs: number;
  readonly noopIdleResidentMb: number;
}

/** The command `init`, from the start of its process to its end, on an empty store. */
export interface InitRow {
  readonly what: 'init';
  readonly store: StoreKind;
  readonly runtime: Runtime;
  readonly rows: number;
  readonly enis: number;
  readonly seconds: number;
  readonly peakResidentMb: number;
  /** What the store needs to copy the same rows from table to table. */
  readonly copySeconds: number;
}

export type Row = WarmRow | BesideRow | ColdRow | StartRow | InitRow;

export type RowOf<W extends Row['what']> = W extends BesideRow['what']
  ? BesideRow & { readonly what: W }
  : Extract<Row, { what: W }>;

/** Returns the rows of one kind. */
export const rowsOf = <W extends Row['what']>(rows: readonly Row[], what: W) =>
  rows.filter((row): row is RowOf<W> => row.what === what);

export const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);
export const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;
