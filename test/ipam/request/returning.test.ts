// Goal: who finds the subnet full waits for an address that left the same ENI, if it may return in the request's time.
// Method: the whole machine on a /28 whose last address has just been unassigned.
import { LATE_READS_MS } from '../../../src/domain/allocation.ts';
import { unassign } from '../../../src/ipam/ec2/unassign.ts';
import { GATHER_MS } from '../../../src/ipam/pool/warm-pool.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { DESCRIBE, ENI_A, ENI_B, SMALL } from '../../kit/vpcs.ts';
import { failure, NOT_WARM, POLICY, type World, within, world } from '../../kit/world.ts';

const returning = suite('an address that may return to its ENI');

/** What is left of its stay away when the request comes. */
const LEFT_MS = 100_000;
/** The longest pause between two looks of a request. */
const LOOK_MS = 3_000;

/** The last address of the subnet was taken off B, `leftMs` before it may return there. */
async function lastOff(leftMs: number, options: Parameters<typeof world>[0] = {}): Promise<World> {
  const w = world({ vpc: SMALL, ...options, policy: { ...NOT_WARM, ...options.policy } });
  await w.requests(ENI_A, 5);
  const [row] = await w.requests(ENI_B, 4);
  assert.ok(row);
  await w.release(ENI_B, row.ip);
  await unassign(w.context, [await w.rowOf(row.ip)]);
  await w.time.wait(LATE_READS_MS - leftMs);
  return w;
}

for (const [what, asked, policy] of [
  ['', {}, {}],
  [', in its range', { range: '10.0.1.0/28' }, {}],
  [', with strict reuse', {}, { strictReuse: true }],
] as const)
  returning(`within the request's time is waited for${what}`, async () => {
    const w = await lastOff(LEFT_MS, { policy });
    const tookMs = await w.tookMs(w.request(ENI_B, asked));
    assert.ok(tookMs >= LEFT_MS && tookMs <= LEFT_MS + LOOK_MS, `${tookMs} ms`);
  });

returning('right before the end of that time is waited for', async () => {
  const w = await lastOff(POLICY.requestTimeoutMs - 10);
  await w.inTime(POLICY.requestTimeoutMs + GATHER_MS, w.request(ENI_B));
});

returning('after a longer time is not', async () => {
  const w = await lastOff(POLICY.requestTimeoutMs + 1_000);
  assert.is((await w.inTime(0, failure(w.request(ENI_B)))).code, 'exhausted');
});

returning('in another range is not', async () => {
  const w = await lastOff(LEFT_MS);
  const [ip = ''] = await w.ipsWith('free');
  const [low, high] = ['10.0.1.0/29', '10.0.1.8/29'];
  const range = within(low, ip) ? high : low;
  assert.is((await w.inTime(0, failure(w.request(ENI_B, { range })))).code, 'exhausted');
});

returning('that has to rest for longer, with strict reuse, is not', async () => {
  const w = await lastOff(LEFT_MS, { policy: { strictReuse: true, cooldownMs: 600_000 } });
  assert.is((await w.inTime(0, failure(w.request(ENI_B)))).code, 'exhausted');
});

returning('and is given to another ENI meanwhile is waited for no longer', async () => {
  const w = await lastOff(LEFT_MS);
  const waiting = failure(w.request(ENI_B));
  await w.time.wait(10_000);
  await w.request(ENI_A);
  assert.is((await w.inTime(LOOK_MS, waiting)).code, 'exhausted');
});

returning('is waited for once the subnet has been read from EC2, by an embedded server', async () => {
  const w = world({ vpc: SMALL, instance: 'i-0b', policy: NOT_WARM });
  const rows = await w.requests(ENI_B, 9);
  const [row] = rows;
  assert.ok(row);
  await w.release(ENI_B, row.ip);
  await unassign(w.context, [await w.rowOf(row.ip)]);
  await w.time.wait(LATE_READS_MS - LEFT_MS);
  const before = w.callsOf(DESCRIBE);
  await w.request(ENI_B);
  assert.ok(w.callsOf(DESCRIBE) > before);
});

returning.run();
