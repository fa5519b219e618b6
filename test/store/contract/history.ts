/** The contract of a store: the history of its moves. */
import { type Allocation, type MoveName, ruleOf } from '../../../src/domain/allocation.ts';
import type { InstanceId } from '../../../src/domain/ids.ts';
import { AGED_AT_ONCE_MS, CHANGES_MAX, type Store, TRIMMED_MAX } from '../../../src/store/store.ts';
import { make, makeReady, newRow, newRows, one, putOn, rowsOf } from '../../kit/ledger.ts';
import { ENI, ip, OTHER_ENI, range, SUBNET } from '../../kit/rows.ts';
import { assert } from '../../kit/uvu.ts';
import type { Opened, Test } from '../store.contract.ts';

const tenuresOf = async (store: Store, last: number, limit = 100) =>
  (await store.history(SUBNET, ip(last), limit)).rows;

/** How the moves of a holding end it. */
const ENDS: [move: MoveName, cause: string][] = [
  ['release', 'release'],
  ['undo', 'rollback'],
  ['undo missing', 'rollback'],
  ['retire', 'release'],
];
const serverOf = ({ token }: Allocation) => token?.slice(0, 8);
const NOT_ENDED = { until: null, isHeld: true, endedBy: null, endRequest: null, endServer: null };
const UNKNOWN = {
  ...{ since: null, instance: null, container: null, containerId: null, request: null, server: null },
};

export function history(test: Test): void {
  for (const [move, cause] of ENDS)
    test(`history: a claim is told while it is held, and with its ${move} when that has ended it`, async opened => {
      const { store, advance } = opened;
      await store.add(newRows(10));
      await makeReady(store, 10);
      assert.equal(await tenuresOf(store, 10), []);
      advance(1_000);
      const given = { holder: 'wéb', instance: 'i-0a' as InstanceId, requestId: 'id-1', call: '3f2a9c1d' };
      const claimed = await make(store, 10, 'claim', given);
      const begun = {
        since: claimed.movedAt,
        eni: ENI,
        instance: 'i-0a',
        container: 'wéb',
        containerId: null,
      };
      const by = { request: '3f2a9c1d', server: serverOf(claimed) };
      assert.equal(await tenuresOf(store, 10), [{ ...begun, ...by, ...NOT_ENDED }]);
      advance(1_000);
      const row = await make(store, 10, move, { call: 'b'.repeat(36) });
      const ended = { until: row.movedAt, isHeld: false, endedBy: cause };
      assert.equal(await tenuresOf(store, 10), [
        { ...begun, ...by, ...ended, endRequest: 'b'.repeat(36), endServer: serverOf(row) },
      ]);
    });

  test('history: what happens to a held address does not change how its holding began', async opened => {
    const { store, advance } = opened;
    await store.add(newRows(10));
    await makeReady(store, 10);
    const claimed = await make(store, 10, 'claim', { holder: 'web', call: 'call-1' });
    for (const move of ['missed', 'repeat', 'found'] as const) {
      advance(1_000);
      await make(store, 10, move, { call: 'call-2' });
    }
    const begun = [claimed.movedAt, 'web', 'call-1', serverOf(claimed)];
    const told = async () =>
      (await tenuresOf(store, 10)).map(one => [one.since, one.container, one.request, one.server]);
    assert.equal(await told(), [begun]);
    await make(store, 10, 'release');
    assert.equal(await told(), [begun]);
  });

  test('history: one after the other, the newest first, each as it began', async opened => {
    const { store, advance } = opened;
    await store.add(newRows(10));
    await makeReady(store, 10);
    for (const i of range(4)) {
      advance(10);
      // Not every engine names the container.
      await make(store, 10, 'claim', { holder: i === 1 ? null : `c${i}`, call: `claim ${i}` });
      advance(10);
      if (i < 3) await make(store, 10, 'release', { call: i === 2 ? null : `end ${i}` });
    }
    const told = async (limit = 100) =>
      (await tenuresOf(store, 10, limit)).map(one => [one.container, one.request, one.endRequest]);
    const all = [
      ['c3', 'claim 3', null],
      ['c2', 'claim 2', null],
      [null, 'claim 1', 'end 1'],
      ['c0', 'claim 0', 'end 0'],
    ];
    assert.equal(await told(), all);
    assert.equal(await told(2), all.slice(0, 2));
    await make(store, 10, 'release');
    assert.equal(await told(), all);
    assert.equal(await told(3), all.slice(0, 3));
  });

  test('history: other moves are not noted, nor is what does not apply', async ({ store }) => {
    await store.add(newRows(10));
    await makeReady(store, 10);
    const row = await one(store, 10);
    assert.equal(await store.move([{ row: { ...row, generation: 77 }, move: 'claim' }]), []);
    await make(store, 10, 'unassign');
    assert.equal(await tenuresOf(store, 10), []);
    await make(store, 10, 'kept');
    const held = await make(store, 10, 'claim');
    assert.equal(await store.move([{ row: { ...held, generation: 77 }, move: 'release' }]), []);
    assert.equal(
      (await tenuresOf(store, 10)).map(({ isHeld }) => isHeld),
      [true],
    );
  });

  test('history: one move of many is noted row by row, each with its cause and call', async ({ store }) => {
    const lasts = range(CHANGES_MAX / 2, 4).map(last => last % 250);
    await store.add(newRows(...lasts));
    await putOn(store, await rowsOf(store, lasts), ENI);
    const claims = (await rowsOf(store, lasts)).map((row, i) => ({
      ...{ row, move: 'claim' as const, holder: `c${i}`, call: i % 2 === 0 ? `call ${i}` : null },
    }));
    const held = await store.move(claims);
    const ends = held.map((row, i) => ({
      ...{ row, move: i % 5 === 0 ? ('retire' as const) : ('release' as const), call: `end ${i}` },
      ...(i % 3 === 0 ? { cause: 'operator' as const } : {}),
    }));
    const some = ends.filter((_, i) => i % 7 !== 0);
    // One is not there any more.
    await store.move(ends.slice(1, 2));
    assert.is((await store.move(some)).length, some.length - 1);
    for (const [i, row] of held.entries()) {
      const [tenure] = (await store.history(row.subnet, row.ip, 10)).rows;
      const [begin, end] = [claims[i], i % 7 === 0 ? undefined : ends[i]];
      assert.equal(
        [tenure?.container, tenure?.request, tenure?.endedBy, tenure?.endRequest],
        [`c${i}`, begin?.call, end && (end.cause ?? 'release'), end?.call].map(value => value ?? null),
      );
    }
  });

  test('history: of a holding whose record was lost nothing is told but its end', async opened => {
    const { store, advance } = opened;
    await store.add([...newRows(9), newRow(10, { status: 'occupied', iface: ENI })]);
    // An earlier holding is no part of it.
    await makeReady(store, 9);
    await make(store, 9, 'claim', { holder: 'web', call: 'call-1', instance: 'i-0a' as InstanceId });
    await make(store, 9, 'release');
    await make(store, 9, 'strayed');
    advance(1_000);
    for (const last of [9, 10]) {
      const row = await make(store, last, 'surrender', { cause: 'operator' });
      const end = { until: row.movedAt, isHeld: false, endedBy: 'operator', endRequest: null };
      const [tenure] = await tenuresOf(store, last);
      assert.equal(tenure, { ...UNKNOWN, eni: ENI, ...end, endServer: serverOf(row) });
    }
    assert.equal(
      (await tenuresOf(store, 9)).map(({ container }) => container),
      [null, 'web'],
    );
  });

  test('EC2 calls: are noted with the intents that were written, and their result with the settlement', async opened => {
    const { store, advance } = opened;
    await store.add(newRows(10, 9, 11, 12));
    const rowOf = (last: number) => one(store, last);
    const [ten, nine, eleven, twelve] = [await rowOf(10), await rowOf(9), await rowOf(11), await rowOf(12)];
    await make(store, 12, 'reserve');
    const intend = (rows: readonly Allocation[], id: string) =>
      store.move(rows.map(row => ({ row, move: 'assign', iface: ENI, ec2: { id } })));
    const intents = await intend([ten, nine, twelve], 'call-1');
    assert.is(intents.length, 2);
    const begun = { id: 'call-1', at: intents[0]?.movedAt, action: 'assign', iface: ENI };
    const server = intents[0]?.token?.slice(0, 8);
    const open = { ...begun, server, ips: [ip(9), ip(10)], endedAt: null, result: null };
    assert.equal((await store.ec2Calls(60_000, 10)).rows, [open]);
    const more = await intend([eleven], 'call-1');
    const ips = [ip(9), ip(10), ip(11)];
    advance(2_000);
    const settled = await store.move([
      ...intents.map(row => ({ row, move: 'assigned' as const, ec2: { id: 'call-1', result: 'done' } })),
      ...more.map(row => ({ row, move: 'refused' as const, ec2: { id: 'call-1', result: 'done' } })),
    ]);
    const endedAt = settled[0]?.movedAt;
    assert.equal((await store.ec2Calls(60_000, 10)).rows, [{ ...open, ips, endedAt, result: 'done' }]);
  });

  test('EC2 calls: some in one move, the newest first; none whose intents were not written', async opened => {
    const { store, advance } = opened;
    await store.add(newRows(10, 11, 12));
    const [first, second, third] = [await makeReady(store, 10), await makeReady(store, 11, OTHER_ENI), 12];
    advance(1_000);
    await store.move([
      { row: first, move: 'unassign', ec2: { id: 'call-1' } },
      { row: second, move: 'unassign', ec2: { id: 'call-2' } },
      {
        row: { ...(await one(store, third)), generation: 9 },
        move: 'assign',
        iface: ENI,
        ec2: { id: 'call-3' },
      },
    ]);
    const calls = async (forMs = 60_000, limit = 10) => (await store.ec2Calls(forMs, limit)).rows;
    assert.equal((await calls()).map(({ id, action, iface, ips }) => [id, action, iface, ips]).sort(), [
      ['call-1', 'unassign', ENI, [ip(10)]],
      ['call-2', 'unassign', OTHER_ENI, [ip(11)]],
    ]);
    advance(5_000);
    await store.endEc2Call('call-2', 'x'.repeat(1_000));
    await store.endEc2Call('call-9', 'nobody made it');
    const ended = (await calls()).find(({ id }) => id === 'call-2');
    assert.equal([ended?.result, (ended?.endedAt ?? 0) - (ended?.at ?? 0) >= 5_000], ['x'.repeat(500), true]);
    await make(store, 12, 'assign', { iface: ENI, ec2: { id: 'call-4' } });
    assert.equal(
      (await calls(60_000, 1)).map(({ id }) => id),
      ['call-4'],
    );
    assert.equal(
      (await calls(2_000)).map(({ id }) => id),
      ['call-4'],
    );
    assert.is(await store.trimHistory(await store.historyEnd(2_000, 1_000)), false);
    assert.equal(
      (await calls()).map(({ id }) => id),
      ['call-4'],
    );
  });

  test('history: is trimmed by age', async opened => {
    const { store, advance } = opened;
    await manyHoldings(opened, 10, 2);
    advance(60_000);
    await manyHoldings(opened, 10, 1);
    const until = await store.historyEnd(30_000, 1_000);
    assert.is(await store.trimHistory(until), false);
    assert.is((await tenuresOf(store, 10)).length, 1);
  });

  test('history: what is old is trimmed a day at a time, also when a clock is set far ahead', async opened => {
    const { store, advance } = opened;
    const trim = async () => void (await store.trimHistory(await store.historyEnd(30_000, 1_000)));
    await store.add(newRows(11));
    for (const i of range(3)) {
      await manyHoldings(opened, 10, 1);
      await make(store, 11, 'assign', { iface: ENI, ec2: { id: `call-${i}` } });
      await make(store, 11, 'refused', { ec2: { id: `call-${i}`, result: 'no' } });
      advance(AGED_AT_ONCE_MS);
    }
    advance(30 * AGED_AT_ONCE_MS);
    const left = async () => [
      (await tenuresOf(store, 10)).length,
      (await store.ec2Calls(60 * AGED_AT_ONCE_MS, 10)).rows.length,
    ];
    for (const count of [3, 2, 1, 0]) {
      assert.equal(await left(), [count, count]);
      await trim();
    }
  });

  test('history: is trimmed to its newest records', async opened => {
    const { store } = opened;
    await manyHoldings(opened, 10, 3);
    const all = await tenuresOf(store, 10);
    assert.is(await store.trimHistory(await store.historyEnd(3_600_000, 2)), false);
    assert.equal(await tenuresOf(store, 10), all.slice(0, 2));
    assert.is(await store.trimHistory(await store.historyEnd(3_600_000, 2)), false);
    assert.equal(await tenuresOf(store, 10), all.slice(0, 2));
  });

  test('history: is trimmed some at a time', async opened => {
    const { store, advance } = opened;
    const lasts = range(240, 4);
    await store.add(newRows(...lasts));
    await putOn(store, await rowsOf(store, lasts), ENI);
    const moves = range(16).map(i => (i % 2 === 0 ? 'claim' : 'release'));
    for (const move of moves) {
      advance(10);
      const rows = (await rowsOf(store, lasts)).filter(({ status }) => status === ruleOf(move).from);
      assert.is(rows.length, lasts.length);
      await store.move(rows.map(row => ({ row, move })));
    }
    advance(10);
    const until = await store.historyEnd(0, 0);
    assert.is(await store.trimHistory(until), true);
    const left = (await Promise.all(lasts.map(last => tenuresOf(store, last)))).flat().length;
    const all = (moves.length / 2) * lasts.length;
    assert.ok(
      left <= all - TRIMMED_MAX && left >= all - TRIMMED_MAX - lasts.length,
      `${left} of ${all} are left`,
    );
    assert.is(await store.trimHistory(until), false);
    for (const last of lasts) assert.equal(await tenuresOf(store, last), []);
  });
}

/** So many holdings of the address, one after the other. */
async function manyHoldings({ store, advance }: Opened, last: number, count: number): Promise<void> {
  await store.add(newRows(last));
  if ((await one(store, last)).status === 'free') await makeReady(store, last);
  for (let i = 0; i < count; i++) {
    advance(10);
    await make(store, last, 'claim');
    advance(10);
    await make(store, last, 'release');
  }
}
