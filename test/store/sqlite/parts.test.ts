// Goal: what people are shown of many rows is read in parts, between which others go on, and the parts are all of it,
// once. Method: a file with 50 ENIs, whose addresses fill parts to the last row; the turns of the event loop are counted,
// not timed.
import { join } from 'node:path';
import { type SQL, sql } from 'drizzle-orm';
import type { Ipv4 } from '../../../src/domain/address.ts';
import type { EniId } from '../../../src/domain/ids.ts';
import { openFile, type SqliteFile } from '../../../src/store/sqlite/file.ts';
import { createSqliteStore, DIALECT } from '../../../src/store/sqlite/store.ts';
import type { Store } from '../../../src/store/store.ts';
import { removeFolder, tempFolder } from '../../kit/folders.ts';
import { eniWith, newRow } from '../../kit/ledger.ts';
import { ip, OTHER_SUBNET, range, SUBNET } from '../../kit/rows.ts';
import { inTurns } from '../../kit/turns.ts';
import { assert, suite } from '../../kit/uvu.ts';

const ENIS = 50;
/** A part ends with an ENI. */
const ON_EACH = 64;
const HELD = ENIS * (ON_EACH - 1);
const FREE = 2_000;
const PARTS = Math.floor((ENIS * ON_EACH) / DIALECT.partMax);
const CALLS = 700;
const CALLS_AT_ONE_TIME = 7;

const eniAt = (i: number): EniId => `eni-0a${String(i).padStart(2, '0')}` as EniId;

interface Context {
  readonly folder: string;
  readonly store: Store;
  /** Another process. */
  readonly file: SqliteFile;
  change(statement: SQL): void;
}
const test = suite<Context>('store: SQLite, many rows');
test.before.each(async context => {
  const folder = tempFolder();
  const path = join(folder, 'ledger.sqlite');
  const store = createSqliteStore(path);
  await store.migrate();
  const enis = range(ENIS).map(i => eniWith({ id: eniAt(i), tenant: i % 2 === 0 ? 'red' : 'blue' }));
  await store.saveEnis(enis);
  const on = range(ENIS * ON_EACH).map(i =>
    newRow(i, { status: 'occupied', iface: eniAt(Math.floor(i / ON_EACH)) }),
  );
  await store.add([
    ...on,
    ...range(FREE).map(i => newRow(on.length + i)),
    newRow(0, { subnet: OTHER_SUBNET }),
  ]);
  const file = openFile(path);
  const change = (statement: SQL) => void file.rows(statement);
  // On each ENI one address is ready.
  change(sql`UPDATE allocation SET status = 'allocated', holder = 'web-' || ip WHERE iface > ''`);
  change(sql`UPDATE allocation SET status = 'ready', holder = NULL WHERE number IN
    (SELECT MIN(number) FROM allocation WHERE iface > '' GROUP BY iface)`);
  change(sql`UPDATE eni SET ours = 1`);
  Object.assign(context, { folder, store, file, change });
});
test.after.each(async ({ folder, store, file }) => {
  file.client.close();
  await store.close();
  removeFolder(folder);
});

/** Returns what the work gives, and how many turns of the event loop others had meanwhile. `others` runs in each. */
async function shared<T>(work: () => Promise<T>, others: (turn: number) => void = () => {}) {
  let turns = 0;
  const found = await inTurns(work, turn => {
    turns = turn;
    others(turn);
  });
  return { found, turns };
}

test('a tally: counts each row once, whatever moves meanwhile', async ({ store, change }) => {
  const flip = (turn: number) =>
    change(sql`UPDATE allocation SET status = ${turn % 2 === 0 ? 'free' : 'reserved'} WHERE iface IS NULL`);
  const { found, turns } = await shared(() => store.tally(), flip);
  assert.ok(turns >= (ENIS * ON_EACH + FREE) / DIALECT.partMax, `${turns} turns`);
  const sumOf = (...statuses: string[]) =>
    found
      .filter(one => one.subnet === SUBNET && statuses.includes(one.status))
      .reduce((sum, { count }) => sum + count, 0);
  assert.equal([sumOf('allocated'), sumOf('ready'), sumOf('free', 'reserved')], [HELD, ENIS, FREE]);
  assert.equal(
    found.filter(one => one.subnet === OTHER_SUBNET).map(({ count }) => count),
    [1],
  );
});

test('low pools: are those of all parts, up to the limit', async ({ store }) => {
  const { found, turns } = await shared(() => store.lowPools(2, 1000));
  assert.ok(turns >= PARTS, `${turns} turns`);
  assert.equal(
    found.rows.map(({ eni, ready }) => `${eni} ${ready}`),
    range(ENIS).map(i => `${eniAt(i)} 1`),
  );
  const some = await store.lowPools(2, ENIS - 10);
  assert.equal(
    some.rows.map(({ eni }) => eni),
    range(ENIS - 10).map(eniAt),
  );
});

test('holders by name: are those of all parts, once, up to the limit', async ({ store }) => {
  const { found, turns } = await shared(() => store.heldBy('web-', HELD + 1));
  assert.ok(turns >= PARTS, `${turns} turns`);
  const ips = found.rows.map(row => row.ip);
  assert.equal(
    ips,
    range(ENIS * ON_EACH)
      .filter(i => i % ON_EACH > 0)
      .map(i => ip(i)),
  );
  const limit = 2 * DIALECT.partMax;
  const some = await store.heldBy('web-', limit);
  assert.equal(
    some.rows.map(row => row.ip),
    ips.slice(0, limit),
  );
});

test('holders in doubt: are those of all parts', async ({ store, change }) => {
  const at = (eni: number, nth: number): Ipv4 => ip(eni * ON_EACH + nth);
  const [missing, doubles, by] = [
    [at(0, 1), at(ENIS - 1, ON_EACH - 1)],
    [at(20, 5), at(20, 6)],
    [at(15, ON_EACH - 1), at(16, 1), at(49, 7)],
  ];
  const { now } = await store.servers();
  change(sql`UPDATE allocation SET missing_since = 1 WHERE ip IN ${missing}`);
  change(sql`UPDATE allocation SET holder = 'twin' WHERE ip IN ${doubles}`);
  change(sql`UPDATE allocation SET token = 'dead-7', moved_at = ${now} WHERE ip IN ${by}`);
  const { found, turns } = await shared(() => store.doubtful([{ id: 'dead', seenAt: now }], 10));
  assert.ok(turns >= 3 * PARTS, `${turns} turns`);
  assert.equal(found.rows.map(row => row.ip).sort(), [...missing, ...doubles, ...by].sort());
  assert.is((await store.doubtful([{ id: 'dead', seenAt: now }], 1)).rows.length, 3);
});

test('tenants: have what their ENIs of all parts have', async ({ store }) => {
  await store.saveTenant({ name: 'red', quota: 9, profile: null });
  await store.saveTenant({ name: 'green', quota: 8, profile: null });
  const { found, turns } = await shared(() => store.tenants());
  assert.ok(turns >= PARTS, `${turns} turns`);
  const used = (ENIS * ON_EACH) / 2;
  assert.equal(found, [
    { name: 'blue', quota: null, profile: null, used },
    { name: 'green', quota: 8, profile: null, used: 0 },
    { name: 'red', quota: 9, profile: null, used },
  ]);
});

test('EC2 calls: are read some at a time, those of one time together, the newest first', async opened => {
  const { store, change } = opened;
  const { now } = await store.servers();
  for (const i of range(CALLS)) {
    const at = now - Math.floor(i / CALLS_AT_ONE_TIME);
    change(sql`INSERT INTO ec2_call (id, at, action, iface, ips, server)
      VALUES (${`call-${i}`}, ${at}, 'assign', ${eniAt(0)}, '10.0.1.6,10.0.1.7', 'server-1')`);
  }
  const { found, turns } = await shared(() => store.ec2Calls(60_000, CALLS));
  assert.ok(turns >= 2, `${turns} turns`);
  const times = found.rows.map(({ at }) => at);
  assert.equal(
    times,
    times.toSorted((a, b) => b - a),
  );
  assert.equal([new Set(found.rows.map(({ id }) => id)).size, found.rows.length], [CALLS, CALLS]);
  assert.equal(found.rows[0]?.ips, ['10.0.1.6', '10.0.1.7']);
  const some = await store.ec2Calls(60_000, 300);
  assert.equal(
    some.rows.map(({ at }) => at),
    times.slice(0, 300),
  );
  assert.equal((await store.ec2Calls(60_000, 0)).rows, []);
});
test.run();
