// Goal: the ledger on the real thing. Method: the contract on a MariaDB of the test's own; then the rows that
// the hot statements read in a subnet of 65,536 addresses, counted by the server itself.
import process from 'node:process';
import { type Connection, createConnection } from 'mysql2/promise';
import { fromNumber, type Ipv4, numberOf, parseCidr } from '../../../src/domain/address.ts';
import type { Allocation, Change } from '../../../src/domain/allocation.ts';
import { parseEniId } from '../../../src/domain/ids.ts';
import type { Statement } from '../../../src/store/mysql/connection.ts';
import { addStatements, portionsOf } from '../../../src/store/mysql/insert.ts';
import { moveStatements, settleStatements } from '../../../src/store/mysql/move-sql.ts';
import { statement as compile, setNow } from '../../../src/store/mysql/sql.ts';
import { createMysqlStore, DIALECT } from '../../../src/store/mysql/store.ts';
import { createReads } from '../../../src/store/reads.ts';
import type { FreeQuery, Store } from '../../../src/store/store.ts';
import { type MysqlSpec, parseStoreUrl } from '../../../src/store/url.ts';
import { startMariadb } from '../../kit/databases/mariadb.ts';
import { byLength } from '../../kit/length.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { contract, ENI, OTHER_ENI, SUBNET } from '../store.contract.ts';

const mariadb = await startMariadb();
let databases = 0;

async function freshSpec(): Promise<MysqlSpec> {
  const database = `store_${++databases}`;
  await mariadb.create(database);
  const spec = parseStoreUrl(mariadb.url(database));
  if (spec.kind !== 'mysql') throw new Error('not a mysql: URL');
  return spec;
}

contract('MariaDB', async () => {
  let skewMs = 0;
  const store = createMysqlStore({
    spec: await freshSpec(),
    password: mariadb.password,
    skewMs: () => skewMs,
  });
  return {
    store,
    advance: ms => {
      skewMs += ms;
    },
    close: () => store.close(),
  };
});

const FIRST = numberOf('10.1.0.0' as Ipv4);
const [SMALL, LARGE] = [4_096, 65_536];
const LONG_ENI = parseEniId(`eni-${'0'.repeat(24)}`);
const nth = (n: number): Ipv4 => fromNumber(FIRST + n);
const freeFor = (patch: Partial<FreeQuery>): FreeQuery => ({
  subnet: SUBNET,
  eni: ENI,
  range: null,
  rest: { cooldownMs: 30_000, quarantineMs: 600_000, graceMs: 930_000 },
  which: 'any',
  limit: 20,
  ...patch,
});

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
  const spec = await freshSpec();
  const store = createMysqlStore({ spec, password: mariadb.password });
  await store.migrate();
  const list = Array.from({ length: size }, (_, n) => nth(n));
  await store.add(
    list.map(ip => ({ subnet: SUBNET, ip, status: 'free', iface: null, primary: false }) as const),
  );
  await toEveryStatus(store);
  const { host, port, user, database } = spec;
  const { password } = mariadb;
  const connection = await createConnection({ host, port, user, password, database });
  await run(connection, setNow(0));
  return { store, connection };
}

const rowsFrom = async (store: Store, first: number, count: number): Promise<readonly Allocation[]> =>
  (
    await store.get(
      SUBNET,
      Array.from({ length: count }, (_, i) => nth(first + i)),
    )
  ).rows;

/** 300 rows each: ready on the ENI, given up and free again, held, occupied, being assigned. */
async function toEveryStatus(store: Store): Promise<void> {
  let first = 0;
  let states = await rowsFrom(store, first, 300);
  const all = async (move: Change['move'], iface = ENI) => {
    states = await store.move(states.map(row => ({ row, move, iface })));
  };
  const next = async () => {
    first += 300;
    states = await rowsFrom(store, first, 300);
  };
  for (const move of ['assign', 'assigned'] as const) await all(move);
  await next();
  for (const move of ['assign', 'assigned', 'claim', 'release', 'unassign', 'unassigned'] as const)
    await all(move, OTHER_ENI);
  await next();
  for (const move of ['assign', 'assigned', 'claim'] as const) await all(move);
  await next();
  await all('foreign', OTHER_ENI);
  await next();
  await all('assign', OTHER_ENI);
}

interface Hot {
  readonly name: string;
  readonly statements: readonly Statement[];
  readonly readMax: number;
}

const reads = createReads(DIALECT);

async function hotStatements(store: Store): Promise<Hot[]> {
  const some = await rowsFrom(store, 2_000, 50);
  const changes = some.map((row, i): Change => ({ row, move: i % 2 === 0 ? 'reserve' : 'foreign' }));
  const isWork = ({ sql }: Statement) => /^(UPDATE|SELECT)/.test(sql);
  return [
    {
      name: 'get',
      statements: [
        compile(
          reads.ips(
            SUBNET,
            some.map(row => row.ip),
          ),
        ),
      ],
      readMax: 110,
    },
    { name: 'onEni', statements: [compile(reads.onEni(ENI))], readMax: 1_900 },
    // All that the ENI holds, which EC2 bounds.
    { name: 'readyOn', statements: [compile(reads.readyOn(ENI, null, 20))], readMax: 700 },
    { name: 'freeFor', statements: reads.freeFor(freeFor({})).map(compile), readMax: 25 },
    {
      name: 'freeFor in a wide range',
      statements: reads.freeFor(freeFor({ range: parseCidr('10.1.0.0/17') })).map(compile),
      readMax: 80,
    },
    {
      name: 'freeFor for the ENI that gave up',
      statements: reads.freeFor(freeFor({ eni: OTHER_ENI })).map(compile),
      readMax: 310,
    },
    { name: 'intents', statements: [compile(reads.intents(0, 20))], readMax: 25 },
    { name: 'move', statements: moveStatements(changes, 'token', 0).filter(isWork), readMax: 110 },
    { name: 'settling a move', statements: settleStatements(changes, 'token'), readMax: 110 },
  ];
}

const run = (connection: Connection, { sql, params }: Statement) =>
  connection.query(sql, [...params] as never[]);

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

big('no hot statement scans: each reads about as many rows as it answers', async ({ store, connection }) => {
  for (const { name, statements, readMax } of await hotStatements(store))
    for (const [i, statement] of statements.entries()) {
      const reads = await readsOf(connection, statement);
      assert.ok(reads <= readMax, `${name}, statement ${i}: ${reads} rows read, at most ${readMax} expected`);
      const [plans] = await run(connection, { ...statement, sql: `EXPLAIN ${statement.sql}` });
      for (const plan of plans as { type: string; key: string | null }[])
        assert.ok(
          plan.key !== null && !['ALL', 'index'].includes(plan.type),
          `${name}: ${JSON.stringify(plan)}`,
        );
    }
});

big('of 65,536 addresses each hot statement reads as many rows as of 4,096', async ({ small, ...large }) => {
  const fewer = await hotStatements(small.store);
  for (const [i, { name, statements }] of (await hotStatements(large.store)).entries()) {
    if (name === 'freeFor in a wide range') continue; // all of the small one is inside it
    for (const [j, statement] of statements.entries()) {
      const other = fewer[i]?.statements[j];
      assert.ok(other);
      const [few, many] = [
        await readsOf(small.connection, other),
        await readsOf(large.connection, statement),
      ];
      assert.ok(many <= few + 2, `${name}, statement ${j}: ${many} rows read of many, ${few} of few`);
    }
  }
});

big('a narrow range is found without reading the rows outside it', async ({ store, connection }) => {
  const query = freeFor({ range: parseCidr('10.1.90.0/28') });
  assert.is((await store.freeFor(query)).rows.length, 16);
  for (const statement of reads.freeFor(query).map(compile)) {
    const reads = await readsOf(connection, statement);
    assert.ok(reads <= 60, `${reads} rows read`);
  }
});

big('statements of add and of the largest move stay under 1 MiB', async ({ store, connection }) => {
  const some = await rowsFrom(store, 10_000, 500);
  const changes = some.map((row): Change => ({ row, move: 'foreign', iface: ENI }));
  const bytesOf = (statements: readonly Statement[]) =>
    statements.reduce(
      (sum, { sql, params }) => sum + connection.format(sql, [...params] as never[]).length,
      0,
    );
  const moved = bytesOf(moveStatements(changes, 'x'.repeat(36), 0));
  assert.ok(moved < 200_000, `${moved} bytes`);
  const taken = Array.from(
    { length: 10_000 },
    (_, n) => ({ subnet: SUBNET, ip: nth(n), status: 'occupied', iface: LONG_ENI, primary: true }) as const,
  );
  for (const portion of portionsOf(taken)) {
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
