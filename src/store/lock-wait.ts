/** Calls that wait for a row which another database session has locked. */
import type { Change } from '../domain/allocation.ts';
import type { IpamError } from '../domain/error.ts';
import { CHANGES_MAX } from './store.ts';

/** How long a call waits for a row that another session has locked, in milliseconds. */
export const LOCKED_MAX_MS = 5_000;
/** The interval of the queries for locked rows, in milliseconds. */
const LOOK_EVERY_MS = 100;
/** For so long a call for a row that was locked waits for such a query first. */
const REMEMBERED_MS = 60_000;
const REMEMBERED_MAX = 10_000;

/** Makes the error of a call whose row stays locked. */
export type TellLocked = (changes: readonly Change[]) => IpamError;

export interface LockedCall {
  readonly changes: readonly Change[];
  readonly keys: readonly string[];
  /** When it first met a lock; null: never. */
  readonly lockedSince: number | null;
  readonly reject: (error: unknown) => void;
}

export interface LockWaitParts<C> {
  /** Returns the rows that other sessions have locked now. Throws when that is not known. */
  readonly locked: (changes: readonly Change[]) => Promise<ReadonlySet<string>>;
  /** Lets the calls go on. `alone`: it is not known whether their rows are free. */
  readonly release: (calls: readonly C[], alone: boolean) => void;
  readonly clock: () => number;
  readonly later: (work: () => void, ms: number) => () => void;
}

export interface LockWait<C> {
  /** The number of calls that wait. */
  readonly size: number;
  /** Returns the error for a call of which a row was locked recently; null when there is none. */
  remembered(call: C): TellLocked | null;
  /** Keeps the call until its rows are free. After LOCKED_MAX_MS it fails with the error of `tell`. `rows`: those
   *  that are known to be locked. */
  hold(call: C, rows: Iterable<string>, tell: TellLocked): void;
}

/** Only one query for locked rows is sent at a time, and it waits for no lock. So many locked rows need no more
 *  connections than one. */
export function createLockWait<C extends LockedCall>(parts: LockWaitParts<C>): LockWait<C> {
  const { locked, release, clock, later } = parts;
  let held: { readonly call: C; readonly since: number; readonly tell: TellLocked }[] = [];
  const rows = new Map<string, { readonly until: number; readonly tell: TellLocked }>();
  let looking = false;

  function remember(keys: Iterable<string>, tell: TellLocked): void {
    for (const key of keys) {
      rows.delete(key);
      rows.set(key, { until: clock() + REMEMBERED_MS, tell });
    }
    for (const [key, { until }] of rows)
      if (rows.size > REMEMBERED_MAX || until < clock()) rows.delete(key);
      else break; // they are in the order of `until`
  }

  function hold(call: C, keys: Iterable<string>, tell: TellLocked): void {
    remember(keys, tell);
    held.push({ call, since: call.lockedSince ?? clock(), tell });
    lookLater();
  }

  function lookLater(): void {
    if (looking || held.length === 0) return;
    looking = true;
    later(() => void look(), LOOK_EVERY_MS);
  }

  async function look(): Promise<void> {
    const late = held.filter(({ since }) => clock() - since >= LOCKED_MAX_MS);
    held = held.filter(one => !late.includes(one));
    for (const { call, tell } of late) call.reject(tell(call.changes));
    const asked = takeSome();
    const keys = await lockedAmong(asked.flatMap(({ call }) => call.changes));
    for (const { call, tell } of asked) {
      remember(
        call.keys.filter(key => keys?.has(key)),
        tell,
      );
      if (keys !== null) for (const key of call.keys) if (!keys.has(key)) rows.delete(key);
    }
    // When it is not known, one of them is tried.
    const free = keys === null ? asked.slice(0, 1) : asked.filter(({ call }) => !isAmong(call, keys));
    held.push(...asked.filter(one => !free.includes(one)));
    release(
      free.map(({ call, since }) => ({ ...call, lockedSince: since })),
      keys === null,
    );
    looking = false;
    lookLater();
  }

  /** Takes as many calls as one query may ask for. The next query begins with the others. */
  function takeSome(): typeof held {
    let room = CHANGES_MAX;
    const some = held.filter(({ call }) => {
      room -= call.keys.length;
      return room >= 0;
    });
    held = held.filter(one => !some.includes(one));
    return some;
  }

  async function lockedAmong(changes: readonly Change[]): Promise<ReadonlySet<string> | null> {
    if (changes.length === 0) return new Set();
    try {
      return await locked(changes);
    } catch {
      return null; // the next commit will fail with the reason
    }
  }

  return {
    get size() {
      return held.length;
    },
    remembered(call) {
      if (rows.size === 0) return null;
      for (const key of call.keys) {
        const known = rows.get(key);
        if (known !== undefined && known.until >= clock()) return known.tell;
      }
      return null;
    },
    hold,
  };
}

const isAmong = (call: LockedCall, keys: ReadonlySet<string>): boolean =>
  call.keys.some(key => keys.has(key));
