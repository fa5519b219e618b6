/** The contract of a store: its moves. */
import {
  type Allocation,
  type Change,
  MOVES,
  type MoveName,
  moved,
  ruleOf,
  type Status,
} from '../../../src/domain/allocation.ts';
import { isError } from '../../../src/domain/error.ts';
import type { InstanceId } from '../../../src/domain/ids.ts';
import { CHANGES_MAX, type Store } from '../../../src/store/store.ts';
import { make, makeReady, newRow, newRows, one, putOn, rowsOf } from '../../kit/ledger.ts';
import { ENI, ip, ipsOf, OTHER_ENI, OTHER_SUBNET, range, SUBNET } from '../../kit/rows.ts';
import { assert } from '../../kit/uvu.ts';
import type { Opened, Test } from '../store.contract.ts';

const GIVEN = {
  ...{ iface: OTHER_ENI, primary: true, holder: 'web-1', refused: true, unsure: true },
  ...{ instance: 'i-0b' as InstanceId, requestId: 'request-2', releaseId: 'release-2' },
  reservedFor: 'the router',
} as const;

/** The moves that lead from a fresh row to the status. */
const PATHS: Record<Status, readonly MoveName[]> = {
  free: [],
  reserved: ['hold'],
  occupied: ['foreign'],
  assigning: ['assign'],
  ready: ['assign', 'assigned'],
  allocated: ['assign', 'assigned', 'claim'],
  unassigning: ['assign', 'assigned', 'unassign'],
};

/** A row in the status whose other columns are as full as moves can make them, so that every effect shows. */
async function marked({ store, advance }: Opened, last: number, status: Status): Promise<Allocation> {
  await store.add([newRow(last)]);
  const step = (move: MoveName, given: Partial<Change> = {}) => {
    advance(1_000);
    return make(store, last, move, given);
  };
  await step('assign', { iface: ENI });
  await step('assigned');
  await step('unassign');
  await step('unassigned'); // leftIface, leftAt
  await step('assign', { iface: ENI });
  await step('taken', { iface: OTHER_ENI, refused: true }); // refusedAt
  await step('unseen'); // absentSince
  if (status === 'occupied') return one(store, last);
  await step('vacated', { releaseId: 'release-1' }); // restedSince, restedFrom
  const claimed = { holder: 'db-1', instance: 'i-0a' as InstanceId, requestId: `request-1 of ${last}` };
  const given = { iface: ENI, reservedFor: 'the printer', ...claimed };
  for (const move of PATHS[status]) await step(move, given);
  return status === 'allocated' ? step('repair') : one(store, last);
}

/** When the move was made, as the row after it tells. */
function timeOf(after: Allocation, { goesOn, repeats, places, repair }: ReturnType<typeof ruleOf>) {
  if (!goesOn) return after.movedAt;
  if (repeats) return after.repeatedAt;
  if (places) return after.placedAt;
  return repair === 'send' ? after.repairUnsureAt : after.missingSince;
}

/** Makes the move of a row in its status, and compares what came of it with the domain. */
async function comesOut(opened: Opened, last: number, move: MoveName, given: Partial<Change>): Promise<void> {
  const rule = ruleOf(move);
  const before = await marked(opened, last, rule.from);
  opened.advance(1_000);
  const change: Change = { row: before, move, ...given };
  const [after] = await opened.store.move([change]);
  assert.ok(after, 'the move was not made');
  const at = timeOf(after, rule) ?? 0;
  assert.equal(after, moved(before, change, at, after.token ?? ''));
  assert.ok(at >= before.movedAt + 1_000, 'moved at the time of the move');
  assert.is.not(after.token, before.token);
  assert.is(after.token?.length, 36);
  assert.equal(await one(opened.store, last), after, 'what was answered is what was written');
}

export function everyMove(test: Test): void {
  for (const move of Object.keys(MOVES) as MoveName[])
    test(`${move}: does what the domain says, with and without given values`, async opened => {
      await comesOut(opened, 10, move, GIVEN);
      await comesOut(opened, 11, move, {});
    });

  test('a mark: that is set is not set anew', async opened => {
    const { store, advance } = opened;
    await marked(opened, 10, 'allocated');
    const first = await make(store, 10, 'missed');
    advance(5_000);
    assert.is((await make(store, 10, 'missed')).missingSince, first.missingSince);
    assert.is((await make(store, 10, 'found')).missingSince, null);
  });
}

const STALE: [what: string, patch: Partial<Allocation>, move: MoveName][] = [
  ['subnet', { subnet: OTHER_SUBNET }, 'claim'],
  ['address', { ip: ip(11) }, 'claim'],
  ['status', { status: 'free' }, 'foreign'],
  ['ENI', { iface: OTHER_ENI }, 'claim'],
  ['lack of an ENI', { iface: null }, 'claim'],
  ['generation', { generation: 7 }, 'claim'],
];

/** What becomes of many changes of many kinds, some of them stale. */
const manyChanges = (rows: readonly Allocation[]): Change[] =>
  rows.map((row, i): Change => {
    if (i % 4 === 0) return { row, move: 'reserve' };
    if (i % 4 === 1) return { row, move: 'assign', iface: i % 8 === 1 ? ENI : OTHER_ENI };
    if (i % 4 === 2) return { row: { ...row, generation: 9 }, move: 'reserve' };
    return { row, move: 'foreign', iface: i % 8 === 3 ? ENI : null, primary: i % 8 === 3 };
  });

/** Fresh rows, ready on the ENI. */
async function readyRows<N extends number[]>(store: Store, ...lasts: N) {
  await store.add(newRows(...lasts));
  return (await putOn(store, await rowsOf(store, lasts), ENI)) as {
    [K in keyof N]: Allocation;
  } & Allocation[];
}

export function compareAndSet(test: Test): void {
  const ready = async (store: Store): Promise<Allocation> => {
    await store.add(newRows(10));
    return makeReady(store, 10);
  };

  for (const [what, patch, move] of STALE)
    test(`a move of a row with another ${what}: is a "no" and changes nothing`, async ({ store }) => {
      const before = await ready(store);
      assert.equal(await store.move([{ row: { ...before, ...patch }, move }]), []);
      assert.equal(await one(store, 10), before);
    });

  test('a move that does not start at the row’s status: is a "no"', async ({ store }) => {
    await store.add(newRows(10));
    assert.equal(await store.move([{ row: await one(store, 10), move: 'claim' }]), []);
  });

  test('claims of one row at once: one wins', async ({ store }) => {
    const row = await ready(store);
    const claim = (holder: string) => store.move([{ row, move: 'claim', holder }]);
    const answers = (await Promise.all(['a', 'b', 'c', 'd'].map(claim))).flat();
    assert.equal(answers, [await one(store, 10)]);
  });

  test('a row named twice in one move: moves once, by the first change', async ({ store }) => {
    const row = await ready(store);
    const claim = { row, move: 'claim', holder: 'first' } as const;
    const [after, ...more] = await store.move([claim, { row, move: 'unassign' }]);
    assert.equal([after?.status, after?.holder, more.length], ['allocated', 'first', 0]);
  });

  test('many changes: each row its own values, one token, returned in the order asked', async ({ store }) => {
    const lasts = range(40).map(i => 200 - i);
    await store.add(newRows(...lasts));
    const changes = manyChanges(await Promise.all(lasts.map(last => one(store, last))));
    const after = await store.move(changes);
    const [{ movedAt = 0, token = null } = {}] = after;
    assert.is(after.length, 30);
    const isFresh = ({ row }: Change) => row.generation === 0;
    const expected = changes
      .filter(isFresh)
      .map(change => moved(change.row as Allocation, change, movedAt, token ?? ''));
    assert.equal(after, expected);
  });

  test('rows of two subnets that have one address: each gets its own values, in one move', async ({
    store,
  }) => {
    const twin = { subnet: OTHER_SUBNET };
    await store.add([newRow(10), newRow(10, twin), newRow(11)]);
    const rows = [await one(store, 10), await one(store, 10, OTHER_SUBNET), await one(store, 11)];
    const assigning = await store.move(
      rows.map((row, i) => ({ row, move: 'assign', iface: i === 1 ? OTHER_ENI : ENI })),
    );
    const [a, b, c] = await store.move(assigning.map(row => ({ row, move: 'assigned' })));
    assert.ok(a && b && c);
    const held = await store.move([
      { row: a, move: 'claim', holder: 'a' },
      { row: b, move: 'claim', holder: null },
      { row: { ...c, iface: OTHER_ENI }, move: 'claim', holder: 'c' },
    ]);
    const told = held.map(({ subnet, iface, holder }) => `${subnet} ${iface} ${holder}`);
    assert.equal(told, [`${SUBNET} ${ENI} a`, `${OTHER_SUBNET} ${OTHER_ENI} null`]);
  });

  test(`a move: takes ${CHANGES_MAX} changes, and not one more`, async ({ store }) => {
    await store.add(newRows(...range(CHANGES_MAX + 1)));
    const { rows } = await store.withStatus(SUBNET, ['free']);
    const changes = rows.map((row): Change => ({ row, move: 'foreign', iface: ENI }));
    const refused = await store.move(changes).catch((error: unknown) => error);
    assert.ok(isError(refused, 'internal'), String(refused));
    assert.equal(ipsOf(await store.move(changes.slice(0, CHANGES_MAX))), ipsOf(rows.slice(0, CHANGES_MAX)));
  });

  test('a holder: may have any name, and one too long is cut, not refused', async ({ store }) => {
    const odd = "'; drop table allocation; -- \\' ? \u{1f40b} \"`";
    await store.add(newRows(10, 11));
    const [a, b] = await putOn(store, await rowsOf(store, [10, 11]), ENI);
    assert.ok(a && b);
    const after = await store.move([
      { row: a, move: 'claim', holder: odd },
      { row: b, move: 'claim', holder: 'x'.repeat(300) },
    ]);
    assert.equal([after[0]?.holder, after[1]?.holder], [odd, 'x'.repeat(255)]);
  });

  test('the id of a request: is in one row at most; a claim of another row with it is a "no"', async ({
    store,
  }) => {
    const [a, b] = await readyRows(store, 10, 11);
    const claim = (row: Allocation, requestId: string | null = 'r-1') =>
      store.move([{ row, move: 'claim', requestId }]);
    assert.is((await claim(a)).length, 1);
    assert.equal(await claim(b), []);
    assert.equal(await one(store, 11), b, 'it did not change');
    assert.equal((await store.withRequest('r-1')).rows, [await one(store, 10)]);
    await make(store, 10, 'release');
    assert.equal(await claim(b), [], 'the id stays after the release');
    assert.equal(ipsOf(await claim(await one(store, 10))), [ip(10)], 'its own row may be given it again');
    await make(store, 10, 'undo');
    assert.equal((await store.withRequest('r-1')).rows, [], 'a rollback forgets it');
    assert.equal(ipsOf(await claim(b)), [ip(11)]);
    await make(store, 11, 'release');
    await claim(await one(store, 11), null);
    assert.equal(ipsOf(await claim(await one(store, 10))), [ip(10)], 'the next claim of the row forgets it');
  });

  test('the id of a release: stays until a release has another one', async ({ store }) => {
    const [a, b] = await readyRows(store, 10, 11);
    const claimed = await store.move([a, b].map(row => ({ row, move: 'claim' })));
    const ids = ['s-1', 's-2'];
    await store.move(claimed.map((row, i) => ({ row, move: 'release', releaseId: ids[i] ?? null })));
    const again = await store.move((await rowsOf(store, [10, 11])).map(row => ({ row, move: 'claim' })));
    const after = await store.move(
      again.map((row, i) => ({ row, move: 'release', releaseId: i === 0 ? null : 's-3' })),
    );
    assert.equal(
      after.map(row => row.releaseId),
      ['s-1', 's-3'],
    );
    await make(store, 11, 'claim');
    assert.is((await make(store, 11, 'undo')).releaseId, 's-3');
  });

  test('the id of a request: fails only its own change in a move, and in calls that share a commit', async ({
    store,
  }) => {
    const [a, b, c, d, e] = await readyRows(store, 10, 11, 12, 13, 14);
    const claim = (row: Allocation, requestId: string | null): Change => ({ row, move: 'claim', requestId });
    await store.move([claim(a, 'r-1')]);
    const made = await store.move([claim(b, 'r-1'), claim(c, 'r-2'), claim(d, 'r-2'), claim(e, null)]);
    const two = [ip(12), ip(13)].filter(one => ipsOf(made).includes(one));
    assert.equal([made.length, two.length, ipsOf(made).includes(ip(14))], [2, 1, true]);
    const rows = await readyRows(store, ...range(20, 30));
    const calls = await Promise.all(rows.map((row, i) => store.move([claim(row, `r-${i % 10}`)])));
    assert.is(calls.flat().length, 8, 'r-1 and r-2 were given before');
    assert.is(new Set(calls.flat().map(row => row.requestId)).size, 8);
  });

  test('no change: is no move', async ({ store }) => assert.equal(await store.move([]), []));
}
