/** The contract of a store: tenants and their quotas. */
import { type Change, MOVES, type MoveName, ruleOf } from '../../../src/domain/allocation.ts';
import type { EniId } from '../../../src/domain/ids.ts';
import { startsToCount } from '../../../src/domain/tenant.ts';
import type { Store } from '../../../src/store/store.ts';
import { eniWith, make, newRow, newRows, one, rowsOf } from '../../kit/ledger.ts';
import { ENI, OTHER_ENI, OTHER_SUBNET, range, SUBNET } from '../../kit/rows.ts';
import { assert } from '../../kit/uvu.ts';
import type { Test } from '../store.contract.ts';

export const THIRD_ENI = 'eni-0c' as EniId;
const FREE = range(20, 10);

/** Two ENIs of `red`, with so many addresses for it, and one without a tenant; free rows. */
export async function redWithin(store: Store, quota: number): Promise<void> {
  const red = [ENI, OTHER_ENI].map(id => eniWith({ id, tenant: 'red' }));
  await store.saveEnis([...red, eniWith({ id: THIRD_ENI })]);
  await store.saveTenant({ name: 'red', quota, profile: null });
  await store.add(newRows(...FREE));
}
const assignTo = async (store: Store, lasts: readonly number[], iface: EniId) =>
  (await rowsOf(store, lasts)).map((row): Change => ({ row, move: 'assign', iface }));
/** How many of the assigns were made. */
const assigned = async (store: Store, lasts: readonly number[], iface: EniId): Promise<number> =>
  (await store.move(await assignTo(store, lasts, iface))).length;
const usedBy = async (store: Store, name: string) =>
  (await store.tenants()).find(tenant => tenant.name === name)?.used;

export function tenants(test: Test): void {
  test('tenants: are declared, changed and removed', async ({ store }) => {
    assert.equal(await store.tenants(), []);
    await store.saveTenant({ name: 'red', quota: 5, profile: null });
    await store.saveTenant({ name: 'blue', quota: 0, profile: null });
    await store.saveTenant({ name: 'red', quota: 7, profile: null });
    const [blue, red] = [
      { name: 'blue', quota: 0, profile: null, used: 0 },
      { name: 'red', quota: 7, profile: null, used: 0 },
    ];
    assert.equal(await store.tenants(), [blue, red]);
    await store.removeTenant('blue');
    await store.removeTenant('green');
    assert.equal(await store.tenants(), [red]);
  });

  test('tenants: an instance profile is kept until another is given', async ({ store }) => {
    assert.is((await store.tenantProfiles()).size, 0);
    await store.saveTenant({ name: 'red', quota: 5, profile: 'web' });
    await store.saveTenant({ name: 'blue', quota: 5, profile: null });
    await store.saveTenant({ name: 'red', quota: 7, profile: null });
    assert.equal([...(await store.tenantProfiles())], [['web', 'red']]);
    await store.saveTenant({ name: 'red', quota: 7, profile: 'db' });
    const [, red] = await store.tenants();
    assert.equal(red, { name: 'red', quota: 7, profile: 'db', used: 0 });
    await store.removeTenant('red');
    await store.saveTenant({ name: 'red', quota: 7, profile: null });
    assert.is((await store.tenantProfiles()).size, 0);
  });

  test('tenants: one that only ENIs name is listed without a quota, and has none', async ({ store }) => {
    await redWithin(store, 3);
    await store.removeTenant('red');
    assert.is(await store.tenantOf(ENI), null);
    assert.is(await assigned(store, FREE.slice(0, 9), ENI), 9);
    assert.equal(await store.tenants(), [{ name: 'red', quota: null, profile: null, used: 9 }]);
  });

  test('the tenant of an ENI: with what all its ENIs have', async ({ store }) => {
    await redWithin(store, 9);
    assert.equal(await store.tenantOf(ENI), { name: 'red', quota: 9, used: 0 });
    await assigned(store, [10, 11], ENI);
    await assigned(store, [12], OTHER_ENI);
    await assigned(store, [13], THIRD_ENI);
    assert.equal(await store.tenantOf(OTHER_ENI), { name: 'red', quota: 9, used: 3 });
    assert.is(await store.tenantOf(THIRD_ENI), null);
    assert.is(await store.tenantOf('eni-0dd' as EniId), null);
  });

  test('a quota: of a batch as many are assigned as fit, on all ENIs together', async ({ store }) => {
    await redWithin(store, 5);
    assert.is(await assigned(store, range(3, 10), ENI), 3);
    assert.is(await assigned(store, range(4, 13), OTHER_ENI), 2);
    assert.is(await assigned(store, range(2, 17), ENI), 0);
    assert.is(await usedBy(store, 'red'), 5);
    assert.is(await assigned(store, range(8, 20), THIRD_ENI), 8, 'another ENI has no quota');
  });

  test('a quota: holds for one batch with assigns for several ENIs', async ({ store }) => {
    await redWithin(store, 4);
    const lists = [ENI, THIRD_ENI, OTHER_ENI].map((eni, i) => assignTo(store, range(3, 10 + 3 * i), eni));
    const moved = await store.move((await Promise.all(lists)).flat());
    assert.is(moved.filter(row => row.iface === THIRD_ENI).length, 3);
    assert.is(moved.filter(row => row.iface !== THIRD_ENI).length, 4);
  });

  test('a quota: holds for calls that arrive together', async ({ store }) => {
    await redWithin(store, 7);
    const lists = await Promise.all(
      FREE.map((last, i) => assignTo(store, [last], i % 2 === 0 ? ENI : OTHER_ENI)),
    );
    const made = await Promise.all(lists.map(list => store.move(list)));
    assert.is(made.flat().length, 7);
    assert.is(await usedBy(store, 'red'), 7);
  });

  test('a quota: ready, assigning, unassigning and allocated rows count, no primary', async ({ store }) => {
    await redWithin(store, 4);
    assert.is(await assigned(store, range(4, 10), ENI), 4);
    for (const last of [11, 12, 13]) await make(store, last, 'assigned');
    await make(store, 12, 'claim');
    await make(store, 13, 'unassign');
    await store.add([newRow(40, { status: 'occupied', iface: ENI, primary: true })]);
    await store.add([newRow(41, { status: 'occupied', iface: ENI })]);
    await make(store, 14, 'foreign', { iface: ENI });
    assert.is(await usedBy(store, 'red'), 4);
    assert.is(await assigned(store, [20], OTHER_ENI), 0);
    await make(store, 13, 'unassigned');
    assert.is(await assigned(store, [20], OTHER_ENI), 1, 'what is off its ENI counts no more');
  });

  test('a quota: refuses no move of a row that counts already', async ({ store }) => {
    await redWithin(store, 2);
    await assigned(store, [10, 11], ENI);
    await store.saveTenant({ name: 'red', quota: 0, profile: null });
    for (const move of ['assigned', 'claim', 'release', 'unassign', 'kept', 'claim', 'retire'] as const)
      await make(store, 10, move);
    assert.is(await usedBy(store, 'red'), 2);
    await make(store, 10, 'unassigned');
  });

  test('a quota: what its holder surrenders counts from then on, or stays occupied', async ({ store }) => {
    await redWithin(store, 1);
    await store.add([40, 41].map(last => newRow(last, { status: 'occupied', iface: ENI })));
    const rows = await rowsOf(store, [40, 41]);
    const moved = await store.move(rows.map(row => ({ row, move: 'surrender' })));
    assert.is(moved.length, 1);
    assert.is((await one(store, 41)).status, 'occupied');
  });

  test('a quota: counts addresses of all subnets, also where two have the same', async ({ store }) => {
    await redWithin(store, 3);
    await store.add(range(4, 10).map(last => newRow(last, { subnet: OTHER_SUBNET })));
    assert.is(await assigned(store, [10, 11], ENI), 2);
    const rows = await rowsOf(store, range(4, 10), OTHER_SUBNET);
    const moved = await store.move(rows.map(row => ({ row, move: 'assign', iface: OTHER_ENI })));
    assert.equal(moved.map(row => row.subnet).sort(), [OTHER_SUBNET]);
  });

  test('a quota: a raised one lets more through, a lowered one takes nothing away', async ({ store }) => {
    await redWithin(store, 2);
    await assigned(store, [10, 11], ENI);
    await store.saveTenant({ name: 'red', quota: 1, profile: null });
    assert.is(await usedBy(store, 'red'), 2);
    await store.saveTenant({ name: 'red', quota: 4, profile: null });
    assert.is(await assigned(store, range(4, 12), ENI), 2);
  });

  test('moves that raise the count: assign, and those that make an occupied address ready', () => {
    const raising = (Object.keys(MOVES) as MoveName[]).filter(startsToCount);
    assert.equal(raising, ['assign', 'surrender', 'cleared']);
    assert.ok(raising.every(move => ruleOf(move).to !== 'free'));
  });

  test('a row that was changed meanwhile: is not assigned within a quota either', async ({ store }) => {
    await redWithin(store, 5);
    const stale = await assignTo(store, [10], ENI);
    await assigned(store, [10], THIRD_ENI);
    assert.is((await store.move(stale)).length, 0);
    assert.is((await store.get(SUBNET, [])).rows.length, 0);
    assert.is(await usedBy(store, 'red'), 0);
  });
}

const RACES = 12;
/** Several servers take addresses for one tenant at the same time, over and over. Returns the largest number of
 *  addresses that it had. */
export async function raceFor(stores: readonly Store[], quota: number): Promise<number> {
  const [store] = stores as [Store];
  await redWithin(store, quota);
  const share = Math.floor(FREE.length / stores.length);
  let most = 0;
  for (let race = 0; race < RACES; race++) {
    const taking = stores.map(async (one, i) => {
      const eni = i % 2 === 0 ? ENI : OTHER_ENI;
      return one.move(await assignTo(one, FREE.slice(i * share, (i + 1) * share), eni));
    });
    const taken = (await Promise.all(taking)).flat();
    const used = (await usedBy(store, 'red')) ?? 0;
    assert.is(taken.length, used, 'who is told of an address has it');
    most = Math.max(most, used);
    await store.move(taken.map(row => ({ row, move: 'refused' })));
  }
  return most;
}
