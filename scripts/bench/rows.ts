/** What the benchmark finds: a row for each thing that it measured, with its limits from the same run. */
import type { Runtime } from '../tiers.ts';
import type { StoreKind } from './stores.ts';

/** Milliseconds. */
export interface Latency {
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}

/** A server under clients that take and give back addresses which are ready on their ENIs. */
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
  /** The same server, driver and clients, and nothing to do. */
  readonly noopPerSecond: number;
  readonly noopMs: Latency;
  /** Durable commits of one row each, with as many connections (SQLite: one); no server between. */
  readonly commitsPerSecond: number;
  readonly commitMs: Latency;
  /** Durable claims of one statement, each with its release, by as many connections. Null: SQLite. */
  readonly durablePairsPerSecond: number | null;
  readonly duplicates: number;
  readonly errors: number;
  readonly ec2Calls: number;
  /** While it was under this load; its process serves the other rows of its kind in turns with this one. */
  readonly peakResidentMb: number;
}

/** The same on ENIs that hold as many addresses as they may, of which none has rested. */
export interface EarlyRow
  extends Pick<
    WarmRow,
    | 'store'
    | 'runtime'
    | 'clients'
    | 'callsPerSecond'
    | 'requestMs'
    | 'releaseMs'
    | 'duplicates'
    | 'errors'
    | 'ec2Calls'
  > {
  readonly what: 'early';
  /** The warm row with as many clients, measured in turns with this one. */
  readonly warm: Pick<WarmRow, 'callsPerSecond' | 'requestMs'>;
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
  /** What took longer than a tenth of an EC2 call. */
  readonly waited: number;
  /** One AssignPrivateIpAddresses, asked of the simulator directly. */
  readonly assignMs: number;
  readonly assignCalls: number;
  readonly duplicates: number;
  readonly errors: number;
}

/** From the start of the process to its first answer, and its memory with nothing to do. */
export interface StartRow {
  readonly what: 'start';
  readonly runtime: Runtime;
  readonly firstAnswerMs: number;
  readonly idleResidentMb: number;
  /** Of a Hono app that answers one POST, made into a bundle with the same settings. */
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

export type Row = WarmRow | EarlyRow | ColdRow | StartRow | InitRow;
