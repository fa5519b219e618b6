// Goal: of claims whose answer reached nobody none is lost, however many are undone at once. Method: the whole machine
// on a small simulated VPC, and a store that fails or takes its time.
import type { Ipv4 } from '../../../src/domain/address.ts';
import { IpamError } from '../../../src/domain/error.ts';
import { ANYBODY } from '../../../src/domain/origin.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ENI_A, ENI_B, ROOMY } from '../../kit/vpcs.ts';
import { failure, pooled, storeAway, type World, world } from '../../kit/world.ts';

const undoing = suite('undo');

const held = async (w: World) => [...(await w.requests(ENI_A, 9)), ...(await w.requests(ENI_B, 9))];

undoing('of many at once, on several ENIs, loses none', async () => {
  const w = world({ vpc: ROOMY });
  const rows = await held(w);
  const calls = w.countingCalls('move', 'get');
  await Promise.all([...rows.map(row => w.allocator.undo(row)), w.rollbacks.settle()]);
  assert.equal(await w.ipsWith('allocated'), []);
  assert.is(w.rollbacks.isEmpty, true);
  assert.ok(calls.move <= 2 && calls.get <= 2, 'those that come together go together');
});

undoing('one whose row somebody has locked keeps no other back', async () => {
  const w = world({ vpc: ROOMY });
  const rows = await held(w);
  const locked = rows[0]?.ip ?? '';
  const unlock = w.intercept('move', move => async changes => {
    if (changes.some(({ row }) => row.ip === locked))
      throw new IpamError('store-down', 'its row is locked', { addresses: [locked as Ipv4] });
    return await move(changes);
  });
  for (const row of rows) w.rollbacks.add(row);
  assert.is((await failure(w.rollbacks.settle())).code, 'store-down');
  assert.equal(await w.ipsWith('allocated'), [locked]);
  unlock();
  await w.rollbacks.settle();
  assert.equal(await w.ipsWith('allocated'), []);
});

undoing('while the store fails now and then loses none', async () => {
  const w = world({ vpc: ROOMY });
  const rows = await held(w);
  let calls = 0;
  w.intercept('move', move => async changes => {
    if (++calls % 2 === 1) throw new IpamError('store-down', 'away');
    return await move(changes.slice(0, 5));
  });
  await Promise.all(rows.map(row => w.allocator.undo(row)));
  for (let i = 0; i < 10; i++) await w.rollbacks.settle().catch(() => {});
  assert.equal(await w.ipsWith('allocated'), []);
  assert.is(w.rollbacks.isEmpty, true);
});

undoing('ends within its bound while the store does not answer, and is made up for', async () => {
  const w = world({ vpc: ROOMY });
  const row = await w.request(ENI_A);
  let answer = () => {};
  const back = w.intercept('get', get => async (subnet, ips) => {
    await new Promise<void>(resolve => {
      answer = resolve;
    });
    return await get(subnet, ips);
  });
  const before = w.time.now;
  await w.allocator.undo(row);
  assert.is(w.time.now - before, 10_000);
  assert.is(w.rollbacks.isEmpty, false);
  back();
  answer();
  await w.rollbacks.settle();
  assert.is(await w.statusOf(row.ip), 'ready');
});

undoing('a row that others keep moving does not keep the others waiting', async () => {
  const w = world({ vpc: ROOMY });
  const [restless, other] = [await w.request(ENI_A), await w.request(ENI_A)];
  w.intercept('move', move => async changes => move(changes.filter(({ row }) => row.ip !== restless.ip)));
  await Promise.all([w.allocator.undo(restless), w.allocator.undo(other)]);
  assert.equal(await w.ipsWith('allocated'), [restless.ip]);
  assert.is(w.rollbacks.isEmpty, false);
});

undoing('of more than can be kept is never given up: no more addresses are given instead', async () => {
  const w = world({ vpc: ROOMY });
  const row = await w.request(ENI_A);
  for (let generation = 0; generation < 10_000; generation++) w.rollbacks.add({ ...row, generation });
  assert.match((await failure(w.request(ENI_A))).line, /too many claims wait to be rolled back/);
  await w.rollbacks.settle();
  assert.is(w.rollbacks.isEmpty, true);
  assert.is((await w.request(ENI_A)).status, 'allocated');
});

undoing('one that the store fails is made up for by the keeper', async () => {
  const w = world();
  const row = await w.request(ENI_A);
  const back = w.intercept('move', () => storeAway);
  await w.allocator.undo(row);
  assert.is(w.rollbacks.isEmpty, false);
  back();
  await w.rollbacks.settle();
  assert.is(w.rollbacks.isEmpty, true);
  assert.is(await w.statusOf(row.ip), 'ready');
});

undoing('one that meets another move in the middle is tried again', async () => {
  const w = world();
  const row = await w.request(ENI_A);
  const back = w.intercept('move', move => async () => {
    back();
    await move([{ row, move: 'missed' }]);
    return [];
  });
  await w.allocator.undo(row);
  assert.is(await w.statusOf(row.ip), 'unassigning');
  assert.is(w.rollbacks.isEmpty, true);
});

undoing('one whose row changed meanwhile is made all the same', async () => {
  const w = world();
  const row = await w.request(ENI_A);
  await w.store.move([{ row, move: 'missed' }]);
  await w.allocator.undo(row);
  assert.is(await w.statusOf(row.ip), 'unassigning', 'it was missing: its repair may yet apply');
});

undoing(
  'one with the id of a request is made also when the address was missed or found meanwhile',
  async () => {
    const w = await pooled({ vpc: ROOMY });
    const from = { ...ANYBODY, id: 'r-1' };
    for (const moves of [['missed', 'found'], ['missed']] as const) {
      const row = await w.request(ENI_A, { from });
      for (const move of moves) await w.store.move([{ row: await w.rowOf(row.ip), move }]);
      await w.allocator.undo(row);
      assert.equal(await w.ipsWith('allocated'), []);
      assert.ok(w.rollbacks.isEmpty);
    }
  },
);

undoing('one whose request was repeated is dropped, whatever has become of the address', async () => {
  const w = await pooled({ vpc: ROOMY });
  const from = { ...ANYBODY, id: 'r-1' };
  const row = await w.request(ENI_A, { from });
  await w.another().request(ENI_A, { from });
  for (const move of ['missed', 'found'] as const) await w.store.move([{ row: await w.rowOf(row.ip), move }]);
  await w.allocator.undo(row);
  assert.equal(await w.ipsWith('allocated'), [row.ip]);
});

undoing('rolls back a claim whose answer reached nobody, and only that claim', async () => {
  const w = world();
  const row = await w.request(ENI_A);
  await w.allocator.undo(row);
  assert.is(await w.statusOf(row.ip), 'ready');
  const again = await w.request(ENI_A, { named: row.ip });
  await w.allocator.undo(row);
  assert.is(await w.statusOf(again.ip), 'allocated', 'the next holder is not touched');
});

undoing.run();
