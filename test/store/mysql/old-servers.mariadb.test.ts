// Goal: what a server of the release before does to a row gives nobody the rights of the former holder. Method: its
// statements, beside new servers on one MariaDB, in the whole machine on a simulated VPC.
import { randomUUID } from 'node:crypto';
import type { Ipv4 } from '../../../src/domain/address.ts';
import type { EniId, InstanceId } from '../../../src/domain/ids.ts';
import type { Origin } from '../../../src/domain/origin.ts';
import { sharedMariadb } from '../../kit/databases/mariadb.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ENI_A, ENI_B, ROOMY, SUBNET } from '../../kit/vpcs.ts';
import { failure, NOT_WARM, pooled, type World } from '../../kit/world.ts';

// As the release before wrote them. It knows neither instance nor the ids of calls.
const MOVED = '`moved_at` = @now, `generation` = `generation` + 1, `token` = UUID()';
const OF = 'WHERE `ip` = ? AND `status` =';
const OLD = {
  claim: `UPDATE allocation SET \`holder\` = 'old', ${MOVED}, \`status\` = 'allocated' ${OF} 'ready'`,
  release: `UPDATE allocation SET \`rested_since\` = @now, \`rested_from\` = \`iface\`, \`holder\` = NULL, ${MOVED}, \`status\` = 'ready' ${OF} 'allocated'`,
  unassign: `UPDATE allocation SET ${MOVED}, \`status\` = 'unassigning' ${OF} 'ready'`,
  found: `UPDATE allocation SET \`missing_since\` = NULL, \`generation\` = \`generation\` + 1, \`token\` = UUID() ${OF} 'allocated'`,
  unassigned: `UPDATE allocation SET \`left_at\` = @now, \`left_iface\` = \`iface\`, \`left_unsure\` = 0, \`iface\` = NULL, ${MOVED}, \`status\` = 'free' ${OF} 'unassigning'`,
} as const;
const SET_NOW = 'SET @now = CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS INTEGER)';

const A = 'i-0a' as InstanceId;
const B = 'i-0b' as InstanceId;
const by = (instance: InstanceId, id: string): { from: Origin } => ({
  from: { instance, id, sentMsAgo: 0, givenTo: null },
});

interface Context {
  w: World;
  /** An old server makes these moves of the address. */
  old(ip: string, ...moves: (keyof typeof OLD)[]): Promise<void>;
  release(eni: EniId, ip: string, instance: InstanceId): Promise<boolean>;
  run(statement: string): Promise<unknown>;
}

const mariadb = await sharedMariadb();
const beside = suite<Context>('old servers: MariaDB');
beside.before.each(async context => {
  const database = await mariadb.migrated();
  const store = mariadb.store(database);
  // No rest, since the database's time cannot be set forward.
  const w = await pooled({
    vpc: ROOMY,
    policy: { ...NOT_WARM, cooldownMs: 0, quarantineMs: 0 },
    store: () => store,
  });
  await makeReady(w, ENI_A, '10.0.1.20');
  Object.assign(context, {
    w,
    async old(ip, ...moves) {
      for (const move of moves) await mariadb.run(database, SET_NOW, OLD[move].replace('?', `'${ip}'`));
    },
    run: statement => mariadb.run(database, statement),
    release: (eni, ip, instance) =>
      w.another().allocator.release({ eni, range: null }, ip as Ipv4, undefined, {
        ...by(instance, randomUUID()),
        isLate: () => false,
      }),
  } satisfies Context);
});
beside.after.each(async ({ w }) => await w.store.close());
beside.after(() => mariadb.stop());

/** So that no request waits for EC2: the machine's time passes at once, the database's does not. */
async function makeReady(w: World, eni: EniId, ip: string): Promise<void> {
  const assigned = await w.store.move([{ row: await w.rowOf(ip), move: 'assign', iface: eni }]);
  w.putOn(eni, ip);
  await w.store.move(assigned.map(row => ({ row, move: 'assigned' })));
}

/** An address that a new server gave to A, and an old one to a container of B. */
async function givenAnew({ w, old }: Context): Promise<string> {
  const { ip } = await w.request(ENI_A, by(A, 'r-1'));
  await old(ip, 'release', 'unassign', 'unassigned');
  w.takeOff(ENI_A, ip);
  await w.enis.adopt(ENI_B);
  await makeReady(w, ENI_B, ip);
  await old(ip, 'claim');
  return ip;
}

beside('an address that one gave: is released by the instance that has its ENI alone', async context => {
  const { w, release } = context;
  const ip = await givenAnew(context);
  const before = await w.rowOf(ip);
  assert.equal([before.status, before.instance, before.requestId], ['allocated', null, null]);
  assert.is((await failure(release(ENI_B, ip, A))).code, 'denied');
  assert.equal(await w.rowOf(ip), before);
  assert.is(await release(ENI_B, ip, B), true);
});

beside('a request whose address one gave to somebody else: is not answered with it', async ({ w, old }) => {
  const { ip } = await w.request(ENI_A, by(A, 'r-1'));
  await old(ip, 'release', 'claim');
  const before = await w.rowOf(ip);
  for (const more of [{}, { named: ip }])
    assert.match(
      (await failure(w.another().request(ENI_A, { ...more, ...by(A, 'r-1') }))).line,
      more.named === undefined
        ? /was given \S+ before, and that has been released/
        : /is held by container old/,
    );
  assert.equal(await w.rowOf(ip), before);
  await old(ip, 'release');
  const again = await w.another().request(ENI_A, { named: ip, ...by(A, 'r-2') });
  assert.equal([again.instance, again.requestId], [A, 'r-2']);
});

beside('a holding that one has looked after: is still that of its instance and request', async context => {
  const { w, old, release } = context;
  const { ip } = await w.request(ENI_A, by(A, 'r-1'));
  await old(ip, 'found');
  assert.is((await w.another().request(ENI_A, by(A, 'r-1'))).ip, ip);
  await old(ip, 'found');
  w.reattach(ENI_A, B);
  assert.is((await failure(release(ENI_A, ip, B))).code, 'denied');
  assert.is(await release(ENI_A, ip, A), true);
});

beside(
  'the history: a holding that one ended is missing, of one that it began the call is not known',
  async context => {
    const { w, old, release } = context;
    const { ip } = await w.request(ENI_A, { ...by(A, 'r-1'), holder: 'new', call: 'call-1' });
    const told = async () => {
      const { rows } = await w.store.history(SUBNET, ip, 10);
      return rows.map(one => [one.container, one.isHeld, one.instance, one.request, one.server]);
    };
    const server = (await w.rowOf(ip)).token?.slice(0, 8);
    assert.equal(await told(), [['new', true, A, 'call-1', server]]);
    await old(ip, 'found');
    assert.equal(await told(), [['new', true, A, 'call-1', server]]);
    await old(ip, 'release');
    assert.equal(await told(), []);
    await old(ip, 'claim');
    assert.equal(await told(), [['old', true, null, null, null]]);
    const { movedAt } = await w.rowOf(ip);
    assert.is(await release(ENI_A, ip, A), true);
    assert.equal(await told(), [['old', false, null, null, null]]);
    assert.is((await w.store.history(SUBNET, ip, 10)).rows[0]?.since, movedAt);
  },
);

beside(
  'the id of a container: is not that of a holding which one has begun, whoever ended the one before',
  async context => {
    const { w, old, release } = context;
    const { ip } = await w.request(ENI_A, { ...by(A, 'r-1'), holder: 'new', call: 'call-1' });
    const [first, second] = ['a'.repeat(64), 'b'.repeat(64)] as const;
    const told = async () =>
      (await w.store.history(SUBNET, ip, 10)).rows.map(one => [one.container, one.containerId]);
    await w.store.noteContainers([{ row: await w.rowOf(ip), id: first }]);
    await old(ip, 'found');
    assert.equal(await told(), [['new', first]]);
    await old(ip, 'release');
    const ready = await w.rowOf(ip);
    assert.equal([ready.containerId, ready.containerSince], [null, null]);
    await old(ip, 'claim');
    assert.equal(await told(), [['old', null]]);
    assert.equal(await w.store.heldBy(first, 10).then(({ rows }) => rows), []);
    await w.store.noteContainers([{ row: await w.rowOf(ip), id: second }]);
    assert.equal(await told(), [['old', second]]);
    await old(ip, 'release', 'claim');
    assert.is(await release(ENI_A, ip, A), true);
    assert.equal(await told(), [['old', null]]);
  },
);

beside('the version: of a server that writes none is not known', async ({ w, run }) => {
  await w.store.beat('new', false, '1.2.3');
  await run("INSERT INTO server (id, started_at, seen_at, stopped_at) VALUES ('old', 1, 1, NULL)");
  const { rows } = await w.store.servers();
  assert.equal(rows.map(({ id, version }) => [id, version]).sort(), [
    ['new', '1.2.3'],
    ['old', null],
  ]);
});

beside(
  'a holding from before the time of the claim was noted: keeps its instance and request',
  async context => {
    const { w, release, run } = context;
    const { ip } = await w.request(ENI_A, by(A, 'r-1'));
    await run('UPDATE allocation SET claimed_at = NULL');
    assert.is((await w.another().request(ENI_A, by(A, 'r-1'))).ip, ip);
    w.reattach(ENI_A, B);
    assert.is((await failure(release(ENI_A, ip, B))).code, 'denied');
    assert.is(await release(ENI_A, ip, A), true);
  },
);
beside.run();
