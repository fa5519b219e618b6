/** The contract of a store: what people are shown. */
import { numberOf } from '../../../src/domain/address.ts';
import type { InstanceId } from '../../../src/domain/ids.ts';
import { LATELY_MS } from '../../../src/store/looks.ts';
import { eniWith, make, makeReady, newRow, newRows, one } from '../../kit/ledger.ts';
import { ENI, ip, ipsOf, OTHER_ENI, OTHER_SUBNET, SUBNET } from '../../kit/rows.ts';
import { noteSightings, sightingWith } from '../../kit/sightings.ts';
import { assert } from '../../kit/uvu.ts';
import type { Test } from '../store.contract.ts';

const ALL = { first: numberOf(ip(0)), last: numberOf(ip(1023)) };

export function looks(test: Test): void {
  test('looks: blocks are counted by status, with what operators hold and what is missing', async ({
    store,
    advance,
  }) => {
    await store.add([...newRows(6, 7, 8, 255, 256, 300), newRow(9, { subnet: OTHER_SUBNET })]);
    await makeReady(store, 6);
    await make(store, 6, 'claim');
    await make(store, 6, 'missed');
    await make(store, 300, 'hold', { reservedFor: 'dns' });
    const sorted = (await store.blocks(SUBNET, ALL)).sort(
      (a, b) => a.first - b.first || (a.status < b.status ? -1 : 1),
    );
    const [none, first, second] = [
      { reservedByOperators: 0, missing: 0, begun: 0 },
      ALL.first,
      ALL.first + 256,
    ];
    assert.equal(sorted, [
      { first, status: 'allocated', count: 1, reservedByOperators: 0, missing: 1, begun: 1 },
      { first, status: 'free', count: 3, ...none },
      { first: second, status: 'free', count: 1, ...none },
      { first: second, status: 'reserved', count: 1, ...none, reservedByOperators: 1 },
    ]);
    const part = await store.blocks(SUBNET, { first: second, last: second });
    assert.equal(part, [{ first: second, status: 'free', count: 1, ...none }]);
    advance(LATELY_MS);
    assert.ok((await store.blocks(SUBNET, ALL)).every(({ begun }) => begun === 0));
  });

  test('looks: the rows of a part, and those that moved in it lately', async ({ store, advance }) => {
    await store.add([...newRows(300, 7, 6), newRow(8, { subnet: OTHER_SUBNET })]);
    assert.equal(ipsOf((await store.inRange(SUBNET, ALL)).rows), [ip(6), ip(7), ip(300)]);
    const late = async (last = ALL.last, limit = 10) =>
      ipsOf((await store.movedWithin(SUBNET, { ...ALL, last }, 1000, limit)).rows);
    assert.equal(await late(), []);
    await makeReady(store, 300);
    await make(store, 300, 'claim');
    await makeReady(store, 6);
    await make(store, 6, 'claim');
    assert.equal(await late(ALL.first + 255), [ip(6)]);
    assert.equal((await late(ALL.last, 1)).length, 1);
    advance(10_000);
    assert.equal(await late(), []);
    // These do not change the time of the move.
    await make(store, 6, 'missed');
    assert.equal(await late(), [ip(6)]);
    advance(10_000);
    await make(store, 6, 'found');
    assert.equal(await late(), [ip(6)]);
  });

  test('looks: what has ended lately, and how long it was held', async ({ store, advance }) => {
    await store.add(newRows(6, 7));
    for (const last of [6, 7]) {
      await makeReady(store, last);
      await make(store, last, 'claim');
      advance(1000);
      await make(store, last, 'release');
    }
    // What begins is in the rows alone.
    await make(store, 6, 'claim');
    const recent = async (withinMs: number, limit: number) =>
      (await store.recentHistory(withinMs, limit)).rows.map(one => one.ip).sort();
    assert.equal(await recent(999, 10), [ip(7)]);
    assert.equal(await recent(60_000, 10), [ip(6), ip(7)]);
    assert.equal(await recent(60_000, 1), [ip(7)]);
    const [end] = (await store.recentHistory(60_000, 1)).rows;
    assert.equal([end?.subnet, end?.generation], [SUBNET, (await one(store, 7)).generation]);
    assert.ok((end?.at ?? 0) - (end?.since ?? 0) >= 1000);
  });

  test('looks: held rows that are missing, of a dead server, or with a name that another has', async opened => {
    const { store, advance } = opened;
    await store.add(newRows(6, 7, 8, 9, 10, 11));
    const [first] = [await makeReady(store, 6), await makeReady(store, 7), await makeReady(store, 8)];
    for (const last of [9, 10]) await makeReady(store, last, OTHER_ENI);
    await make(store, 6, 'claim', { holder: 'web' });
    await make(store, 7, 'claim', { holder: 'web' });
    await make(store, 8, 'claim', { holder: 'db' });
    await make(store, 9, 'claim', { holder: 'web' });
    await make(store, 10, 'claim');
    await make(store, 10, 'missed');
    const doubtful = async (servers: Parameters<typeof store.doubtful>[0] = []) =>
      ipsOf((await store.doubtful(servers, 10)).rows).sort();
    assert.equal(await doubtful(), [ip(10), ip(6), ip(7)]);
    const { now } = await store.servers();
    const row = (await store.get(SUBNET, [ip(8)])).rows[0];
    const server = { id: (row?.token ?? '').slice(0, 8), seenAt: now };
    assert.ok(first.token !== row?.token);
    assert.ok((await doubtful([server])).includes(ip(8)));
    // The limit is that of all servers together: however many died, one read asks for them.
    const by = [8, 9].map(async last => ({ id: (await one(store, last)).token ?? '', seenAt: now }));
    const limited = async (servers: typeof by) =>
      (await store.doubtful(await Promise.all(servers), 1)).rows.length;
    assert.equal([await limited([]), await limited(by.slice(1)), await limited(by)], [2, 3, 3]);
    advance(100_000);
    assert.equal(await doubtful([{ ...server, seenAt: now + 90_000 }]), [ip(10), ip(6), ip(7)]);
  });

  test('looks: ENIs in use with few ready addresses', async ({ store }) => {
    const other = eniWith({ id: OTHER_ENI, primary: ip(200) });
    await store.saveEnis([eniWith(), other]);
    await store.add([...newRows(6, 7), newRow(5, { status: 'occupied', iface: ENI, primary: true })]);
    assert.equal((await store.lowPools(2, 10)).rows, []);
    await store.adopt(ENI);
    await store.adopt(OTHER_ENI);
    await makeReady(store, 6);
    const { movedAt } = await makeReady(store, 7);
    await make(store, 7, 'claim');
    const { rows } = await store.lowPools(2, 10);
    assert.equal(
      rows.map(({ eni, ready }) => [eni, ready]),
      [
        [ENI, 1],
        [OTHER_ENI, 0],
      ],
    );
    assert.ok((rows[0]?.movedAt ?? 0) >= movedAt);
    assert.is(rows[1]?.movedAt, 0);
    assert.equal((await store.lowPools(1, 10)).rows.length, 1);
    assert.equal((await store.lowPools(2, 1)).rows.length, 1);
    await store.setReleased(OTHER_ENI, true);
    assert.equal((await store.lowPools(1, 10)).rows, []);
  });

  test('looks: holders by a part of their names, ENIs by ids and instance', async ({ store }) => {
    await store.saveEnis([eniWith(), eniWith({ id: OTHER_ENI, instance: 'i-0b' as InstanceId })]);
    await store.add(newRows(6, 7, 8));
    for (const [last, holder] of [
      [6, 'web-1'],
      [7, 'db'],
      [8, '100%_web'],
    ] as const) {
      await makeReady(store, last);
      await make(store, last, 'claim', { holder });
    }
    const named = async (text: string, limit = 10) => ipsOf((await store.heldBy(text, limit)).rows);
    assert.equal(await named('web'), [ip(6), ip(8)]);
    assert.equal(await named('web', 1), [ip(6)]);
    assert.equal(await named('%_'), [ip(8)]);
    const ids = (enis: readonly { id: string }[]) => enis.map(({ id }) => id);
    assert.equal(ids(await store.enisNamed([OTHER_ENI])), [OTHER_ENI]);
    assert.equal(ids(await store.enisNamed([])), []);
    assert.equal(ids(await store.enisOf('i-0a' as InstanceId)), [ENI]);
  });

  test('looks: what hosts have shown of some addresses', async ({ store }) => {
    await noteSightings(store, [sightingWith(6), sightingWith(7, { name: 'web' })]);
    const shown = (await store.sightingsAt(SUBNET, [ip(7), ip(8)])).rows;
    assert.equal(
      shown.map(one => [one.ip, one.name]),
      [[ip(7), 'web']],
    );
    assert.equal((await store.sightingsAt(SUBNET, [])).rows, []);
  });

  test('looks: the parts of a subnet are all of it, once', ({ store }) => {
    const whole = { first: 4096, last: 69_000 };
    const parts = store.partsOf(whole);
    assert.equal([parts[0]?.first, parts.at(-1)?.last], [whole.first, whole.last]);
    for (const [i, { first }] of parts.entries()) if (i > 0) assert.is(first, (parts[i - 1]?.last ?? 0) + 1);
  });
}
