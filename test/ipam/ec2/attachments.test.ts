// Goal: an ENI belongs to the instance that EC2 shows it on, a yes and a no count for a minute, and nobody makes many
// reads. Method: the simulated VPC, whose time passes while all wait, and the number of its reads.
import type { EniId, InstanceId } from '../../../src/domain/ids.ts';
import {
  createAttachments,
  MISMATCH_EVERY_MS,
  MISMATCHES_MAX,
  SHOWN_FOR_MS,
} from '../../../src/ipam/ec2/attachments.ts';
import { range } from '../../kit/rows.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { DESCRIBE, ENI_A, ENI_B, SMALL, withEnis } from '../../kit/vpcs.ts';
import { failure, type World, world } from '../../kit/world.ts';

const A = 'i-0a' as InstanceId;
const B = 'i-0b' as InstanceId;

const opened = (w: World = world()) => ({ w, ...createAttachments(w.context) });
const refusal = async (work: Promise<unknown>) => {
  const { code, line } = await failure(work);
  return `${code}: ${line}`;
};

const proofs = suite('attachments');

proofs('an ENI: is proved by a read, for its own instance only; a refusal names both', async () => {
  const { w, prove, isShown } = opened();
  assert.not(isShown(ENI_A, A));
  await prove(ENI_A, A);
  assert.ok(isShown(ENI_A, A));
  assert.not(isShown(ENI_A, B));
  assert.match(await refusal(prove(ENI_A, B)), /^denied: eni-0a is attached to i-0a, .* names i-0b;/);
  w.detach(ENI_B);
  assert.match(await refusal(prove(ENI_B, B)), /attached to no instance, .* names i-0b;/);
  assert.match(await refusal(prove('eni-0c' as EniId, B)), /attached to no instance/);
});

proofs('a yes: counts for a minute from before its read, and not longer', async () => {
  const { w, prove, isShown } = opened();
  w.vpc.faults.add({ kind: 'latency', action: DESCRIBE, ms: 2_000 });
  const before = w.time.now;
  await prove(ENI_A, A);
  w.reattach(ENI_A, B);
  w.time.now = before + SHOWN_FOR_MS;
  assert.ok(isShown(ENI_A, A), 'the read was sent some milliseconds later');
  w.time.now += 10;
  assert.not(isShown(ENI_A, A));
  assert.match(await refusal(prove(ENI_A, A)), /attached to i-0b/);
});

proofs('a move that is seen: ends the right of the former instance at once', async () => {
  const { w, prove, isShown } = opened();
  await prove(ENI_A, A);
  w.reattach(ENI_A, B);
  await prove(ENI_A, B);
  assert.not(isShown(ENI_A, A));
  assert.ok(isShown(ENI_A, B));
});

proofs('a mismatch: is read again at most once in ten seconds for each pair', async () => {
  const { w, prove } = opened();
  await prove(ENI_A, A);
  const ask = () => refusal(prove(ENI_A, B));
  await Promise.all(range(20).map(ask));
  for (let i = 0; i < 20; i++) await ask();
  assert.is(w.callsOf(DESCRIBE), 2);
  w.reattach(ENI_A, B);
  assert.match(await ask(), /attached to i-0a/, 'within the ten seconds');
  w.time.now += MISMATCH_EVERY_MS;
  await prove(ENI_A, B);
  assert.is(w.callsOf(DESCRIBE), 3);
});

proofs('a no: is not believed longer than a yes', async () => {
  const { w, prove } = opened();
  await refusal(prove(ENI_A, B));
  w.reattach(ENI_A, B);
  w.time.now += SHOWN_FOR_MS + 10;
  await prove(ENI_A, B);
});

proofs('calls of one moment: share a read', async () => {
  const { w, prove } = opened();
  await Promise.all([prove(ENI_A, A), prove(ENI_B, B), prove(ENI_A, A)]);
  assert.is(w.callsOf(DESCRIBE), 1);
});

proofs(
  'a client that names many ENIs of others: causes few reads, and its own ENI is served later',
  async () => {
    const enis = range(40).map(i => ({ id: `eni-1${i}`, primary: `10.0.1.${20 + i}` }));
    const vpc = { ...withEnis(SMALL, ...enis), subnets: [{ id: 'subnet-0a1', cidr: '10.0.1.0/24' }] };
    const { w, prove } = opened(world({ vpc }));
    const told: string[] = [];
    for (const { id } of enis) told.push(await refusal(prove(id as EniId, B)));
    assert.is(w.callsOf(DESCRIBE), MISMATCHES_MAX);
    assert.match(told.at(-1) ?? '', /^denied: .*names, has called for 8 ENIs of others/);
    await prove(ENI_A, A);
    w.time.now += MISMATCH_EVERY_MS;
    await prove(ENI_B, B);
  },
);

proofs('EC2 is away: a yes counts for its minute, then the error says what is missing', async () => {
  const { w, prove, isShown } = opened();
  await prove(ENI_A, A);
  w.refuseCalls(DESCRIBE, 'InternalError');
  w.time.now += SHOWN_FOR_MS - 10;
  assert.ok(isShown(ENI_A, A));
  w.time.now += 20;
  assert.match(
    await refusal(prove(ENI_A, A)),
    /^ec2-unknown: EC2 has not said within the last minute that eni-0a is attached to i-0a, /,
  );
  w.vpc.faults.clear();
  await prove(ENI_A, A);
});

proofs('an ENI in use: is read again in the background before its minute is over', async () => {
  const { w, prove, isShown, refresh } = opened();
  await prove(ENI_A, A);
  await refusal(prove(ENI_B, A));
  const reads = w.callsOf(DESCRIBE);
  for (let i = 0; i < 60; i++) {
    w.time.now += 12_500;
    await refresh(w.context);
    assert.ok(isShown(ENI_A, A), `after ${i} rounds`);
  }
  assert.is(w.callsOf(DESCRIBE) - reads, 20, 'every third round');
  w.reattach(ENI_A, B);
  w.time.now += 40_000;
  await refresh(w.context);
  assert.not(isShown(ENI_A, A));
});

proofs('an ENI that nobody has used for a day: is not read any more', async () => {
  const { w, prove, refresh } = opened();
  await prove(ENI_A, A);
  w.time.now += 24 * 3_600_000;
  const reads = w.callsOf(DESCRIBE);
  await refresh(w.context);
  assert.is(w.callsOf(DESCRIBE), reads);
});
proofs.run();
