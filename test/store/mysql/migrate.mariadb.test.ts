// Goal: a database of the ancestor's becomes ours in place, the same whoever migrates it and however often it
// was interrupted, and nobody's address becomes easier to give. Method: its own DDL, rows in every status.
import { cpSync } from 'node:fs';
import { join, relative } from 'node:path';
import { PATH, ROOT } from '../../../scripts/tiers.ts';
import { fromNumber, type Ipv4, spreadOf } from '../../../src/domain/address.ts';
import { parseSubnetId } from '../../../src/domain/ids.ts';
import { migrations } from '../../../src/store/migrations.ts';
import { openGate } from '../../kit/databases/gate.ts';
import { sharedMariadb } from '../../kit/databases/mariadb.ts';
import { removeFolder, tempFolder } from '../../kit/folders.ts';
import { newRow } from '../../kit/ledger.ts';
import { byLength } from '../../kit/length.ts';
import { assertOldHistory, FILL_OLD_HISTORY } from '../../kit/old-history.ts';
import { SUBNET } from '../../kit/rows.ts';
import { runProgram } from '../../kit/servers/process.ts';
import { assert, suite } from '../../kit/uvu.ts';

const ANCESTOR = [
  "CREATE TABLE `allocation` ( `ip` varchar(32) NOT NULL, `subnet` varchar(32) NOT NULL, `status` enum('free','ready','allocated','occupied','reserved') NOT NULL DEFAULT 'free', `iface` varchar(32) DEFAULT NULL, `primary` tinyint(1) NOT NULL, `ts` timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
  'ALTER TABLE `allocation` ADD PRIMARY KEY (`ip`), ADD KEY `free` (`subnet`,`status`) USING BTREE',
];
const TS = '2021-03-04 05:06:07';
const MOVED_AT = Date.UTC(2021, 2, 4, 5, 6, 7);

type Row = [ip: string, subnet: string, status: string, iface: string | null, primary: 0 | 1];
type After = [status: string, iface: string | null, primary: 0 | 1];
// A /24 and a /28, each listed by the ancestor from the second address to the last but one.
const [A, B, C] = ['subnet-0a', 'subnet-0b', 'subnet-0c'];
const RESERVED: After = ['reserved', null, 0];
const FREE: After = ['free', null, 0];
const rows: [before: Row, after: After, why: string][] = [
  [['10.0.1.1', A, 'ready', 'eni-0a', 0], RESERVED, 'the gateway, given away'],
  [['10.0.1.2', A, 'free', null, 0], RESERVED, 'AWS’s'],
  [['10.0.1.3', A, 'allocated', 'eni-0a', 1], RESERVED, 'AWS’s, whatever it says'],
  [['10.0.1.4', A, 'free', null, 0], FREE, 'the first that is given'],
  [['10.0.1.10', A, 'free', 'eni-0a', 0], FREE, 'free is on no ENI'],
  [['10.0.1.11', A, 'ready', 'eni-0a', 0], ['occupied', 'eni-0a', 0], 'perhaps a container’s'],
  [['10.0.1.12', A, 'ready', null, 0], ['occupied', null, 0], 'ready nowhere'],
  [['10.0.1.13', A, 'ready', 'eni-0a', 1], ['occupied', 'eni-0a', 1], 'flagged, so it was not given'],
  [['10.0.1.14', A, 'allocated', 'eni-0a', 0], ['occupied', 'eni-0a', 0], 'a container’s'],
  [['10.0.1.15', A, 'allocated', 'eni-0b', 1], ['occupied', 'eni-0b', 1], 'a container’s, flagged'],
  [['10.0.1.16', A, 'occupied', 'eni-0c', 0], ['occupied', 'eni-0c', 0], 'as it was'],
  [['10.0.1.17', A, 'occupied', 'eni-0c', 1], ['occupied', 'eni-0c', 1], 'as it was'],
  [['10.0.1.18', A, 'free', null, 1], ['occupied', null, 1], 'flagged, so it was not given'],
  [['10.0.1.19', A, 'reserved', null, 1], RESERVED, 'never given'],
  [['10.0.1.254', A, 'free', null, 0], FREE, 'the last that is given'],
  [['10.0.2.33', B, 'free', null, 0], RESERVED, 'AWS’s'],
  [['10.0.2.35', B, 'occupied', 'eni-0b', 0], RESERVED, 'AWS’s, whatever it says'],
  [['10.0.2.36', B, 'allocated', 'eni-0b', 0], ['occupied', 'eni-0b', 0], 'a container’s'],
  [['10.0.2.46', B, 'free', null, 0], FREE, 'the last that is given'],
  [['10.0.3.255', C, 'ready', 'eni-0c', 0], RESERVED, 'a broadcast address'],
];
const literal = (value: string | number | null) => (value === null ? 'NULL' : `'${value}'`);
const FILL = `INSERT INTO allocation (ip, subnet, status, iface, \`primary\`, ts) VALUES ${rows
  .map(([before]) => `(${[...before, TS].map(literal).join()})`)
  .join()}`;

const mariadb = await sharedMariadb();
const migrate = suite('migrate: MariaDB');
migrate.after(() => mariadb.stop());

/** A database of the ancestor's. */
async function byAncestor(): Promise<string> {
  const database = await mariadb.fresh();
  await mariadb.run(database, "SET time_zone = '+00:00'", ...ANCESTOR, FILL);
  return database;
}
async function migrated(database: string, port = mariadb.port): Promise<void> {
  const store = mariadb.store(database, {}, { port });
  await store.migrate();
  await store.close();
}
const JOURNAL = 'SELECT hash, created_at FROM __drizzle_migrations ORDER BY created_at';
const ROWS =
  'SELECT *, HEX(number) AS number, CAST(ts AS CHAR) AS ts FROM allocation ORDER BY allocation.number';
const COLUMNS = `SELECT table_name, column_name, column_type FROM information_schema.columns
  WHERE table_schema = DATABASE() AND table_name <> 'migration_lock' ORDER BY 1, ordinal_position`;
/** Everything that a migration makes. */
async function contentsOf(database: string) {
  const read = (query: string) => mariadb.run(database, "SET time_zone = '+00:00'", query);
  return {
    table: (await read('SHOW CREATE TABLE allocation'))[0]?.['Create Table'],
    rows: await read(ROWS),
    enis: await read('SELECT id, subnet, `primary`, ours FROM eni ORDER BY id'),
    journal: await read(JOURNAL),
    tables: await read(COLUMNS),
  };
}

/** Runs drizzle-kit as people would; returns what it printed. Throws when it failed. */
async function drizzleKit(args: string[], env: Record<string, string> = {}): Promise<string> {
  const program = join(ROOT, 'node_modules/drizzle-kit/bin.cjs');
  const { code, stdout, stderr } = await runProgram('node', [program, ...args], {
    env: { PATH, ...env },
    cwd: ROOT,
  });
  if (code !== 0) throw new Error(`${stdout}${stderr}`);
  return `${stdout}${stderr}`;
}
const drizzleMigrate = (database: string) =>
  drizzleKit(['migrate'], {
    EC2_IPAM_STORE: mariadb.url(database),
    EC2_IPAM_STORE_PASSWORD: mariadb.password,
  });

let expected: Awaited<ReturnType<typeof contentsOf>>;

/** A row as the migration leaves it. */
function rowAfter([ip, subnet]: Row, [status, iface, primary]: After) {
  const hex = ip.split('.').map(part => Number(part).toString(16).padStart(2, '0'));
  const number = `00000000000000000000FFFF${hex.join('').toUpperCase()}`;
  const [generation, left_unsure, moved_at] = [0, 0, MOVED_AT];
  const given = { ip, subnet, status, iface, primary, ts: TS, number, spread: spreadOf(ip) };
  const free = status === 'free' ? 0 : null;
  const nulls = Object.fromEntries(NULLS.split(' ').map(name => [name, null]));
  return {
    ...given,
    generation,
    left_unsure,
    moved_at,
    free_refused_at: free,
    free_rested_since: free,
    ...nulls,
  };
}
const NULLS =
  'rested_since rested_from left_iface left_at missing_since absent_since refused_at holder token intent_at placed_at instance request_id release_id claimed_at repeated_at reserved_for claim_call claim_server held_since held_by held_instance container_id container_since held_container repair_unsure_at';

migrate('every row of the ancestor’s: is kept and becomes what is safe, and its ts stays', async () => {
  const database = await byAncestor();
  const store = mariadb.store(database);
  const outdated = new RegExp(`is at step 0 of ${migrations('mysql').length}: run .ec2-ipam migrate.$`);
  assert.match((await store.outdated()) ?? '', outdated);
  await store.migrate();
  assert.is(await store.outdated(), null);
  expected = await contentsOf(database);
  assert.is(expected.rows.length, rows.length);
  const eni = (id: string, subnet = A) => ({ id, subnet, primary: '0.0.0.0', ours: 1 });
  const enis = [eni('eni-0a'), eni('eni-0b'), eni('eni-0c', C)];
  assert.equal(expected.enis, enis, 'the ENIs of its networks go on serving them');
  for (const [before, after, why] of rows) {
    const found = expected.rows.find(row => row.ip === before[0]);
    assert.equal(found, rowAfter(before, after), `${before[0]}: ${why}`);
  }
  await store.close();
});

migrate('plain drizzle-kit migrate: does the same, and each finds that the other was there', async () => {
  const database = await byAncestor();
  await drizzleMigrate(database);
  assert.equal(await contentsOf(database), expected);
  await migrated(database);
  await drizzleMigrate(database);
  assert.equal(await contentsOf(database), expected);
});

const statements = migrations('mysql').flatMap(migration => migration.sql);
/** Those of the last migrations, and some of each before. */
const SHORT_FROM = statements.length - 12;
const STEP = 5;
const everywhere = statements.map((_, i) => i + 1);
const stops = byLength({
  full: everywhere,
  short: everywhere.filter(done => done > SHORT_FROM || done % STEP === 0),
  leftOut: `${STEP - 1} of ${STEP} of the statements of older migrations after which one is stopped`,
});
for (const done of stops)
  migrate(`stopped after statement ${done} of ${statements.length}: it ends the same`, async () => {
    const database = await byAncestor();
    await mariadb.run(database, ...statements.slice(0, done));
    await migrated(database);
    assert.equal(await contentsOf(database), expected);
  });

migrate('rows of ours: are not touched when a migration runs again', async () => {
  const database = await byAncestor();
  const store = mariadb.store(database);
  await store.migrate();
  const free = (await store.get(SUBNET, ['10.0.1.4' as Ipv4])).rows;
  await store.move(free.map(row => ({ row, move: 'reserve' })));
  const before = await contentsOf(database);
  await mariadb.run(database, 'DELETE FROM __drizzle_migrations');
  await store.migrate();
  assert.equal(await contentsOf(database), before);
  await store.close();
});

/** Where the history gets one record for each holding. */
const toHoldings = statements.findIndex(text => text.includes('`held_instance`'));
for (const done of [0, ...Array.from({ length: statements.length - toHoldings }, (_, i) => i + 1)])
  migrate(
    `a history of moves, stopped after statement ${done} of its change: becomes one of holdings`,
    async () => {
      const database = await mariadb.fresh();
      await mariadb.run(database, ...statements.slice(0, toHoldings), FILL_OLD_HISTORY);
      await mariadb.run(database, ...statements.slice(toHoldings, toHoldings + done));
      const store = mariadb.store(database);
      await store.migrate();
      await assertOldHistory(store);
      await store.close();
    },
  );

migrate('from nothing: it makes the same tables', async () => {
  const database = await mariadb.fresh();
  await migrated(database);
  const { table, tables } = await contentsOf(database);
  assert.equal([table, tables], [expected.table, expected.tables]);
});

migrate('two VPCs that have one CIDR: fit side by side afterwards', async () => {
  const database = await byAncestor();
  const store = mariadb.store(database);
  await store.migrate();
  const subnet = parseSubnetId('subnet-0ff');
  const twins = [1, 2, 3, 4].map(n => fromNumber(0x0a000100 + n));
  assert.is(await store.add(twins.map(ip => newRow(0, { subnet, ip }))), 4);
  await store.close();
});

migrate('six at once, from the ancestor’s table: all succeed, each migration is noted once', async () => {
  const database = await byAncestor();
  await Promise.all(Array.from({ length: 6 }, () => migrated(database)));
  assert.equal(await contentsOf(database), expected);
});

migrate('a lock that its holder left behind: is waited for until it expires', async () => {
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

migrate('a schema newer than the program: is refused in one line', async () => {
  const database = await byAncestor();
  const store = mariadb.store(database);
  await store.migrate();
  const newer = "INSERT INTO __drizzle_migrations (hash, created_at) VALUES ('x', 9999999999999)";
  await mariadb.run(database, newer);
  assert.match((await store.outdated()) ?? '', /is newer than this program/);
  await store.close();
});

migrate('another migrator that knows no lock and is quicker: does no harm', async () => {
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

migrate('the schema files: say what the migrations make, to generate and to check', async () => {
  // In a copy, since what generate finds it writes.
  const copy = tempFolder();
  cpSync(join(ROOT, 'drizzle'), copy, { recursive: true });
  for (const dialect of ['mysql', 'sqlite']) {
    const out = ['--dialect', dialect, '--out', relative(ROOT, join(copy, dialect))];
    const schema = ['--schema', `src/store/${dialect}/schema.ts`];
    assert.match(await drizzleKit(['generate', ...out, ...schema]), /No schema changes/);
    assert.match(await drizzleKit(['check', ...out]), /fine/);
  }
  removeFolder(copy);
});
migrate.run();
