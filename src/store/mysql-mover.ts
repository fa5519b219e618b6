import type { Change } from '../domain/allocation.ts';
import { toAllocation } from './allocation-row.ts';
import { keyOf } from './batch.ts';
import { groupCommit } from './group-commit.ts';
import { insist, ipamErrorOf, once } from './mysql-calls.ts';
import { MysqlFailure } from './mysql-failure.ts';
import type { Link, Row } from './mysql-link.ts';
import { moveStatements, settleStatements } from './mysql-move.ts';
import type { Moved, Store } from './store.ts';

/** Commits under way at a time. On two cores 1, 2 and 3 of them made 10,700, 12,100 and 11,700 claim and release pairs
 *  a second with 50 callers, 19,100, 23,700 and 24,100 with 200; with 4 and 8 each move costs a fifth and a half more
 *  CPU than with 2. And a batch that waits for a lock or a lost answer doesn't hold up every other. */
const LANES_MAX = 2;
/** Batches whose outcome is not known; with more of them nothing is moved any more. */
const UNSETTLED_MAX = 1_000;

interface Batch {
  readonly changes: readonly Change[];
  readonly token: string;
}
interface MoverOptions {
  readonly place: string;
  readonly newToken: () => string;
  readonly skewMs: () => number;
  readonly callTimeoutMs: number;
}

/** `move` and `unheard` of a store on MySQL. */
export function mysqlMover(link: Link, options: MoverOptions): Pick<Store, 'move' | 'unheard'> {
  const { place, newToken, skewMs, callTimeoutMs } = options;
  const unsettled: Batch[] = [];

  /** The rows that moved. Only when the settling fails as well does nobody know what became of the batch. */
  async function moveOrSettle(batch: Batch): Promise<Row[]> {
    if (unsettled.length >= UNSETTLED_MAX)
      throw new MysqlFailure('unsent', `it is not known what became of ${unsettled.length} moves`);
    try {
      const answers = await once(link, moveStatements(batch.changes, batch.token, skewMs()), callTimeoutMs);
      return answers.at(-1) ?? [];
    } catch (error) {
      if (!(error instanceof MysqlFailure) || error.outcome !== 'unknown') throw error;
    }
    try {
      return await settle(batch);
    } catch (error) {
      unsettled.push(batch);
      throw error;
    }
  }

  const settle = async ({ changes, token }: Batch): Promise<Row[]> =>
    (await insist(link, settleStatements(changes, token), callTimeoutMs)).at(-1) ?? [];

  const told = (error: unknown): unknown =>
    error instanceof MysqlFailure ? ipamErrorOf(error, place) : error;

  async function commit(changes: readonly Change[]) {
    try {
      return (await moveOrSettle({ changes, token: newToken() })).map(toAllocation);
    } catch (error) {
      throw told(error);
    }
  }

  async function unheard(): Promise<Moved[]> {
    const learned: Moved[] = [];
    for (let batch = unsettled.shift(); batch !== undefined; batch = unsettled.shift()) {
      try {
        learned.push(...movedBy(batch.changes, await settle(batch)));
      } catch (error) {
        unsettled.unshift(batch);
        if (learned.length > 0) break;
        throw told(error);
      }
    }
    return learned;
  }

  return { move: groupCommit(commit, { lanesMax: LANES_MAX }), unheard };
}

/** The changes that moved these rows, each with its row, in the order of the changes. */
function movedBy(changes: readonly Change[], rows: readonly Row[]): Moved[] {
  const byKey = new Map(rows.map(toAllocation).map(row => [keyOf(row), row]));
  return changes.flatMap(change => {
    const row = byKey.get(keyOf(change.row));
    return row === undefined ? [] : [{ change, row }];
  });
}
