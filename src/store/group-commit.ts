/** Group commit: many moves share one durable transaction. */
import { randomUUID } from 'node:crypto';
import {
  type Allocation,
  type Change,
  HOLDER_CHARS_MAX,
  type RowState,
  ruleOf,
} from '../domain/allocation.ts';
import { IpamError, isError } from '../domain/error.ts';
import type { Observer } from '../domain/observer.ts';
import { createLockWait, type LockedCall, type TellLocked } from './lock-wait.ts';
import { CHANGES_MAX, type Store } from './store.ts';

/** Makes the changes, at most one for each row, in one durable transaction. Returns the rows that moved, in any order.
 *  Throws LockedError, BatchError, store-down when the store cannot be used, or another error when it made no change as
 *  far as is known. */
export type Commit = (batch: readonly Change[]) => Promise<readonly Allocation[]>;

/** Nothing was changed, since another session has locked a row of the batch. */
export class LockedError extends Error {
  readonly tell: TellLocked;
  constructor(tell: TellLocked, cause?: unknown) {
    super('a row is locked', { cause });
    this.tell = tell;
  }
}

/** The whole batch failed, but the store can be used. `error` is thrown to its callers. */
export class BatchError extends Error {
  readonly error: unknown;
  constructor(error: unknown) {
    super('a batch failed', { cause: error });
    this.error = error;
  }
}

export interface GroupBounds {
  /** The number of commits at a time. */
  readonly lanesMax: number;
  /** Changes in one commit. */
  readonly changesMax?: number;
  /** The number of calls that wait for their commit. One more fails with store-down. */
  readonly waitersMax?: number;
  /** Runs `work` after the calls that are arriving now. */
  readonly gather?: (work: () => void) => void;
  /** Returns the rows that other sessions have locked now, without waiting for them. Absent: not known. */
  readonly locked?: (changes: readonly Change[]) => Promise<ReadonlySet<string>>;
  /** Milliseconds, monotonic. */
  readonly clock?: () => number;
  /** Undefined: nobody watches. */
  readonly observer?: Observer | undefined;
  /** Runs `work` after so many milliseconds, unless what it returns is called before. */
  readonly later?: (work: () => void, ms: number) => () => void;
}
const WAITERS_MAX = 10_000;
/** A commit that takes longer frees its lane: it waits for a lock, or for an answer that may never come. */
const LANE_MAX_MS = 200;
/** The number of commits that have freed their lanes. Together with those in the lanes they leave two connections of a
 *  link for reads. */
const SLOW_MAX = 4;

interface Call extends LockedCall {
  /** A batch with this call failed because of one of its calls. It is tried alone. */
  readonly alone: boolean;
  /** Its batch met a lock, but none of its own rows was locked. It only joins calls of which that is known too. */
  readonly vetted: boolean;
  readonly resolve: (rows: Allocation[]) => void;
}

/**
 * Returns a `Store.move` that needs few commits: a call that arrives while `lanesMax` commits are under way joins the
 * next one. A call is never split. Changes of one row never share a commit and keep their order, since a later one
 * depends on the result of an earlier one. When the store is down all waiting calls fail, so that no call waits for
 * more than one outage. After any other error each call of the batch is tried alone.
 *
 * When more wait than one commit takes, ENIs take turns: the calls of one do not hold up the call of another.
 *
 * When a batch meets the lock of another session, nothing was changed. Its calls for locked rows wait for at most
 * LOCKED_MAX_MS. The other calls go on at once.
 */
export function createGroupCommit(commit: Commit, bounds: GroupBounds): Store['move'] {
  const { lanesMax, changesMax = CHANGES_MAX, waitersMax = WAITERS_MAX, gather = soon } = bounds;
  const { locked = cannotTell, clock = now, later = timer, observer } = bounds;
  let waiting: Call[] = [];
  let lanes = 0;
  let slow = 0;
  let gathering = false;
  /** Whose call was the first of the last commit. */
  let lastEni: string | null = null;
  const busyRows = new Set<string>();
  const aside = createLockWait<Call>({ locked, release: goOn, clock, later });

  function depart(): void {
    gathering = false;
    while (lanes < lanesMax && waiting.length > 0) {
      const batch = nextBatch();
      if (batch.length === 0) return; // all wait for rows of commits under way
      void carryOut(batch);
    }
  }
  function departSoon(): void {
    if (gathering || lanes >= lanesMax || waiting.length === 0) return;
    gathering = true;
    gather(depart);
  }
  /** Puts the calls before all that wait. */
  function goOn(calls: readonly Call[], alone = false): void {
    waiting.unshift(...calls.map(call => ({ ...call, alone, vetted: true })));
    departSoon();
  }

  /** Takes the calls of the next commit out of the queue. A call that stays keeps its place before later ones of its
   *  rows. */
  function nextBatch(): Call[] {
    const batch: Call[] = [];
    const left = new Set<Call>();
    const leftRows = new Set<string>();
    let room = changesMax;
    for (const call of someMustWait(waiting, room) ? byTurns(waiting, lastEni) : waiting) {
      const isFree = !call.keys.some(key => busyRows.has(key) || leftRows.has(key));
      const [first] = batch;
      const mayJoin = first === undefined || (!call.alone && call.vetted === first.vetted);
      if (isFree && mayJoin && call.keys.length <= room) {
        batch.push(call);
        room = call.alone ? 0 : room - call.keys.length;
        for (const key of call.keys) busyRows.add(key);
      } else {
        left.add(call);
        for (const key of call.keys) leftRows.add(key);
      }
    }
    if (batch[0] !== undefined) lastEni = eniOf(batch[0]);
    waiting = left.size === waiting.length ? waiting : waiting.filter(call => left.has(call));
    return batch;
  }

  async function carryOut(batch: readonly Call[]): Promise<void> {
    const leave = takeLane();
    const startedAt = observer === undefined ? 0 : clock();
    try {
      const rows = await commit(batch.flatMap(call => call.changes));
      observer?.committed(rows, clock() - startedAt);
      const moved = new Map(rows.map(row => [keyOf(row), row]));
      for (const call of batch) call.resolve(call.keys.flatMap(key => moved.get(key) ?? []));
    } catch (error) {
      if (error instanceof LockedError) await split(batch, error.tell);
      else fail(batch, error);
    }
    leave();
    for (const { keys } of batch) for (const key of keys) busyRows.delete(key);
    departSoon();
  }

  /** Takes a lane until the returned function is called, or for LANE_MAX_MS. */
  function takeLane(): () => void {
    lanes++;
    let isSlow = false;
    const stay = later(() => {
      if (slow >= SLOW_MAX) return;
      isSlow = true;
      slow++;
      lanes--;
      departSoon();
    }, LANE_MAX_MS);
    return () => {
      stay();
      if (isSlow) slow--;
      else lanes--;
    };
  }

  function fail(batch: readonly Call[], error: unknown): void {
    if (error instanceof BatchError) {
      for (const call of batch) call.reject(error.error);
    } else if (isError(error, 'store-down')) {
      for (const call of [...batch, ...waiting]) call.reject(error);
      waiting = [];
    } else if (batch.length === 1) {
      batch[0]?.reject(error);
    } else {
      waiting.unshift(...batch.map(call => ({ ...call, alone: true })));
    }
  }

  /** After a lock: the calls of locked rows wait, the others go on. When it is not known which row was locked, or no
   *  row is locked any more for the second time, each call is tried alone. A call that was alone waits in any case. */
  async function split(batch: readonly Call[], tell: TellLocked): Promise<void> {
    const changes = batch.flatMap(call => call.changes);
    const keys = await locked(changes).catch(() => null);
    const isLocked = ({ keys: own }: Call) => batch.length === 1 || own.some(key => keys?.has(key));
    for (const call of batch.filter(isLocked))
      aside.hold(
        call,
        call.keys.filter(key => keys?.has(key)),
        tell,
      );
    const isUnknown = keys === null || (keys.size === 0 && batch.every(call => call.vetted));
    goOn(
      batch.filter(call => !isLocked(call)),
      isUnknown,
    );
  }

  return async changes => {
    const batch = batchOf(changes);
    if (batch.length === 0) return [];
    if (waiting.length + aside.size >= waitersMax)
      throw new IpamError('store-down', `over ${waitersMax} moves wait for the store`, {
        hint: 'find out why it is slow',
      });
    return await new Promise((resolve, reject) => {
      const keys = batch.map(change => keyOf(change.row));
      const fresh = { alone: false, vetted: false, lockedSince: null };
      const call: Call = { changes: batch, keys, ...fresh, resolve, reject };
      const tell = aside.remembered(call);
      if (tell === null) waiting.push(call);
      else aside.hold(call, [], tell);
      departSoon();
    });
  };
}

/** Whether the next commit does not take all that wait. */
function someMustWait(calls: readonly Call[], room: number): boolean {
  if (calls.length < 2) return false;
  return calls[0]?.alone === true || calls.reduce((sum, { keys }) => sum + keys.length, 0) > room;
}

/** Orders the calls so that ENIs take turns, `last` after the others, and those of one row stay in their order. */
function byTurns(calls: readonly Call[], last: string | null): Call[] {
  const rounds = new Map<string | null, number>([[last, 1]]);
  const ofRows = new Map<string, number>();
  const rounded = calls.map(call => {
    const eni = eniOf(call);
    const before = call.keys.map(key => ofRows.get(key) ?? 0);
    const round = Math.max((rounds.get(eni) ?? 0) + 1, ...before);
    rounds.set(eni, round);
    for (const key of call.keys) ofRows.set(key, round);
    return { call, round };
  });
  return rounded.sort((a, b) => a.round - b.round).map(({ call }) => call);
}

const eniOf = ({ changes: [first] }: Call): string => first?.iface ?? first?.row.iface ?? '';

const soon = (work: () => void): void => void setImmediate(work);
const now = (): number => performance.now();
const timer = (work: () => void, ms: number): (() => void) => {
  const timeout = setTimeout(work, ms);
  return () => clearTimeout(timeout);
};
const cannotTell = async (): Promise<never> => {
  throw new IpamError('internal', 'this store has no locks that could be asked for');
};

/** Returns the changes of one `move` that can apply: the first one of each row, if it starts at the row's status.
 *  Throws internal past CHANGES_MAX. */
export function batchOf(changes: readonly Change[]): Change[] {
  if (changes.length > CHANGES_MAX)
    throw new IpamError(
      'internal',
      `one move of ${changes.length} changes, at most ${CHANGES_MAX} are taken`,
    );
  const first = new Map<string, Change>();
  for (const change of changes) {
    const key = keyOf(change.row);
    if (ruleOf(change.move).from === change.row.status && !first.has(key))
      first.set(key, withShortHolder(change));
  }
  return [...first.values()];
}

/** The key of a row: subnet and address. */
export const keyOf = ({ subnet, ip }: Pick<RowState, 'subnet' | 'ip'>): string => `${subnet} ${ip}`;

/** Returns a generator of unique tokens of 36 characters that begin with `origin`. */
export const createTokens =
  (origin = ''): (() => string) =>
  () =>
    origin + randomUUID().slice(origin.length);

/** Groups the items by key, in the order of the first item of each. */
export function groupBy<K, T>(items: readonly T[], of: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>();
  for (const item of items) {
    const key = of(item);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [item]);
    else group.push(item);
  }
  return groups;
}

const withShortHolder = (change: Change): Change =>
  change.holder && change.holder.length > HOLDER_CHARS_MAX
    ? { ...change, holder: change.holder.slice(0, HOLDER_CHARS_MAX) }
    : change;
