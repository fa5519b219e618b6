/** Where a call comes from, and how a call that an agent repeats is known again. */
import type { Allocation } from './allocation.ts';
import type { InstanceId } from './ids.ts';

/** What a client with a certificate may use: the ENIs of the instance that it names, or every ENI. */
export const AUTHORIZE = ['instance', 'any'] as const;
export type Authorize = (typeof AUTHORIZE)[number];

export interface Origin {
  /** The instance that the client's certificate names: only its ENIs may be used. Null: the client may use every ENI. */
  readonly instance: InstanceId | null;
  /** The id of the call, from an agent; the same in each repetition. Null: it has none. */
  readonly id: string | null;
  /** How long before its arrival the call was sent, in milliseconds: from an agent, by its clock; else how long at most,
   *  since the process was stopped until then. */
  readonly sentMsAgo: number;
  /** Of a release, from an agent: the id of the request that was given the address. Null: the agent does not know it. */
  readonly givenTo: string | null;
}

/** A client that may use every ENI and repeats nothing: dockerd on a local socket or over plain http. */
export const ANYBODY: Origin = { instance: null, id: null, sentMsAgo: 0, givenTo: null };

/** The longest time in which an agent answers Docker, in milliseconds. */
export const ANSWERED_WITHIN_MS = 120_000;
/** The longest time that an agent repeats a call, in milliseconds. Docker, which sends a release once and never asks what
 *  became of a request, may have been told of a failure long before. */
export const REPEATED_FOR_MS = 3_600_000;
/**
 * A call of an agent that is older does nothing, in milliseconds. The agent has given up long before, so it is a copy
 * that was kept back on the way, and the ledger may have forgotten its id: the row of a request keeps the id until it is
 * claimed anew, and the id of a release until its next release.
 */
const REMEMBERED_FOR_MS = 2 * REPEATED_FOR_MS;

/** Whether the call is older than its id is remembered. */
export const isForgotten = ({ id, sentMsAgo }: Origin): boolean =>
  id !== null && sentMsAgo > REMEMBERED_FOR_MS;

/** How long a call waits for a ledger that cannot be used, in milliseconds: an agent can ask another server. */
export const ledgerWaitMs = ({ id }: Origin): number => (id === null ? Number.POSITIVE_INFINITY : 10_000);

/** Whether the row is held by this request. */
export const isHeldBy = (row: Allocation, { id }: Origin): boolean =>
  id !== null && row.status === 'allocated' && row.requestId === id;
