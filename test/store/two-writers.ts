/** Two servers that move the same addresses, and what the history must say of that by what they noted themselves. */
import type { Allocation, Change, MoveName } from '../../src/domain/allocation.ts';
import type { Tenure } from '../../src/domain/history.ts';
import type { InstanceId } from '../../src/domain/ids.ts';
import type { Store } from '../../src/store/store.ts';
import { newRows, one, putOn, rowsOf } from '../kit/ledger.ts';
import { ENI, ip, range, SUBNET } from '../kit/rows.ts';
import { assert } from '../kit/uvu.ts';

const LASTS = range(40, 10);
/** Requests of one server at a time, some of them for one address. */
const WORKERS = 12;
const CAUSES: Readonly<Partial<Record<MoveName, string>>> = {
  release: 'release',
  undo: 'rollback',
  retire: 'release',
  'undo missing': 'rollback',
};

/** A move that a server has tried, by the id of its call; `row`: the row after it. Null: it was not told that it made the
 *  move. It may have made it, if the other was so quick that it moved the row again. */
interface Try {
  readonly change: Change;
  row: Allocation | null;
}
type Tries = ReadonlyMap<number, Map<string, Try>>;

/** Makes `moves` moves by both stores together, and asks for the history of addresses meanwhile and at once afterwards. */
export async function twoWriters(stores: readonly [Store, Store], moves: number): Promise<void> {
  const [first] = stores;
  await first.add(newRows(...LASTS));
  await putOn(first, await rowsOf(first, LASTS), ENI);
  const tries: Tries = new Map(LASTS.map(last => [last, new Map()]));
  let made = 0;
  let asked = 0;

  async function work(store: Store, name: string): Promise<void> {
    for (let i = 0; made < moves; i++) {
      const last = LASTS[Math.floor(Math.random() * LASTS.length)] ?? 0;
      if (i % 50 === 49) {
        asked++;
        await assertTold(store, last, tries);
        continue;
      }
      const call = `${name}-${i}`;
      const own: Try = { change: nextOf(await one(store, last), call), row: null };
      tries.get(last)?.set(call, own);
      own.row = (await store.move([own.change]))[0] ?? null;
      if (own.row !== null) made++;
    }
  }
  await Promise.all(
    stores.flatMap((store, s) => range(WORKERS).map(worker => work(store, `s${s}w${worker}`))),
  );
  assert.ok(made >= moves && asked > WORKERS, `${made} moves, ${asked} questions meanwhile`);
  for (const store of stores) for (const last of LASTS) await assertTold(store, last, tries);
}

/** The next move of the row: mostly claims and their ends, sometimes what happens to a held address meanwhile. */
function nextOf(row: Allocation, call: string): Change {
  const { status, missingSince, repairUnsureAt } = row;
  if (status === 'unassigning') return { row, move: 'kept' };
  if (status === 'ready') {
    const instance = Math.random() < 0.5 ? ('i-0a' as InstanceId) : null;
    return { row, move: 'claim', holder: `of ${call}`, instance, call };
  }
  if (Math.random() < 0.2) return { row, move: missingSince === null ? 'missed' : 'found', call };
  if (Math.random() < 0.1) return { row, move: repairUnsureAt === null ? 'repair' : 'repaired', call };
  const ends: readonly MoveName[] = ['release', 'undo', 'retire', 'undo missing'];
  const move = Math.random() < 0.7 ? 'release' : (ends[Math.floor(Math.random() * ends.length)] ?? 'release');
  return { row, move, call, ...(Math.random() < 0.1 ? { cause: 'operator' } : {}) };
}

/** All moves that were told of before the question are in the answer, and all in the answer were tried, as it says. */
async function assertTold(store: Store, last: number, tries: Tries): Promise<void> {
  const own = tries.get(last) ?? new Map<string, Try>();
  const made = [...own].filter(([, { row }]) => row !== null);
  const { rows } = await store.history(SUBNET, ip(last), 100_000);
  const [begun, ended] = [new Set(rows.map(one => one.request)), new Set(rows.map(one => one.endRequest))];
  for (const [call, { change }] of made) {
    if (change.move === 'claim') assert.ok(begun.has(call), `${call} began one`);
    if (CAUSES[change.move] !== undefined) assert.ok(ended.has(call), `${call} ended one`);
  }
  for (const [i, tenure] of rows.entries()) {
    assertBegan(tenure, own.get(tenure.request ?? ''));
    if (tenure.isHeld) assert.is(i, 0);
    else assertEnded(tenure, own.get(tenure.endRequest ?? ''));
    assert.ok((tenure.since ?? 0) >= (rows[i + 1]?.until ?? 0), 'one at a time, newest first');
  }
  assert.is(begun.size, rows.length, 'each began once');
  assert.is(ended.size, rows.length, 'each ended once');
}

const serverOf = (row: Allocation): string | undefined => row.token?.slice(0, 8);

function assertBegan({ since, eni, container, instance, server }: Tenure, by: Try | undefined): void {
  assert.is(by?.change.move, 'claim');
  assert.equal([eni, container, instance], [ENI, by?.change.holder, by?.change.instance]);
  if (by?.row) assert.equal([since, server], [by.row.movedAt, serverOf(by.row)]);
}
function assertEnded({ until, endedBy, endServer }: Tenure, by: Try | undefined): void {
  assert.is(endedBy, by && (by.change.cause ?? CAUSES[by.change.move]));
  if (by?.row) assert.equal([until, endServer], [by.row.movedAt, serverOf(by.row)]);
}
