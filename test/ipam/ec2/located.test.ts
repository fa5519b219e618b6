// Goal: an embedded ledger assigns only on ENIs of its instance, and no container waits long for a read of EC2.
// Method: an ENI that EC2 last showed a while ago, and reads that hang, fail or are late while assigns are fine.
import { LATE_READS_MS } from '../../../src/domain/allocation.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ASSIGN, DESCRIBE, ENI_A, ROOMY } from '../../kit/vpcs.ts';
import { failure, NOT_WARM, world } from '../../kit/world.ts';

const locating = suite('an embedded ledger');

for (const [what, fault] of [
  ['does not answer', { kind: 'hang' }],
  ['throttles', { kind: 'throttle' }],
  ['answers 500', { kind: 'error', code: 'InternalError', message: 'away' }],
  ['denies it', { kind: 'error', code: 'UnauthorizedOperation', message: 'no' }],
] as const) {
  const site = async () => {
    const w = world({ vpc: ROOMY, instance: 'i-0a', policy: { ...NOT_WARM, requestTimeoutMs: 10_000 } });
    await w.request(ENI_A);
    w.time.now += 90_000;
    w.vpc.faults.add({ ...fault, action: DESCRIBE });
    return w;
  };

  locating(`goes by its own word where an ENI is while EC2 ${what}`, async () => {
    const w = await site();
    assert.ok((await w.tookMs(w.request(ENI_A))) <= 1_100);
  });

  locating(`assigns nothing when EC2 showed the ENI long ago and ${what}`, async () => {
    const w = await site();
    w.time.now += 600_000;
    const assigns = w.callsOf(ASSIGN);
    assert.match((await failure(w.request(ENI_A))).code, /^ec2-/);
    assert.is(w.callsOf(ASSIGN), assigns);
  });

  locating(`that has another word assigns nothing while EC2 ${what}`, async () => {
    const w = await site();
    const noted = await w.store.eni(ENI_A);
    if (noted !== null) await w.store.saveEnis([{ ...noted, instance: null, attachment: null }]);
    const assigns = w.callsOf(ASSIGN);
    assert.match((await failure(w.request(ENI_A))).code, /^ec2-/);
    assert.is(w.callsOf(ASSIGN), assigns);
  });
}

locating('asks again when a read does not show a young ENI here yet', async () => {
  const w = world({ vpc: ROOMY, instance: 'i-0a', policy: NOT_WARM });
  w.detach(ENI_A);
  w.time.now += 600_000;
  w.attach(ENI_A, 'i-0a');
  await w.request(ENI_A);
  w.time.now += 95_000;
  w.vpc.faults.add({ kind: 'readLag', ms: 120_000, action: DESCRIBE, times: 1 });
  assert.is((await w.request(ENI_A)).status, 'allocated');
});

locating('assigns nothing on an ENI that EC2 shows detached for long', async () => {
  const w = world({ vpc: ROOMY, instance: 'i-0a', policy: NOT_WARM });
  await w.request(ENI_A);
  w.detach(ENI_A);
  w.time.now += LATE_READS_MS;
  const assigns = w.callsOf(ASSIGN);
  assert.match((await failure(w.request(ENI_A))).line, /^eni-0a is not attached to i-0a/);
  assert.is(w.callsOf(ASSIGN), assigns);
});

for (const [what, wander] of [
  ['that was on another instance between two reads', true],
  ['that stayed here', false],
] as const)
  locating(`offers nothing that others have put on an ENI ${what}`, async () => {
    const w = world({ vpc: ROOMY, instance: 'i-0a', policy: NOT_WARM });
    await w.request(ENI_A);
    w.time.now += 90_000;
    if (wander) w.reattach(ENI_A, 'i-0b');
    const [next] = await w.freeRows(1);
    assert.ok(next);
    w.putOn(ENI_A, next.ip);
    if (wander) w.reattach(ENI_A, 'i-0a');
    w.vpc.faults.add({ kind: 'hang', action: ASSIGN, times: 1 });
    const given = await w.request(ENI_A);
    assert.is.not(given.ip, next.ip);
    assert.is(await w.statusOf(next.ip), 'occupied');
    assert.match((await failure(w.request(ENI_A, { named: next.ip }))).line, /in use on eni-0a/);
  });

locating.run();
