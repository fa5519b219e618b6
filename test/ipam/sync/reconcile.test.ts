// Goal: ledger and EC2 come to agree whatever strangers do, holders are never lost, and what is unknown is let be.

import type { Cloud, Urgency } from '../../../src/cloud/cloud.ts';
import type { Ipv4 } from '../../../src/domain/address.ts';
import { LATE_READS_MS } from '../../../src/domain/allocation.ts';
import { ABSENT_FOR_MS, REFUSED_FOR_MS } from '../../../src/domain/drift.ts';
import { IpamError } from '../../../src/domain/error.ts';
import { createEnis } from '../../../src/ipam/ec2/enis.ts';
import { takeOver } from '../../../src/ipam/ec2/recover.ts';
import { survey } from '../../../src/ipam/ec2/survey.ts';
import { unassign } from '../../../src/ipam/ec2/unassign.ts';
import { createRollbacks } from '../../../src/ipam/request/rollback.ts';
import { idle } from '../../../src/ipam/sync/drain.ts';
import { createEvidence } from '../../../src/ipam/sync/holders.ts';
import { createKeeper } from '../../../src/ipam/sync/keeper.ts';
import { close, compare, reconcile as pass } from '../../../src/ipam/sync/reconcile.ts';
import { assert, suite } from '../../kit/uvu.ts';
import {
  assignTo,
  ENI_A,
  ENI_B,
  failure,
  ipsWith,
  POLICY,
  ROOMY,
  release,
  request,
  rowOf,
  SMALL,
  SUBNET,
  secondariesOf,
  type World,
  world,
} from '../../kit/world.ts';

const ip = (text: string) => text as Ipv4;
async function reconcile(w: World) {
  const drifts = await compare(w.context, SUBNET);
  await close(w.context, drifts);
  return drifts.map(drift => `${drift.kind} ${drift.row.ip}`);
}

const reconciling = suite('reconcile');

reconciling('finds nothing where nothing is amiss, and changes nothing', async () => {
  const w = world({ vpc: ROOMY });
  await request(w, ENI_A);
  await request(w, ENI_B);
  w.time.now += 3_600_000;
  const before = await w.store.tally();
  assert.equal(await reconcile(w), []);
  assert.equal(await w.store.tally(), before);
});

reconciling(
  "a stranger's address becomes occupied, and leaves that only after two reads a minute apart",
  async () => {
    const w = world({ vpc: ROOMY });
    await request(w, ENI_A);
    w.vpc.network.assign({ eni: ENI_B, ips: [ip('10.0.1.99')] });
    assert.equal(await reconcile(w), ['foreign 10.0.1.99']);
    assert.is((await rowOf(w, '10.0.1.99')).iface, ENI_B);
    w.vpc.network.unassign(ENI_B, [ip('10.0.1.99')]);
    assert.equal(await reconcile(w), ['unseen 10.0.1.99']);
    w.time.now += ABSENT_FOR_MS - 1;
    assert.equal(await reconcile(w), []);
    w.time.now += 1;
    assert.equal(await reconcile(w), ['vacated 10.0.1.99']);
    const row = await rowOf(w, '10.0.1.99');
    assert.is(row.status, 'free');
    assert.is(row.restedSince, w.time.now, 'and rests');
  },
);

reconciling('an occupied address that is seen again does not leave', async () => {
  const w = world({ vpc: ROOMY });
  await request(w, ENI_A);
  w.vpc.network.assign({ eni: ENI_B, ips: [ip('10.0.1.99')] });
  await reconcile(w);
  w.vpc.network.unassign(ENI_B, [ip('10.0.1.99')]);
  await reconcile(w);
  w.vpc.network.assign({ eni: ENI_B, ips: [ip('10.0.1.99')] });
  w.time.now += ABSENT_FOR_MS;
  assert.equal(await reconcile(w), ['seen 10.0.1.99']);
  assert.is((await rowOf(w, '10.0.1.99')).status, 'occupied');
});

reconciling('an address known only from a refusal leaves after an hour, and is tried last', async () => {
  const w = world({ policy: { warmMin: 0, warmMax: 0 } });
  await w.enis.adopt(ENI_A);
  const free = { subnet: SUBNET, eni: ENI_A, range: null, rest: POLICY, which: 'any' as const, limit: 20 };
  const [row] = (await w.store.freeFor(free)).rows;
  w.vpc.faults.add({
    kind: 'error',
    code: 'InvalidParameterValue',
    message: 'The specified address is already in use.',
    action: 'AssignPrivateIpAddresses',
    times: 1,
  });
  await assignTo(w.context, ENI_A, row === undefined ? [] : [row]);
  assert.equal(await reconcile(w), [`unseen ${row?.ip}`]);
  w.time.now += REFUSED_FOR_MS - 1;
  assert.equal(await reconcile(w), []);
  w.time.now += 1;
  assert.equal(await reconcile(w), [`vacated ${row?.ip}`]);
  w.time.now += POLICY.quarantineMs;
  assert.is((await w.store.freeFor(free)).rows.at(-1)?.ip, row?.ip);
});

reconciling('a held address that a stranger took off its ENI is put back within a pass', async () => {
  const w = world({ vpc: ROOMY });
  const held = await request(w, ENI_A, { holder: 'web' });
  w.time.now += LATE_READS_MS;
  w.vpc.network.unassign(ENI_A, [held.ip]);
  assert.equal(await reconcile(w), [`missing ${held.ip}`]);
  assert.ok(secondariesOf(w, ENI_A).includes(held.ip));
  assert.is((await rowOf(w, held.ip)).holder, 'web');
});

reconciling('a held address that somebody else carries now keeps its holder and is reported', async () => {
  const w = world({ vpc: ROOMY });
  const held = await request(w, ENI_A);
  w.time.now += LATE_READS_MS;
  w.vpc.network.unassign(ENI_A, [held.ip]);
  w.vpc.network.assign({ eni: ENI_B, ips: [held.ip] });
  assert.equal(await reconcile(w), [`elsewhere ${held.ip}`]);
  assert.is((await rowOf(w, held.ip)).status, 'allocated');
  assert.is((await rowOf(w, held.ip)).iface, ENI_A);
  assert.equal(await reconcile(w), [], 'once');
  await release(w, ENI_A, held.ip);
  assert.is((await rowOf(w, held.ip)).status, 'unassigning', 'and is given to nobody when that gives it up');
});

reconciling('a ready address that a stranger took off is asked about before it counts as free', async () => {
  const w = world({ vpc: ROOMY });
  await request(w, ENI_A);
  const [ready = ''] = await ipsWith(w, 'ready');
  w.vpc.network.unassign(ENI_A, [ip(ready)]);
  assert.equal(await reconcile(w), [], 'a read just after the assign may be late');
  w.time.now += LATE_READS_MS;
  assert.equal(await reconcile(w), [`astray ${ready}`]);
  assert.is((await rowOf(w, ready)).status, 'free');
  assert.is(w.vpc.calls.get('UnassignPrivateIpAddresses'), 1);
});

reconciling('a ready address that another ENI carries becomes occupied there', async () => {
  const w = world({ vpc: ROOMY });
  await request(w, ENI_A);
  const [ready = ''] = await ipsWith(w, 'ready');
  w.vpc.network.unassign(ENI_A, [ip(ready)]);
  w.vpc.network.assign({ eni: ENI_B, ips: [ip(ready)] });
  w.time.now += LATE_READS_MS;
  assert.equal(await reconcile(w), [`usurped ${ready}`]);
  assert.is((await rowOf(w, ready)).iface, ENI_B);
});

reconciling("a stranger's secondary on our own ENI is neither given nor unassigned", async () => {
  const w = world({ vpc: ROOMY, policy: { warmMax: 2 } });
  await request(w, ENI_A);
  w.vpc.network.assign({ eni: ENI_A, ips: [ip('10.0.1.99')] });
  await reconcile(w);
  w.time.now += 3_600_000;
  await reconcile(w);
  assert.is((await rowOf(w, '10.0.1.99')).status, 'occupied');
  assert.ok(secondariesOf(w, ENI_A).includes('10.0.1.99'));
  assert.is(w.vpc.calls.get('UnassignPrivateIpAddresses'), undefined);
});

reconciling('reads that are late change no holder and free nothing that is in use', async () => {
  const w = world({ vpc: ROOMY });
  w.time.now += 100_000;
  await request(w, ENI_A);
  w.vpc.faults.add({ kind: 'readLag', ms: 30_000, action: 'DescribeNetworkInterfaces' });
  w.time.now += 10_000;
  const held = await request(w, ENI_B);
  await reconcile(w);
  assert.is((await rowOf(w, held.ip)).status, 'allocated');
  assert.is((await rowOf(w, held.ip)).missingSince, null);
  assert.is(w.vpc.calls.get('UnassignPrivateIpAddresses'), undefined);
});

reconciling('what a late call of ours put back on our ENI within the hour is taken off again', async () => {
  const w = world({ vpc: ROOMY });
  const query = { subnet: SUBNET, eni: ENI_A, range: null, rest: POLICY, which: 'rested' as const, limit: 1 };
  await w.enis.adopt(ENI_A);
  const [row] = (await assignTo(w.context, ENI_A, (await w.store.freeFor(query)).rows)).ready;
  assert.ok(row);
  if (row === undefined) return;
  w.vpc.faults.add({ kind: 'hang', action: 'UnassignPrivateIpAddresses', times: 1 });
  await unassign(w.context, [row]);
  w.time.now += POLICY.graceMs;
  await takeOver(w.context);
  w.vpc.network.assign({ eni: ENI_A, ips: [row.ip] });
  assert.equal(await reconcile(w), [], 'not while a call may be under way');
  w.time.now += POLICY.graceMs;
  assert.equal(await reconcile(w), [`lingering ${row.ip}`]);
  assert.is((await rowOf(w, row.ip)).status, 'free');
  assert.not.ok(secondariesOf(w, ENI_A).includes(row.ip));
});

reconciling('what somebody puts on our ENI after EC2 took it off for certain is theirs', async () => {
  const w = world({ vpc: ROOMY });
  await request(w, ENI_A);
  const [ip = ''] = await ipsWith(w, 'ready');
  await unassign(w.context, [await rowOf(w, ip)]);
  w.time.now += LATE_READS_MS;
  w.vpc.network.assign({ eni: ENI_A, ips: [ip as Ipv4] });
  assert.equal(await reconcile(w), [`foreign ${ip}`]);
  assert.is((await rowOf(w, ip)).status, 'occupied');
  assert.ok(secondariesOf(w, ENI_A).includes(ip));
});

reconciling('what moved while EC2 was read is let be', async () => {
  const w = world({ vpc: ROOMY });
  await request(w, ENI_A);
  const [ready = ''] = await ipsWith(w, 'ready');
  w.vpc.network.unassign(ENI_A, [ip(ready)]);
  w.time.now += LATE_READS_MS;
  const drifts = await compare(w.context, SUBNET);
  const held = await request(w, ENI_A, { named: ready });
  await close(w.context, drifts);
  assert.is((await rowOf(w, held.ip)).status, 'allocated');
});

reconciling('an embedded server lets go of an ENI that has left its instance', async () => {
  const w = world({ vpc: ROOMY });
  const context = { ...w.context, instance: 'i-0a' as never };
  const enis = createEnis(context);
  await enis.adopt(ENI_A);
  w.vpc.network.detach(w.vpc.network.eni(ENI_A).attachment?.id ?? '');
  w.vpc.network.attach(ENI_A, 'i-0b' as never, 2);
  await pass(context, enis, createEvidence(context), SUBNET);
  assert.is((await w.store.eni(ENI_A))?.instance, 'i-0b');
  assert.match(
    (await failure(enis.adopt(ENI_A))).line,
    /attached to i-0b, and this driver serves the ENIs of i-0a only/,
  );
});

reconciling('an embedded server neither repairs nor recycles on an ENI of another instance', async () => {
  const w = world({ vpc: ROOMY });
  const held = await request(w, ENI_B);
  w.time.now += LATE_READS_MS;
  w.vpc.network.unassign(ENI_B, [held.ip]);
  const context = { ...w.context, instance: 'i-0a' as never };
  const before = w.vpc.calls.get('AssignPrivateIpAddresses');
  assert.equal(await idle(context, SUBNET, 0, 10), []);
  const [ready] = await ipsWith(w, 'ready');
  assert.ok(ready, 'there is something to recycle');
  w.vpc.network.unassign(ENI_B, [ready as never]);
  const drifts = await compare(context, SUBNET);
  await close(context, drifts);
  assert.equal(drifts, []);
  assert.is(w.vpc.calls.get('UnassignPrivateIpAddresses'), undefined);
  assert.is(w.vpc.calls.get('AssignPrivateIpAddresses'), before);
});

const surveying = suite('survey');

surveying('fills the ledger from EC2: reserved, occupied with its ENI, free', async () => {
  const w = world({ vpc: { ...SMALL, subnets: [{ id: SUBNET, cidr: '10.0.1.0/28', reservations: [] }] } });
  w.vpc.network.assign({ eni: ENI_B, ips: [ip('10.0.1.9')] });
  const done = await survey(w.context, SUBNET);
  assert.is(done.added, 16);
  assert.equal(await ipsWith(w, 'reserved'), ['10.0.1.0', '10.0.1.1', '10.0.1.2', '10.0.1.3', '10.0.1.15']);
  assert.equal(await ipsWith(w, 'occupied'), ['10.0.1.4', '10.0.1.5', '10.0.1.9']);
  assert.is((await rowOf(w, '10.0.1.4')).primary, true);
  assert.is((await rowOf(w, '10.0.1.9')).primary, false);
  assert.is((await rowOf(w, '10.0.1.9')).iface, ENI_B);
  assert.is((await ipsWith(w, 'free')).length, 8);
  assert.is((await rowOf(w, '10.0.1.10')).restedSince, null);
});

surveying('again, it refreshes and never downgrades a holder', async () => {
  const w = world();
  const held = await request(w, ENI_A, { holder: 'web' });
  w.vpc.network.assign({ eni: ENI_B, ips: [ip((await ipsWith(w, 'free'))[0] ?? '')] });
  const before = await rowOf(w, held.ip);
  const done = await survey(w.context, SUBNET);
  assert.is(done.added, 0);
  assert.equal(await rowOf(w, held.ip), before);
  assert.is((await ipsWith(w, 'occupied')).length, 3);
});

surveying('keeps out of prefixes and prefix reservations', async () => {
  const w = world({
    vpc: {
      ...SMALL,
      subnets: [
        { id: SUBNET, cidr: '10.0.1.0/24', reservations: [{ cidr: '10.0.1.128/25', type: 'prefix' }] },
      ],
      enis: [
        ...(SMALL.enis ?? []),
        {
          subnet: SUBNET,
          primary: '10.0.1.6',
          prefixes: ['10.0.1.64/28'],
          attachment: { instance: 'i-0b', deviceIndex: 2 },
        },
      ],
    },
  });
  await survey(w.context, SUBNET);
  assert.is((await rowOf(w, '10.0.1.70')).status, 'occupied');
  assert.is((await rowOf(w, '10.0.1.200')).status, 'reserved');
  w.time.now += 3_600_000;
  await reconcile(w);
  w.time.now += 3_600_000;
  await reconcile(w);
  assert.is((await rowOf(w, '10.0.1.70')).status, 'occupied', 'EC2 shows a prefix, not its addresses');
});

surveying('goes on without the CIDR reservations when they cannot be read', async () => {
  const w = world();
  w.vpc.faults.add({
    kind: 'error',
    code: 'UnauthorizedOperation',
    message: 'no',
    action: 'GetSubnetCidrReservations',
  });
  assert.is((await survey(w.context, SUBNET)).added, 16);
  assert.ok(w.lines.some(line => line.message === 'CIDR reservations not read, taken as none'));
});

surveying('a part of a subnet stays a part', async () => {
  const w = world({ vpc: ROOMY });
  const { parseCidr } = await import('../../../src/domain/address.ts');
  const done = await survey(w.context, SUBNET, parseCidr('10.0.1.64/26'));
  assert.is(done.added, 64);
  for (let i = 0; i < 5; i++)
    assert.match((await request(w, ENI_A)).ip, /^10\.0\.1\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])$/);
});

const keeping = suite('keeper');
const keeperOf = ({ context, ...parts }: World, server: string, reconcileEveryMs: number) =>
  createKeeper(context, parts, { server, reconcileEveryMs });

keeping('settles what a dead server left, reconciles, and ends in good order', async () => {
  const w = world({ vpc: ROOMY });
  const held = await request(w, ENI_A);
  w.vpc.faults.add({ kind: 'lostReply', action: 'AssignPrivateIpAddresses', times: 1 });
  const query = { subnet: SUBNET, eni: ENI_A, range: null, rest: POLICY, which: 'rested' as const, limit: 2 };
  await assignTo(w.context, ENI_A, (await w.store.freeFor(query)).rows);
  assert.is((await ipsWith(w, 'assigning')).length, 2);
  w.time.now += POLICY.graceMs;
  w.vpc.network.unassign(ENI_A, [held.ip]);
  const loop = keeperOf(w, 'server-1', 60_000);
  const run = loop.run();
  for (let i = 0; i < 30; i++) await w.time.wait(1000);
  const stopped = loop.stop(60_000);
  await run;
  await stopped;
  assert.equal(await ipsWith(w, 'assigning', 'unassigning'), []);
  assert.ok(secondariesOf(w, ENI_A).includes(held.ip));
  const { rows } = await w.store.servers();
  assert.is(rows[0]?.id, 'server-1');
  assert.is.not(rows[0]?.stoppedAt, null);
});

keeping('a stop does not wait for the next round', async () => {
  const w = world({ vpc: ROOMY });
  const loop = keeperOf(w, 'server-1', 60_000);
  const run = loop.run();
  await w.time.wait(2500);
  const stoppedAt = w.time.now;
  void loop.stop(60_000);
  await run;
  assert.is(w.time.now, stoppedAt);
});

keeping('gives back a claim that was reported as failed and was made after all', async () => {
  const w = world({ vpc: ROOMY });
  const [held, missed] = [await request(w, ENI_A, { holder: 'web' }), await request(w, ENI_A)];
  const told = [
    { change: { row: held, move: 'claim' as const }, row: held },
    { change: { row: missed, move: 'missed' as const }, row: missed },
  ];
  const context = {
    ...w.context,
    store: { ...w.store, lateOutcomes: async () => ({ moved: told.splice(0), unsettled: 0 }) },
  };
  const loop = keeperOf({ ...w, context, rollbacks: createRollbacks(context) }, 'server-1', 60_000);
  const run = loop.run();
  await w.time.wait(3000);
  void loop.stop(60_000);
  await run;
  assert.is((await rowOf(w, held.ip)).status, 'ready');
  assert.is((await rowOf(w, missed.ip)).status, 'allocated', 'a repair has a holder');
});

for (const unsettled of [0, 1])
  keeping(`${unsettled} claims of which the store cannot tell: the end is told as what it is`, async () => {
    const w = world({ vpc: ROOMY });
    const store = { ...w.store, lateOutcomes: async () => ({ moved: [], unsettled }) };
    const context = { ...w.context, store };
    const loop = keeperOf({ ...w, context, rollbacks: createRollbacks(context) }, 'server-1', 60_000);
    const run = loop.run();
    await w.time.wait(3000);
    const stopped = loop.stop(60_000);
    await run;
    await stopped;
    const { rows } = await w.store.servers();
    assert.is(rows[0]?.stoppedAt === null, unsettled > 0);
  });

keeping('a store that cannot say what became of its claims: the end is not in good order', async () => {
  const w = world({ vpc: ROOMY });
  const lateOutcomes = async () => {
    throw new IpamError('store-down', 'gone');
  };
  const context = { ...w.context, store: { ...w.store, lateOutcomes } };
  const loop = keeperOf({ ...w, context, rollbacks: createRollbacks(context) }, 'server-1', 60_000);
  const run = loop.run();
  await w.time.wait(3000);
  const stopped = loop.stop(60_000);
  await run;
  await stopped;
  assert.is((await w.store.servers()).rows[0]?.stoppedAt, null);
});

keeping(
  'two servers on one ledger compare a subnet once, and the other goes on when one is gone',
  async () => {
    const w = world({ vpc: ROOMY });
    await request(w, ENI_A);
    const other = w.another();
    const reads = () => w.vpc.calls.get('DescribeNetworkInterfaces') ?? 0;
    const [one, two] = [keeperOf(w, 'one', 10_000), keeperOf(other, 'two', 10_000)];
    const [first, second] = [one.run(), two.run()];
    const before = reads();
    for (let i = 0; i < 60; i++) await w.time.wait(1000);
    const together = reads() - before;
    assert.ok(together >= 4 && together <= 8, `${together} reads in a minute`);
    void one.stop(60_000);
    await first;
    const alone = reads();
    for (let i = 0; i < 60; i++) await w.time.wait(1000);
    assert.ok(reads() - alone >= 3, 'the lease has ended');
    void two.stop(60_000);
    await second;
  },
);

/** A host with a ledger of its own, whose keeper runs; what it reads of EC2 is counted. */
async function hostAlone() {
  const w = world({ vpc: ROOMY, instance: 'i-0a', policy: { warmMax: 20 } }); // nothing is given back
  await request(w, ENI_A);
  const reads = { own: 0, whole: 0 };
  const { cloud } = w.context;
  const counted: Cloud = {
    ...cloud,
    as: () => counted,
    async enisById(ids) {
      reads.own++;
      assert.equal(ids, [ENI_A]);
      return await cloud.enisById(ids);
    },
    enis(subnet) {
      reads.whole++;
      return cloud.enis(subnet);
    },
  };
  const loop = keeperOf({ ...w, context: { ...w.context, cloud: counted } }, 'server-1', 60_000);
  const run = loop.run();
  /** What is read while so many minutes pass, each of which ends with `work`. */
  const readIn = async (minutes: number, work: () => Promise<unknown> = async () => {}) => {
    const before = { ...reads };
    for (let minute = 0; minute < minutes; minute++) {
      for (const until = w.time.now + 60_000; w.time.now < until; ) await w.time.wait(2_000);
      await work();
    }
    return { own: reads.own - before.own, whole: reads.whole - before.whole };
  };
  const stop = async () => {
    void loop.stop(60_000);
    await run;
  };
  return { w, readIn, stop };
}
const startAndStop = async (w: World) => release(w, ENI_A, (await request(w, ENI_A)).ip);

keeping('an embedded ledger at rest has the whole subnet read every ten minutes, and no more', async () => {
  const { w, readIn, stop } = await hostAlone();
  await readIn(15);
  w.vpc.network.assign({ eni: ENI_B, ips: [ip('10.0.1.99')] });
  const { own, whole } = await readIn(60);
  assert.is(own, 0);
  assert.ok(whole >= 5 && whole <= 7, `${whole} reads of the whole subnet`);
  assert.is((await rowOf(w, '10.0.1.99')).status, 'occupied', 'what others do is seen, and disturbs no rest');
  await stop();
});

keeping('one on whose ENIs something moves has them read each minute', async () => {
  const { w, readIn, stop } = await hostAlone();
  await readIn(15);
  const { own, whole } = await readIn(60, () => startAndStop(w));
  assert.ok(own >= 50 && own <= 58, `${own} reads of its own`);
  assert.ok(whole >= 5 && whole <= 7, `${whole} reads of the whole subnet`);
  assert.ok((await readIn(9)).own >= 7, 'it is not at rest at once');
  await readIn(3);
  assert.is((await readIn(9)).own, 0);
  await stop();
});

keeping('on a busy host drift is noticed within two minutes, and compared until it is closed', async () => {
  const { w, readIn, stop } = await hostAlone();
  const held = await request(w, ENI_A);
  await readIn(8);
  await startAndStop(w);
  w.vpc.network.unassign(ENI_A, [held.ip]);
  w.vpc.faults.add({
    kind: 'error',
    action: 'AssignPrivateIpAddresses',
    code: 'UnauthorizedOperation',
    message: 'no',
  });
  await readIn(2);
  assert.ok(w.lines.some(({ message }) => message.startsWith(`drift: ${held.ip}`)));
  await readIn(30);
  assert.ok((await readIn(10)).own >= 8, 'an address is still missing');
  await stop();
});

keeping('an ENI that has left is compared each minute until what was on it is settled', async () => {
  const { w, readIn, stop } = await hostAlone();
  await readIn(30);
  w.vpc.network.detach(w.vpc.network.eni(ENI_A).attachment?.id ?? '');
  await readIn(13);
  assert.ok((await readIn(5)).own >= 4);
  assert.equal(await ipsWith(w, 'allocated'), []);
  await readIn(30);
  assert.equal(await ipsWith(w, 'ready', 'assigning', 'unassigning'), []);
  assert.is((await readIn(30)).own, 0);
  await stop();
});

keeping('a host at rest asks no more often while EC2 refuses', async () => {
  const { w, readIn, stop } = await hostAlone();
  await readIn(15);
  w.vpc.faults.add({ kind: 'throttle', action: 'DescribeNetworkInterfaces' });
  const { own, whole } = await readIn(60);
  assert.ok(own === 0 && whole <= 7, `${own} and ${whole} reads`);
  await stop();
});

keeping('of its own ENIs alone, what is missing is repaired and what is elsewhere is let be', async () => {
  const w = world({ vpc: ROOMY, instance: 'i-0a' });
  const held = await request(w, ENI_A);
  w.time.now += LATE_READS_MS;
  w.vpc.network.unassign(ENI_A, [held.ip]);
  const before = await rowOf(w, '10.0.1.5');
  assert.is(before.iface, ENI_B, 'the primary address of an ENI that is not read');
  for (let i = 0; i < 3; i++) {
    await pass(w.context, w.enis, createEvidence(w.context), SUBNET, 'own');
    w.time.now += ABSENT_FOR_MS;
  }
  assert.ok(secondariesOf(w, ENI_A).includes(held.ip));
  assert.equal(await rowOf(w, '10.0.1.5'), before);
});

keeping('an ENI of its own that EC2 does not show is let be', async () => {
  const w = world({ vpc: ROOMY, instance: 'i-0a' });
  const held = await request(w, ENI_A);
  w.time.now += LATE_READS_MS;
  const before = await w.store.tally();
  const blind: Cloud = { ...w.context.cloud, as: () => blind, enisById: async () => [] };
  await pass({ ...w.context, cloud: blind }, w.enis, createEvidence(w.context), SUBNET, 'own');
  assert.is((await rowOf(w, held.ip)).missingSince, null);
  assert.equal(await w.store.tally(), before);
});

keeping('notes that its server lives', async () => {
  const w = world({ vpc: ROOMY });
  const loop = keeperOf(w, 'server-1', 60_000);
  const run = loop.run();
  await w.time.wait(1000);
  assert.equal(
    (await w.store.servers()).rows.map(({ id, stoppedAt }) => [id, stoppedAt]),
    [['server-1', null]],
  );
  void loop.stop(60_000);
  await run;
});

keeping('gives back what is too much, one server of several', async () => {
  const w = world({ vpc: ROOMY });
  await request(w, ENI_A);
  const [one, two] = [keeperOf(w, 'one', 3_600_000), keeperOf(w.another(), 'two', 3_600_000)];
  w.time.now += 3_600_000;
  const { withStatus } = w.store;
  let looks = 0;
  w.context.store.withStatus = (...args) => {
    if (args[1].join() === 'ready') looks++;
    return withStatus(...args);
  };
  const runs = [one.run(), two.run()];
  for (let i = 0; i < 20; i++) await w.time.wait(1000);
  void one.stop(60_000);
  void two.stop(60_000);
  await Promise.all(runs);
  assert.is(looks, 1);
  assert.is((await ipsWith(w, 'ready')).length, 6);
});

keeping('stops only when no refill is under way any more', async () => {
  const w = world({ vpc: ROOMY, policy: { warmMin: 1, warmMax: 1 } });
  await w.enis.adopt(ENI_A);
  w.vpc.faults.add({ kind: 'latency', ms: 5_000, action: 'AssignPrivateIpAddresses' });
  for (let i = 0; i < 3; i++) await request(w, ENI_A);
  const before = w.time.now;
  await keeperOf(w, 'one', 60_000).stop(60_000);
  assert.ok(w.time.now - before >= 5_000);
  assert.equal(await ipsWith(w, 'assigning'), []);
});

keeping(
  'what a container lacks is as urgent as what one waits for, and no ENI waits for another',
  async () => {
    const w = world({ vpc: ROOMY });
    const held = [await request(w, ENI_A), await request(w, ENI_B)];
    w.time.now += LATE_READS_MS;
    for (const { iface, ip } of held) if (iface !== null) w.vpc.network.unassign(iface, [ip]);
    const turns: string[] = [];
    const cloud = (urgency: () => Urgency): Cloud => ({
      ...w.context.cloud,
      as: cloud,
      async permit(kind) {
        turns.push(urgency());
        if (turns.length === 1) throw new IpamError('ec2-throttled', 'not sent');
        return await w.context.cloud.permit(kind);
      },
    });
    const context = { ...w.context, cloud: cloud(() => 'cold') };
    const loop = keeperOf({ ...w, context }, 'server-1', 3_600_000);
    const run = loop.run();
    await w.time.wait(3000);
    void loop.stop(60_000);
    await run;
    assert.equal(turns, ['cold', 'cold']);
    assert.is(
      [ENI_A, ENI_B].filter(eni => held.some(row => secondariesOf(w, eni).includes(row.ip))).length,
      1,
    );
  },
);

keeping('goes on after EC2 failed', async () => {
  const w = world({ vpc: ROOMY });
  const held = await request(w, ENI_A);
  w.time.now += LATE_READS_MS;
  w.vpc.network.unassign(ENI_A, [held.ip]);
  w.vpc.faults.add({ kind: 'throttle', action: 'DescribeNetworkInterfaces', times: 1 });
  const loop = keeperOf(w, 'server-1', 5_000);
  const run = loop.run();
  for (let i = 0; i < 20; i++) await w.time.wait(1000);
  void loop.stop(60_000);
  await run;
  assert.ok(secondariesOf(w, ENI_A).includes(held.ip));
  assert.ok(w.lines.some(line => line.message === 'reconcile subnet-0a1 failed, retrying'));
});

for (const s of [reconciling, surveying, keeping]) s.run();
