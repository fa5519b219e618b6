/** The contract of a store: the history of its moves. */
import { type Allocation, type MoveName, ruleOf } from '../../../src/domain/allocation.ts';
import type { InstanceId } from '../../../src/domain/ids.ts';
import { CHANGES_MAX, type Store, TRIMMED_MAX } from '../../../src/store/store.ts';
import { make, makeReady, newRow, newRows, one, putOn, rowsOf } from '../../kit/ledger.ts';
import { ENI, ip, OTHER_ENI, range, SUBNET } from '../../kit/rows.ts';
import { assert } from '../../kit/uvu.ts';
import type { Opened, Test } from '../store.contract.ts';

const recordsOf = async (store: Store, last: number, limit = 100) =>
  (await store.history(SUBNET, ip(last), limit)).rows;

/** How the moves of a holding end it. */
const ENDS: [move: MoveName, cause: string][] = [
  ['release', 'release'],
  ['undo', 'rollback'],
  ['undo missing', 'rollback'],
  ['retire', 'release'],
];

export function history(test: Test): void {
  for (const [move, cause] of ENDS)
    test(`history: a claim and its ${move} are noted with their rows and calls`, async opened => {
      const { store, advance } = opened;
      await store.add(newRows(10));
      await makeReady(store, 10);
      advance(1_000);
      const given = { holder: 'wéb', instance: 'i-0a' as InstanceId, requestId: 'id-1', call: '3f2a9c1d' };
      const claimed = await make(store, 10, 'claim', given);
      advance(1_000);
      const ended = await make(store, 10, move, { call: 'b'.repeat(36) });
      const row = { subnet: SUBNET, ip: ip(10), iface: ENI };
      assert.equal(await recordsOf(store, 10), [
        {
          ...{ ...row, generation: claimed.generation, at: claimed.movedAt, move: 'claim', cause: 'request' },
          ...{ instance: 'i-0a', holder: 'wéb', request: '3f2a9c1d', server: claimed.token?.slice(0, 8) },
        },
        {
          ...{ ...row, generation: ended.generation, at: ended.movedAt, move, cause, instance: null },
          ...{ holder: null, request: 'b'.repeat(36), server: ended.token?.slice(0, 8) },
        },
      ]);
    });

  test('history: other moves are not noted, nor is what does not apply', async ({ store }) => {
    await store.add(newRows(10));
    await makeReady(store, 10);
    const row = await one(store, 10);
    assert.equal(await store.move([{ row: { ...row, generation: 77 }, move: 'claim' }]), []);
    await make(store, 10, 'unassign');
    assert.equal(await recordsOf(store, 10), []);
  });

  test('history: one move of many is noted row by row, each with its cause and call', async ({ store }) => {
    const lasts = range(CHANGES_MAX / 2, 4).map(last => last % 250);
    await store.add(newRows(...lasts));
    await putOn(store, await rowsOf(store, lasts), ENI);
    const claims = (await rowsOf(store, lasts)).map((row, i) => ({
      ...{ row, move: 'claim' as const, holder: `c${i}`, call: i % 2 === 0 ? `call ${i}` : null },
      ...(i % 3 === 0 ? { cause: 'operator' as const } : {}),
    }));
    const moved = await store.move(claims);
    for (const [i, row] of moved.entries()) {
      const [record] = (await store.history(row.subnet, row.ip, 10)).rows;
      const change = claims[i];
      assert.equal(
        [record?.holder, record?.request, record?.cause],
        [row.holder, change?.call, change?.cause ?? 'request'],
      );
    }
  });

  test('history: an end without a record of its claim, and causes that are given', async ({ store }) => {
    await store.add([newRow(10, { status: 'occupied', iface: ENI })]);
    await make(store, 10, 'surrender', { cause: 'operator' });
    const [record] = await recordsOf(store, 10);
    assert.equal([record?.move, record?.cause, record?.request], ['surrender', 'operator', null]);
  });

  test('history: the newest are returned, the oldest of them first', async opened => {
    await manyHoldings(opened, 10, 4);
    const all = await recordsOf(opened.store, 10);
    assert.is(all.length, 8);
    assert.equal(await recordsOf(opened.store, 10, 3), all.slice(-3));
    assert.ok(all.every((record, i) => i === 0 || record.generation > (all[i - 1]?.generation ?? 0)));
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
    assert.is((await recordsOf(store, 10)).length, 2);
  });

  test('history: is trimmed to its newest records', async opened => {
    const { store } = opened;
    await manyHoldings(opened, 10, 3);
    const all = await recordsOf(store, 10);
    assert.is(await store.trimHistory(await store.historyEnd(3_600_000, 2)), false);
    assert.equal(await recordsOf(store, 10), all.slice(-2));
    assert.is(await store.trimHistory(await store.historyEnd(3_600_000, 2)), false);
    assert.equal(await recordsOf(store, 10), all.slice(-2));
  });

  test('history: is trimmed some at a time', async opened => {
    const { store, advance } = opened;
    const lasts = range(240, 4);
    await store.add(newRows(...lasts));
    await putOn(store, await rowsOf(store, lasts), ENI);
    const moves = range(8).map(i => (i % 2 === 0 ? 'claim' : 'release'));
    for (const move of moves) {
      advance(10);
      const rows = (await rowsOf(store, lasts)).filter(({ status }) => status === ruleOf(move).from);
      assert.is(rows.length, lasts.length);
      await store.move(rows.map(row => ({ row, move })));
    }
    advance(10);
    const until = await store.historyEnd(0, 0);
    assert.is(await store.trimHistory(until), true);
    const left = (await Promise.all(lasts.map(last => recordsOf(store, last)))).flat().length;
    const all = moves.length * lasts.length;
    assert.ok(
      left <= all - TRIMMED_MAX && left >= all - TRIMMED_MAX - lasts.length,
      `${left} of ${all} are left`,
    );
    assert.is(await store.trimHistory(until), false);
    for (const last of lasts) assert.equal(await recordsOf(store, last), []);
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
