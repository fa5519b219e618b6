// Goal: what is on an ENI that leaves the instance of an embedded ledger comes back to the subnet, and nothing is asked of
// EC2 for it any more. Method: two embedded ledgers on one simulated VPC, and ENIs that are detached, moved, deleted.
import { parseCidr } from '../../../src/domain/address.ts';
import { LATE_READS_MS } from '../../../src/domain/allocation.ts';
import { ABSENT_FOR_MS } from '../../../src/domain/drift.ts';
import { STANDS_FOR_MS } from '../../../src/domain/evidence.ts';
import type { EniId, InstanceId } from '../../../src/domain/ids.ts';
import { takeOver } from '../../../src/ipam/ec2/recover.ts';
import { unassign } from '../../../src/ipam/ec2/unassign.ts';
import { drain, idle } from '../../../src/ipam/sync/drain.ts';
import { createEvidence, type Evidence } from '../../../src/ipam/sync/holders.ts';
import { reconcile } from '../../../src/ipam/sync/reconcile.ts';
import { assert, suite } from '../../kit/uvu.ts';
import {
  ASSIGN,
  assignTo,
  ENI_A,
  failure,
  POLICY,
  ROOMY,
  SUBNET,
  UNASSIGN,
  type World,
  world,
} from '../../kit/world.ts';

const HERE = 'i-0a' as InstanceId;
const THERE = 'i-0b' as InstanceId;

interface Site {
  readonly w: World;
  readonly proof: Evidence;
}
const site = (): Site => {
  const w = world({ vpc: ROOMY, instance: HERE, policy: { warmMin: 0, warmMax: 1 } });
  return { w, proof: createEvidence(w.context) };
};
const pass = ({ w, proof }: Site, scope: 'own' | 'whole' = 'whole') =>
  reconcile(w.context, w.enis, proof, SUBNET, scope);

const changesOf = (w: World) => w.callsOf(ASSIGN) + w.callsOf(UNASSIGN);

function detach({ vpc }: World, id: EniId): void {
  const attachment = vpc.network.eni(id).attachment?.id;
  if (attachment !== undefined) vpc.network.detach(attachment);
}
function remove(w: World, id: EniId): void {
  detach(w, id);
  w.vpc.network.deleteEni(id);
}
function move(w: World, id: EniId, to: InstanceId): void {
  detach(w, id);
  w.vpc.network.attach(id, to, 3);
}

/** Two reads that are so far apart. */
async function seenFor(s: Site, ms: number, scope: 'own' | 'whole' = 'whole'): Promise<void> {
  await pass(s, scope);
  s.w.time.now += ms;
  await pass(s, scope);
}

const departing = suite('an ENI that leaves');

for (const scope of ['own', 'whole'] as const)
  departing(
    `detached: holders end after two reads five minutes apart, rows are occupied (${scope})`,
    async () => {
      const s = site();
      const held = await s.w.request(ENI_A);
      detach(s.w, ENI_A);
      await seenFor(s, STANDS_FOR_MS.detached - 1, scope);
      assert.is(await s.w.statusOf(held.ip), 'allocated', 'not before');
      s.w.time.now += 1;
      await pass(s, scope);
      await pass(s, scope);
      assert.equal(await s.w.ipsWith('allocated', 'ready'), []);
      assert.is(await s.w.statusOf(held.ip), 'occupied');
      assert.is((await s.w.rowOf(held.ip)).iface, ENI_A, 'that is where it is');
      assert.is(changesOf(s.w), 1, 'the one assign of the request');
    },
  );

departing('deleted: its addresses are free once EC2 has twice shown neither it nor them', async () => {
  const s = site();
  const held = await s.w.request(ENI_A);
  const ready = await s.w.ipsWith('ready');
  assert.ok(ready.length > 0);
  remove(s.w, ENI_A);
  s.w.time.now += LATE_READS_MS;
  await seenFor(s, STANDS_FOR_MS.gone);
  assert.is.not(await s.w.statusOf(held.ip), 'allocated');
  await pass(s);
  s.w.time.now += ABSENT_FOR_MS;
  await pass(s);
  for (const ip of ready) assert.is(await s.w.statusOf(ip), 'free');
  s.w.time.now += POLICY.graceMs; // what the holder had is settled like an intent
  await takeOver(s.w.context);
  for (let i = 0; i < 3; i++) {
    await pass(s);
    s.w.time.now += ABSENT_FOR_MS;
  }
  assert.is(await s.w.statusOf(held.ip), 'free');
  assert.is(s.w.callsOf(UNASSIGN), 0);
});

departing('moved: the other ledger adopts it, and this one changes nothing there', async () => {
  const s = site();
  const other = world({ beside: s.w, instance: THERE, policy: { warmMin: 0, warmMax: 1 } });
  const held = await s.w.request(ENI_A);
  move(s.w, ENI_A, THERE);
  await pass(s);
  const theirs = await other.request(ENI_A);
  assert.is.not(theirs.ip, held.ip);
  const before = changesOf(s.w);
  await seenFor(s, STANDS_FOR_MS.detached);
  s.w.time.now += 3_600_000;
  await pass(s);
  await takeOver(s.w.context);
  assert.is(await drain(s.w.context, s.w.warm, SUBNET, []), 0);
  assert.equal(await idle(s.w.context, SUBNET, 0, 99), []);
  assert.is(changesOf(s.w), before);
  assert.is(await s.w.statusOf(theirs.ip), 'occupied');
  assert.is(await s.w.statusOf(held.ip), 'occupied');
  assert.match((await failure(s.w.request(ENI_A))).line, /eni-0a is .*attached to/);
});

for (const [what, kind] of [
  ['assign', ASSIGN],
  ['unassign', UNASSIGN],
] as const)
  departing(`an intent to ${what} is settled after the grace by a read, never by a call`, async () => {
    const s = site();
    await s.w.request(ENI_A);
    const rows = (await s.w.store.readyOn(ENI_A, null, 2)).rows;
    s.w.vpc.faults.add({ kind: 'hang', action: kind });
    if (what === 'unassign') await unassign(s.w.context, rows);
    else {
      const query = {
        subnet: SUBNET,
        eni: ENI_A,
        range: null,
        rest: POLICY,
        which: 'rested',
        limit: 2,
      } as const;
      await assignTo(s.w.context, ENI_A, (await s.w.store.freeFor(query)).rows);
    }
    const intents = await s.w.ipsWith('assigning', 'unassigning');
    assert.is(intents.length, 2);
    const writtenAt = s.w.time.now;
    s.w.vpc.faults.clear();
    move(s.w, ENI_A, THERE);
    await seenFor(s, STANDS_FOR_MS.detached);
    assert.equal(await s.w.ipsWith('assigning', 'unassigning'), intents, 'not within the grace');
    const before = changesOf(s.w);
    s.w.time.now = writtenAt + POLICY.graceMs;
    assert.is(await takeOver(s.w.context), 0);
    await pass(s);
    for (const ip of intents) assert.is(await s.w.statusOf(ip), 'occupied');
    await pass(s);
    s.w.time.now += ABSENT_FOR_MS;
    await pass(s);
    const want = what === 'assign' ? 'free' : 'occupied';
    for (const ip of intents) assert.is(await s.w.statusOf(ip), want, 'EC2 shows where it is');
    assert.is(changesOf(s.w), before);
  });

departing('back within five minutes, nothing has changed', async () => {
  const s = site();
  const held = await s.w.request(ENI_A);
  const ready = await s.w.ipsWith('ready');
  detach(s.w, ENI_A);
  await pass(s);
  s.w.time.now += STANDS_FOR_MS.detached - 1;
  s.w.vpc.network.attach(ENI_A, HERE, 1);
  await pass(s);
  assert.equal(await s.w.ipsWith('ready'), ready);
  assert.is(await s.w.statusOf(held.ip), 'allocated');
  assert.ok(ready.includes((await s.w.request(ENI_A)).ip));
});

departing('back after that, it is ours again, and what it brings along is occupied', async () => {
  const s = site();
  const held = await s.w.request(ENI_A);
  detach(s.w, ENI_A);
  await seenFor(s, STANDS_FOR_MS.detached);
  await pass(s);
  const brought = s.w.secondariesOf(ENI_A);
  s.w.takeOff(ENI_A, held.ip);
  s.w.vpc.network.attach(ENI_A, HERE, 1);
  await pass(s);
  const row = await s.w.request(ENI_A);
  assert.is(row.iface, ENI_A);
  assert.ok(!brought.includes(row.ip));
});

departing('what was seen of an earlier absence does not count for a later one', async () => {
  const s = site();
  const held = await s.w.request(ENI_A);
  detach(s.w, ENI_A);
  await pass(s);
  s.w.vpc.network.attach(ENI_A, HERE, 1);
  await s.w.release(ENI_A, held.ip);
  await pass(s);
  s.w.time.now += STANDS_FOR_MS.detached;
  const ready = await s.w.ipsWith('ready');
  detach(s.w, ENI_A);
  await pass(s);
  assert.equal(await s.w.ipsWith('ready'), ready);
});

departing('deleted with a prefix on it: the sixteen addresses come back with the others', async () => {
  const s = site();
  const prefix = parseCidr('10.0.1.64/28');
  const made = s.w.vpc.network.createEni({ subnet: SUBNET, prefixes: [prefix] });
  s.w.vpc.network.attach(made.id, HERE, 4);
  await s.w.request(made.id);
  assert.is(await s.w.statusOf('10.0.1.70'), 'occupied');
  remove(s.w, made.id);
  s.w.time.now += LATE_READS_MS;
  await seenFor(s, STANDS_FOR_MS.gone);
  assert.is(await s.w.statusOf('10.0.1.70'), 'free');
  assert.is((await s.w.rowOf('10.0.1.70')).iface, null);
});

departing('a release ends what is held there, with no word to EC2, and gives up nothing else', async () => {
  const s = site();
  const [first, second] = [await s.w.request(ENI_A), await s.w.request(ENI_A)];
  move(s.w, ENI_A, THERE);
  await pass(s);
  const calls = () => [...s.w.vpc.calls.values()].reduce((sum, n) => sum + n, 0);
  const before = calls();
  assert.is(await s.w.release(ENI_A, first.ip), true);
  assert.is(await s.w.statusOf(first.ip), 'ready');
  assert.is(await s.w.release(ENI_A, first.ip), false);
  assert.is(calls(), before);
  await seenFor(s, STANDS_FOR_MS.detached);
  await pass(s);
  assert.is(await s.w.statusOf(second.ip), 'occupied');
  assert.is(await s.w.release(ENI_A, second.ip), false, 'it may be another ledger’s by now');
  assert.is(await s.w.statusOf(second.ip), 'occupied');
});

departing('a central ledger keeps an ENI that is attached to nothing', async () => {
  const w = world({ vpc: ROOMY });
  const s = { w, proof: createEvidence(w.context) };
  const held = await w.request(ENI_A);
  const ready = await w.ipsWith('ready');
  detach(w, ENI_A);
  await seenFor(s, STANDS_FOR_MS.detached);
  await pass(s);
  assert.equal((await w.ipsWith('ready')).sort(), [...ready, held.ip].sort());
  assert.is((await unassign(w.context, [await w.rowOf(held.ip)])).freed.length, 1);
});

departing.run();
