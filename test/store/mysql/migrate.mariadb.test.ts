// Goal: a database of the ancestor's becomes ours in place, the same whoever migrates it and however often it
// was interrupted, and nobody's address becomes easier to give. Method: its own DDL, rows in every status.
import { spawn } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { fromNumber, type Ipv4, spreadOf } from '../../../src/domain/address.ts';
import { parseSubnetId } from '../../../src/domain/ids.ts';
import { migrations } from '../../../src/store/migrations.ts';
import { createMysqlStore } from '../../../src/store/mysql/store.ts';
import type { Store } from '../../../src/store/store.ts';
import { parseStoreUrl } from '../../../src/store/url.ts';
import { openGate } from '../../kit/databases/gate.ts';
import { startMariadb } from '../../kit/databases/mariadb.ts';
import { assert, suite } from '../../kit/uvu.ts';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const ANCESTOR = [
  "CREATE TABLE `allocation` ( `ip` varchar(32) NOT NULL, `subnet` varchar(32) NOT NULL, `status` enum('free','ready','allocated','occupied','reserved') NOT NULL DEFAULT 'free', `iface` varchar(32) DEFAULT NULL, `primary` tinyint(1) NOT NULL, `ts` timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
  'ALTER TABLE `allocation` ADD PRIMARY KEY (`ip`), ADD KEY `free` (`subnet`,`status`) USING BTREE',
];
const TS = '2021-03-04 05:06:07';
const MOVED_AT = Date.UTC(2021, 2, 4, 5, 6, 7);

type Before = [ip: string, subnet: string, status: string, iface: string | null, primary: number];
type After = [status: string, iface: string | null, primary: number];
// A /24 and a /28, each listed by the ancestor from the second address to the last but one.
const rows: [before: Before, after: After, why: string][] = [
  [['10.0.1.1', 'subnet-0a', 'ready', 'eni-0a', 0], ['reserved', null, 0], 'the gateway, given away'],
  [['10.0.1.2', 'subnet-0a', 'free', null, 0], ['reserved', null, 0], 'AWS’s'],
  [['10.0.1.3', 'subnet-0a', 'allocated', 'eni-0a', 1], ['reserved', null, 0], 'AWS’s, whatever it says'],
  [['10.0.1.4', 'subnet-0a', 'free', null, 0], ['free', null, 0], 'the first that is given'],
  [['10.0.1.10', 'subnet-0a', 'free', 'eni-0a', 0], ['free', null, 0], 'free is on no ENI'],
  [['10.0.1.11', 'subnet-0a', 'ready', 'eni-0a', 0], ['occupied', 'eni-0a', 0], 'perhaps a container’s'],
  [['10.0.1.12', 'subnet-0a', 'ready', null, 0], ['occupied', null, 0], 'ready nowhere'],
  [
    ['10.0.1.13', 'subnet-0a', 'ready', 'eni-0a', 1],
    ['occupied', 'eni-0a', 1],
    'flagged, so it was not given',
  ],
  [['10.0.1.14', 'subnet-0a', 'allocated', 'eni-0a', 0], ['occupied', 'eni-0a', 0], 'a container’s'],
  [['10.0.1.15', 'subnet-0a', 'allocated', 'eni-0b', 1], ['occupied', 'eni-0b', 1], 'a container’s, flagged'],
  [['10.0.1.16', 'subnet-0a', 'occupied', 'eni-0c', 0], ['occupied', 'eni-0c', 0], 'as it was'],
  [['10.0.1.17', 'subnet-0a', 'occupied', 'eni-0c', 1], ['occupied', 'eni-0c', 1], 'as it was'],
  [['10.0.1.18', 'subnet-0a', 'free', null, 1], ['occupied', null, 1], 'flagged, so it was not given'],
  [['10.0.1.19', 'subnet-0a', 'reserved', null, 1], ['reserved', null, 0], 'never given'],
  [['10.0.1.254', 'subnet-0a', 'free', null, 0], ['free', null, 0], 'the last that is given'],
  [['10.0.2.33', 'subnet-0b', 'free', null, 0], ['reserved', null, 0], 'AWS’s'],
  [['10.0.2.35', 'subnet-0b', 'occupied', 'eni-0b', 0], ['reserved', null, 0], 'AWS’s, whatever it says'],
  [['10.0.2.36', 'subnet-0b', 'allocated', 'eni-0b', 0], ['occupied', 'eni-0b', 0], 'a container’s'],
  [['10.0.2.46', 'subnet-0b', 'free', null, 0], ['free', null, 0], 'the last that is given'],
  [['10.0.3.255', 'subnet-0c', 'ready', 'eni-0c', 0], ['reserved', null, 0], 'a broadcast address'],
];
const literal = (value: string | number | null) => (value === null ? 'NULL' : `'${value}'`);
const FILL = `INSERT INTO allocation (ip, subnet, status, iface, \`primary\`, ts) VALUES ${rows
  .map(([before]) => `(${[...before, TS].map(literal).join()})`)
  .join()}`;

const mariadb = await startMariadb();
let databases = 0;
const migrate = suite('migrate: MariaDB');
migrate.after(() => mariadb.stop());

async function freshDatabase(...statements: string[]): Promise<string> {
  const database = `migrate_${++databases}`;
  await mariadb.create(database);
  await mariadb.run(database, "SET time_zone = '+00:00'", ...statements);
  return database;
}
function storeOf(database: string, port = mariadb.port): Store {
  const spec = parseStoreUrl(mariadb.url(database));
  if (spec.kind !== 'mysql') throw new Error('not a mysql: URL');
  return createMysqlStore({ spec: { ...spec, port }, password: mariadb.password });
}
async function migrated(database: string, port?: number): Promise<void> {
  const store = storeOf(database, port);
  await store.migrate();
  await store.close();
}
/** Everything that a migration makes. */
async function contentsOf(database: string) {
  const { 'Create Table': table } = (await mariadb.run(database, 'SHOW CREATE TABLE allocation'))[0] ?? {};
  return {
    table,
    rows: await mariadb.run(
      database,
      "SET time_zone = '+00:00'",
      'SELECT *, HEX(number) AS number, CAST(ts AS CHAR) AS ts FROM allocation ORDER BY allocation.number',
    ),
    enis: await mariadb.run(database, 'SELECT id, subnet, `primary`, ours FROM eni ORDER BY id'),
    journal: await mariadb.run(
      database,
      'SELECT hash, created_at FROM __drizzle_migrations ORDER BY created_at',
    ),
    tables: await mariadb.run(
      database,
      `SELECT table_name, column_name, column_type FROM information_schema.columns
       WHERE table_schema = DATABASE() AND table_name <> 'migration_lock' ORDER BY 1, ordinal_position`,
    ),
  };
}

/** Runs drizzle-kit as people would; returns what it printed. Throws when it failed. */
function drizzleKit(args: string[], database: string | null): Promise<string> {
  return new Promise((resolve, reject) => {
    const program = fileURLToPath(new URL('../../../node_modules/drizzle-kit/bin.cjs', import.meta.url));
    const store =
      database === null
        ? {}
        : { EC2_IPAM_STORE: mariadb.url(database), EC2_IPAM_STORE_PASSWORD: mariadb.password };
    const child = spawn('node', [program, ...args], { cwd: ROOT, env: { ...process.env, ...store } });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', text => {
        output += text;
      });
    child.on('error', reject);
    child.on('close', code => (code === 0 ? resolve(output) : reject(new Error(output))));
  });
}

const byAncestor = (): Promise<string> => freshDatabase(...ANCESTOR, FILL);
let expected: Awaited<ReturnType<typeof contentsOf>>;

migrate('every row of the ancestor’s is kept and becomes what is safe, and its ts stays', async () => {
  const database = await byAncestor();
  const store = storeOf(database);
  const outdated = new RegExp(`is at step 0 of ${migrations('mysql').length}: run .ec2-ipam migrate.$`);
  assert.match((await store.outdated()) ?? '', outdated);
  await store.migrate();
  assert.is(await store.outdated(), null);
  expected = await contentsOf(database);
  assert.is(expected.rows.length, rows.length);
  assert.equal(
    expected.enis,
    [
      { id: 'eni-0a', subnet: 'subnet-0a', primary: '0.0.0.0', ours: 1 },
      { id: 'eni-0b', subnet: 'subnet-0a', primary: '0.0.0.0', ours: 1 },
      { id: 'eni-0c', subnet: 'subnet-0c', primary: '0.0.0.0', ours: 1 },
    ],
    'the ENIs of its networks go on serving them',
  );
  for (const [[ip, subnet], [status, iface, primary], why] of rows) {
    const found = expected.rows.find(row => row.ip === ip);
    const hex = ip.split('.').map(part => Number(part).toString(16).padStart(2, '0'));
    assert.equal(
      found,
      {
        ip,
        subnet,
        status,
        iface,
        primary,
        ts: TS,
        number: `00000000000000000000FFFF${hex.join('').toUpperCase()}`,
        spread: spreadOf(ip),
        generation: 0,
        moved_at: MOVED_AT,
        rested_since: null,
        rested_from: null,
        left_iface: null,
        left_at: null,
        missing_since: null,
        absent_since: null,
        refused_at: null,
        holder: null,
        token: null,
        free_refused_at: status === 'free' ? 0 : null,
        free_rested_since: status === 'free' ? 0 : null,
        intent_at: null,
        left_unsure: 0,
        placed_at: null,
      },
      `${ip}: ${why}`,
    );
  }
  await store.close();
});

migrate('plain drizzle-kit migrate does the same, and each finds that the other was there', async () => {
  const database = await byAncestor();
  await drizzleKit(['migrate'], database);
  assert.equal(await contentsOf(database), expected);
  await migrated(database);
  await drizzleKit(['migrate'], database);
  assert.equal(await contentsOf(database), expected);
});

const statements = migrations('mysql').flatMap(migration => migration.sql);
for (let done = 1; done <= statements.length; done++)
  migrate(`stopped after statement ${done} of ${statements.length}, it ends the same`, async () => {
    const database = await byAncestor();
    await mariadb.run(database, ...statements.slice(0, done));
    await migrated(database);
    assert.equal(await contentsOf(database), expected);
  });

migrate('rows of ours are not touched when a migration runs again', async () => {
  const database = await byAncestor();
  const store = storeOf(database);
  await store.migrate();
  const subnet = parseSubnetId('subnet-0a');
  const free = (await store.get(subnet, ['10.0.1.4' as Ipv4])).rows;
  await store.move(free.map(row => ({ row, move: 'reserve' })));
  const before = await contentsOf(database);
  await mariadb.run(database, 'DELETE FROM __drizzle_migrations');
  await store.migrate();
  assert.equal(await contentsOf(database), before);
  await store.close();
});

migrate('from nothing it makes the same tables', async () => {
  const database = await freshDatabase();
  await migrated(database);
  const { table, tables } = await contentsOf(database);
  assert.equal([table, tables], [expected.table, expected.tables]);
});

migrate('two VPCs that have one CIDR fit side by side afterwards', async () => {
  const database = await byAncestor();
  const store = storeOf(database);
  await store.migrate();
  const subnet = parseSubnetId('subnet-0ff');
  const twins = [1, 2, 3, 4].map(n => fromNumber(0x0a000100 + n));
  const added = await store.add(
    twins.map(ip => ({ subnet, ip, status: 'free', iface: null, primary: false }) as const),
  );
  assert.is(added, 4);
  await store.close();
});

migrate('six at once, from the ancestor’s table: all succeed, each migration is noted once', async () => {
  const database = await byAncestor();
  await Promise.all(Array.from({ length: 6 }, () => migrated(database)));
  assert.equal(await contentsOf(database), expected);
});

migrate('a lock that its holder left behind expires; one that is kept is waited for', async () => {
  const database = await byAncestor();
  await migrated(database);
  const before = await contentsOf(database);
  await mariadb.run(
    database,
    'DELETE FROM __drizzle_migrations',
    "UPDATE migration_lock SET holder = 'another', until = UNIX_TIMESTAMP() * 1000 + 1500 WHERE id = 1",
  );
  const startedAt = performance.now();
  await migrated(database);
  assert.ok(performance.now() - startedAt > 400, 'it did not wait');
  assert.equal(await contentsOf(database), before);
});

migrate('a schema newer than the program is refused in one line', async () => {
  const database = await byAncestor();
  const store = storeOf(database);
  await store.migrate();
  await mariadb.run(
    database,
    "INSERT INTO __drizzle_migrations (hash, created_at) VALUES ('x', 9999999999999)",
  );
  assert.match((await store.outdated()) ?? '', /is newer than this program/);
  await store.close();
});

migrate('another migrator that knows no lock and is quicker does no harm', async () => {
  const database = await byAncestor();
  const gate = await openGate(mariadb.port);
  const sprung = gate.trap('delay', 'EXECUTE ec2_ipam_alter');
  const ours = migrated(database, gate.port);
  const goOn = await sprung;
  await mariadb.run(database, ...statements);
  await Promise.all([goOn(), ours]);
  await gate.close();
  assert.equal(await contentsOf(database), expected);
});

migrate(
  'the schema files say what the migrations make: generate finds nothing, check is content',
  async () => {
    // In a copy, since what generate finds it writes.
    const copy = mkdtempSync(join(tmpdir(), 'ec2-ipam-'));
    cpSync(join(ROOT, 'drizzle'), copy, { recursive: true });
    for (const dialect of ['mysql', 'sqlite']) {
      const out = ['--dialect', dialect, '--out', relative(ROOT, join(copy, dialect))];
      const schema = ['--schema', `src/store/${dialect}/schema.ts`];
      assert.match(await drizzleKit(['generate', ...out, ...schema], null), /No schema changes/);
      assert.match(await drizzleKit(['check', ...out], null), /fine/);
    }
    rmSync(copy, { recursive: true });
  },
);
migrate.run();
