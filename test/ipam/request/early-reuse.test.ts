// Goal: with nothing rested a start costs what a warm one costs, and still takes what has rested longest. Method: an ENI
// that is full of resting addresses, calls of the store counted, and other servers that change what was read.

import type { Policy } from '../../../src/ipam/context.ts';
import { unassign } from '../../../src/ipam/ec2/unassign.ts';
import type { Fault } from '../../../src/simulator/model/faults.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ASSIGN, ENI_A, ENI_B, ROOMY, SMALL } from '../../kit/vpcs.ts';
import { failure, GONE, ipsOf, NOT_WARM, type World, world } from '../../kit/world.ts';

const early = suite('early reuse');

/** Nine addresses on the ENI, given up one after the other; none has rested. */
async function resting(w: World, apartMs = 1_000): Promise<string[]> {
  const ips: string[] = ipsOf(await w.requests(ENI_A, 9));
  w.time.now += 60_000;
  for (const ip of ips) {
    await w.release(ENI_A, ip);
    w.time.now += apartMs;
  }
  return ips;
}
const reuses = (w: World) => w.linesOf('early reuse');

early('costs one commit and no read, once a plain read has shown that nothing has rested', async () => {
  const w = world({ vpc: ROOMY });
  const ips = await resting(w);
  assert.is((await w.request(ENI_A)).ip, ips[0]);
  const calls = w.countingCalls('get', 'readyOn', 'onEni', 'freeFor', 'move');
  const now = w.time.now;
  assert.is((await w.request(ENI_A)).ip, ips[1]);
  assert.is((await w.request(ENI_A)).ip, ips[2]);
  assert.equal(calls, { get: 0, readyOn: 0, onEni: 0, freeFor: 0, move: 2 });
  assert.is(w.time.now, now);
  assert.is(reuses(w), 3);
});

early('logs how long the address has rested, in whole milliseconds', async () => {
  const w = world({ vpc: ROOMY });
  await resting(w);
  w.time.now += 0.25;
  await w.request(ENI_A);
  const [line] = w.lines.filter(({ message }) => message === 'early reuse');
  assert.is(line?.fields.restedMs, 9_000);
});

early('waits for nobody to come also where it has to read', async () => {
  const w = world({ vpc: ROOMY });
  const [first] = await resting(w);
  const now = w.time.now;
  assert.is((await w.request(ENI_A)).ip, first);
  assert.is(w.time.now, now);
});

for (const [what, fault] of [
  ['EC2 throttles', { kind: 'throttle', action: ASSIGN }],
  [
    'EC2 has no place for another one',
    { kind: 'error', action: ASSIGN, code: 'PrivateIpAddressLimitExceeded', message: 'no' },
  ],
] as const satisfies [string, Fault][])
  early(`takes a ready address where a free one has rested longer and ${what}`, async () => {
    const w = world({ vpc: SMALL, policy: { ...NOT_WARM, cooldownMs: 600_000 } });
    const [second] = await w.requests(ENI_A, 5);
    const [first] = await w.requests(ENI_B, 4);
    assert.ok(first && second);
    await w.release(ENI_B, first.ip);
    await unassign(w.context, [await w.rowOf(first.ip)]);
    w.time.now += 1_000;
    await w.release(ENI_A, second.ip);
    w.vpc.faults.add(fault);
    const { ip } = await w.request(ENI_A);
    assert.is(ip, second.ip);
  });

early('reads again a second later', async () => {
  const w = world({ vpc: ROOMY });
  await resting(w);
  await w.request(ENI_A);
  w.time.now += 1_000;
  const calls = w.countingCalls('onEni');
  await w.request(ENI_A);
  assert.ok(calls.onEni > 0);
});

early('gives one that has rested meanwhile first', async () => {
  const w = world({ vpc: ROOMY, policy: { cooldownMs: 950 } });
  const ips = await resting(w, 100);
  assert.is((await w.request(ENI_A)).ip, ips[0]);
  w.time.now += 200;
  const before = reuses(w);
  assert.is((await w.request(ENI_A)).ip, ips[1], 'which has rested now');
  assert.is(reuses(w), before);
});

early('never happens with --strict-reuse', async () => {
  const w = world({ vpc: ROOMY, policy: { strictReuse: true, cooldownMs: 600_000 } });
  await resting(w);
  await failure(w.request(ENI_A));
  await failure(w.request(ENI_A));
  assert.is(reuses(w), 0);
});

early('of one that another server was quicker with is of another one', async () => {
  const w = world({ vpc: ROOMY });
  const ips = await resting(w);
  const other = w.another();
  await w.request(ENI_A);
  assert.is((await other.request(ENI_A)).ip, ips[1]);
  assert.is((await w.request(ENI_A)).ip, ips[2]);
});

early('gives what is free and has rested longer than what is ready', async () => {
  const policy = { ...NOT_WARM, graceMs: 0, quarantineMs: 3_600_000, cooldownMs: 3_600_000 };
  const w = world({ vpc: SMALL, policy });
  const rows = await w.requests(ENI_A, 5);
  for (let i = 0; i < 4; i++) rows.push(await w.request(ENI_B));
  const [old, ...ofB] = ipsOf(rows.slice(4));
  await w.release(ENI_A, old ?? '');
  w.time.now += 1_000;
  await w.release(ENI_B, ofB[0] ?? '');
  w.time.now += 1_000;
  await w.release(ENI_B, ofB[1] ?? '');
  await unassign(w.context, (await w.store.readyOn(ENI_A, null, 9)).rows);
  assert.is((await w.request(ENI_B)).ip, old, 'the one that is free');
  assert.is((await w.request(ENI_B)).ip, ofB[0]);
  assert.is((await w.request(ENI_B)).ip, ofB[1]);
});

early('ends when another server has made room, a second later at the latest', async () => {
  const w = world({ vpc: ROOMY, policy: NOT_WARM });
  const ips = await resting(w);
  await w.request(ENI_A);
  await unassign(w.context, (await w.store.readyOn(ENI_A, null, 3)).rows);
  w.time.now += 1_000;
  assert.not.ok(ips.includes((await w.request(ENI_A)).ip));
});

early('is bounded by the quarantine of what is free', async () => {
  const policy = { ...NOT_WARM, graceMs: 0, quarantineMs: 20_000, cooldownMs: 3_600_000 };
  const w = world({ vpc: SMALL, policy });
  const ips: string[] = ipsOf(await w.requests(ENI_A, 5));
  const ofB: string[] = ipsOf(await w.requests(ENI_B, 4));
  for (const ip of ofB.slice(0, 3)) await w.release(ENI_B, ip);
  w.time.now += 1;
  await w.release(ENI_A, ips[0] ?? '');
  await unassign(w.context, (await w.store.readyOn(ENI_A, null, 9)).rows);
  w.time.now += 19_500;
  assert.ok(ofB.includes((await w.request(ENI_B)).ip));
  w.time.now += 500;
  assert.is((await w.request(ENI_B)).ip, ips[0], 'its quarantine is over');
});

/** One address that was given up just now, and nothing else: EC2 is away. */
async function restingAlone(fault: Fault, policy: Partial<Policy> = {}): Promise<[w: World, ip: string]> {
  const w = world({ vpc: ROOMY, policy: { cooldownMs: 130_000, ...NOT_WARM, ...policy } });
  const { ip } = await w.request(ENI_A);
  w.vpc.faults.add({ ...fault, action: ASSIGN });
  await w.release(ENI_A, ip);
  return [w, ip];
}

const AWAY: [what: string, fault: Fault][] = [
  ['does not answer', { kind: 'hang' }],
  ['answers 500', { kind: 'error', code: 'InternalError', message: 'away' }],
  ['throttles', { kind: 'throttle' }],
];
for (const [what, fault] of AWAY) {
  early(`serves a start within seconds while EC2 ${what}`, async () => {
    const [w, ip] = await restingAlone(fault);
    assert.is((await w.inTime(4_100, w.request(ENI_A))).ip, ip);
    assert.is(reuses(w), 1);
  });

  early(`refuses a start while EC2 ${what}, with --strict-reuse`, async () => {
    const [w] = await restingAlone(fault, { strictReuse: true });
    assert.match((await failure(w.request(ENI_A))).code, /^ec2-/);
    assert.is(reuses(w), 0);
  });
}

early('does not come before a second call, when the first one has no answer', async () => {
  const [w, ip] = await restingAlone({ kind: 'hang', times: 1 });
  assert.is.not((await w.request(ENI_A)).ip, ip);
  assert.is(reuses(w), 0);
});

early('is not for a caller that has gone while EC2 was away', async () => {
  const [w, ip] = await restingAlone({ kind: 'hang' });
  const leaving = new AbortController();
  const gone = failure(w.request(ENI_A, { caller: leaving.signal }));
  await w.time.wait(3_000);
  leaving.abort(GONE.reason);
  assert.is((await gone).code, 'caller-gone');
  assert.is(await w.statusOf(ip), 'ready');
});

early.run();
