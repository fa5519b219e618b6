import { randomUUID } from 'node:crypto';
import {
  type Allocation,
  type Change,
  HOLDER_CHARS_MAX,
  type RowState,
  ruleOf,
} from '../domain/allocation.ts';
import { IpamError, isError } from '../domain/error.ts';
import { createLockWait, type LockedCall, type TellLocked } from './lock-wait.ts';
import { CHANGES_MAX, type Store } from './store.ts';

/** Makes changes of which each row has at most one, in one durable transaction; returns the rows that moved, in any
 *  order. Throws LockedError or BatchError; store-down when the store cannot be used; or whatever else it likes, when
 *  none of the changes was made as far as is known. */
export type Commit = (batch: readonly Change[]) => Promise<readonly Allocation[]>;

/** Nothing was changed, since somebody else keeps a row of the batch locked. */
export class LockedError extends Error {
  readonly tell: TellLocked;
  constructor(tell: TellLocked, cause?: unknown) {
    super('a row is locked', { cause });
    this.tell = tell;
  }
}

/** A failure of this batch, whole, that says nothing of the store. `error`: what its callers are told. */
export class BatchError extends Error {
  readonly error: unknown;
  constructor(error: unknown) {
    super('a batch failed', { cause: error });
    this.error = error;
  }
}

export interface GroupBounds {
  /** Commits under way at a time. */
  readonly lanesMax: number;
  /** Changes in one commit. */
  readonly changesMax?: number;
  /** Calls that wait for their commit; one more is store-down. */
  readonly waitersMax?: number;
  /** Runs `work` once the calls that are arriving now have arrived. */
  readonly gather?: (work: () => void) => void;
  /** Which of the rows somebody else has locked now, without waiting for any. Absent: that cannot be told. */
  readonly locked?: (changes: readonly Change[]) => Promise<ReadonlySet<string>>;
  /** Milliseconds, monotonic. */
  readonly clock?: () => number;
  /** Runs `work` after so many milliseconds, unless what it returns is called before. */
  readonly later?: (work: () => void, ms: number) => () => void;
}
const WAITERS_MAX = 10_000;
/** A commit that takes longer leaves its lane to others: it waits for a lock, or for an answer that may never come. */
const LANE_MAX_MS = 200;
/** Commits that have left their lane. With those in the lanes they leave a link two connections for those who read. */
const SLOW_MAX = 4;

interface Call extends LockedCall {
  /** Its batch failed for one of its members: it may have been this one. */
  readonly alone: boolean;
  /** Its batch met a lock, and none of its rows was locked: it shares no commit with calls that were not looked at. */
  readonly vetted: boolean;
  readonly resolve: (rows: Allocation[]) => void;
}

/**
 * `Store.move` by way of as few commits as possible: a call that arrives while `lanesMax` commits are under way joins
 * the next one. A call is never split, and changes of one row never share a commit or overtake each other, since the
 * later ones would be answered by what the earlier ones have not written yet. A store that is down fails all who wait,
 * so that nobody waits for more than one outage; any other error is that of one member, and each is tried alone.
 *
 * A batch that meets somebody else's lock has changed nothing: those of its calls that name a locked row wait aside for
 * LOCKED_MAX_MS at most, and the others, which may overtake them, go on at once.
 */
export function createGroupCommit(commit: Commit, bounds: GroupBounds): Store['move'] {
  const { lanesMax, changesMax = CHANGES_MAX, waitersMax = WAITERS_MAX, gather = soon } = bounds;
  const { locked = cannotTell, clock = now, later = timer } = bounds;
  let waiting: Call[] = [];
  let lanes = 0;
  let slow = 0;
  let gathering = false;
  const busyRows = new Set<string>();
  const aside = createLockWait<Call>({ locked, release: goOn, clock, later });

  function depart(): void {
    gathering = false;
    while (lanes < lanesMax && waiting.length > 0) {
      const batch = nextBatch();
      if (batch.length === 0) return; // all wait for rows that are on their way
      void carryOut(batch);
    }
  }
  function departSoon(): void {
    if (gathering || lanes >= lanesMax || waiting.length === 0) return;
    gathering = true;
    gather(depart);
  }
  /** The calls go before all that wait. */
  function goOn(calls: readonly Call[], alone = false): void {
    waiting.unshift(...calls.map(call => ({ ...call, alone, vetted: true })));
    departSoon();
  }

  /** Takes the calls that may go now out of the queue. One that may not keeps its place, before later ones of its rows. */
  function nextBatch(): Call[] {
    const batch: Call[] = [];
    const left: Call[] = [];
    const leftRows = new Set<string>();
    let room = changesMax;
    for (const call of waiting) {
      const isFree = !call.keys.some(key => busyRows.has(key) || leftRows.has(key));
      const [first] = batch;
      const mayJoin = first === undefined || (!call.alone && call.vetted === first.vetted);
      if (isFree && mayJoin && call.keys.length <= room) {
        batch.push(call);
        room = call.alone ? 0 : room - call.keys.length;
        for (const key of call.keys) busyRows.add(key);
      } else {
        left.push(call);
        for (const key of call.keys) leftRows.add(key);
      }
    }
    waiting = left;
    return batch;
  }

  async function carryOut(batch: readonly Call[]): Promise<void> {
    const leave = takeLane();
    try {
      const rows = await commit(batch.flatMap(call => call.changes));
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

  /** The lane is free again with the answer, or after LANE_MAX_MS. */
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

  /** After a lock. Where nothing says whose row it was, or nobody's is locked any more and that was so before, each
   *  call is tried alone; a call that met it alone waits in any case. */
  async function split(batch: readonly Call[], tell: TellLocked): Promise<void> {
    const changes = batch.flatMap(call => call.changes);
    const keys = await locked(changes).catch(() => null);
    const isGuilty = ({ keys: own }: Call) => batch.length === 1 || own.some(key => keys?.has(key));
    for (const call of batch.filter(isGuilty))
      aside.hold(
        call,
        call.keys.filter(key => keys?.has(key)),
        tell,
      );
    const innocent = batch.filter(call => !isGuilty(call));
    const isOpen = keys === null || (keys.size === 0 && batch.every(call => call.vetted));
    goOn(innocent, isOpen);
  }

  return async changes => {
    const batch = batchOf(changes);
    if (batch.length === 0) return [];
    if (waiting.length + aside.size >= waitersMax)
      throw new IpamError('store-down', `over ${waitersMax} moves wait for the store`, {
        hint: 'look why it is slow',
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

const soon = (work: () => void): void => void setImmediate(work);
const now = (): number => performance.now();
const timer = (work: () => void, ms: number): (() => void) => {
  const timeout = setTimeout(work, ms);
  return () => clearTimeout(timeout);
};
const cannotTell = async (): Promise<never> => {
  throw new IpamError('internal', 'this store has no locks that could be asked for');
};

/** The changes of one `move` that can apply at all: a row counts once (the first wins, as it would one by
 *  one), and a change that does not start at its row's status is a "no". Throws internal past CHANGES_MAX. */
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

/** Which address of which subnet. */
export const keyOf = ({ subnet, ip }: Pick<RowState, 'subnet' | 'ip'>): string => `${subnet} ${ip}`;

/** Makes the tokens of one process: 36 characters, each fresh, that begin with `origin`. */
export const createTokens =
  (origin = ''): (() => string) =>
  () =>
    origin + randomUUID().slice(origin.length);

/** The items by key, in the order of their first ones. */
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
