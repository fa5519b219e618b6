// Goal: what is on an ENI that leaves the instance of an embedded ledger comes back to the subnet, and nothing is asked of
// EC2 for it any more. Method: two embedded ledgers on one simulated VPC, and ENIs that are detached, moved, deleted.
import type { Cloud } from '../../../src/cloud/cloud.ts';
import { parseCidr } from '../../../src/domain/address.ts';
import { LATE_READS_MS, type Status } from '../../../src/domain/allocation.ts';
import { ABSENT_FOR_MS } from '../../../src/domain/drift.ts';
import { STANDS_FOR_MS } from '../../../src/domain/eni-departure.ts';
import type { EniId, InstanceId } from '../../../src/domain/ids.ts';
import { repair, takeOver } from '../../../src/ipam/ec2/recover.ts';
import { survey } from '../../../src/ipam/ec2/survey.ts';
import { unassign } from '../../../src/ipam/ec2/unassign.ts';
import { drain, idle } from '../../../src/ipam/sync/drain.ts';
import { createEvidence } from '../../../src/ipam/sync/holders.ts';
import { reconcile } from '../../../src/ipam/sync/reconcile.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ASSIGN, DESCRIBE, ENI_A, ENI_B, ROOMY, SUBNET, UNASSIGN } from '../../kit/vpcs.ts';
import { assignTo, failure, POLICY, type World, world } from '../../kit/world.ts';

const HERE = 'i-0a' as InstanceId;
const THERE = 'i-0b' as InstanceId;

/** A server, by default with an embedded ledger; passes of its reconciler, and two that are so far apart. */
function site(w = world({ vpc: ROOMY, instance: HERE, policy: { warmMin: 0, warmMax: 1 } })) {
  const proof = createEvidence(w.context);
  const pass = (scope: 'own' | 'whole' = 'whole') => reconcile(w.context, w.enis, proof, SUBNET, scope);
  const passAfter = (ms: number, scope?: 'own' | 'whole') => {
    w.time.now += ms;
    return pass(scope);
  };
  const seenFor = async (ms: number, scope?: 'own' | 'whole') => {
    await pass(scope);
    await passAfter(ms, scope);
  };
  return { w, pass, passAfter, seenFor };
}

const changesOf = (w: World) => w.callsOf(ASSIGN) + w.callsOf(UNASSIGN);
function remove(w: World, id: EniId): void {
  w.detach(id);
  w.vpc.network.deleteEni(id);
}

const departing = suite('an ENI that leaves');

for (const scope of ['own', 'whole'] as const)
  departing(`detached: holders end after five minutes and its rows are occupied (${scope})`, async () => {
    const { w, pass, passAfter, seenFor } = site();
    const held = await w.request(ENI_A);
    w.detach(ENI_A);
    await seenFor(STANDS_FOR_MS.detached - 1, scope);
    assert.is(await w.statusOf(held.ip), 'allocated', 'not before');
    assert.ok((await w.ipsWith('ready')).length > 0, 'nor is what is ready');
    await passAfter(1, scope);
    await pass(scope);
    assert.equal(await w.ipsWith('allocated', 'ready'), []);
    assert.is(await w.statusOf(held.ip), 'occupied');
    assert.is((await w.rowOf(held.ip)).iface, ENI_A, 'that is where it is');
    assert.is(changesOf(w), 1, 'the one assign of the request');
  });

departing('deleted: its addresses are free once EC2 has twice shown neither it nor them', async () => {
  const { w, pass, passAfter, seenFor } = site();
  const held = await w.request(ENI_A);
  const ready = await w.ipsWith('ready');
  assert.ok(ready.length > 0);
  remove(w, ENI_A);
  w.time.now += LATE_READS_MS;
  await seenFor(STANDS_FOR_MS.gone);
  assert.is.not(await w.statusOf(held.ip), 'allocated');
  await pass();
  await passAfter(ABSENT_FOR_MS);
  for (const ip of ready) assert.is(await w.statusOf(ip), 'free');
  w.time.now += POLICY.graceMs; // what the holder had is settled like an intent
  await takeOver(w.context);
  for (let i = 0; i < 3; i++) await passAfter(i === 0 ? 0 : ABSENT_FOR_MS);
  assert.is(await w.statusOf(held.ip), 'free');
  assert.is(w.callsOf(UNASSIGN), 0);
});

departing('moved: the other ledger adopts it, and this one changes nothing there', async () => {
  const { w, pass, passAfter, seenFor } = site();
  const other = world({ beside: w, instance: THERE, policy: { warmMin: 0, warmMax: 1 } });
  const held = await w.request(ENI_A);
  w.reattach(ENI_A, THERE);
  await pass();
  const theirs = await other.request(ENI_A);
  assert.is.not(theirs.ip, held.ip);
  const before = changesOf(w);
  await seenFor(STANDS_FOR_MS.detached);
  await passAfter(3_600_000);
  await takeOver(w.context);
  assert.is(await drain(w.context, w.warm, SUBNET, []), 0);
  assert.equal(await idle(w.context, SUBNET, 0, 99), []);
  assert.is(changesOf(w), before);
  assert.is(await w.statusOf(theirs.ip), 'occupied');
  assert.is(await w.statusOf(held.ip), 'occupied');
  assert.match((await failure(w.request(ENI_A))).line, /eni-0a is .*attached to/);
});

for (const [what, kind] of [
  ['assign', ASSIGN],
  ['unassign', UNASSIGN],
] as const)
  departing(`an intent to ${what} is settled after the grace by a read, never by a call`, async () => {
    const { w, pass, passAfter, seenFor } = site();
    await w.request(ENI_A);
    const rows = (await w.store.readyOn(ENI_A, null, 2)).rows;
    w.vpc.faults.add({ kind: 'hang', action: kind });
    if (what === 'unassign') await unassign(w.context, rows);
    else await assignTo(w.context, ENI_A, await w.freeRows(2));
    const intents = await w.ipsWith('assigning', 'unassigning');
    assert.is(intents.length, 2);
    const writtenAt = w.time.now;
    w.vpc.faults.clear();
    w.reattach(ENI_A, THERE);
    await seenFor(STANDS_FOR_MS.detached);
    assert.equal(await w.ipsWith('assigning', 'unassigning'), intents, 'not within the grace');
    const before = changesOf(w);
    w.time.now = writtenAt + POLICY.graceMs;
    assert.is(await takeOver(w.context), 0);
    await pass();
    for (const ip of intents) assert.is(await w.statusOf(ip), 'occupied');
    await pass();
    await passAfter(ABSENT_FOR_MS);
    const want = what === 'assign' ? 'free' : 'occupied';
    for (const ip of intents) assert.is(await w.statusOf(ip), want, 'EC2 shows where it is');
    assert.is(changesOf(w), before);
  });

departing(
  'leaves between two halves of a refused batch: what its new ledger puts on it stays there',
  async () => {
    const { w } = site();
    const other = world({ beside: w, instance: THERE, policy: { warmMin: 0, warmMax: 1 } });
    await w.request(ENI_A);
    w.vpc.faults.add({ kind: 'hang', action: ASSIGN, times: 1 });
    await assignTo(w.context, ENI_A, await w.freeRows(4));
    const intents = await w.ipsWith('assigning');
    assert.is(intents.length, 4);
    w.time.now += POLICY.graceMs;
    w.vpc.faults.add({ kind: 'latency', ms: 5_000, action: UNASSIGN, times: 1 });
    const taken = takeOver(w.context);
    await w.time.wait(1_000);
    w.reattach(ENI_A, THERE);
    const theirs = await other.requests(ENI_A, 4);
    assert.equal(
      theirs.map(({ ip }) => ip).sort(),
      intents.toSorted(),
      'both ledgers try them in the same order',
    );
    assert.is(await taken, 0);
    assert.is(w.callsOf(UNASSIGN), 1);
    for (const { ip } of theirs) assert.ok(w.secondariesOf(ENI_A).includes(ip), ip);
    assert.equal(await w.ipsWith('unassigning'), intents, 'a read settles them');
  },
);

for (const when of ['before it is repaired', 'between two halves of a repair'] as const)
  departing(`leaves ${when}: nothing is put on it`, async () => {
    const { w } = site();
    const held = await w.requests(ENI_A, 4);
    w.time.now += LATE_READS_MS;
    const ips = held.map(({ ip }) => ip);
    w.takeOff(ENI_A, ...ips);
    const isBefore = when === 'before it is repaired';
    if (isBefore) w.reattach(ENI_A, THERE);
    // Somebody else has one by now, so that EC2 refuses the batch.
    w.putOn(ENI_B, ips[3] ?? '');
    w.vpc.faults.add({ kind: 'latency', ms: 5_000, action: ASSIGN, times: 1 });
    const before = w.callsOf(ASSIGN);
    const repaired = repair(w.context, held);
    await w.time.wait(1_000);
    if (!isBefore) w.reattach(ENI_A, THERE);
    assert.is(await repaired, 0);
    assert.is(w.callsOf(ASSIGN) - before, isBefore ? 0 : 1);
    for (const ip of ips) assert.ok(!w.secondariesOf(ENI_A).includes(ip), ip);
    assert.equal((await w.ipsWith('allocated')).sort(), ips.toSorted(), 'they stay held');
  });

departing('EC2 does not say where one ENI is: what is missing from another one is repaired', async () => {
  const { w } = site();
  w.reattach(ENI_B, HERE);
  const held = [await w.request(ENI_A), await w.request(ENI_B)];
  w.time.now += LATE_READS_MS;
  for (const { iface, ip } of held) w.takeOff(iface as EniId, ip);
  w.vpc.faults.add({ kind: 'error', code: 'InternalError', message: 'no', action: DESCRIBE, times: 1 });
  assert.is(await repair(w.context, held), 1);
  assert.equal(w.secondariesOf(ENI_A).includes(held[0]?.ip ?? ''), false);
  assert.ok(w.secondariesOf(ENI_B).includes(held[1]?.ip ?? ''));
});

departing('back within five minutes, nothing has changed', async () => {
  const { w, pass } = site();
  const held = await w.request(ENI_A);
  const ready = await w.ipsWith('ready');
  w.detach(ENI_A);
  await pass();
  w.time.now += STANDS_FOR_MS.detached - 1;
  w.attach(ENI_A, HERE, 1);
  await pass();
  assert.equal(await w.ipsWith('ready'), ready);
  assert.is(await w.statusOf(held.ip), 'allocated');
  assert.ok(ready.includes((await w.request(ENI_A)).ip));
});

departing('back after that, it is ours again, and what it brings along is occupied', async () => {
  const { w, pass, seenFor } = site();
  const held = await w.request(ENI_A);
  w.detach(ENI_A);
  await seenFor(STANDS_FOR_MS.detached);
  await pass();
  const brought = w.secondariesOf(ENI_A);
  w.takeOff(ENI_A, held.ip);
  w.attach(ENI_A, HERE, 1);
  await pass();
  const row = await w.request(ENI_A);
  assert.is(row.iface, ENI_A);
  assert.ok(!brought.includes(row.ip));
});

departing('back, it is served when what it brings along is occupied, and not before', async () => {
  const { w, pass } = site();
  const other = world({ beside: w, instance: THERE, policy: { warmMin: 0, warmMax: 1 } });
  await w.request(ENI_A);
  w.reattach(ENI_A, THERE);
  await pass();
  const theirs = await other.request(ENI_A);
  assert.is(await w.statusOf(theirs.ip), 'free');
  w.reattach(ENI_A, HERE);
  const before: Status[] = [];
  w.intercept('saveEnis', real => async enis => {
    before.push(await w.statusOf(theirs.ip));
    await real(enis);
  });
  await pass();
  assert.equal(before, ['occupied']);
  assert.is((await w.store.eni(ENI_A))?.instance, HERE);
});

const find = {
  'a request': (w: World) => w.enis.adopt(ENI_A),
  'the reconciler': (_: World, pass: () => Promise<unknown>) => pass(),
  init: (w: World) => survey(w.context, SUBNET),
  adopt: (w: World) => w.enis.refresh(ENI_A),
};
for (const [how, isSeenAway] of [
  ['a request', true],
  ['the reconciler', true],
  ['init', true],
  ['adopt', false],
  ['the reconciler', false],
  ['init', false],
] as const)
  departing(
    `back, and found by ${how}${isSeenAway ? '' : ' that never saw it away'}: a call elsewhere for what it brings along is awaited`,
    async () => {
      const { w, pass } = site();
      w.reattach(ENI_B, HERE);
      await w.request(ENI_A);
      const [row] = await w.freeRows(1, { eni: ENI_B });
      const before = await w.store.eni(ENI_A);
      w.detach(ENI_A);
      if (isSeenAway) await pass();
      assert.ok(row);
      const [intent] = await w.store.move([{ row, move: 'assign', iface: ENI_B }]);
      assert.ok(intent);
      w.putOn(ENI_A, row.ip);
      w.attach(ENI_A, HERE, 1);
      const found = find[how](w, pass);
      await w.time.wait(1_000);
      const attachment = isSeenAway ? null : before?.attachment;
      assert.is((await w.store.eni(ENI_A))?.attachment, attachment, 'not served yet');
      await w.store.move([{ row: intent, move: 'refused' }]);
      await found;
      const after = await w.store.eni(ENI_A);
      assert.is(after?.instance, HERE);
      assert.is.not(after?.attachment, before?.attachment);
      assert.is(await w.statusOf(row.ip), 'occupied');
    },
  );

departing('back at once, several: none waits for a call that only another one waits for', async () => {
  const { w, pass } = site();
  w.reattach(ENI_B, HERE);
  const { id: third } = w.vpc.network.createEni({ subnet: SUBNET });
  w.attach(third, HERE, 3);
  for (const eni of [ENI_A, ENI_B, third]) await w.request(eni);
  for (const eni of [ENI_A, ENI_B]) w.detach(eni);
  await pass();
  const [awaited, brought] = await w.freeRows(2, { eni: third });
  assert.ok(awaited && brought);
  await w.store.move([{ row: awaited, move: 'assign', iface: third }]);
  w.putOn(ENI_A, awaited.ip);
  w.putOn(ENI_B, brought.ip);
  w.attach(ENI_A, HERE, 1);
  w.attach(ENI_B, HERE, 2);
  const found = pass();
  await w.time.wait(1_000);
  assert.is(await w.statusOf(awaited.ip), 'assigning');
  assert.is(await w.statusOf(brought.ip), 'occupied');
  await found;
  for (const eni of [ENI_A, ENI_B]) assert.is((await w.store.eni(eni))?.instance, HERE);
});

for (const how of ['a request', 'the reconciler', 'init'] as const)
  departing(`back, and found by ${how}: what it has lost meanwhile is not offered`, async () => {
    const { w, pass, passAfter } = site();
    const held = await w.requests(ENI_A, 2);
    for (const { ip } of held) await w.release(ENI_A, ip);
    w.time.now += LATE_READS_MS;
    const ready = await w.ipsWith('ready');
    w.detach(ENI_A);
    await pass();
    // The ledger of another host had an unfinished call for them, and has given them since.
    w.takeOff(ENI_A, ...ready);
    w.putOn(ENI_B, ...ready);
    w.attach(ENI_A, HERE, 1);
    const statuses: Status[] = [];
    w.intercept('saveEnis', real => async enis => {
      for (const ip of ready) statuses.push(await w.statusOf(ip));
      await real(enis);
    });
    await find[how](w, pass);
    assert.equal([...new Set(statuses)], ['occupied']);
    const given = await w.request(ENI_A);
    assert.ok(!ready.includes(given.ip));
    w.takeOff(ENI_B, ...ready);
    await passAfter(LATE_READS_MS);
    await passAfter(ABSENT_FOR_MS);
    for (const ip of ready) assert.is(await w.statusOf(ip), 'free', 'and comes back when nobody has it');
  });

departing(
  'back, and found by a process that then stood still: what was put on it since is not lost',
  async () => {
    const { w, pass } = site();
    await w.request(ENI_A);
    w.detach(ENI_A);
    await pass();
    w.attach(ENI_A, HERE, 1);
    const slow: Cloud = {
      ...w.context.cloud,
      as: () => slow,
      async eni(id) {
        const seen = await w.context.cloud.eni(id);
        await w.time.wait(2 * LATE_READS_MS);
        return seen;
      },
    };
    const late = w.serverWith({ cloud: slow }).enis.adopt(ENI_A);
    await w.time.wait(1_000);
    const shown = w.secondariesOf(ENI_A);
    const given = await w.requests(ENI_A, shown.length);
    assert.ok(given.some(({ ip }) => !shown.includes(ip)));
    for (const { ip } of given) await w.release(ENI_A, ip);
    await late;
    for (const { ip } of given) assert.is(await w.statusOf(ip), 'ready');
  },
);

departing('what was seen of an earlier absence does not count for a later one', async () => {
  const { w, pass } = site();
  const held = await w.request(ENI_A);
  w.detach(ENI_A);
  await pass();
  w.attach(ENI_A, HERE, 1);
  await w.release(ENI_A, held.ip);
  await pass();
  w.time.now += STANDS_FOR_MS.detached;
  const ready = await w.ipsWith('ready');
  w.detach(ENI_A);
  await pass();
  assert.equal(await w.ipsWith('ready'), ready);
});

departing('deleted with a prefix on it: the sixteen addresses come back with the others', async () => {
  const { w, seenFor } = site();
  const prefix = parseCidr('10.0.1.64/28');
  const made = w.vpc.network.createEni({ subnet: SUBNET, prefixes: [prefix] });
  w.attach(made.id, HERE, 4);
  await w.request(made.id);
  assert.is(await w.statusOf('10.0.1.70'), 'occupied');
  remove(w, made.id);
  w.time.now += LATE_READS_MS;
  await seenFor(STANDS_FOR_MS.gone);
  assert.is(await w.statusOf('10.0.1.70'), 'free');
  assert.is((await w.rowOf('10.0.1.70')).iface, null);
});

departing('a release ends what is held there, with no word to EC2, and gives up nothing else', async () => {
  const { w, pass, seenFor } = site();
  const [first, second] = [await w.request(ENI_A), await w.request(ENI_A)];
  w.reattach(ENI_A, THERE);
  await pass();
  const before = w.callsOf();
  assert.is(await w.release(ENI_A, first.ip), true);
  assert.is(await w.statusOf(first.ip), 'ready');
  assert.is(await w.release(ENI_A, first.ip), false);
  assert.is(w.callsOf(), before);
  await seenFor(STANDS_FOR_MS.detached);
  await pass();
  assert.is(await w.statusOf(second.ip), 'occupied');
  assert.is(await w.release(ENI_A, second.ip), false, 'it may be another ledger’s by now');
  assert.is(await w.statusOf(second.ip), 'occupied');
});

departing('a central ledger keeps an ENI that is attached to nothing', async () => {
  const { w, pass, seenFor } = site(world({ vpc: ROOMY }));
  const held = await w.request(ENI_A);
  const ready = await w.ipsWith('ready');
  w.detach(ENI_A);
  await seenFor(STANDS_FOR_MS.detached);
  await pass();
  assert.equal((await w.ipsWith('ready')).sort(), [...ready, held.ip].sort());
  assert.is((await unassign(w.context, [await w.rowOf(held.ip)])).freed.length, 1);
});

departing.run();
