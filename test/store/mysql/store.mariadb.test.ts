// Goal: the ledger on the real thing. Method: the contract on a MariaDB of the test's own; then the rows that
// the hot statements read in a subnet of 65,536 addresses, counted by the server itself.
import process from 'node:process';
import type { Connection } from 'mysql2/promise';
import { fromNumber, type Ipv4, numberOf, parseCidr } from '../../../src/domain/address.ts';
import type { Allocation, Change } from '../../../src/domain/allocation.ts';
import { parseEniId } from '../../../src/domain/ids.ts';
import type { Statement } from '../../../src/store/mysql/connection.ts';
import { addStatements, portionsOf } from '../../../src/store/mysql/insert.ts';
import { moveStatements, settleStatements } from '../../../src/store/mysql/move-statements.ts';
import { setNow, statement } from '../../../src/store/mysql/sql.ts';
import { DIALECT } from '../../../src/store/mysql/store.ts';
import { createReads } from '../../../src/store/reads.ts';
import type { Store } from '../../../src/store/store.ts';
import { sharedMariadb } from '../../kit/databases/mariadb.ts';
import { freeFor, newRow } from '../../kit/ledger.ts';
import { byLength } from '../../kit/length.ts';
import { ENI, ipsOf, OTHER_ENI, range, SUBNET } from '../../kit/rows.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { contract } from '../store.contract.ts';

const mariadb = await sharedMariadb();

contract('MariaDB', async () => {
  let skewMs = 0;
  const store = mariadb.store(await mariadb.migrated(), { skewMs: () => skewMs });
  const advance = (ms: number) => {
    skewMs += ms;
  };
  return { store, advance, close: () => store.close() };
});

const FIRST = numberOf('10.1.0.0' as Ipv4);
const [SMALL, LARGE] = [4_096, 65_536];
const LONG_ENI = parseEniId(`eni-${'0'.repeat(24)}`);
const nth = (n: number): Ipv4 => fromNumber(FIRST + n);

interface Filled {
  readonly store: Store;
  readonly connection: Connection;
}
const big = suite<Filled & { small: Filled }>('store: MariaDB with 65,536 addresses');
big.before(async context => {
  context.small = await filled(SMALL);
  Object.assign(context, await filled(LARGE));
});
big.after(async ({ small, store, connection }) => {
  for (const one of [small, { store, connection }]) {
    await one.connection.end();
    await one.store.close();
  }
  await mariadb.stop();
});

/** A ledger of so many addresses, and a connection to its database. */
async function filled(size: number): Promise<Filled> {
  const database = await mariadb.migrated();
  const store = mariadb.store(database);
  await store.add(range(size).map(n => newRow(0, { ip: nth(n) })));
  await toEveryStatus(store);
  const connection = await mariadb.connect(database);
  await run(connection, setNow(0));
  return { store, connection };
}

const rowsFrom = async (store: Store, first: number, count: number): Promise<readonly Allocation[]> =>
  (await store.get(SUBNET, range(count, first).map(nth))).rows;

/** 300 rows each: ready on the ENI, given up and free again, held, occupied, being assigned. */
async function toEveryStatus(store: Store): Promise<void> {
  const ways: [eni: typeof ENI, ...moves: Change['move'][]][] = [
    [ENI, 'assign', 'assigned'],
    [OTHER_ENI, 'assign', 'assigned', 'claim', 'release', 'unassign', 'unassigned'],
    [ENI, 'assign', 'assigned', 'claim'],
    [OTHER_ENI, 'foreign'],
    [OTHER_ENI, 'assign'],
  ];
  for (const [i, [iface, ...moves]] of ways.entries()) {
    let states = await rowsFrom(store, 300 * i, 300);
    for (const move of moves) states = await store.move(states.map(row => ({ row, move, iface })));
  }
}

const reads = createReads(DIALECT);
type Hot = [name: string, readMax: number, ...statements: Statement[]];
async function hotStatements(store: Store): Promise<Hot[]> {
  const some = await rowsFrom(store, 2_000, 50);
  const changes = some.map((row, i): Change => ({ row, move: i % 2 === 0 ? 'reserve' : 'foreign' }));
  const isWork = ({ sql }: Statement) => /^(UPDATE|SELECT)/.test(sql);
  const wide = freeFor({ range: parseCidr('10.1.0.0/17') });
  return [
    ['get', 110, statement(reads.ips(SUBNET, ipsOf(some)))],
    ['onEni', 1_900, statement(reads.onEni(ENI))],
    // All that the ENI holds, which EC2 bounds.
    ['readyOn', 700, statement(reads.readyOn(ENI, null, 20))],
    ['freeFor', 25, ...reads.freeFor(freeFor()).map(statement)],
    [WIDE, 80, ...reads.freeFor(wide).map(statement)],
    ['freeFor for the ENI that gave up', 310, ...reads.freeFor(freeFor({ eni: OTHER_ENI })).map(statement)],
    ['intents', 25, statement(reads.intents(0, 20))],
    ['move', 110, ...moveStatements(changes, 'token', 0).filter(isWork)],
    ['settling a move', 110, ...settleStatements(changes, 'token')],
  ];
}
const WIDE = 'freeFor in a wide range';

const run = (connection: Connection, { sql, params }: Statement) => connection.query(sql, [...params]);

/** What the statement made the server read from a table or an index, and sort, in rows. */
async function readsOf(connection: Connection, statement: Statement): Promise<number> {
  await connection.beginTransaction();
  await connection.query('FLUSH STATUS');
  await run(connection, statement);
  const [counters] = await connection.query(
    "SHOW SESSION STATUS WHERE Variable_name LIKE 'Handler_read%' OR Variable_name = 'Sort_rows'",
  );
  await connection.rollback();
  return (counters as { Value: string }[]).reduce((sum, { Value }) => sum + Number(Value), 0);
}

big('a hot statement: does not scan, and reads about as many rows as it returns', async context => {
  const { store, connection } = context;
  for (const [name, readMax, ...statements] of await hotStatements(store))
    for (const [i, one] of statements.entries()) {
      const count = await readsOf(connection, one);
      assert.ok(count <= readMax, `${name}, statement ${i}: ${count} rows read, at most ${readMax} expected`);
      const [plans] = await run(connection, { ...one, sql: `EXPLAIN ${one.sql}` });
      for (const plan of plans as { type: string; key: string | null }[]) {
        const isScan = plan.key === null || ['ALL', 'index'].includes(plan.type);
        assert.not(isScan, `${name}: ${JSON.stringify(plan)}`);
      }
    }
});

big('a hot statement: reads of 65,536 addresses as many rows as of 4,096', async ({ small, ...large }) => {
  const fewer = await hotStatements(small.store);
  for (const [i, [name, , ...statements]] of (await hotStatements(large.store)).entries()) {
    if (name === WIDE) continue; // all of the small one is inside it
    const [, , ...others] = fewer[i] ?? [];
    for (const [j, one] of statements.entries()) {
      const other = others[j];
      assert.ok(other);
      const few = await readsOf(small.connection, other);
      const many = await readsOf(large.connection, one);
      assert.ok(many <= few + 2, `${name}, statement ${j}: ${many} rows read of many, ${few} of few`);
    }
  }
});

big('a narrow range: is found without reading the rows outside it', async ({ store, connection }) => {
  const query = freeFor({ range: parseCidr('10.1.90.0/28') });
  assert.is((await store.freeFor(query)).rows.length, 16);
  for (const one of reads.freeFor(query).map(statement)) {
    const count = await readsOf(connection, one);
    assert.ok(count <= 60, `${count} rows read`);
  }
});

big('statements of add and of the largest move: stay under 1 MiB', async ({ store, connection }) => {
  const some = await rowsFrom(store, 10_000, 500);
  const changes = some.map((row): Change => ({ row, move: 'foreign', iface: ENI }));
  const bytesOf = (statements: readonly Statement[]) =>
    statements.reduce((sum, { sql, params }) => sum + connection.format(sql, [...params]).length, 0);
  const moved = bytesOf(moveStatements(changes, 'x'.repeat(36), 0));
  assert.ok(moved < 200_000, `${moved} bytes`);
  const claims = some.map(
    (row, i): Change => ({
      row,
      move: 'claim',
      holder: `${i}`.padEnd(255, 'x'),
      call: `${i}`.padEnd(36, 'x'),
    }),
  );
  const noted = bytesOf(moveStatements(claims, 'x'.repeat(36), 0));
  assert.ok(noted < 300_000, `${noted} bytes`);
  const taken = { status: 'occupied', iface: LONG_ENI, primary: true } as const;
  for (const portion of portionsOf(range(10_000).map(n => newRow(0, { ip: nth(n), ...taken })))) {
    const added = bytesOf(addStatements(portion, 'x'.repeat(36)));
    assert.ok(added < 1_000_000, `${added} bytes`);
  }
});
// MariaDB counts alike whoever asks. Where this does not run, MariaDB ends with the process.
const isNode = process.versions.bun === undefined && !('Deno' in globalThis);
if (
  isNode ||
  byLength({ full: true, short: false, leftOut: 'on Bun and Deno the count of rows that statements read' })
)
  big.run();
