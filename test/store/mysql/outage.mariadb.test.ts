// Goal: whatever becomes of a connection, what the store answers is what the ledger says. Method: a gate in
// front of a real MariaDB that loses, holds or swallows one packet; the server stopped and killed.
import type { Change } from '../../../src/domain/allocation.ts';
import { isError } from '../../../src/domain/error.ts';
import type { EniId } from '../../../src/domain/ids.ts';
import { LINK_BOUNDS } from '../../../src/store/mysql/connection.ts';
import type { Store } from '../../../src/store/store.ts';
import type { MysqlSpec } from '../../../src/store/url.ts';
import { type Gated, MOVE_PACKET, openGated } from '../../kit/databases/gated.ts';
import { startMariadb } from '../../kit/databases/mariadb.ts';
import { failureOf } from '../../kit/failures.ts';
import { newRows, one, rowsOf } from '../../kit/ledger.ts';
import { ENI, ip, ipsOf, range, rowWith } from '../../kit/rows.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { until } from '../../kit/wait.ts';

const mariadb = await startMariadb();
const PROMPT = { callTimeoutMs: 5_000, bounds: { statementTimeoutMs: 400, connectTimeoutMs: 400 } };
const HASTY = { ...PROMPT, callTimeoutMs: 1_000 };

const outage = suite<Gated>('store: MariaDB out of reach');
outage.before.each(async context => void Object.assign(context, await openGated(mariadb, PROMPT)));
outage.after.each(({ close }) => close());
outage.after(() => mariadb.stop());

const claims = async (store: Store): Promise<[Change, Change]> => [
  { row: await one(store, 10), move: 'claim', holder: 'web-1' },
  { row: await one(store, 11), move: 'unassign' },
];

/** The line of the error of a call, which must be about the store, without SQL or password. */
async function downOf(call: Promise<unknown>): Promise<string> {
  const line = await failureOf(call, 'store-down');
  assert.match(line, /^the store at mysql:\/\/127\.0\.0\.1:\d+\/fresh_\d+ cannot be used: /);
  assert.not.match(line, new RegExp(`${mariadb.password}|allocation|select|update|\\n`, 'i'));
  return line;
}
/** Another store in the database, which is closed after the work. */
async function withStore(store: Store, work: (store: Store) => Promise<void>): Promise<void> {
  try {
    await work(store);
  } finally {
    await store.close();
  }
}
const hasty = ({ database, gate }: Gated, work: (store: Store) => Promise<void>) =>
  withStore(mariadb.store(database, HASTY, { port: gate.port }), work);

for (const trap of ['lose reply', 'swallow reply'] as const)
  outage(`${trap}: a move that was made is answered as made`, async ({ store, witness, gate }) => {
    const changes = await claims(store);
    const sprung = gate.trap(trap, MOVE_PACKET);
    const after = await store.move(changes);
    await sprung;
    assert.equal([after[0]?.status, after[1]?.status], ['allocated', 'unassigning']);
    assert.equal(after, await rowsOf(witness, [10, 11]));
  });

outage('lose reply: moves of one commit are each answered as made', async ({ store, witness, gate }) => {
  const changes = await claims(store);
  const sprung = gate.trap('lose reply', MOVE_PACKET);
  const after = await Promise.all(changes.map(change => store.move([change])));
  await sprung;
  assert.equal(after, [[await one(witness, 10)], [await one(witness, 11)]]);
});

outage('a move that the server cannot make: takes down no other in its commit', async ({ store }) => {
  const [claim, { row }] = await claims(store);
  const iface = ENI.padEnd(40, '0') as EniId; // longer than its column
  const usurp = { row, move: 'usurped', iface } as const;
  const [made, refused] = await Promise.allSettled([store.move([claim]), store.move([usurp])]);
  assert.is(made.status === 'fulfilled' && made.value[0]?.status, 'allocated');
  assert.ok(refused.status === 'rejected' && isError(refused.reason, 'internal'));
  assert.is((await one(store, 11)).status, 'ready');
});

outage('lose request: what never arrived is answered as not made', async ({ store, witness, gate }) => {
  const changes = await claims(store);
  const sprung = gate.trap('lose request', MOVE_PACKET);
  assert.equal(await store.move(changes), []);
  await sprung;
  assert.equal(ipsOf((await witness.readyOn(ENI, null, 10)).rows), [10, 11].map(ip));
});

outage('hold: a move that was answered as not made is not made later either', async context => {
  const { store, witness, gate } = context;
  const changes = await claims(store);
  const sprung = gate.trap('hold', MOVE_PACKET);
  assert.equal(await store.move(changes), []);
  const before = await rowsOf(witness, [10, 11]);
  await (await sprung)();
  assert.equal(await rowsOf(witness, [10, 11]), before);
  assert.equal((await store.move(await claims(store))).length, 2, 'the rows can be moved again');
});

outage('a move on a cluster node that lags: settling bumps the older row there', async context => {
  const { store, witness, gate } = context;
  const [claim] = await claims(store);
  const { generation } = claim.row;
  const sprung = gate.trap('lose request', MOVE_PACKET);
  assert.equal(await store.move([{ ...claim, row: { ...claim.row, generation: generation + 1 } }]), []);
  await sprung;
  assert.is((await one(witness, 10)).generation, generation + 1);
});

outage('a move that was made while nobody could learn so: is told of later, once', context =>
  hasty(context, async store => {
    const { witness, gate } = context;
    const changes = await claims(store);
    const sprung = gate.trap('swallow reply', MOVE_PACKET);
    const answer = downOf(store.move(changes));
    await sprung;
    gate.blackHole(true);
    await answer;
    await downOf(store.lateOutcomes());
    gate.blackHole(false);
    const { moved } = await store.lateOutcomes();
    const told = moved.map(({ change, row }) => `${change.move} ${row.ip} ${row.status}`);
    assert.equal(told, [`claim ${ip(10)} allocated`, `unassign ${ip(11)} unassigning`]);
    assert.is((await one(witness, 10)).holder, 'web-1');
    assert.equal(await store.lateOutcomes(), { moved: [], unsettled: 0 });
  }),
);

outage('a move that was not made, and nobody could learn so: is not made later', context =>
  hasty(context, async store => {
    const { witness, gate } = context;
    const sprung = gate.trap('lose request', MOVE_PACKET);
    const answer = downOf(store.move(await claims(store)));
    await sprung;
    gate.blackHole(true);
    await answer;
    gate.blackHole(false);
    assert.equal(await store.lateOutcomes(), { moved: [], unsettled: 0 });
    assert.is((await one(witness, 10)).status, 'ready');
  }),
);

outage('a move whose deadline passes in a queue for a lock: is answered as it turned out', async context => {
  const { store, witness, database } = context;
  const changes = await claims(store);
  const letGo = await mariadb.hold(database, `SELECT * FROM allocation WHERE ip = '${ip(10)}' FOR UPDATE`);
  const answer = store.move(changes);
  const query =
    "SELECT 1 FROM information_schema.processlist WHERE info LIKE '%`generation` + 1%' AND state = 'Updating'";
  const isSettling = async () => (await mariadb.run(database, query)).length >= 2;
  await until('the move waits, and the settling of it', isSettling);
  await letGo();
  const after = await answer;
  const claimed = await one(witness, 10);
  assert.is(ipsOf(after).includes(ip(10)), claimed.status === 'allocated');
  assert.ok(claimed.generation > changes[0].row.generation, 'neither moved nor settled');
});

outage('add: counts rows whose answer was lost', async ({ store, gate }) => {
  const sprung = gate.trap('lose reply', 'INSERT INTO `allocation`');
  assert.is(await store.add(newRows(10, 20, 21)), 2);
  await sprung;
});

outage('a server that swallows everything: is reported within the bound of a call', context =>
  hasty(context, async store => {
    const { witness, gate } = context;
    await one(store, 10);
    gate.blackHole(true);
    const startedAt = performance.now();
    // More at once than there are connections: those that wait for one are bounded too.
    await Promise.all(range(20).map(() => downOf(store.servers())));
    assert.ok(performance.now() - startedAt < 1_500, 'a read took longer than its bound');
    const witnessed = await claims(witness);
    const movedAt = performance.now();
    assert.match(await downOf(store.move(witnessed)), /no (answer|connection) in time/);
    assert.ok(performance.now() - movedAt < 2_500, 'a move took longer than its bound and the settling’s');
    gate.blackHole(false);
    assert.is((await one(store, 10)).status, 'ready', 'it recovers by itself');
  }),
);

outage('a stopped server: is reported at once, and used again when it is back', async ({ store }) => {
  const changes = await claims(store);
  await mariadb.halt();
  assert.match(await downOf(store.move(changes)), /connection|closed/);
  await downOf(store.servers());
  await mariadb.start();
  assert.is((await store.move(await claims(store))).length, 2);
});

outage('a killed server: what was answered outlives it', async ({ store }) => {
  const after = await store.move(await claims(store));
  await mariadb.kill9();
  await mariadb.start();
  assert.equal(await rowsOf(store, [10, 11]), after);
});

outage('a read-only server: is reported as such, and its connections are replaced', async context => {
  const { database, gate } = context;
  await mariadb.run(
    database,
    `CREATE OR REPLACE USER 'plain'@'127.0.0.1' IDENTIFIED BY '${mariadb.password}'`,
    `GRANT ALL ON \`${database}\`.* TO 'plain'@'127.0.0.1'`,
  );
  await withStore(mariadb.store(database, {}, { port: gate.port, user: 'plain' }), async store => {
    const changes = await claims(store);
    // As many as the link has connections, which are more than a move has tries.
    const atOnce = LINK_BOUNDS.connectionsMax;
    const readAtOnce = () => Promise.all(range(atOnce).map(() => store.servers()));
    await readAtOnce();
    await mariadb.run(database, 'SET GLOBAL read_only = ON');
    try {
      assert.match(await downOf(store.move(changes)), /the server is read-only/);
      const { connections } = gate;
      await readAtOnce();
      assert.is(gate.connections - connections, atOnce, 'connections from before were used');
    } finally {
      await mariadb.run(database, 'SET GLOBAL read_only = OFF');
    }
    assert.is((await store.move(changes)).length, 2, 'nothing had been changed');
  });
});

const refusing: [what: string, patch: Partial<MysqlSpec>, says: RegExp][] = [
  ['a server whose certificate nobody vouches for, ssl=on', { ssl: 'on' }, /certificate/],
  ['a server whose certificate nobody vouches for, ssl=Amazon RDS', { ssl: 'Amazon RDS' }, /certificate/],
  ['a wrong password', { password: 'not-the-secret' }, /^(?!.*not-the-secret).*user or password is wrong/],
];
for (const [what, patch, says] of refusing)
  outage(`${what}: is reported as such`, ({ database }) => {
    const password = patch.password ?? mariadb.password;
    return withStore(mariadb.store(database, { password: null }, { password, ...patch }), async store =>
      assert.match(await downOf(store.servers()), says),
    );
  });

outage('a schema that is not there: is reported with what to do', async () =>
  withStore(mariadb.store(await mariadb.fresh()), async store => {
    const change = { row: rowWith({ generation: 0 }), move: 'reserve' } as const;
    for (const call of [() => store.tally(), () => store.move([change])])
      assert.match(await failureOf(call(), 'store-down'), /is not this program's; run `ec2-ipam migrate`$/);
  }),
);

outage('batches that overlap in every order: all end, rows move once', async ({ database, witness }) => {
  const lasts = range(40, 50);
  await witness.add(newRows(...lasts));
  const rows = await rowsOf(witness, lasts);
  const stores = [mariadb.store(database), mariadb.store(database)] as const;
  const moveAll = (i: number) => {
    const turned = rows.toSorted((a, b) => Number(b.ip > a.ip) * (i % 2 === 0 ? 1 : -1));
    const moves = turned.map((row, j) => ({ row, move: (i + j) % 2 === 0 ? 'reserve' : 'foreign' }) as const);
    return stores[i % 2 === 0 ? 0 : 1].move(moves);
  };
  const answers = await Promise.all(range(40).map(moveAll));
  assert.is(answers.flat().length, lasts.length);
  for (const store of stores) await store.close();
});

outage('after close: every call is refused', async ({ database }) => {
  const store = mariadb.store(database);
  await store.tally();
  await store.close();
  assert.match(await downOf(store.tally()), /closed/);
});
outage.run();
