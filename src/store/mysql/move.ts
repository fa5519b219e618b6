/** `Store.move` on MySQL: sends a batch, and settles it when its outcome is unknown. */
import type { Change } from '../../domain/allocation.ts';
import { IpamError } from '../../domain/error.ts';
import type { Observer } from '../../domain/observer.ts';
import { BatchError, createGroupCommit, keyOf, LockedError } from '../group-commit.ts';
import { type Row, toAllocation } from '../rows.ts';
import type { LateOutcomes, Moved, Store } from '../store.ts';
import type { Link } from './connection.ts';
import { DUPLICATE, LOCK_TIMEOUT, MysqlFailure } from './errors.ts';
import {
  endedBeforeCommit,
  lockStatements,
  moveStatements,
  requestStatement,
  settleStatements,
  undoStatements,
} from './move-statements.ts';
import { insist, ipamErrorOf, once, repeat } from './retry.ts';

/** The number of commits at a time. On two cores 1, 2 and 3 of them made 10,700, 12,100 and 11,700 pairs of claim and
 *  release a second with 50 callers, and 19,100, 23,700 and 24,100 with 200. With 4 and 8 a move needs 20 % and 50 %
 *  more CPU than with 2. With more than 1, a batch that waits for a lock or an answer does not block the others. */
const LANES_MAX = 2;
/** The most batches with an unknown outcome. Beyond it, moves are refused. */
const UNSETTLED_MAX = 1_000;
/** The tries of a batch that gives a row the id that another row has. */
const DUPLICATE_TRIES_MAX = 5;
/** For the query for locked rows. */
const LOCK_LOOK_TIMEOUT_MS = 1_500;

interface Batch {
  readonly changes: readonly Change[];
  readonly token: string;
}
interface MoverOptions {
  readonly place: string;
  readonly newToken: () => string;
  readonly skewMs: () => number;
  readonly callTimeoutMs: number;
  readonly history: boolean;
  readonly observer: Observer | undefined;
}

/** `move` and `lateOutcomes` of a store on MySQL. */
export function createMover(link: Link, options: MoverOptions): Pick<Store, 'move' | 'lateOutcomes'> {
  const { place, newToken, skewMs, callTimeoutMs, history, observer } = options;
  const unsettled: Batch[] = [];
  /** The batches in `unsettled`, and those that are being settled. */
  let unlearned = 0;

  /** Returns the rows that moved. After the packet is sent, a failure is `notApplied` or `permanent` only when a
   *  statement before the commit failed; and `notApplied` only when the server confirmed a rollback afterwards. */
  const send = ({ changes, token }: Batch, deadline: number): Promise<Row[]> =>
    link.session(deadline, async exchange => {
      const statements = moveStatements(changes, token, skewMs(), history);
      try {
        return (await exchange(statements, deadline)).at(-1) ?? [];
      } catch (error) {
        if (!(error instanceof MysqlFailure)) throw error;
        if (!endedBeforeCommit(statements, error)) throw error.as('unknown');
        if (error.outcome === 'permanent') throw error;
        const [, moved = []] = await exchange(undoStatements(changes, token), deadline).catch(() => {
          throw error.as('unknown');
        });
        if (moved.length > 0) return moved;
        throw error.as('notApplied');
      }
    });

  /** Returns the rows that moved. The outcome stays unknown only when settling it fails too. */
  async function moveOrSettle(batch: Batch): Promise<Row[]> {
    if (unlearned >= UNSETTLED_MAX)
      throw new MysqlFailure('unsent', `the outcome of ${unlearned} moves is not known`);
    try {
      return await once(deadline => send(batch, deadline), callTimeoutMs);
    } catch (error) {
      if (!(error instanceof MysqlFailure) || error.outcome !== 'unknown') throw error;
    }
    try {
      return await settle(batch);
    } catch (error) {
      unsettled.push(batch);
      unlearned++;
      throw isLockTimeout(error) ? new BatchError(told(error)) : error;
    }
  }

  /** Makes the changes without those that would give a row the id that another row has. The database refuses the whole
   *  batch for one of them. */
  async function moveUnlessTaken(changes: readonly Change[]): Promise<Row[]> {
    let left = changes;
    for (let tries = 1; ; tries++) {
      try {
        return await moveOrSettle({ changes: left, token: newToken() });
      } catch (error) {
        if (!isDuplicate(error)) throw error;
        if (left.length === 1) return [];
        if (tries >= DUPLICATE_TRIES_MAX) throw new BatchError(told(error));
      }
      const [taken = []] = await repeat(link, [requestStatement(left)], callTimeoutMs);
      left = withoutTaken(left, taken);
      if (left.length === 0) return [];
    }
  }

  const settle = async ({ changes, token }: Batch): Promise<Row[]> =>
    (await insist(link, settleStatements(changes, token), callTimeoutMs)).at(-1) ?? [];

  const told = (error: unknown): unknown =>
    error instanceof MysqlFailure ? ipamErrorOf(error, place) : error;

  async function commit(changes: readonly Change[]) {
    try {
      return (await moveUnlessTaken(changes)).map(toAllocation);
    } catch (error) {
      if (isLockTimeout(error) && error.outcome === 'notApplied') throw new LockedError(lockedError, error);
      throw told(error);
    }
  }
  const lockedError = (changes: readonly Change[]): IpamError =>
    new IpamError(
      'store-down',
      `another session keeps ${nameOf(changes)} locked in the store at ${place}, and nothing was changed`,
      { hint: 'end its transaction', addresses: changes.map(({ row }) => row.ip) },
    );

  /** Without retry, since it only saves tries of commits. */
  async function locked(changes: readonly Change[]): Promise<ReadonlySet<string>> {
    const deadline = performance.now() + LOCK_LOOK_TIMEOUT_MS;
    try {
      const [, there = [], free = []] = await link.exchange(lockStatements(changes), deadline);
      const keys = new Set(there.map(keyIn));
      for (const row of free) keys.delete(keyIn(row));
      return keys;
    } catch (error) {
      if (isLockTimeout(error)) return new Set(changes.map(({ row }) => keyOf(row))); // the whole table is locked
      throw error;
    }
  }

  async function lateOutcomes(): Promise<LateOutcomes> {
    const moved: Moved[] = [];
    let failed: unknown = null;
    for (const batch of unsettled.splice(0)) {
      if (failed !== null && !isLockTimeout(failed)) {
        unsettled.push(batch); // the store is down
        continue;
      }
      try {
        moved.push(...movedBy(batch.changes, await settle(batch)));
        unlearned--;
      } catch (error) {
        unsettled.push(batch);
        failed = error;
      }
    }
    if (failed !== null && moved.length === 0) throw told(failed);
    return { moved, unsettled: unlearned };
  }

  return { move: createGroupCommit(commit, { lanesMax: LANES_MAX, locked, observer }), lateOutcomes };
}

const nameOf = (changes: readonly Change[]): string =>
  changes.length === 1
    ? (changes[0]?.row.ip ?? '')
    : `${changes[0]?.row.ip} or one of ${changes.length - 1} more`;
const keyIn = (row: Row): string => `${row.subnet} ${row.ip}`;
const isLockTimeout = (error: unknown): error is MysqlFailure =>
  error instanceof MysqlFailure && error.errno === LOCK_TIMEOUT;

const isDuplicate = (error: unknown): boolean =>
  error instanceof MysqlFailure && error.errno === DUPLICATE && error.outcome === 'notApplied';

/** Returns the changes whose request has no row yet, or the same row; of several with one id the first. */
function withoutTaken(changes: readonly Change[], taken: readonly Row[]): Change[] {
  const owners = new Map(taken.map(row => [row.request_id, keyIn(row)]));
  return changes.filter(({ row, requestId = null }) => {
    if (requestId === null) return true;
    const owner = owners.get(requestId) ?? keyOf(row);
    owners.set(requestId, owner);
    return owner === keyOf(row);
  });
}

/** Returns the changes that moved these rows, each with its row, in the order of the changes. */
function movedBy(changes: readonly Change[], rows: readonly Row[]): Moved[] {
  const byKey = new Map(rows.map(toAllocation).map(row => [keyOf(row), row]));
  return changes.flatMap(change => {
    const row = byKey.get(keyOf(change.row));
    return row === undefined ? [] : [{ change, row }];
  });
}
