// Goal: what EC2 shows on an ENI settles a call that had no answer, and never more than that. Method: the simulated VPC,
// whose calls hang and whose reads are late, and the orders in which answers and reads can come.
import { type Allocation, LATE_READS_MS, mayShowPast } from '../../../src/domain/allocation.ts';
import { isError } from '../../../src/domain/error.ts';
import type { EniId } from '../../../src/domain/ids.ts';
import { createFollowUps } from '../../../src/ipam/ec2/follow-up.ts';
import { arrivedOn } from '../../../src/ipam/ec2/survey.ts';
import { unassign } from '../../../src/ipam/ec2/unassign.ts';
import { createEvidence } from '../../../src/ipam/sync/holders.ts';
import { reconcile } from '../../../src/ipam/sync/reconcile.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ASSIGN, DESCRIBE, ENI_A, ENI_B, ROOMY, SUBNET } from '../../kit/vpcs.ts';
import { assignTo, type World, world } from '../../kit/world.ts';

const followUps = suite('follow-up');

/** A call for so many rows whose answer is lost; `applied`: EC2 puts them on the ENI. */
async function lost(count: number, applied: boolean, w = world({ vpc: ROOMY })) {
  return await lostFor(w, await w.freeRows(count), applied);
}
async function lostFor(w: World, rows: readonly Allocation[], applied: boolean) {
  w.vpc.faults.add({ kind: applied ? 'lostReply' : 'hang', action: ASSIGN, times: 1 });
  const { error } = await assignTo(w.context, ENI_A, rows);
  assert.ok(isError(error, 'ec2-unknown'));
  return { w, rows };
}
const statuses = async (w: World, rows: readonly Allocation[]) =>
  (await Promise.all(rows.map(row => w.rowOf(row.ip)))).map(row => row.status);
/** What a read of the ENI settles that begins now. */
async function look(w: World) {
  const { rows, now } = await w.store.onEni(ENI_A);
  return await w.store.move(arrivedOn(await w.context.cloud.eni(ENI_A), rows, now));
}

followUps('what a read shows on its ENI is ready at once, and when it came there is noted', async () => {
  const { w, rows } = await lost(3, true);
  assert.is((await look(w)).length, 3);
  for (const row of rows) assert.is((await w.rowOf(row.ip)).placedAt, w.time.now);
});

followUps('what it does not show stays in doubt', async () => {
  const { w, rows } = await lost(3, false);
  assert.equal(await look(w), []);
  assert.equal(await statuses(w, rows), ['assigning', 'assigning', 'assigning']);
});

followUps("a part of a batch is somebody else's: a call is applied as a whole", async () => {
  const w = world({ vpc: ROOMY });
  const rows = await w.freeRows(3);
  w.putOn(ENI_A, rows[1]?.ip ?? '');
  w.vpc.faults.add({ kind: 'hang', action: ASSIGN, times: 1 });
  assert.is((await assignTo(w.context, ENI_A, rows)).error?.code, 'ec2-unknown');
  assert.equal(await look(w), []);
});

followUps('a row that moved since it was read is let be', async () => {
  const { w, rows } = await lost(1, true);
  const { rows: before, now } = await w.store.onEni(ENI_A);
  const shown = await w.context.cloud.eni(ENI_A);
  await w.store.move([{ row: await w.rowOf(rows[0]?.ip ?? ''), move: 'take over' }]);
  assert.equal(await w.store.move(arrivedOn(shown, before, now)), []);
});

followUps('an answer that comes after the read finds its rows moved, and takes nothing back', async () => {
  const w = world({ vpc: ROOMY });
  w.vpc.faults.add({ kind: 'latency', ms: 5_000, action: ASSIGN, times: 1 });
  const given = await w.request(ENI_A);
  await w.time.wait(10_000);
  const row = await w.rowOf(given.ip);
  assert.equal([row.status, row.generation], ['allocated', given.generation]);
  assert.equal(await w.ipsWith('assigning'), []);
});

for (const [how, held] of [
  ['nobody has', false],
  ['a container has', true],
] as const)
  followUps(`refused after it was shown: what ${how} is ${held ? 'kept' : "somebody else's"}`, async () => {
    const w = world({ vpc: ROOMY });
    const [row] = await w.freeRows(1);
    assert.ok(row);
    w.putOn(ENI_A, row.ip);
    w.vpc.faults.add({ kind: 'latency', ms: 5_000, action: ASSIGN, times: 1 });
    const { ready } = await assignTo({ ...w.context, followUps: createFollowUps(w.context) }, ENI_A, [row]);
    assert.is(ready.length, 1, 'a read showed it there');
    if (held) await w.store.move(ready.map(one => ({ row: one, move: 'claim', holder: 'web' })));
    await w.time.wait(10_000);
    assert.is(await w.statusOf(row.ip), held ? 'allocated' : 'occupied');
  });

followUps('the comparison of ledger and EC2 settles them too', async () => {
  const { w, rows } = await lost(3, true);
  await reconcile(w.context, w.enis, createEvidence(w.context), SUBNET);
  assert.equal(await statuses(w, rows), ['ready', 'ready', 'ready']);
});

followUps('a look at an ENI that EC2 calls full settles them too', async () => {
  const { w, rows } = await lost(9, true);
  const before = w.time.now;
  const { ip } = await w.request(ENI_A);
  assert.ok(rows.some(row => row.ip === ip));
  assert.is(w.time.now - before < 4_000, true);
});

followUps('not on an ENI that is attached to another instance now', async () => {
  const { w, rows } = await lost(1, true, world({ vpc: ROOMY, instance: 'i-0a' }));
  w.detach(ENI_A);
  const watching = createFollowUps(w.context);
  watching.watch(ENI_A, w.time.now);
  assert.equal(await watching.next(ENI_A), []);
  assert.equal(await statuses(w, rows), ['assigning']);
});

followUps('all who wait share its reads: five within half a minute', async () => {
  const { w } = await lost(1, false);
  const watching = createFollowUps(w.context);
  const [before, startedAt] = [w.callsOf(DESCRIBE), w.time.now];
  const at: number[] = [];
  for (let i = 0; i < 20; i++) watching.watch(ENI_A, startedAt);
  for (let i = 0; i < 5; i++) {
    await Promise.all(Array.from({ length: 20 }, () => watching.next(ENI_A)));
    at.push(w.time.now - startedAt);
  }
  assert.equal(at, [1_000, 2_000, 5_000, 10_000, 30_000]);
  watching.watch(ENI_A, startedAt);
  assert.equal(await watching.next(ENI_A), [], 'it has been read just now');
  assert.is(w.callsOf(DESCRIBE) - before, 5);
});

followUps('an address that left another ENI lately is ready as soon as a read can be believed', async () => {
  const w = world({ vpc: ROOMY });
  const placedAt = w.time.now;
  const { ready } = await assignTo(w.context, ENI_B, await w.freeRows(1));
  await w.time.wait(LATE_READS_MS - 60_000);
  const { freed } = await unassign(w.context, ready);
  const { rows } = await lostFor(w, freed, true);
  const watching = createFollowUps(w.context);
  watching.watch(ENI_A, w.time.now);
  for (let reads = 0; reads < 6; reads++) {
    assert.equal(await statuses(w, rows), ['assigning']);
    await watching.next(ENI_A);
  }
  assert.equal(await statuses(w, rows), ['ready']);
  assert.is(w.time.now, placedAt + LATE_READS_MS);
});

followUps('a newer call is looked for in its own time', async () => {
  const { w } = await lost(1, false);
  const watching = createFollowUps(w.context);
  watching.watch(ENI_A, w.time.now - 11_000);
  await watching.next(ENI_A);
  const startedAt = w.time.now;
  watching.watch(ENI_A, startedAt);
  await watching.next(ENI_A);
  assert.is(w.time.now - startedAt, 1_000);
});

followUps('reads that fail are made again', async () => {
  const { w } = await lost(1, true);
  w.refuseCalls(DESCRIBE, 'InternalError', 'no', 1);
  const watching = createFollowUps(w.context);
  watching.watch(ENI_A, w.time.now);
  assert.is((await watching.next(ENI_A)).length + (await watching.next(ENI_A)).length, 1);
});
followUps.run();

const past = suite('mayShowPast');
const NOW = 1_000_000_000;
const ago = (ms: number | null) => (ms === null ? null : NOW - ms);
const cases: [left: [EniId, number] | null, placedMsAgo: number | null, past: boolean, why: string][] = [
  [null, null, false, 'an address that was on no ENI yet'],
  [[ENI_A, LATE_READS_MS - 1], 900_000, true, 'one that left it just now'],
  [[ENI_A, LATE_READS_MS], 900_000, false, 'one that left it longer ago than a read may be late'],
  [[ENI_B, 1_000], 900_000, false, 'one that left another, where it had long been'],
  [[ENI_B, 1_000], LATE_READS_MS - 1, true, 'one that left another, and may have left this before'],
  [[ENI_B, 1_000], null, true, 'one of which nobody knows when it came there'],
];
for (const [left, placed, want, why] of cases)
  past(why, () => {
    const [leftIface, leftMs] = left ?? [null, null];
    const row = { leftIface, leftAt: ago(leftMs), placedAt: ago(placed) } as Allocation;
    assert.is(mayShowPast(row, ENI_A, NOW), want);
  });
past.run();
