// Goal: a lock that a stranger keeps on some rows keeps back the moves of those rows, for their bound, and no other.
// Method: an operator's open transaction on a real MariaDB, under load on the other rows of two subnets.
import { isError } from '../../../src/domain/error.ts';
import { parseSubnetId, type SubnetId } from '../../../src/domain/ids.ts';
import { LOCKED_MAX_MS } from '../../../src/store/lock-wait.ts';
import { LOCK_WAIT_S } from '../../../src/store/mysql/connection.ts';
import { createMysqlStore } from '../../../src/store/mysql/store.ts';
import type { Store } from '../../../src/store/store.ts';
import { type MysqlSpec, parseStoreUrl } from '../../../src/store/url.ts';
import { openGate } from '../../kit/databases/gate.ts';
import { startMariadb } from '../../kit/databases/mariadb.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ENI, ip, one, putOn, row, SUBNET } from '../store.contract.ts';

const mariadb = await startMariadb();
const OTHER = parseSubnetId('subnet-0b');
const LOCKED = Array.from({ length: 10 }, (_, i) => 10 + i);
const ROWS = Array.from({ length: 100 }, (_, i) => 10 + i);
const CLIENTS = 20;
/** What nobody else than the holder of a lock should wait for. */
const STRANGER_MAX_MS = 2_000;
const LOAD_MS = 3_000;

interface Context {
  database: string;
  store: Store;
}
const locks = suite<Context>("store: MariaDB and a stranger's lock");
let databases = 0;
locks.before.each(async context => {
  context.database = `locks_${++databases}`;
  await mariadb.create(context.database);
  const spec = parseStoreUrl(mariadb.url(context.database)) as MysqlSpec;
  context.store = createMysqlStore({ spec, password: mariadb.password });
  await context.store.migrate();
  for (const subnet of [SUBNET, OTHER]) {
    await context.store.add(ROWS.map(last => ({ ...row(last), subnet })));
    const { rows } = await context.store.get(subnet, ROWS.map(ip));
    await putOn(context.store, rows, ENI);
  }
});
locks.after.each(({ store }) => store.close());
locks.after(() => mariadb.stop());

const lockOf = (lasts: readonly number[]): string =>
  `UPDATE allocation SET ts = ts WHERE subnet = '${SUBNET}' AND ip IN (${lasts.map(last => `'${ip(last)}'`).join()})`;

/** Claims and releases of one row after the other, until `isOver`; returns how long the longest took. */
async function load(store: Store, rows: readonly (readonly [SubnetId, number])[], isOver: () => boolean) {
  let longestMs = 0;
  let moves = 0;
  const client = async (mine: typeof rows) => {
    while (!isOver())
      for (const [subnet, last] of mine)
        for (const move of ['claim', 'release'] as const) {
          const before = await one(store, ip(last), subnet);
          const startedAt = performance.now();
          assert.is((await store.move([{ row: before, move }])).length, 1);
          longestMs = Math.max(longestMs, performance.now() - startedAt);
          moves++;
        }
  };
  await Promise.all(
    Array.from({ length: CLIENTS }, (_, i) => client(rows.filter((_one, n) => n % CLIENTS === i))),
  );
  return { longestMs, moves };
}

/** Tries again and again to claim the row; returns how the first and the last try ended, and the longest. */
async function claimLocked(store: Store, last: number, isOver: () => boolean) {
  const errors: string[] = [];
  let longestMs = 0;
  while (!isOver()) {
    const startedAt = performance.now();
    try {
      await store.move([{ row: await one(store, ip(last)), move: 'claim' }]);
      assert.unreachable('the row is locked');
    } catch (error) {
      assert.ok(isError(error, 'store-down'), String(error));
      errors.push(error.line);
    }
    longestMs = Math.max(longestMs, performance.now() - startedAt);
  }
  return { errors, longestMs };
}

for (const count of [1, 2, LOCKED.length])
  locks(`${count} rows locked: moves of other rows of both subnets go on`, async ({ store, database }) => {
    const locked = LOCKED.slice(0, count);
    const before = await Promise.all(locked.map(last => one(store, ip(last))));
    const letGo = await mariadb.hold(database, lockOf(locked));
    const endsAt = performance.now() + LOAD_MS;
    const isOver = () => performance.now() >= endsAt;
    const others = [
      ...ROWS.filter(last => !locked.includes(last)).map(last => [SUBNET, last] as const),
      ...ROWS.map(last => [OTHER, last] as const),
    ];
    const [{ longestMs, moves }, ...refused] = await Promise.all([
      load(store, others, isOver),
      ...locked.map(last => claimLocked(store, last, isOver)),
    ]);
    console.log(`  locks: ${count} locked, ${moves} other moves, the longest ${Math.round(longestMs)} ms`);
    assert.ok(longestMs < STRANGER_MAX_MS, `a move of another row took ${longestMs} ms`);
    for (const [i, one] of refused.entries()) {
      assert.match(
        one.errors[0] ?? '',
        new RegExp(
          `^another session keeps ${before[i]?.ip} locked in the store at .*, and nothing was changed; end`,
        ),
      );
      assert.ok(one.longestMs < LOCKED_MAX_MS + 3_000 * LOCK_WAIT_S, `it took ${one.longestMs} ms to say so`);
    }
    assert.equal(await Promise.all(locked.map(last => one(store, ip(last)))), before);
    await letGo();
    const claims = before.map(row => ({ row, move: 'claim' }) as const);
    assert.is((await Promise.all(claims.map(claim => store.move([claim])))).flat().length, count);
  });

// Of a small table a database would rather read all than look for so many.
locks('a move of all rows but the locked one does not wait for it', async ({ store, database }) => {
  const letGo = await mariadb.hold(database, lockOf([10]));
  const { rows } = await store.get(SUBNET, ROWS.filter(last => last !== 10).map(ip));
  assert.is((await store.move(rows.map(row => ({ row, move: 'claim' })))).length, rows.length);
  await letGo();
});

locks('a move that waits for a lock is made when it goes', async ({ store, database }) => {
  const before = await Promise.all(LOCKED.map(last => one(store, ip(last))));
  const letGo = await mariadb.hold(database, lockOf(LOCKED));
  const answers = before.map(row => store.move([{ row, move: 'claim' }]));
  await new Promise(resolve => setTimeout(resolve, 2_000 * LOCK_WAIT_S)); // past the wait of their first commit
  await letGo();
  assert.is((await Promise.all(answers)).flat().length, LOCKED.length);
});

locks('a server that knows no SKIP LOCKED: other rows go on all the same', async ({ database }) => {
  const gate = await openGate(mariadb.port);
  gate.rewrite(sql => sql.replace('SKIP LOCKED', 'SKIP NOTHING'));
  const spec = parseStoreUrl(mariadb.url(database)) as MysqlSpec;
  const store = createMysqlStore({ spec: { ...spec, port: gate.port }, password: mariadb.password });
  const locked = LOCKED.slice(0, 2);
  const letGo = await mariadb.hold(database, lockOf(locked));
  const endsAt = performance.now() + LOAD_MS;
  const isOver = () => performance.now() >= endsAt;
  const others = ROWS.filter(last => !locked.includes(last)).map(last => [SUBNET, last] as const);
  const [{ longestMs, moves }] = await Promise.all([
    load(store, others, isOver),
    ...locked.map(last => claimLocked(store, last, isOver)),
  ]);
  console.log(`  locks: without SKIP LOCKED, ${moves} other moves, the longest ${Math.round(longestMs)} ms`);
  await letGo();
  await store.close();
  await gate.close();
});

locks('the whole table locked: every move is told so, and none is made', async ({ store, database }) => {
  const before = await one(store, ip(10));
  const letGo = await mariadb.hold(database, 'LOCK TABLES allocation READ');
  const error = await store.move([{ row: before, move: 'claim' }]).catch((thrown: unknown) => thrown);
  assert.ok(isError(error, 'store-down'), String(error));
  assert.match(error.line, /locked in the store/);
  await letGo();
  assert.equal(await one(store, ip(10)), before);
  assert.is((await store.move([{ row: before, move: 'claim' }])).length, 1);
});
locks.run();
