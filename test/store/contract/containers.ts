/** The contract of a store: the ids of containers, as readings of their hosts have shown them. */
import type { Allocation, Change, MoveName } from '../../../src/domain/allocation.ts';
import type { Store } from '../../../src/store/store.ts';
import { make, makeReady, newRow, newRows, one, putOn, rowsOf } from '../../kit/ledger.ts';
import { ENI, ip, ipsOf, OTHER_ENI, OTHER_SUBNET, range, SUBNET } from '../../kit/rows.ts';
import { assert } from '../../kit/uvu.ts';
import type { Test } from '../store.contract.ts';

const [A, B] = ['a'.repeat(64), 'b'.repeat(64)] as const;

/** The ids of the holdings of the address, the newest first. */
const idsOf = async (store: Store, last: number) =>
  (await store.history(SUBNET, ip(last), 100)).rows.map(({ containerId }) => containerId);
const claim = async (store: Store, last: number, given: Partial<Change> = {}) => {
  await store.add(newRows(last));
  await makeReady(store, last);
  return await make(store, last, 'claim', given);
};

const ENDS: MoveName[] = ['release', 'undo', 'undo missing', 'retire'];

export function containers(test: Test): void {
  for (const end of ENDS)
    test(`the id of a container: is told while it holds the address, and after its ${end}`, async ({
      store,
    }) => {
      const row = await claim(store, 10, { holder: 'web' });
      assert.equal([row.containerId, await idsOf(store, 10)], [null, [null]]);
      await store.noteContainers([{ row, id: A }]);
      const noted = await one(store, 10);
      // It is no move: what was read of the row may still be moved.
      assert.equal(noted, { ...row, containerId: A, containerSince: row.movedAt });
      assert.equal(await idsOf(store, 10), [A]);
      const [ended] = await store.move([{ row, move: end }]);
      assert.equal([ended?.containerId, ended?.containerSince], [null, null]);
      assert.equal(await idsOf(store, 10), [A]);
    });

  test('the id of a container: is not that of the holding before or after', async ({ store }) => {
    const first = await claim(store, 10);
    await make(store, 10, 'release');
    // At the same time by the store's clock, where that stands still.
    const second = await make(store, 10, 'claim');
    await store.noteContainers([{ row: first, id: A }]);
    assert.equal(await idsOf(store, 10), [null, null]);
    await store.noteContainers([{ row: second, id: B }]);
    await store.noteContainers([{ row: first, id: A }]);
    assert.equal(await idsOf(store, 10), [B, null]);
    await make(store, 10, 'release');
    const third = await make(store, 10, 'claim');
    assert.equal([third.containerId, third.containerSince], [null, null]);
    await make(store, 10, 'release');
    assert.equal(await idsOf(store, 10), [null, B, null]);
  });

  test('the id of a container: counts only for the row as it was read', async ({ store }) => {
    const row = await claim(store, 10);
    const others: Partial<Allocation>[] = [
      { generation: row.generation - 1 },
      { generation: row.generation + 1 },
      { iface: OTHER_ENI },
      { iface: null },
      { ip: ip(11) },
      { subnet: OTHER_SUBNET },
      { status: 'ready' },
    ];
    await store.noteContainers(others.map(other => ({ row: { ...row, ...other }, id: A })));
    await store.noteContainers([]);
    assert.equal(await one(store, 10), row);
  });

  test('the id of a container: is noted of no address that nobody holds', async ({ store }) => {
    await store.add([...newRows(10), newRow(11, { status: 'occupied', iface: ENI })]);
    await makeReady(store, 10);
    const rows = await rowsOf(store, [10, 11]);
    await store.noteContainers(rows.map(row => ({ row, id: A })));
    assert.equal(await rowsOf(store, [10, 11]), rows);
    await make(store, 11, 'surrender');
    assert.equal(await idsOf(store, 11), [null]);
  });

  test('the id of a container: stays while the holding goes on', async ({ store, advance }) => {
    const row = await claim(store, 10);
    advance(1_000);
    await store.noteContainers([{ row, id: A }]);
    for (const move of ['missed', 'repeat', 'found'] as const) {
      advance(1_000);
      const after = await make(store, 10, move);
      assert.equal([after.containerId, after.containerSince], [A, row.movedAt]);
    }
    advance(1_000);
    await make(store, 10, 'release');
    assert.equal(await idsOf(store, 10), [A]);
  });

  test('the id of a container: is not that of a holding whose record was lost', async ({ store }) => {
    const row = await claim(store, 10);
    await store.noteContainers([{ row, id: A }]);
    for (const move of ['release', 'strayed', 'surrender'] as const) await make(store, 10, move);
    assert.equal(await idsOf(store, 10), [null, A]);
  });

  test('the ids of containers: many at a time, each for its own row', async ({ store }) => {
    const lasts = range(230, 4);
    await store.add(newRows(...lasts));
    await putOn(store, await rowsOf(store, lasts), ENI);
    const held = await store.move((await rowsOf(store, lasts)).map(row => ({ row, move: 'claim' as const })));
    const idOf = ({ ip: address }: Allocation) => address.replaceAll('.', 'f').padEnd(64, '0');
    await store.noteContainers(held.toReversed().map(row => ({ row, id: idOf(row) })));
    const ended = await store.move(held.map(row => ({ row, move: 'release' as const })));
    assert.is(ended.length, lasts.length);
    for (const row of held) {
      const { rows } = await store.history(row.subnet, row.ip, 10);
      assert.equal(
        rows.map(({ containerId }) => containerId),
        [idOf(row)],
      );
    }
  });

  test('looks: who holds an address is found by the start of its id too', async ({ store }) => {
    const rows = [await claim(store, 6, { holder: 'web' }), await claim(store, 7), await claim(store, 8)];
    const ids = ['c0ffee'.padEnd(64, '0'), 'c0ffab'.padEnd(64, '0'), 'deadbeef'.padEnd(64, '0')];
    await store.noteContainers(rows.map((row, i) => ({ row, id: ids[i] ?? '' })));
    const found = async (text: string) => ipsOf((await store.heldBy(text, 10)).rows);
    for (const text of ['c0ff', 'c0ffee', String(ids[0])])
      assert.equal(await found(text), text === 'c0ff' ? [ip(6), ip(7)] : [ip(6)], text);
    for (const text of ['c0f', 'offee', 'ffee00', `${ids[0]}0`, '%', '____'])
      assert.equal(await found(text), [], text);
    assert.equal(await found('web'), [ip(6)]);
    await make(store, 6, 'release');
    assert.equal(await found('c0ff'), [ip(7)]);
  });
}
