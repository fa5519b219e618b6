// Goal: a lock that a stranger keeps on some rows keeps back the moves of those rows, for their bound, and no other.
// Method: an operator's open transaction on a real MariaDB, under load on the other rows of two subnets.
import type { Allocation } from '../../../src/domain/allocation.ts';
import { LOCKED_MAX_MS } from '../../../src/store/lock-wait.ts';
import { LOCK_WAIT_S } from '../../../src/store/mysql/connection.ts';
import type { Store } from '../../../src/store/store.ts';
import { openGate } from '../../kit/databases/gate.ts';
import { sharedMariadb } from '../../kit/databases/mariadb.ts';
import { failureOf } from '../../kit/failures.ts';
import { newRow, one, putOn, rowsOf } from '../../kit/ledger.ts';
import { byLength } from '../../kit/length.ts';
import { ENI, ip, OTHER_SUBNET, range, SUBNET } from '../../kit/rows.ts';
import { sideBySide } from '../../kit/side-by-side.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { pause } from '../../kit/wait.ts';

const mariadb = await sharedMariadb();
const LOCKED = range(10, 10);
const ROWS = range(100, 10);
const CLIENTS = 20;
/** Most of a test is waiting for locks. */
const LANES = 3;
/** What nobody else than the holder of a lock should wait for. */
const STRANGER_MAX_MS = 2_000;
const LOAD_MS = byLength({ full: 3_000, short: 1_000, leftOut: '2 of the 3 s of load beside a locked row' });
const COUNTS = byLength<readonly number[]>({
  full: [1, 2, LOCKED.length],
  short: [1, LOCKED.length],
  leftOut: 'load beside two locked rows',
});

interface Context {
  database: string;
  store: Store;
}
const suiteOfLocks = suite("store: MariaDB and a stranger's lock");
suiteOfLocks.after(() => mariadb.stop());
const inLane = sideBySide(
  suiteOfLocks,
  LANES,
  async () => {},
  async () => {},
);

/** Adds a test with a database of its own. */
function locks(name: string, body: (context: Context) => Promise<void>): void {
  inLane(name, async () => {
    const database = await mariadb.migrated();
    const store = mariadb.store(database);
    try {
      for (const subnet of [SUBNET, OTHER_SUBNET]) {
        await store.add(ROWS.map(last => newRow(last, { subnet })));
        await putOn(store, await rowsOf(store, ROWS, subnet), ENI);
      }
      await body({ store, database });
    } finally {
      await store.close();
    }
  });
}

/** Keeps these rows locked until it is let go. */
const lock = (database: string, lasts: readonly number[]) => {
  const ips = lasts.map(last => `'${ip(last)}'`).join();
  return mariadb.hold(
    database,
    `UPDATE allocation SET ts = ts WHERE subnet = '${SUBNET}' AND ip IN (${ips})`,
  );
};
const claim = (row: Allocation) => ({ row, move: 'claim' }) as const;
const others = (locked: readonly number[], subnet = SUBNET) =>
  ROWS.filter(last => subnet !== SUBNET || !locked.includes(last)).map(last => [subnet, last] as const);

/** Claims and releases of one row after the other, until `isOver`; returns how long the longest took. */
async function load(store: Store, rows: ReturnType<typeof others>, isOver: () => boolean) {
  let longestMs = 0;
  let moves = 0;
  const client = async (mine: typeof rows) => {
    while (!isOver())
      for (const [subnet, last] of mine)
        for (const move of ['claim', 'release'] as const) {
          const before = await one(store, last, subnet);
          const startedAt = performance.now();
          assert.is((await store.move([{ row: before, move }])).length, 1);
          longestMs = Math.max(longestMs, performance.now() - startedAt);
          moves++;
        }
  };
  await Promise.all(range(CLIENTS).map(i => client(rows.filter((_one, n) => n % CLIENTS === i))));
  return { longestMs, moves };
}

/** Tries again and again to claim the row; returns how the first try ended, and the longest. */
async function claimLocked(store: Store, last: number, isOver: () => boolean) {
  const lines: string[] = [];
  let longestMs = 0;
  while (!isOver()) {
    const startedAt = performance.now();
    lines.push(await failureOf(store.move([claim(await one(store, last))]), 'store-down'));
    longestMs = Math.max(longestMs, performance.now() - startedAt);
  }
  return { first: lines[0] ?? '', longestMs };
}

/** Load on the others while claims of the locked ones are refused. */
async function loadBeside(store: Store, locked: readonly number[], rows: ReturnType<typeof others>) {
  const endsAt = performance.now() + LOAD_MS;
  const isOver = () => performance.now() >= endsAt;
  const refusing = Promise.all(locked.map(last => claimLocked(store, last, isOver)));
  const loaded = await load(store, rows, isOver);
  return { ...loaded, refused: await refusing };
}

for (const count of COUNTS)
  locks(`${count} rows locked: moves of other rows of both subnets go on`, async ({ store, database }) => {
    const locked = LOCKED.slice(0, count);
    const before = await rowsOf(store, locked);
    const letGo = await lock(database, locked);
    const rows = [...others(locked), ...others(locked, OTHER_SUBNET)];
    const { longestMs, moves, refused } = await loadBeside(store, locked, rows);
    console.log(`  locks: ${count} locked, ${moves} other moves, the longest ${Math.round(longestMs)} ms`);
    assert.ok(longestMs < STRANGER_MAX_MS, `a move of another row took ${longestMs} ms`);
    for (const [i, { first, longestMs }] of refused.entries()) {
      const says = `^another session keeps ${ip(10 + i)} locked in the store at .*, and nothing was changed; end`;
      assert.match(first, new RegExp(says));
      assert.ok(longestMs < LOCKED_MAX_MS + 3_000 * LOCK_WAIT_S, `it took ${longestMs} ms to say so`);
    }
    assert.equal(await rowsOf(store, locked), before);
    await letGo();
    const made = await Promise.all(before.map(row => store.move([claim(row)])));
    assert.is(made.flat().length, count);
  });

// Of a small table a database would rather read all than look for so many.
locks('a move of all rows but the locked one: does not wait for it', async ({ store, database }) => {
  const letGo = await lock(database, [10]);
  const rows = await rowsOf(store, ROWS.slice(1));
  assert.is((await store.move(rows.map(claim))).length, rows.length);
  await letGo();
});

locks('a move that waits for a lock: is made when it goes', async ({ store, database }) => {
  const before = await rowsOf(store, LOCKED);
  const letGo = await lock(database, LOCKED);
  const answers = before.map(row => store.move([claim(row)]));
  await pause(2_000 * LOCK_WAIT_S); // past the wait of their first commit
  await letGo();
  assert.is((await Promise.all(answers)).flat().length, LOCKED.length);
});

locks('a server that knows no SKIP LOCKED: other rows go on all the same', async ({ database }) => {
  const gate = await openGate(mariadb.port);
  gate.rewrite(sql => sql.replace('SKIP LOCKED', 'SKIP NOTHING'));
  const store = mariadb.store(database, {}, { port: gate.port });
  const locked = LOCKED.slice(0, 2);
  const letGo = await lock(database, locked);
  const { longestMs, moves } = await loadBeside(store, locked, others(locked));
  console.log(`  locks: without SKIP LOCKED, ${moves} other moves, the longest ${Math.round(longestMs)} ms`);
  await letGo();
  await store.close();
  await gate.close();
});

locks('the whole table locked: every move is told so, and none is made', async ({ store, database }) => {
  const before = await one(store, 10);
  const letGo = await mariadb.hold(database, 'LOCK TABLES allocation READ');
  const line = await failureOf(store.move([claim(before)]), 'store-down');
  assert.match(line, /locked in the store/);
  await letGo();
  assert.equal(await one(store, 10), before);
  assert.is((await store.move([claim(before)])).length, 1);
});
suiteOfLocks.run();
