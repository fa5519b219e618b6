/** The contract of a store: what hosts have shown of addresses. */
import type { InstanceId } from '../../../src/domain/ids.ts';
import type { LedgerSighting } from '../../../src/domain/sighting.ts';
import { ENI, ip, OTHER_ENI, OTHER_SUBNET, range, SUBNET } from '../../kit/rows.ts';
import { noteSightings, sightingWith } from '../../kit/sightings.ts';
import { assert } from '../../kit/uvu.ts';
import type { Test } from '../store.contract.ts';

const [A, B] = ['i-0a', 'i-0b'] as [InstanceId, InstanceId];
const TICKET = '00000000-0000-4000-8000-000000000001';
const ANOTHER = '00000000-0000-4000-8000-000000000002';

/** More than fit into one statement. */
const MANY = range(600, 4);

const FULL: Partial<LedgerSighting> = {
  ...{ generation: 4_000_000_000, boot: 'boot', engine: 'engine', attachment: 'eni-attach-0a' },
  ...{ unseenSince: 1_700_000_000_000, unseenReadings: 2, usedSince: 1_700_000_000_001, usedReadings: 3 },
  ...{ seenAt: 1_700_000_000_002, container: 'c'.repeat(64), name: 'wéb', image: 'image:1', finding: 'a' },
};

export function sightings(test: Test): void {
  test('sightings: are kept as they are, by ENI, in the order of their addresses', async ({ store }) => {
    const [full, plain] = [sightingWith(9, FULL), sightingWith(10)];
    const other = sightingWith(8, { iface: OTHER_ENI });
    await noteSightings(store, [plain, full, other]);
    const { rows, now } = await store.sightings([ENI]);
    assert.equal(rows, [full, plain]);
    assert.ok(now > 1_600_000_000_000);
    assert.equal((await store.sightings([ENI, OTHER_ENI])).rows, [other, full, plain]);
    assert.equal((await store.sightings([])).rows, []);
  });

  test('sightings: a later one of the same address replaces the earlier', async ({ store }) => {
    const elsewhere = sightingWith(9, { subnet: OTHER_SUBNET, iface: OTHER_ENI });
    await noteSightings(store, [sightingWith(9, FULL), elsewhere]);
    const later = sightingWith(9, { iface: OTHER_ENI, generation: 8 });
    await noteSightings(store, [later]);
    assert.equal((await store.sightings([ENI])).rows, []);
    const { rows } = await store.sightings([OTHER_ENI]);
    assert.equal(
      rows.toSorted((a, b) => (a.subnet < b.subnet ? -1 : 1)),
      [later, elsewhere],
    );
  });

  test('sightings: are forgotten by address, many at a time, and nothing is no error', async ({ store }) => {
    await noteSightings(store, []);
    const all = MANY.map(last => sightingWith(last));
    await noteSightings(store, all);
    assert.is((await store.sightings([ENI])).rows.length, MANY.length);
    await noteSightings(
      store,
      [],
      [
        { subnet: OTHER_SUBNET, ip: ip(4), iface: ENI },
        { subnet: SUBNET, ip: ip(4), iface: OTHER_ENI },
        ...all.slice(1),
      ],
    );
    assert.equal((await store.sightings([ENI])).rows, [sightingWith(4)]);
  });

  test('sightings: those of addresses in use are found on all ENIs', async ({ store }) => {
    const [one, other] = [
      sightingWith(9, { usedSince: 1 }),
      sightingWith(8, { usedSince: 2, iface: OTHER_ENI }),
    ];
    await noteSightings(store, [one, sightingWith(10, { seenAt: 1 }), other]);
    assert.equal((await store.usedSightings()).rows, [other, one]);
  });

  test('a reading: is known by its host, with what it said, and when', async ({ store, advance }) => {
    const begun = await store.beginReading(A, TICKET);
    const never = { readAt: null, incomplete: null, engine: null, engineSince: null };
    assert.equal(begun, { instance: A, ticket: TICKET, begunAt: begun.begunAt, ...never });
    await store.beginReading('', TICKET);
    advance(1_000);
    const said = { incomplete: 'why', engine: 'engine', engineSince: begun.begunAt };
    assert.is(await store.saveReading({ ...begun, ...said }, [], []), true);
    const { rows, now } = await store.witnesses();
    assert.is(rows.length, 2);
    const [read] = rows.filter(one => one.instance === A);
    assert.ok(read !== undefined && (read.readAt ?? 0) >= begun.begunAt + 1_000 && (read.readAt ?? 0) <= now);
    assert.equal({ ...read, readAt: null }, { ...begun, ...said });
    const again = await store.beginReading(A, ANOTHER);
    assert.equal({ ...again, begunAt: 0 }, { ...read, ticket: ANOTHER, begunAt: 0 });
  });

  test('a reading: is not saved once another one of its host was begun', async ({ store }) => {
    const first = await store.beginReading(A, TICKET);
    await noteSightings(store, [sightingWith(8), sightingWith(9)]);
    const other = await store.beginReading(B, TICKET);
    const late = await store.beginReading(A, ANOTHER);
    const before = await store.sightings([ENI]);
    const seen = [sightingWith(9, { seenAt: 5 }), sightingWith(10, { seenAt: 5 })];
    const said = { ...first, incomplete: 'why' };
    assert.is(await store.saveReading(said, seen, [sightingWith(8)]), false);
    assert.is(await store.saveReading(said, [], []), false);
    assert.equal((await store.sightings([ENI])).rows, before.rows);
    assert.equal(
      (await store.witnesses()).rows.map(one => one.incomplete),
      [null, null],
    );
    for (let i = 0; i < 2; i++) assert.is(await store.saveReading(late, seen, [sightingWith(8)]), true);
    assert.equal((await store.sightings([ENI])).rows, seen);
    assert.is(await store.saveReading(other, [], [sightingWith(9), sightingWith(10)]), true);
    assert.equal((await store.sightings([ENI])).rows, []);
  });

  test('sightings: one of an address in use is forgotten when an operator says so, if it is unchanged', async ({
    store,
  }) => {
    const [other, one] = [sightingWith(8), sightingWith(9, { usedSince: 5, usedReadings: 1 })];
    await noteSightings(store, [other, one]);
    for (const change of [{ iface: OTHER_ENI }, { generation: 77 }, { usedSince: 6 }])
      assert.is(await store.forgetSighting({ ...one, ...change }), false);
    assert.equal((await store.sightings([ENI])).rows, [other, one]);
    assert.is(await store.forgetSighting(one), true);
    assert.equal((await store.sightings([ENI])).rows, [other]);
    assert.is(await store.forgetSighting(one), true, 'it is not there any more');
  });
}
