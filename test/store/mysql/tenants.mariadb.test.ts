// Goal: servers that take addresses for one tenant at the same time do not pass its quota, and no table's collation
// stops them. Method: several stores on one database; the statements of a move sent one by one, as on a cluster that
// rolls a transaction back between two of them.
import type { Connection } from 'mysql2/promise';
import type { Change } from '../../../src/domain/allocation.ts';
import { moveStatements } from '../../../src/store/mysql/move-statements.ts';
import { sharedMariadb } from '../../kit/databases/mariadb.ts';
import { eniWith, putOn, rowsOf } from '../../kit/ledger.ts';
import { ENI, OTHER_ENI, range } from '../../kit/rows.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { raceFor, redWithin, THIRD_ENI } from '../contract/tenants.ts';

const mariadb = await sharedMariadb();
const quotas = suite('tenants: MariaDB');
quotas.after(() => mariadb.stop());

quotas('a quota: four servers that take addresses for one tenant at once do not pass it', async () => {
  const database = await mariadb.migrated();
  const stores = range(4).map(() => mariadb.store(database));
  assert.is(await raceFor(stores, 7), 7);
  for (const store of stores) await store.close();
});

quotas('a quota: holds when a cluster rolls the transaction back between two statements', async () => {
  const database = await mariadb.migrated();
  const store = mariadb.store(database);
  await redWithin(store, 5);
  const connection = await mariadb.connect(database);
  const changesFor = async (lasts: readonly number[], iface: typeof ENI) =>
    (await rowsOf(store, lasts)).map((row): Change => ({ row, move: 'assign', iface }));
  const statements = moveStatements(await changesFor(range(5, 10), ENI), 'token', 0);
  for (const [i, { sql, params }] of statements.entries()) {
    if (sql.startsWith('UPDATE `allocation`')) {
      // What the transaction did is lost, another server takes the addresses, and the rest commits by itself.
      await connection.rollback();
      assert.is((await store.move(await changesFor(range(4, 15), OTHER_ENI))).length, 4);
    }
    await connection.query(sql, [...params]);
    if (i === statements.length - 1) break;
  }
  assert.is((await store.tenantOf(ENI))?.used, 4);
  await connection.end();
  await store.close();
});

quotas('a quota: holds where the tables were made under different defaults of the server', async () => {
  const database = await mariadb.fresh();
  const collation = 'DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_520_ci';
  const ancestor = `CREATE TABLE allocation (ip varchar(32) NOT NULL, subnet varchar(32) NOT NULL,
    status enum('free','ready','allocated','occupied','reserved') NOT NULL DEFAULT 'free', iface varchar(32),
    \`primary\` tinyint(1) NOT NULL, ts timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    PRIMARY KEY (ip), KEY free (subnet, status)) ENGINE=InnoDB ${collation}`;
  await mariadb.run(database, ancestor);
  const stores = range(2).map(() => mariadb.store(database));
  await stores[0]?.migrate();
  assert.is(await raceFor(stores, 3), 3);
  for (const store of stores) await store.close();
});

quotas('a quota: an assign within it waits for no lock on the addresses that count', async () => {
  const database = await mariadb.migrated();
  const store = mariadb.store(database);
  await redWithin(store, 5);
  const [locked, free] = await rowsOf(store, range(2, 10));
  assert.ok(locked && free);
  await putOn(store, [locked], OTHER_ENI);
  const letGo = await mariadb.hold(
    database,
    `UPDATE allocation SET ts = ts WHERE subnet = '${locked.subnet}' AND ip = '${locked.ip}'`,
  );
  assert.is((await store.move([{ row: free, move: 'assign', iface: ENI }])).length, 1);
  await letGo();
  await store.close();
});

quotas(
  'a quota: one commit for ENIs of two tenants counts what others have committed meanwhile',
  async () => {
    const database = await mariadb.migrated();
    const store = mariadb.store(database);
    await redWithin(store, 2);
    await store.saveEnis([eniWith({ id: THIRD_ENI, tenant: 'blue' })]);
    await store.saveTenant({ name: 'blue', quota: 1, profile: null });
    const [ofRed, ofBlue, other] = await rowsOf(store, range(3, 10));
    assert.ok(ofRed && ofBlue && other);
    const statements = moveStatements(
      [
        { row: ofRed, move: 'assign', iface: ENI },
        { row: ofBlue, move: 'assign', iface: THIRD_ENI },
      ],
      'token',
      0,
    );
    const connection = await mariadb.connect(database);
    let isTaken = false;
    for (const { sql, params } of statements) {
      // Another server takes blue's only address before blue is locked.
      if (!isTaken && sql.startsWith('UPDATE `tenant`') && (await isTenant(connection, 'blue'))) {
        isTaken = (await store.move([{ row: other, move: 'assign', iface: THIRD_ENI }])).length === 1;
      }
      await connection.query(sql, [...params]);
    }
    assert.ok(isTaken);
    assert.is((await store.tenantOf(THIRD_ENI))?.used, 1);
    assert.is((await store.tenantOf(ENI))?.used, 1);
    await connection.end();
    await store.close();
  },
);
const isTenant = async (connection: Connection, name: string): Promise<boolean> => {
  const [rows] = await connection.query('SELECT @tenant AS name');
  return (rows as { name: string }[])[0]?.name === name;
};
quotas.run();
