// Goal: each call that is to change EC2 is in the history, with its addresses and what came of it. Method: a simulated VPC
// that refuses and loses calls.
import { repair, takeOver } from '../../../src/ipam/ec2/recover.ts';
import { unassign } from '../../../src/ipam/ec2/unassign.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ASSIGN, ENI_A, ENI_B, ROOMY, UNASSIGN } from '../../kit/vpcs.ts';
import { failure, NOT_WARM, type World, world } from '../../kit/world.ts';

const DAY_MS = 24 * 3_600_000;
/** The calls, the oldest first. */
const callsOf = async (w: World) => {
  const { rows } = await w.store.ec2Calls(DAY_MS, 100);
  return rows
    .toSorted((a, b) => a.at - b.at)
    .map(({ action, iface, ips, result }) => [action, iface, ips.join(' '), result]);
};
const only = (): World => world({ vpc: ROOMY, policy: NOT_WARM });

const history = suite('EC2 calls in the history');

history('an assign and an unassign: are noted with their result', async () => {
  const w = only();
  const row = await w.request(ENI_A, { named: '10.0.1.77' });
  await w.release(ENI_A, row.ip);
  await unassign(w.context, [await w.rowOf(row.ip)]);
  assert.equal(await callsOf(w), [
    ['assign', ENI_A, '10.0.1.77', 'done'],
    ['unassign', ENI_A, '10.0.1.77', 'done'],
  ]);
  const [last] = (await w.store.ec2Calls(DAY_MS, 1)).rows;
  assert.ok(last?.endedAt !== null && (last?.endedAt ?? 0) >= (last?.at ?? 0));
});

history("a refusal: is noted in EC2's words", async () => {
  const w = only();
  await w.request(ENI_A);
  w.putOn(ENI_B, '10.0.1.99');
  await failure(w.request(ENI_A, { named: '10.0.1.99' }));
  const [, [action, eni, ips, result] = []] = await callsOf(w);
  assert.equal([action, eni, ips], ['assign', ENI_A, '10.0.1.99']);
  assert.match(String(result), /^ec2-taken: .*10\.0\.1\.99/);
});

history('an unassign that is refused: is noted, and so are its halves', async () => {
  const w = only();
  const rows = [await w.request(ENI_A), await w.request(ENI_A)];
  for (const { ip } of rows) await w.release(ENI_A, ip);
  w.takeOff(ENI_A, rows[0]?.ip ?? '');
  const ready = await Promise.all(rows.map(({ ip }) => w.rowOf(ip)));
  await unassign(w.context, ready);
  const calls = (await callsOf(w)).filter(([action]) => action === 'unassign');
  assert.is(calls.length, 3);
  assert.match(String(calls[0]?.[3]), /^ec2-not-assigned: /);
  assert.is(calls.filter(([, , , result]) => result === 'done').length, 1);
});

history('a call without an answer: has no result, and what takes it over has one', async () => {
  const w = only();
  await w.request(ENI_A);
  w.vpc.faults.add({ kind: 'hang', action: ASSIGN, times: 10 });
  await failure(w.request(ENI_A, { named: '10.0.1.88' }));
  const [, lost] = await callsOf(w);
  assert.equal(lost, ['assign', ENI_A, '10.0.1.88', null]);
  w.time.now += w.context.policy.graceMs;
  await takeOver(w.context);
  const last = (await callsOf(w)).at(-1);
  assert.equal(last?.slice(0, 3), ['unassign', ENI_A, '10.0.1.88']);
  assert.ok(last?.[3] !== null);
});

history('a repair: is noted, done or refused', async () => {
  const w = only();
  const row = await w.request(ENI_A, { named: '10.0.1.77' });
  w.takeOff(ENI_A, row.ip);
  await repair(w.context, [await w.rowOf(row.ip)]);
  w.takeOff(ENI_A, row.ip);
  w.refuseCalls(ASSIGN, 'UnauthorizedOperation');
  await repair(w.context, [await w.rowOf(row.ip)]);
  const [, done, refused] = await callsOf(w);
  assert.equal(done, ['assign', ENI_A, '10.0.1.77', 'done']);
  assert.match(String(refused?.[3]), /^ec2-denied: /);
  assert.is(w.callsOf(UNASSIGN), 0);
});
history.run();
