/** The contract of a store: its rows, added and read. */
import { numberOf, parseCidr } from '../../../src/domain/address.ts';
import type { NewAllocation } from '../../../src/store/store.ts';
import { make, makeReady, newRow, newRows, one, rowsOf } from '../../kit/ledger.ts';
import { ENI, ip, ipsOf, OTHER_ENI, OTHER_SUBNET, range, rowWith, SUBNET } from '../../kit/rows.ts';
import { assert } from '../../kit/uvu.ts';
import type { Test } from '../store.contract.ts';

export function adding(test: Test): void {
  test('migrate: leaves a store that is not outdated, and changes nothing the next time', async ({
    store,
  }) => {
    await store.add(newRows(10));
    await store.migrate();
    assert.is(await store.outdated(), null);
    assert.is((await one(store, 10)).status, 'free');
  });

  test('add: leaves present rows as they are and counts the new ones', async ({ store }) => {
    assert.is(await store.add([newRow(10), newRow(11, { status: 'reserved' })]), 2);
    const before = await makeReady(store, 10);
    assert.is(await store.add([newRow(10), newRow(12, { status: 'occupied', iface: ENI }), newRow(11)]), 1);
    assert.equal(await one(store, 10), before);
    assert.is((await one(store, 11)).status, 'reserved');
    assert.is(await store.add([]), 0);
  });

  test('a new row: is rested, at generation 0, and as it was given', async ({ store }) => {
    const given = newRow(10, { status: 'occupied', iface: ENI, primary: true });
    await store.add([given]);
    const found = await one(store, 10);
    assert.equal(found, rowWith({ ...given, generation: 0, movedAt: found.movedAt, token: found.token }));
    assert.ok(found.movedAt > 0 && found.token?.length === 36);
  });

  test('two subnets: may have the same addresses', async ({ store }) => {
    const twin = newRow(10, { subnet: OTHER_SUBNET, status: 'occupied', iface: OTHER_ENI });
    await store.add([newRow(10), twin]);
    await make(store, 10, 'reserve');
    assert.is((await one(store, 10)).status, 'reserved');
    assert.is((await one(store, 10, OTHER_SUBNET)).status, 'occupied');
    const tally = (await store.tally()).map(one => `${one.subnet} ${one.status} ${one.count}`);
    assert.equal(tally.sort(), ['subnet-0a reserved 1', 'subnet-0b occupied 1']);
  });

  test('a row among many neighbours: is as it was given, and one that is there stays', async ({ store }) => {
    await store.add(newRows(30));
    const there = await makeReady(store, 30);
    const lasts = [...range(60, 1), 100, 102];
    const statusOf = (last: number) => (last < 5 ? 'reserved' : last % 7 === 0 ? 'occupied' : 'free');
    const given = lasts.map(last => {
      const iface = last === 40 ? ENI : last % 7 === 0 ? OTHER_ENI : null;
      return newRow(last, { status: statusOf(last), iface, primary: last % 14 === 0 });
    });
    assert.is(await store.add(given), lasts.length - 1);
    const shown = ({
      subnet,
      ip,
      status,
      iface,
      primary,
    }: Omit<NewAllocation, 'status'> & { status: string }) => `${subnet} ${ip} ${status} ${iface} ${primary}`;
    const found = (await rowsOf(store, lasts)).toSorted((a, b) => numberOf(a.ip) - numberOf(b.ip));
    assert.equal(
      found.map(shown),
      given.map(row => shown(row.ip === there.ip ? there : row)),
    );
    assert.equal(await one(store, 30), there);
  });

  test('rows in any order and number: are added once', async ({ store }) => {
    const many = newRows(...range(5_000).map(i => (i * 7919) % 5_000));
    assert.is(await store.add(many), 5_000);
    assert.is(await store.add(many), 0);
    assert.equal(await store.tally(), [{ subnet: SUBNET, status: 'free', count: 5_000 }]);
  });
}

export function reading(test: Test): void {
  test('get: returns what is there, and the store’s time', async ({ store, advance }) => {
    await store.add(newRows(10, 11));
    const before = (await store.get(SUBNET, [])).now;
    advance(60_000);
    const { now, rows } = await store.get(SUBNET, [11, 10, 99].map(ip));
    assert.equal(ipsOf(rows).sort(), [10, 11].map(ip));
    assert.ok(now >= before + 60_000);
  });

  test('onEni: lists every row that names the ENI, in the order of addresses', async ({ store }) => {
    const occupied = (last: number, iface: typeof ENI) => newRow(last, { status: 'occupied', iface });
    await store.add([occupied(100, ENI), newRow(20), occupied(3, OTHER_ENI), newRow(21)]);
    await makeReady(store, 20);
    assert.equal(ipsOf((await store.onEni(ENI)).rows), [20, 100].map(ip));
  });

  test('readyOn: never given up, by address; then longest rested; no primary', async ({ store, advance }) => {
    await store.add(newRows(9, 100, 20, 30, 40, 50, 60));
    for (const last of [100, 9, 20, 30, 40]) await makeReady(store, last);
    await makeReady(store, 50, OTHER_ENI);
    await make(store, 60, 'assign', { iface: ENI });
    for (const last of [30, 20]) {
      advance(1_000);
      await make(store, last, 'claim');
      await make(store, last, 'release');
    }
    await make(store, 40, 'claim');
    const ready = async (limit: number, cidr: string | null = null) =>
      ipsOf((await store.readyOn(ENI, cidr === null ? null : parseCidr(cidr), limit)).rows);
    const order = [9, 100, 30, 20].map(ip);
    assert.equal(await ready(10), order);
    assert.equal(await ready(3), order.slice(0, 3));
    assert.equal(await ready(10, '10.0.1.16/28'), [30, 20].map(ip));
    await make(store, 9, 'usurped', { iface: ENI, primary: true });
    assert.equal(await ready(10), order.slice(1));
  });

  test('intents: the oldest first, none that is younger', async ({ store, advance }) => {
    await store.add(newRows(10, 11, 12, 13));
    await make(store, 12, 'assign', { iface: ENI });
    await makeReady(store, 11);
    advance(10_000);
    await make(store, 11, 'unassign');
    advance(10_000);
    await make(store, 10, 'assign', { iface: ENI });
    const intents = async (olderMs: number, limit = 10) => ipsOf((await store.intents(olderMs, limit)).rows);
    assert.equal(await intents(0), [12, 11, 10].map(ip));
    assert.equal(await intents(0, 2), [12, 11].map(ip));
    assert.equal(await intents(10_000), [12, 11].map(ip));
    assert.equal(await intents(15_000), [ip(12)]);
    await make(store, 12, 'take over');
    assert.equal(await intents(15_000), []);
  });

  test('withStatus: lists rows of one subnet in these statuses, by the value of the address', async ({
    store,
  }) => {
    const elsewhere = newRow(10, { subnet: OTHER_SUBNET });
    await store.add([
      newRow(100, { status: 'reserved' }),
      newRow(9, { status: 'occupied' }),
      newRow(20),
      elsewhere,
    ]);
    assert.equal(ipsOf((await store.withStatus(SUBNET, ['reserved', 'occupied'])).rows), [9, 100].map(ip));
    assert.equal(ipsOf((await store.withStatus(SUBNET, ['free'])).rows), [ip(20)]);
    assert.equal(ipsOf((await store.withStatus(SUBNET, [])).rows), []);
  });
}
