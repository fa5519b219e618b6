// Goal: a request that two servers serve at once is given one address, and the others in their commits theirs. Method:
// two stores on one MariaDB, so that each has connections of its own, and claims that share ids between them.
import type { Allocation, Change } from '../../../src/domain/allocation.ts';
import type { Store } from '../../../src/store/store.ts';
import { sharedMariadb } from '../../kit/databases/mariadb.ts';
import { newRows, putOn, rowsOf } from '../../kit/ledger.ts';
import { ENI, range } from '../../kit/rows.ts';
import { assert, suite } from '../../kit/uvu.ts';

const ROUNDS = 20;
const [FIRST, SECOND] = [range(40, 10), range(40, 100)];

const mariadb = await sharedMariadb();
const requests = suite<{ stores: [Store, Store] }>('store: MariaDB and the id of a request at two servers');
requests.before.each(async context => {
  const database = await mariadb.migrated();
  context.stores = [mariadb.store(database), mariadb.store(database)];
  await context.stores[0].add(newRows(...FIRST, ...SECOND));
});
requests.after.each(async ({ stores }) => void (await Promise.all(stores.map(store => store.close()))));
requests.after(() => mariadb.stop());

/** Every fourth claim has no id, the others have one that the other server's claims have too. */
const claims = (rows: readonly Allocation[], round: number): Change[] =>
  rows.map((row, i) => ({ row, move: 'claim', requestId: i % 4 === 0 ? null : `${round} ${i}` }));

/** Claims as a server does: again, when nobody else has changed the row or has the id. A deadlock is such a "no". */
async function claimed(store: Store, change: Change): Promise<Allocation[]> {
  for (;;) {
    const { subnet, ip } = change.row;
    const [row] = (await store.get(subnet, [ip])).rows;
    const made = row?.status === 'ready' ? await store.move([{ ...change, row }]) : [];
    const isTaken = change.requestId && (await store.withRequest(change.requestId)).rows.length > 0;
    if (made.length > 0 || row?.status !== 'ready' || isTaken) return made;
  }
}

requests('claims at once: one of two with an id wins, each without an id is made', async ({ stores }) => {
  const [one, two] = stores;
  await putOn(one, await rowsOf(one, [...FIRST, ...SECOND]), ENI);
  for (let round = 0; round < ROUNDS; round++) {
    const [a, b] = await Promise.all([rowsOf(one, FIRST), rowsOf(two, SECOND)]);
    const made = await Promise.all([
      ...claims(a, round).map(change => claimed(one, change)),
      ...claims(b.toReversed(), round).map(change => claimed(two, change)),
    ]);
    const rows = made.flat();
    const ids = rows.flatMap(({ requestId }) => requestId ?? []);
    assert.is(rows.length - ids.length, 20, 'each claim without an id');
    assert.equal([ids.length, new Set(ids).size], [30, 30], 'one for each id');
    await Promise.all(rows.map(row => one.move([{ row, move: 'undo' }])));
  }
});

requests('one move of many changes: only those whose id another row has are not made', async ({ stores }) => {
  const [one, two] = stores;
  await putOn(one, await rowsOf(one, [...FIRST, ...SECOND]), ENI);
  const [a, b] = await Promise.all([rowsOf(one, FIRST), rowsOf(two, SECOND)]);
  const [first, second] = await Promise.all([one.move(claims(a, 0)), two.move(claims(b, 0))]);
  assert.is(first.length + second.length, 20 + 30);
});

requests.run();
