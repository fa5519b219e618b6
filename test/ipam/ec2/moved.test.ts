// Goal: an address that was on another ENI just now is given once EC2 shows it on its new one, and waits for that no longer
// than its bound. Method: the simulated VPC with late reads, and a time that passes only while all wait.
import type { Ipv4 } from '../../../src/domain/address.ts';
import { LATE_READS_MS } from '../../../src/domain/allocation.ts';
import { CONFIRM_MS_MAX } from '../../../src/ipam/ec2/assign.ts';
import { unassign } from '../../../src/ipam/ec2/unassign.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ASSIGN, DESCRIBE, ENI_A, ENI_B, ROOMY, SUBNET } from '../../kit/vpcs.ts';
import { assignTo, ipsOf, type World, world } from '../../kit/world.ts';

const OPTIONS = { vpc: ROOMY, policy: { warmMin: 0, warmMax: 1, cooldownMs: 0, quarantineMs: 0 } };

/** An address that has just left ENI B. */
async function moving(options: Parameters<typeof world>[0] = OPTIONS) {
  const w = world(options);
  const { ip } = await w.request(ENI_B);
  await w.enis.adopt(ENI_A);
  await w.release(ENI_B, ip);
  const { freed } = await unassign(w.context, [await w.rowOf(ip)]);
  assert.is(freed.length, 1);
  return { w, ips: ipsOf(freed) };
}
const rowsOf = async (w: World, ips: readonly Ipv4[]) => (await w.store.get(SUBNET, ips)).rows;
const others = async (w: World, count: number) =>
  (await w.freeRows(99)).filter(row => row.leftAt === null).slice(0, count);
const lag = (w: World, ms: number) => w.vpc.faults.add({ kind: 'readLag', ms, action: DESCRIBE });

const moved = suite('an address that was moved');

moved('is ready when EC2 shows it on its new ENI', async () => {
  const { w, ips } = await moving();
  lag(w, 700);
  const before = w.time.now;
  const { ready, error } = await assignTo(w.context, ENI_A, await rowsOf(w, ips));
  assert.is(error, null);
  assert.equal(ipsOf(ready), ips);
  const tookMs = w.time.now - before;
  assert.ok(tookMs >= 700 && tookMs < CONFIRM_MS_MAX, `${tookMs} ms`);
});

for (const [what, fault] of [
  ['does not show it', { kind: 'readLag', ms: 60_000 }],
  ['does not answer', { kind: 'hang' }],
  ['refuses to say', { kind: 'error', code: 'UnauthorizedOperation', message: 'no' }],
] as const)
  moved(`is ready after 2 s where EC2 ${what}, and that is no failure`, async () => {
    const { w, ips } = await moving();
    w.vpc.faults.add({ ...fault, action: DESCRIBE });
    const before = w.time.now;
    const { ready, error, unanswered } = await assignTo(w.context, ENI_A, await rowsOf(w, ips));
    assert.equal([error, unanswered], [null, []]);
    assert.equal(ipsOf(ready), ips);
    assert.is(w.time.now - before, CONFIRM_MS_MAX);
  });

moved('is looked for after a slow answer too, which is not taken for none', async () => {
  const { w, ips } = await moving();
  w.vpc.faults.add({ kind: 'latency', ms: 1_900, action: ASSIGN });
  lag(w, 1_000);
  const { ready, error, unanswered } = await assignTo(w.context, ENI_A, await rowsOf(w, ips));
  assert.equal([error, unanswered, ipsOf(ready)], [null, [], ips]);
});

moved('does not keep the others of its batch waiting', async () => {
  const { w, ips } = await moving();
  lag(w, 60_000);
  const fresh = await others(w, 2);
  const before = w.time.now;
  const { ready } = await assignTo(w.context, ENI_A, [...(await rowsOf(w, ips)), ...fresh]);
  assert.equal(ipsOf(ready).sort(), ipsOf(fresh).sort());
  assert.is(w.time.now, before);
  assert.is(await w.statusOf(ips[0] ?? ''), 'assigning');
  await w.time.wait(CONFIRM_MS_MAX + 1);
  assert.is(await w.statusOf(ips[0] ?? ''), 'ready');
});

moved('is given to the request that waits for it, by name too', async () => {
  const { w, ips } = await moving();
  const [ip = ''] = ips;
  lag(w, 700);
  assert.is((await w.request(ENI_A, { named: ip })).ip, ip);
});

for (const [what, more, passed] of [
  ['more than five minutes ago', {}, LATE_READS_MS],
  ['just now, with --confirm-moves off', { confirmMoves: false }, 0],
] as const)
  moved(`${what} is ready with EC2's answer`, async () => {
    const { w, ips } = await moving({ ...OPTIONS, policy: { ...OPTIONS.policy, ...more } });
    w.time.now += passed;
    const before = [w.time.now, w.callsOf(DESCRIBE)];
    assert.is((await assignTo(w.context, ENI_A, await rowsOf(w, ips))).ready.length, 1);
    assert.equal([w.time.now, w.callsOf(DESCRIBE)], before);
  });

moved('back to the ENI that it left asks nothing either', async () => {
  const { w, ips } = await moving();
  w.time.now += LATE_READS_MS;
  const before = w.callsOf(DESCRIBE);
  await assignTo(w.context, ENI_B, await rowsOf(w, ips));
  assert.is(w.callsOf(DESCRIBE), before);
  assert.ok((await w.ipsWith('ready')).includes(ips[0] ?? ''));
});

moved.run();
