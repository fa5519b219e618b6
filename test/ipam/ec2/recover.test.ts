import { LATE_READS_MS } from '../../../src/domain/allocation.ts';
import { repair, takeOver } from '../../../src/ipam/ec2/recover.ts';
import { unassign } from '../../../src/ipam/ec2/unassign.ts';
import { close, compare } from '../../../src/ipam/sync/reconcile.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ASSIGN, ENI_A, ENI_B, ROOMY, SUBNET, UNASSIGN } from '../../kit/vpcs.ts';
import { assignTo, ipsOf, NOT_WARM, POLICY, type World, world } from '../../kit/world.ts';
import { withFree } from './free-rows.ts';

const unassigning = suite('unassign');

/** So many ready rows on ENI A. */
async function withReady(count: number) {
  const { w, rows } = await withFree(count);
  return { w, rows: (await assignTo(w.context, ENI_A, rows)).ready };
}

unassigning('takes many off in one call', async () => {
  const { w, rows } = await withReady(5);
  assert.is((await unassign(w.context, rows)).freed.length, 5);
  assert.equal(w.secondariesOf(ENI_A), []);
  assert.is(w.callsOf(UNASSIGN), 1);
});

unassigning('what was claimed meanwhile stays', async () => {
  const { w, rows } = await withReady(3);
  const held = await w.request(ENI_A);
  assert.is((await unassign(w.context, rows)).freed.length, 2);
  assert.ok(w.secondariesOf(ENI_A).includes(held.ip));
  assert.is(await w.statusOf(held.ip), 'allocated');
});

unassigning('a batch refused for one that is off already is halved until each is settled', async () => {
  const { w, rows } = await withReady(5);
  w.takeOff(ENI_A, rows[3]?.ip ?? '');
  assert.is((await unassign(w.context, rows)).freed.length, 5);
  assert.equal(w.secondariesOf(ENI_A), []);
});

unassigning('on an ENI that is gone confirms them all', async () => {
  const { w, rows } = await withReady(3);
  w.detach(ENI_A);
  w.vpc.network.deleteEni(ENI_A);
  assert.is((await unassign(w.context, rows)).freed.length, 3);
});

unassigning('refused for the rate, they are ready again', async () => {
  const { w, rows } = await withReady(3);
  w.vpc.faults.add({ kind: 'throttle', action: UNASSIGN, times: 1 });
  assert.is((await unassign(w.context, rows)).freed.length, 0);
  assert.is((await w.ipsWith('ready')).length, 3);
});

unassigning('after a lost reply nobody gets them until the grace is over and they are off', async () => {
  const { w, rows } = await withReady(3);
  w.vpc.faults.add({ kind: 'applyLate', ms: 200_000, action: UNASSIGN, times: 1 });
  assert.is((await unassign(w.context, rows)).freed.length, 0);
  const others = ipsOf(await w.requests(ENI_A, 6));
  for (const { ip } of rows) assert.not.ok(others.includes(ip));
  w.time.now += POLICY.graceMs;
  assert.is(await takeOver(w.context), 3);
  for (const { ip } of rows) {
    assert.not.ok(w.secondariesOf(ENI_A).includes(ip));
    assert.ok((await w.rowOf(ip)).leftUnsure, 'and they stay off for the grace');
  }
});

unassigning('what EC2 took off for certain stays off for late reads only, halved batches too', async () => {
  const { w, rows } = await withReady(3);
  w.takeOff(ENI_A, rows[0]?.ip ?? '');
  assert.is((await unassign(w.context, rows)).freed.length, 3);
  for (const row of rows) assert.not.ok((await w.rowOf(row.ip)).leftUnsure);
});

const repairing = suite('repair');

const reconcile = async (w: World) => await close(w.context, await compare(w.context, SUBNET));

/** So many held addresses that somebody took off ENI A. */
async function withMissing(count: number, options: Parameters<typeof world>[0] = {}) {
  const w = world({ vpc: ROOMY, ...options });
  const held = await w.requests(ENI_A, count);
  w.takeOff(ENI_A, ...ipsOf(held));
  return { w, held };
}

repairing('a held address that is missing from its ENI is put back, and its holder keeps it', async () => {
  const w = world({ vpc: ROOMY });
  const held = await w.request(ENI_A, { holder: 'web' });
  w.takeOff(ENI_A, held.ip);
  assert.is(await repair(w.context, [held]), 1);
  const { status, holder, missingSince } = await w.rowOf(held.ip);
  assert.equal([status, holder, missingSince], ['allocated', 'web', null]);
  assert.ok(w.secondariesOf(ENI_A).includes(held.ip));
});

for (const fault of [
  { kind: 'throttle' },
  { kind: 'hang' },
  { kind: 'error', code: 'InvalidParameterValue', message: 'no' },
] as const)
  repairing(`whatever EC2 answers (${fault.kind}), the holder keeps it, and it stays missing`, async () => {
    const { w, held } = await withMissing(1);
    w.vpc.faults.add({ ...fault, action: ASSIGN });
    assert.is(await repair(w.context, held), 0);
    const row = await w.rowOf(held[0]?.ip ?? '');
    assert.is(row.status, 'allocated');
    assert.is.not(row.missingSince, null);
  });

repairing('what is released while missing is taken off after the grace', async () => {
  const { w, held } = await withMissing(1);
  const [ip = ''] = ipsOf(held);
  w.vpc.faults.add({ kind: 'applyLate', ms: 300_000, action: ASSIGN, times: 1 });
  await repair(w.context, held);
  assert.is(await w.release(ENI_A, ip), true);
  assert.is(await w.statusOf(ip), 'unassigning', 'its repair may yet apply');
  assert.is(await takeOver(w.context), 0);
  w.time.now += POLICY.graceMs;
  assert.is(await takeOver(w.context), 1);
  assert.not.ok(w.secondariesOf(ENI_A).includes(ip));
  assert.is(await w.statusOf(ip), 'free');
});

/** An address that was held, was repaired, and is back on ENI A. An earlier repair has no answer, and is applied later. */
async function releasedInDoubt() {
  const { w, held } = await withMissing(1, { policy: NOT_WARM });
  const [ip = ''] = ipsOf(held);
  w.vpc.faults.add({ kind: 'applyLate', ms: 800_000, action: ASSIGN, times: 1 });
  await repair(w.context, held);
  w.time.now += 40_000;
  assert.is(await repair(w.context, [await w.rowOf(ip)]), 1);
  assert.is((await w.rowOf(ip)).missingSince, null);
  await reconcile(w);
  assert.is(await w.release(ENI_A, ip), true);
  return { w, ip };
}
/** Some time later it is free, and stays so. */
async function staysFree(w: World, ip: string): Promise<void> {
  w.time.now += POLICY.graceMs;
  await reconcile(w);
  assert.equal([await w.statusOf(ip), w.secondariesOf(ENI_A)], ['free', []]);
}

repairing(
  'what is released while an earlier repair has no answer is not taken off before the grace is over',
  async () => {
    const { w, ip } = await releasedInDoubt();
    assert.equal((await unassign(w.context, [await w.rowOf(ip)])).freed, []);
    assert.equal([await w.statusOf(ip), w.callsOf(UNASSIGN)], ['ready', 0]);
    w.time.now += POLICY.graceMs;
    assert.is((await unassign(w.context, [await w.rowOf(ip)])).freed.length, 1);
    await staysFree(w, ip);
  },
);

repairing('while an earlier repair has no answer, a container is restarted with its address', async () => {
  const { w, ip } = await releasedInDoubt();
  assert.is((await w.request(ENI_A, { named: ip })).ip, ip);
  await w.release(ENI_A, ip);
  w.time.now += POLICY.cooldownMs;
  assert.is((await w.request(ENI_A)).ip, ip, 'and others get it');
});

repairing(
  'what is released while an earlier repair has no answer, and is missing again, is free after the grace',
  async () => {
    const { w, ip } = await releasedInDoubt();
    w.time.now += LATE_READS_MS;
    w.takeOff(ENI_A, ip);
    await reconcile(w);
    assert.equal([await w.statusOf(ip), w.callsOf(UNASSIGN)], ['unassigning', 0]);
    w.time.now += POLICY.graceMs;
    assert.is(await takeOver(w.context), 1);
    await staysFree(w, ip);
  },
);

repairing('what is released after repairs that EC2 answered is ready', async () => {
  const { w, held } = await withMissing(2, { policy: NOT_WARM });
  w.refuseCalls(ASSIGN, 'PrivateIpAddressLimitExceeded', 'full', 2);
  assert.is(await repair(w.context, held), 1);
  const left = (await w.store.withStatus(SUBNET, ['allocated'])).rows.filter(
    row => row.missingSince !== null,
  );
  assert.is(await repair(w.context, left), 1);
  for (const { ip } of held) {
    assert.is(await w.release(ENI_A, ip), true);
    assert.is(await w.statusOf(ip), 'ready');
  }
});

repairing('what is released when no repair can be applied any more is ready', async () => {
  const { w, held } = await withMissing(1);
  const [ip = ''] = ipsOf(held);
  w.vpc.faults.add({ kind: 'applyLate', ms: 1, action: ASSIGN, times: 1 });
  await repair(w.context, held);
  w.time.now += POLICY.graceMs;
  await reconcile(w);
  assert.is((await w.rowOf(ip)).repairUnsureAt, null);
  assert.is(await w.release(ENI_A, ip), true);
  assert.is(await w.statusOf(ip), 'ready');
});

repairing("costs one call for each ENI, and one more where EC2 names what is somebody else's", async () => {
  const { w, held } = await withMissing(5);
  w.putOn(ENI_B, held[2]?.ip ?? '');
  const before = w.callsOf(ASSIGN);
  assert.is(await repair(w.context, held), 4);
  assert.is(w.callsOf(ASSIGN) - before, 2);
  for (const row of held) assert.is(await w.statusOf(row.ip), 'allocated');
});

repairing('where the ENI has room for one only, one is put back', async () => {
  const w = world({ policy: NOT_WARM });
  const held = (await w.requests(ENI_A, 9)).slice(0, 2);
  w.takeOff(ENI_A, ...ipsOf(held));
  w.refuseCalls(ASSIGN, 'PrivateIpAddressLimitExceeded', 'full', 1);
  assert.is(await repair(w.context, held), 2);
});

repairing('where ready addresses fill the ENI, one makes room for each that is missing', async () => {
  const w = world({ vpc: ROOMY, policy: NOT_WARM });
  const [missing, , ...others] = await w.requests(ENI_A, 4);
  if (missing === undefined) throw new Error('none is held');
  for (const { ip } of others) await w.release(ENI_A, ip);
  w.takeOff(ENI_A, missing.ip);
  w.putOn(ENI_A, ...Array.from({ length: 6 }, (_, i) => `10.0.1.${240 + i}`));
  assert.is(await repair(w.context, [missing]), 1);
  assert.ok(w.secondariesOf(ENI_A).includes(missing.ip));
  assert.equal([await w.statusOf(missing.ip), (await w.ipsWith('ready')).length], ['allocated', 1]);
});

repairing('where only held addresses fill the ENI, none is taken off', async () => {
  const w = world({ vpc: ROOMY, policy: NOT_WARM });
  const [missing] = await w.requests(ENI_A, 4);
  if (missing === undefined) throw new Error('none is held');
  w.takeOff(ENI_A, missing.ip);
  w.putOn(ENI_A, ...Array.from({ length: 6 }, (_, i) => `10.0.1.${240 + i}`));
  assert.is(await repair(w.context, [missing]), 0);
  assert.is(w.callsOf(UNASSIGN), 0);
  assert.is((await w.ipsWith('allocated')).length, 4);
});

repairing('one that EC2 refuses without naming it keeps the others away from nothing', async () => {
  const { w, held } = await withMissing(5, { unnamedRefusals: true });
  w.putOn(ENI_B, held[3]?.ip ?? '');
  assert.is(await repair(w.context, held), 4);
});

for (const s of [unassigning, repairing]) s.run();
