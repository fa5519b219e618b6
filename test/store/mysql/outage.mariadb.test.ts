// Goal: whatever becomes of a connection, what the store answers is what the ledger says. Method: a gate in
// front of a real MariaDB that loses, holds or swallows one packet; the server stopped and killed.
import { type IpamError, isError } from '../../../src/domain/error.ts';
import type { EniId } from '../../../src/domain/ids.ts';
import { LINK_BOUNDS, type LinkBounds } from '../../../src/store/mysql/connection.ts';
import { createMysqlStore } from '../../../src/store/mysql/store.ts';
import type { Store } from '../../../src/store/store.ts';
import type { MysqlSpec } from '../../../src/store/url.ts';
import { type Gate, openGate } from '../../kit/databases/gate.ts';
import { startMariadb, until } from '../../kit/databases/mariadb.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ENI, ip, makeReady, one, row } from '../store.contract.ts';

const mariadb = await startMariadb();
const MOVE_PACKET = 'UPDATE `allocation`';
const PROMPT: Partial<LinkBounds> = { statementTimeoutMs: 400, connectTimeoutMs: 400 };

interface Context {
  /** Through the gate. */
  store: Store;
  /** Straight to the server. */
  witness: Store;
  gate: Gate;
  database: string;
}
const outage = suite<Context>('store: MariaDB out of reach');
let databases = 0;
outage.before.each(async context => {
  context.database = `outage_${++databases}`;
  await mariadb.create(context.database);
  context.gate = await openGate(mariadb.port);
  context.witness = createMysqlStore({
    spec: specOf(context.database, mariadb.port),
    password: mariadb.password,
  });
  await context.witness.migrate();
  await context.witness.add([row(10), row(11)]);
  for (const last of [10, 11]) await makeReady(context.witness, ip(last), ENI);
  context.store = through(context);
});
outage.after.each(async ({ store, witness, gate }) => {
  await store.close();
  await witness.close();
  await gate.close();
});
outage.after(() => mariadb.stop());

const specOf = (database: string, port: number, user = mariadb.user): MysqlSpec => ({
  kind: 'mysql',
  host: '127.0.0.1',
  port,
  user,
  password: null,
  database,
  ssl: 'off',
});
const through = ({ database, gate }: Pick<Context, 'database' | 'gate'>, callTimeoutMs = 5_000): Store =>
  createMysqlStore({
    spec: specOf(database, gate.port),
    password: mariadb.password,
    callTimeoutMs,
    bounds: PROMPT,
  });
const claims = async (store: Store) => [
  { row: await one(store, ip(10)), move: 'claim', holder: 'web-1' } as const,
  { row: await one(store, ip(11)), move: 'unassign' } as const,
];

/** The error of a call, which must be one line about the store, without SQL or password. */
async function downOf(call: Promise<unknown>): Promise<IpamError> {
  const error = await call.then(
    () => assert.unreachable('the store answered'),
    thrown => thrown,
  );
  assert.ok(isError(error, 'store-down'), String(error));
  assert.match(error.line, /^the store at mysql:\/\/127\.0\.0\.1:\d+\/outage_\d+ cannot be used: /);
  assert.not.match(error.line, new RegExp(`${mariadb.password}|allocation|select|update|\\n`, 'i'));
  return error;
}

for (const trap of ['lose reply', 'swallow reply'] as const)
  outage(`${trap}: a move that was made is answered as made`, async ({ store, witness, gate }) => {
    const changes = await claims(store);
    const sprung = gate.trap(trap, MOVE_PACKET);
    const after = await store.move(changes);
    await sprung;
    assert.equal(
      after.map(one => one.status),
      ['allocated', 'unassigning'],
    );
    assert.equal(after, [await one(witness, ip(10)), await one(witness, ip(11))]);
  });

outage('moves that share a commit whose answer is lost are each answered as made', async context => {
  const { store, witness, gate } = context;
  const changes = await claims(store);
  const sprung = gate.trap('lose reply', MOVE_PACKET);
  const after = await Promise.all(changes.map(change => store.move([change])));
  await sprung;
  assert.equal(after, [[await one(witness, ip(10))], [await one(witness, ip(11))]]);
});

outage('a move that the server cannot make takes down no other that shares its commit', async ({ store }) => {
  const [claim] = await claims(store);
  assert.ok(claim);
  const iface = ENI.padEnd(40, '0') as EniId; // longer than its column
  const row = await one(store, ip(11));
  const [made, refused] = await Promise.allSettled([
    store.move([claim]),
    store.move([{ row, move: 'usurped', iface }]),
  ]);
  assert.is(made.status === 'fulfilled' && made.value[0]?.status, 'allocated');
  assert.ok(refused.status === 'rejected' && isError(refused.reason, 'internal'));
  assert.is((await one(store, ip(11))).status, 'ready');
});

outage(
  'lose request: a move that never arrived is answered as not made',
  async ({ store, witness, gate }) => {
    const changes = await claims(store);
    const sprung = gate.trap('lose request', MOVE_PACKET);
    assert.equal(await store.move(changes), []);
    await sprung;
    assert.equal(
      (await witness.readyOn(ENI, null, 10)).rows.map(one => one.ip),
      [ip(10), ip(11)],
    );
  },
);

outage('hold: a move that was answered as not made is not made later either', async context => {
  const { store, witness, gate } = context;
  const changes = await claims(store);
  const sprung = gate.trap('hold', MOVE_PACKET);
  assert.equal(await store.move(changes), []);
  const before = [await one(witness, ip(10)), await one(witness, ip(11))];
  await (await sprung)();
  assert.equal([await one(witness, ip(10)), await one(witness, ip(11))], before);
  assert.equal((await store.move(await claims(store))).length, 2, 'the rows can be moved again');
});

outage(
  'a move is settled on a cluster node that lags too: it bumps the older row that it finds there',
  async context => {
    const { store, witness, gate } = context;
    const [claim] = await claims(store);
    assert.ok(claim);
    const ahead = { ...claim, row: { ...claim.row, generation: claim.row.generation + 1 } };
    const sprung = gate.trap('lose request', MOVE_PACKET);
    assert.equal(await store.move([ahead]), []);
    await sprung;
    assert.is((await one(witness, ip(10))).generation, claim.row.generation + 1);
  },
);

outage('a move that was made while nobody could learn so is told of later, once', async context => {
  const { witness, gate } = context;
  const store = through(context, 1_000);
  const changes = await claims(store);
  const sprung = gate.trap('swallow reply', MOVE_PACKET);
  const answer = downOf(store.move(changes));
  await sprung;
  gate.blackHole(true);
  await answer;
  await downOf(store.lateOutcomes());
  gate.blackHole(false);
  assert.equal(
    (await store.lateOutcomes()).moved.map(({ change, row }) => `${change.move} ${row.ip} ${row.status}`),
    [`claim ${ip(10)} allocated`, `unassign ${ip(11)} unassigning`],
  );
  assert.is((await one(witness, ip(10))).holder, 'web-1');
  assert.equal(await store.lateOutcomes(), { moved: [], unsettled: 0 });
  await store.close();
});

outage('a move that was not made, and nobody could learn so, is not made later', async context => {
  const { witness, gate } = context;
  const store = through(context, 1_000);
  const sprung = gate.trap('lose request', MOVE_PACKET);
  const answer = downOf(store.move(await claims(store)));
  await sprung;
  gate.blackHole(true);
  await answer;
  gate.blackHole(false);
  assert.equal(await store.lateOutcomes(), { moved: [], unsettled: 0 });
  assert.is((await one(witness, ip(10))).status, 'ready');
  await store.close();
});

outage('a move whose deadline passes in a queue for a lock is answered as it turned out', async context => {
  const { store, witness, database } = context;
  const changes = await claims(store);
  const letGo = await mariadb.hold(database, `SELECT * FROM allocation WHERE ip = '${ip(10)}' FOR UPDATE`);
  const answer = store.move(changes);
  // The move itself, and then the settling of it.
  const query =
    "SELECT 1 FROM information_schema.processlist WHERE info LIKE '%`generation` + 1%' AND state = 'Updating'";
  await until(async () => (await mariadb.run(database, query)).length >= 2);
  await letGo();
  const after = await answer;
  const claimed = await one(witness, ip(10));
  assert.is(
    after.some(one => one.ip === ip(10)),
    claimed.status === 'allocated',
  );
  assert.ok(claimed.generation > (changes[0]?.row.generation ?? 0), 'neither moved nor settled');
});

outage('add counts rows whose answer was lost', async ({ store, gate }) => {
  const sprung = gate.trap('lose reply', 'INSERT INTO `allocation`');
  assert.is(await store.add([row(10), row(20), row(21)]), 2);
  await sprung;
});

outage('a server that swallows everything is reported within the bound of a call', async context => {
  const store = through(context, 1_000);
  await one(store, ip(10));
  context.gate.blackHole(true);
  const startedAt = performance.now();
  // More at once than there are connections: those that wait for one are bounded too.
  await Promise.all(Array.from({ length: 20 }, () => downOf(store.servers())));
  assert.ok(performance.now() - startedAt < 1_500, 'a read took longer than its bound');
  const witnessed = await claims(context.witness);
  const movedAt = performance.now();
  assert.match((await downOf(store.move(witnessed))).line, /no (answer|connection) in time/);
  assert.ok(performance.now() - movedAt < 2_500, 'a move took longer than its bound and the settling’s');
  context.gate.blackHole(false);
  assert.is((await one(store, ip(10))).status, 'ready', 'it recovers by itself');
  await store.close();
});

outage('a stopped server is reported at once, and used again when it is back', async ({ store }) => {
  const changes = await claims(store);
  await mariadb.halt();
  const error = await downOf(store.move(changes));
  assert.match(error.line, /connection|closed/);
  await downOf(store.servers());
  await mariadb.start();
  assert.is((await store.move(await claims(store))).length, 2);
});

outage('what was answered outlives a killed server', async ({ store }) => {
  const after = await store.move(await claims(store));
  await mariadb.kill9();
  await mariadb.start();
  assert.equal([await one(store, ip(10)), await one(store, ip(11))], after);
});

outage('a read-only server is reported as such, and its connections are replaced', async context => {
  const { database, gate } = context;
  await mariadb.run(
    database,
    `CREATE OR REPLACE USER 'plain'@'127.0.0.1' IDENTIFIED BY '${mariadb.password}'`,
    `GRANT ALL ON \`${database}\`.* TO 'plain'@'127.0.0.1'`,
  );
  const store = createMysqlStore({ spec: specOf(database, gate.port, 'plain'), password: mariadb.password });
  const changes = await claims(store);
  // As many as the link has connections, which are more than a move has tries.
  const atOnce = LINK_BOUNDS.connectionsMax;
  const readAtOnce = () => Promise.all(Array.from({ length: atOnce }, () => store.servers()));
  await readAtOnce();
  await mariadb.run(database, 'SET GLOBAL read_only = ON');
  try {
    assert.match((await downOf(store.move(changes))).line, /the server is read-only/);
    const { connections } = gate;
    await readAtOnce();
    assert.is(gate.connections - connections, atOnce, 'connections from before were used');
  } finally {
    await mariadb.run(database, 'SET GLOBAL read_only = OFF');
  }
  assert.is((await store.move(changes)).length, 2, 'nothing had been changed');
  await store.close();
});

for (const ssl of ['on', 'Amazon RDS'] as const)
  outage(`ssl=${ssl}: a server whose certificate nobody vouches for is refused`, async ({ database }) => {
    const spec = { ...specOf(database, mariadb.port), ssl };
    const store = createMysqlStore({ spec, password: mariadb.password });
    assert.match((await downOf(store.servers())).line, /certificate/);
    await store.close();
  });

outage('a wrong password is reported without it', async ({ database }) => {
  const spec = { ...specOf(database, mariadb.port), password: 'not-the-secret' };
  const store = createMysqlStore({ spec });
  const error = await downOf(store.servers());
  assert.match(error.line, /user or password is wrong/);
  assert.not.match(error.line, /not-the-secret/);
  await store.close();
});

outage('a schema that is not there is reported with what to do', async () => {
  await mariadb.create('empty');
  const store = createMysqlStore({ spec: specOf('empty', mariadb.port), password: mariadb.password });
  const move = { row: { ...row(10), generation: 0 }, move: 'reserve' } as const;
  for (const call of [() => store.tally(), () => store.move([move])]) {
    const error = await call().then(
      () => assert.unreachable('the store answered'),
      thrown => thrown,
    );
    assert.ok(isError(error, 'store-down'), String(error));
    assert.match(error.line, /is not this program's; run `ec2-ipam migrate`$/);
  }
  await store.close();
});

outage(
  'batches that overlap in every order all end, and each row moves once',
  async ({ database, witness }) => {
    const lasts = Array.from({ length: 40 }, (_, i) => 50 + i);
    await witness.add(lasts.map(last => row(last)));
    const { rows } = await witness.get(row(0).subnet, lasts.map(ip));
    const stores = [1, 2].map(() =>
      createMysqlStore({ spec: specOf(database, mariadb.port), password: mariadb.password }),
    );
    const answers = await Promise.all(
      Array.from({ length: 40 }, (_, i) => {
        const turned = rows.toSorted((a, b) => Number(b.ip > a.ip) * (i % 2 === 0 ? 1 : -1));
        const moves = turned.map(
          (state, j) => ({ row: state, move: (i + j) % 2 === 0 ? 'reserve' : 'foreign' }) as const,
        );
        return stores[i % 2]?.move(moves) ?? [];
      }),
    );
    assert.is(answers.flat().length, lasts.length);
    for (const store of stores) await store.close();
  },
);

outage('after close every call is refused', async ({ database }) => {
  const store = createMysqlStore({ spec: specOf(database, mariadb.port), password: mariadb.password });
  await store.tally();
  await store.close();
  assert.match((await downOf(store.tally())).line, /closed/);
});
outage.run();
