/** What the load driver, a process of its own, is asked and answers: one line of JSON each. */
import type { Histogram } from './histogram.ts';

/** Clients that each ask, without a pause, until the time is over. */
export interface HttpWindow {
  /** `noop`: POSTs as large as RequestAddress, which the server answers without doing anything.
   *  `load`: RequestAddress, and then ReleaseAddress of what it gave. */
  readonly kind: 'noop' | 'load';
  readonly url: string;
  readonly clients: number;
  /** Client `i` is a host with the ENI `i` modulo their number. */
  readonly enis: readonly string[];
  readonly ms: number;
}
/** RequestAddress for each of the ENIs, `each` times; the addresses stay held. */
export interface Burst {
  readonly kind: 'burst';
  readonly url: string;
  readonly enis: readonly string[];
  readonly each: number;
  /** Else one after another, as dockerd asks for a network. */
  readonly atOnce: boolean;
}
export interface Releases {
  readonly kind: 'release';
  readonly url: string;
  readonly leases: readonly Lease[];
}
export interface Lease {
  readonly eni: string;
  readonly ip: string;
}
/** What the store alone can do, without a server before it: a limit of any ledger that is as durable as ours. */
export interface StoreWindow {
  /** `commits`: `UPDATE … WHERE subnet = ? AND ip = ?` of one row, in a commit of its own; each client has its row,
   *  so nobody waits for a lock.
   *  `pairs`: a claim that looks for a ready row of the ENI and takes it, in one statement and a commit of its own,
   *  then a release of that row in another. */
  readonly kind: 'commits' | 'pairs';
  readonly store: StoreAddress;
  readonly clients: number;
  readonly enis: readonly string[];
  readonly ms: number;
}
/** A copy of a warm ledger, for the limits alone. */
export type StoreAddress =
  | { readonly kind: 'mariadb'; readonly url: string; readonly password: string }
  | { readonly kind: 'sqlite'; readonly path: string };

export interface Answers {
  /** Addresses given while another client held them. */
  duplicates: number;
  errors: number;
  firstError: string | null;
}
export interface WindowResult extends Answers {
  /** Answered within the time. */
  calls: number;
  /** Latencies of RequestAddress, or of the no-op. */
  readonly requests: Histogram;
  readonly releases: Histogram;
}
export interface BurstResult extends Answers {
  readonly leases: Lease[];
  /** In the order in which they were answered. */
  readonly latenciesMs: number[];
}
export interface StoreResult {
  /** Commits, or pairs of them, done within the time. */
  readonly done: number;
  readonly latencies: Histogram;
}

/** Each kind of message with its result. */
export interface Results {
  noop: WindowResult;
  load: WindowResult;
  burst: BurstResult;
  release: Answers;
  commits: StoreResult;
  pairs: StoreResult;
}
export type Message = HttpWindow | Burst | Releases | StoreWindow;
export type Reply = { readonly result: Results[keyof Results] } | { readonly error: string };
