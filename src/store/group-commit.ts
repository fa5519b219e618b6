import type { Allocation, Change } from '../domain/allocation.ts';
import { IpamError, isError } from '../domain/error.ts';
import { batchOf, keyOf } from './batch.ts';
import { CHANGES_MAX, type Store } from './store.ts';

/** Makes changes of which each row has at most one, in one durable transaction; answers the rows that moved, in any
 *  order. Throws store-down, or whatever else it likes, when none of them was made as far as is known. */
export type Commit = (batch: readonly Change[]) => Promise<readonly Allocation[]>;

export interface GroupBounds {
  /** Commits under way at a time. */
  readonly lanesMax: number;
  /** Changes in one commit. */
  readonly changesMax?: number;
  /** Calls that wait for their commit; one more is store-down. */
  readonly waitersMax?: number;
  /** Runs `work` once the calls that are arriving now have arrived. */
  readonly gather?: (work: () => void) => void;
}
const WAITERS_MAX = 10_000;

interface Call {
  readonly changes: readonly Change[];
  readonly keys: readonly string[];
  /** Its batch failed for one of its members: it may have been this one. */
  readonly alone: boolean;
  readonly resolve: (rows: Allocation[]) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * `Store.move` by way of as few commits as possible: a call that arrives while `lanesMax` commits are under way joins
 * the next one. A call is never split, and changes of one row never share a commit or overtake each other, since the
 * later ones would be answered by what the earlier ones have not written yet. A store that is down fails all who wait,
 * so that nobody waits for more than one outage; any other error is that of one member, and each is tried alone.
 */
export function groupCommit(commit: Commit, bounds: GroupBounds): Store['move'] {
  const { lanesMax, changesMax = CHANGES_MAX, waitersMax = WAITERS_MAX, gather = soon } = bounds;
  let waiting: Call[] = [];
  let lanes = 0;
  let gathering = false;
  const busyRows = new Set<string>();

  function depart(): void {
    gathering = false;
    while (lanes < lanesMax && waiting.length > 0) {
      const batch = nextBatch();
      if (batch.length === 0) return; // all wait for rows that are on their way
      void carryOut(batch);
    }
  }
  function departSoon(): void {
    if (gathering || lanes >= lanesMax) return;
    gathering = true;
    gather(depart);
  }

  /** Takes the calls that may go now out of the queue. One that may not keeps its place, before later ones of its rows. */
  function nextBatch(): Call[] {
    const batch: Call[] = [];
    const left: Call[] = [];
    const leftRows = new Set<string>();
    let room = changesMax;
    for (const call of waiting) {
      const isFree = !call.keys.some(key => busyRows.has(key) || leftRows.has(key));
      if (isFree && call.keys.length <= room) {
        batch.push(call);
        room = call.alone ? 0 : room - call.keys.length; // those that are to be alone wait first of all
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
    lanes++;
    try {
      const rows = await commit(batch.flatMap(call => call.changes));
      const moved = new Map(rows.map(row => [keyOf(row), row]));
      for (const call of batch) call.resolve(call.keys.flatMap(key => moved.get(key) ?? []));
    } catch (error) {
      fail(batch, error);
    }
    lanes--;
    for (const { keys } of batch) for (const key of keys) busyRows.delete(key);
    if (waiting.length > 0) departSoon();
  }

  function fail(batch: readonly Call[], error: unknown): void {
    if (isError(error, 'store-down')) {
      for (const call of [...batch, ...waiting]) call.reject(error);
      waiting = [];
    } else if (batch.length === 1) {
      batch[0]?.reject(error);
    } else {
      waiting.unshift(...batch.map(call => ({ ...call, alone: true })));
    }
  }

  return async changes => {
    const batch = batchOf(changes);
    if (batch.length === 0) return [];
    if (waiting.length >= waitersMax)
      throw new IpamError('store-down', `over ${waitersMax} moves wait for the store`, {
        hint: 'look why it is slow',
      });
    return await new Promise((resolve, reject) => {
      const keys = batch.map(change => keyOf(change.row));
      waiting.push({ changes: batch, keys, alone: false, resolve, reject });
      departSoon();
    });
  };
}

const soon = (work: () => void): void => void setImmediate(work);
