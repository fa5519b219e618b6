// Goal: ledger and EC2 come to agree whatever strangers do, holders are never lost, and what is unknown is let be.
// Method: a simulated VPC that others change behind the ledger's back; passes by hand, then the keeper's loop.
import { parseCidr } from '../../../src/domain/address.ts';
import { LATE_READS_MS } from '../../../src/domain/allocation.ts';
import { ABSENT_FOR_MS, REFUSED_FOR_MS } from '../../../src/domain/drift.ts';
import type { InstanceId } from '../../../src/domain/ids.ts';
import { createEnis } from '../../../src/ipam/ec2/enis.ts';
import { takeOver } from '../../../src/ipam/ec2/recover.ts';
import { survey } from '../../../src/ipam/ec2/survey.ts';
import { unassign } from '../../../src/ipam/ec2/unassign.ts';
import { idle } from '../../../src/ipam/sync/drain.ts';
import { createEvidence } from '../../../src/ipam/sync/holders.ts';
import { close, compare, reconcile as pass } from '../../../src/ipam/sync/reconcile.ts';
import { noteUsed } from '../../kit/sightings.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ASSIGN, DESCRIBE, ENI_A, ENI_B, ROOMY, SMALL, SUBNET, UNASSIGN } from '../../kit/vpcs.ts';
import { assignTo, failure, ipsOf, NOT_WARM, POLICY, type World, within, world } from '../../kit/world.ts';

const STRANGERS = '10.0.1.99';
const INSTANCE = 'i-0a' as InstanceId;

async function reconcile(w: World) {
  const drifts = await compare(w.context, SUBNET);
  await close(w.context, drifts);
  return drifts.map(drift => `${drift.kind} ${drift.row.ip}`);
}

/** An address that is ready on ENI A. */
async function readyOnA(w: World): Promise<string> {
  await w.request(ENI_A);
  const [ready = ''] = await w.ipsWith('ready');
  return ready;
}

const reconciling = suite('reconcile');

reconciling('finds nothing where nothing is amiss, and changes nothing', async () => {
  const w = world({ vpc: ROOMY });
  await w.request(ENI_A);
  await w.request(ENI_B);
  w.time.now += 3_600_000;
  const before = await w.store.tally();
  assert.equal(await reconcile(w), []);
  assert.equal(await w.store.tally(), before);
});

reconciling("a stranger's address becomes occupied, until two reads a minute apart lack it", async () => {
  const w = world({ vpc: ROOMY });
  await w.request(ENI_A);
  w.putOn(ENI_B, STRANGERS);
  assert.equal(await reconcile(w), [`foreign ${STRANGERS}`]);
  assert.is((await w.rowOf(STRANGERS)).iface, ENI_B);
  w.takeOff(ENI_B, STRANGERS);
  assert.equal(await reconcile(w), [`unseen ${STRANGERS}`]);
  w.time.now += ABSENT_FOR_MS - 1;
  assert.equal(await reconcile(w), []);
  w.time.now += 1;
  assert.equal(await reconcile(w), [`vacated ${STRANGERS}`]);
  const row = await w.rowOf(STRANGERS);
  assert.is(row.status, 'free');
  assert.is(row.restedSince, w.time.now, 'and rests');
});

reconciling('an occupied address that is seen again does not leave', async () => {
  const w = world({ vpc: ROOMY });
  await w.request(ENI_A);
  w.putOn(ENI_B, STRANGERS);
  await reconcile(w);
  w.takeOff(ENI_B, STRANGERS);
  await reconcile(w);
  w.putOn(ENI_B, STRANGERS);
  w.time.now += ABSENT_FOR_MS;
  assert.equal(await reconcile(w), [`seen ${STRANGERS}`]);
  assert.is(await w.statusOf(STRANGERS), 'occupied');
});

reconciling('an address known only from a refusal leaves after an hour, and is tried last', async () => {
  const w = world({ policy: NOT_WARM });
  const [row] = await w.freeRows(20, { which: 'any' });
  assert.ok(row);
  w.refuseCalls(ASSIGN, 'InvalidParameterValue', 'The specified address is already in use.', 1);
  await assignTo(w.context, ENI_A, [row]);
  assert.equal(await reconcile(w), [`unseen ${row.ip}`]);
  w.time.now += REFUSED_FOR_MS - 1;
  assert.equal(await reconcile(w), []);
  w.time.now += 1;
  assert.equal(await reconcile(w), [`vacated ${row.ip}`]);
  w.time.now += POLICY.quarantineMs;
  assert.is((await w.freeRows(20, { which: 'any' })).at(-1)?.ip, row.ip);
});

reconciling('a held address that a stranger took off its ENI is put back within a pass', async () => {
  const w = world({ vpc: ROOMY });
  const held = await w.takenOff('web');
  assert.equal(await reconcile(w), [`missing ${held.ip}`]);
  assert.ok(w.secondariesOf(ENI_A).includes(held.ip));
  assert.is((await w.rowOf(held.ip)).holder, 'web');
});

reconciling('a held address that somebody else carries now keeps its holder and is reported', async () => {
  const w = world({ vpc: ROOMY });
  const { ip } = await w.takenOff();
  w.putOn(ENI_B, ip);
  assert.equal(await reconcile(w), [`elsewhere ${ip}`]);
  assert.is(await w.statusOf(ip), 'allocated');
  assert.is((await w.rowOf(ip)).iface, ENI_A);
  assert.equal(await reconcile(w), [], 'once');
  await w.release(ENI_A, ip);
  assert.is(await w.statusOf(ip), 'unassigning', 'and is given to nobody when that gives it up');
});

reconciling('a ready address that a stranger took off is asked about before it counts as free', async () => {
  const w = world({ vpc: ROOMY });
  const ready = await readyOnA(w);
  w.takeOff(ENI_A, ready);
  assert.equal(await reconcile(w), [], 'a read just after the assign may be late');
  w.time.now += LATE_READS_MS;
  assert.equal(await reconcile(w), [`astray ${ready}`]);
  assert.is(await w.statusOf(ready), 'free');
  assert.is(w.callsOf(UNASSIGN), 1);
});

reconciling('a ready address that a process still has, but EC2 has on no ENI, is free again', async () => {
  const w = world({ vpc: ROOMY });
  const ready = await readyOnA(w);
  await noteUsed(w.store, await w.rowOf(ready));
  w.takeOff(ENI_A, ready);
  w.time.now += LATE_READS_MS;
  assert.equal(await reconcile(w), [`astray ${ready}`]);
  assert.is(await w.statusOf(ready), 'free');
});

reconciling('a ready address that another ENI carries becomes occupied there', async () => {
  const w = world({ vpc: ROOMY });
  const ready = await readyOnA(w);
  w.takeOff(ENI_A, ready);
  w.putOn(ENI_B, ready);
  w.time.now += LATE_READS_MS;
  assert.equal(await reconcile(w), [`usurped ${ready}`]);
  assert.is((await w.rowOf(ready)).iface, ENI_B);
});

reconciling("a stranger's secondary on our own ENI is neither given nor unassigned", async () => {
  const w = world({ vpc: ROOMY, policy: { warmMax: 2 } });
  await w.request(ENI_A);
  w.putOn(ENI_A, STRANGERS);
  await reconcile(w);
  w.time.now += 3_600_000;
  await reconcile(w);
  assert.is(await w.statusOf(STRANGERS), 'occupied');
  assert.ok(w.secondariesOf(ENI_A).includes(STRANGERS));
  assert.is(w.callsOf(UNASSIGN), 0);
});

reconciling('reads that are late change no holder and free nothing that is in use', async () => {
  const w = world({ vpc: ROOMY });
  w.time.now += 100_000;
  await w.request(ENI_A);
  w.vpc.faults.add({ kind: 'readLag', ms: 30_000, action: DESCRIBE });
  w.time.now += 10_000;
  const held = await w.request(ENI_B);
  await reconcile(w);
  assert.is(await w.statusOf(held.ip), 'allocated');
  assert.is((await w.rowOf(held.ip)).missingSince, null);
  assert.is(w.callsOf(UNASSIGN), 0);
});

for (const [what, lost] of [
  ['an assign', ASSIGN],
  ['an unassign', UNASSIGN],
] as const)
  reconciling(
    `what comes to our ENI when ${what} without an answer can't be applied any more is somebody's`,
    async () => {
      const w = world({ vpc: ROOMY });
      w.vpc.faults.add({ kind: 'hang', action: lost, times: 1 });
      const rows = await w.freeRows(1);
      const { ready } = await assignTo(w.context, ENI_A, rows);
      await unassign(w.context, ready);
      w.time.now += POLICY.graceMs;
      assert.is(await takeOver(w.context), 1);
      const [ip = ''] = ipsOf(rows);
      assert.ok((await w.rowOf(ip)).leftUnsure);
      w.putOn(ENI_A, ip);
      assert.equal(await reconcile(w), [], 'not while a read may be late');
      w.time.now += POLICY.graceMs;
      assert.equal(await reconcile(w), [`foreign ${ip}`]);
      assert.is(await w.statusOf(ip), 'occupied');
      assert.ok(w.secondariesOf(ENI_A).includes(ip));
    },
  );

reconciling('what somebody puts on our ENI after EC2 took it off for certain is theirs', async () => {
  const w = world({ vpc: ROOMY });
  const ready = await readyOnA(w);
  await unassign(w.context, [await w.rowOf(ready)]);
  w.time.now += LATE_READS_MS;
  w.putOn(ENI_A, ready);
  assert.equal(await reconcile(w), [`foreign ${ready}`]);
  assert.is(await w.statusOf(ready), 'occupied');
  assert.ok(w.secondariesOf(ENI_A).includes(ready));
});

reconciling('what moved while EC2 was read is let be', async () => {
  const w = world({ vpc: ROOMY });
  const ready = await readyOnA(w);
  w.takeOff(ENI_A, ready);
  w.time.now += LATE_READS_MS;
  const drifts = await compare(w.context, SUBNET);
  await w.request(ENI_A, { named: ready });
  await close(w.context, drifts);
  assert.is(await w.statusOf(ready), 'allocated');
});

reconciling('an embedded server lets go of an ENI that has left its instance', async () => {
  const w = world({ vpc: ROOMY });
  const context = { ...w.context, host: { instance: INSTANCE } };
  const enis = createEnis(context);
  await enis.adopt(ENI_A);
  w.reattach(ENI_A, 'i-0b');
  await pass(context, enis, createEvidence(context), SUBNET);
  assert.is((await w.store.eni(ENI_A))?.instance, 'i-0b');
  const { line } = await failure(enis.adopt(ENI_A));
  assert.match(line, /attached to i-0b, and this server serves only the ENIs of i-0a/);
});

reconciling('an embedded server neither repairs nor unassigns on an ENI of another instance', async () => {
  const w = world({ vpc: ROOMY });
  const held = await w.request(ENI_B);
  w.time.now += LATE_READS_MS;
  w.takeOff(ENI_B, held.ip);
  const context = { ...w.context, host: { instance: INSTANCE } };
  const before = w.callsOf(ASSIGN);
  assert.equal(await idle(context, SUBNET, 0, 10), []);
  const [ready] = await w.ipsWith('ready');
  assert.ok(ready, 'there is an idle one');
  w.takeOff(ENI_B, ready);
  const drifts = await compare(context, SUBNET);
  await close(context, drifts);
  assert.equal(drifts, []);
  assert.equal([w.callsOf(UNASSIGN), w.callsOf(ASSIGN)], [0, before]);
});

const surveying = suite('survey');

surveying('fills the ledger from EC2: reserved, occupied with its ENI, free', async () => {
  const w = world({ vpc: { ...SMALL, subnets: [{ id: SUBNET, cidr: '10.0.1.0/28', reservations: [] }] } });
  w.putOn(ENI_B, '10.0.1.9');
  assert.is((await survey(w.context, SUBNET)).added, 16);
  assert.equal(await w.ipsWith('reserved'), ['10.0.1.0', '10.0.1.1', '10.0.1.2', '10.0.1.3', '10.0.1.15']);
  assert.equal(await w.ipsWith('occupied'), ['10.0.1.4', '10.0.1.5', '10.0.1.9']);
  assert.is((await w.rowOf('10.0.1.4')).primary, true);
  assert.is((await w.rowOf('10.0.1.9')).primary, false);
  assert.is((await w.rowOf('10.0.1.9')).iface, ENI_B);
  assert.is((await w.ipsWith('free')).length, 8);
  assert.is((await w.rowOf('10.0.1.10')).restedSince, null);
});

surveying('again, it refreshes and never downgrades a holder', async () => {
  const w = world();
  const held = await w.request(ENI_A, { holder: 'web' });
  const [free = ''] = await w.ipsWith('free');
  w.putOn(ENI_B, free);
  const before = await w.rowOf(held.ip);
  assert.is((await survey(w.context, SUBNET)).added, 0);
  assert.equal(await w.rowOf(held.ip), before);
  assert.is((await w.ipsWith('occupied')).length, 3);
});

surveying('keeps out of prefixes and prefix reservations', async () => {
  const reservations = [{ cidr: '10.0.1.128/25', type: 'prefix' as const }];
  const attachment = { instance: 'i-0b', deviceIndex: 2 };
  const prefixed = { subnet: SUBNET, primary: '10.0.1.6', prefixes: ['10.0.1.64/28'], attachment };
  const subnets = [{ id: SUBNET, cidr: '10.0.1.0/24', reservations }];
  const w = world({ vpc: { ...SMALL, subnets, enis: [...(SMALL.enis ?? []), prefixed] } });
  await survey(w.context, SUBNET);
  assert.is(await w.statusOf('10.0.1.70'), 'occupied');
  assert.is(await w.statusOf('10.0.1.200'), 'reserved');
  for (let i = 0; i < 2; i++) {
    w.time.now += 3_600_000;
    await reconcile(w);
  }
  assert.is(await w.statusOf('10.0.1.70'), 'occupied', 'EC2 shows a prefix, not its addresses');
});

surveying('goes on without the CIDR reservations when they cannot be read', async () => {
  const w = world();
  w.refuseCalls('GetSubnetCidrReservations', 'UnauthorizedOperation');
  assert.is((await survey(w.context, SUBNET)).added, 16);
  assert.ok(w.lines.some(line => line.message === 'CIDR reservations not read, taken as none'));
});

surveying('a part of a subnet stays a part', async () => {
  const w = world({ vpc: ROOMY });
  assert.is((await survey(w.context, SUBNET, parseCidr('10.0.1.64/26'))).added, 64);
  for (const { ip } of await w.requests(ENI_A, 5)) assert.ok(within('10.0.1.64/26', ip), ip);
});

for (const s of [reconciling, surveying]) s.run();
