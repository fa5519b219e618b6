// Goal: whatever EC2 answers or does not answer, ledger and EC2 never part for good, and nothing is given that
// may yet be taken away. Method: the simulated VPC's faults, a process that dies, and a clock set forward.
import type { Cloud } from '../../../src/cloud/cloud.ts';
import { tooLate } from '../../../src/cloud/permit-queue.ts';
import { LATE_READS_MS, SKIPPED_FOR_MS } from '../../../src/domain/allocation.ts';
import { IpamError } from '../../../src/domain/error.ts';
import { ANSWERED_WITHIN_MS } from '../../../src/domain/unanswered.ts';
import { takeOver } from '../../../src/ipam/ec2/recover.ts';
import { unassign } from '../../../src/ipam/ec2/unassign.ts';
import { GATHER_MS } from '../../../src/ipam/pool/warm-pool.ts';
import { Ec2Error } from '../../../src/simulator/model/ec2-error.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ASSIGN, DESCRIBE, ENI_A, ENI_B, LARGE, ROOMY, SUBNET } from '../../kit/vpcs.ts';
import { assignTo, failure, GONE, ipsOf, NOT_WARM, POLICY, pooled, type World } from '../../kit/world.ts';
import { withFree } from './free-rows.ts';

const assigning = suite('assign');

assigning('the intent is written before EC2 is asked', async () => {
  const { w, rows } = await withFree(2);
  w.vpc.faults.add({ kind: 'latency', ms: 500, action: ASSIGN });
  const under = assignTo(w.context, ENI_A, rows);
  await w.time.wait(100);
  assert.equal((await w.ipsWith('assigning')).sort(), ipsOf(rows).sort());
  assert.is((await under).ready.length, 2);
});

assigning('an address that EC2 names as taken becomes occupied and the rest is sent again', async () => {
  const { w, rows, nth } = await withFree(4);
  w.putOn(ENI_B, nth(1));
  const result = await assignTo(w.context, ENI_A, rows);
  assert.is(result.ready.length, 3);
  assert.is(await w.statusOf(nth(1)), 'occupied');
  assert.is((await w.rowOf(nth(1))).iface, ENI_B);
  assert.is(w.callsOf(ASSIGN), 2);
});

assigning('one that EC2 does not name is found by its carrier', async () => {
  const { w, rows, nth } = await withFree(4, { unnamedRefusals: true });
  w.putOn(ENI_B, nth(2));
  const result = await assignTo(w.context, ENI_A, rows);
  assert.is(result.ready.length, 3);
  assert.is(await w.statusOf(nth(2)), 'occupied');
});

assigning('one that no read shows is found by halving, and is known from its refusal only', async () => {
  const { w, rows, nth } = await withFree(4, { unnamedRefusals: true });
  w.putOn(ENI_B, nth(0));
  w.refuseCalls(DESCRIBE, 'InternalError', 'no reads today');
  const result = await assignTo(w.context, ENI_A, rows);
  assert.equal(ipsOf(result.taken), [nth(0)]);
  assert.is((await w.rowOf(nth(0))).refusedAt, w.time.now);
  assert.equal(await w.ipsWith('assigning'), []);
});

assigning('a read that hangs after a refusal keeps the other addresses for two seconds only', async () => {
  const { w, rows, nth } = await withFree(4, { unnamedRefusals: true });
  w.putOn(ENI_B, nth(0));
  w.vpc.faults.add({ kind: 'hang', action: DESCRIBE });
  assert.is((await w.inTime(4 * ANSWERED_WITHIN_MS, assignTo(w.context, ENI_A, rows))).ready.length, 3);
});

assigning('a subnet full of strangers does not block a request', async () => {
  const { w, rows, nth } = await withFree(9);
  w.vpc.network.createEni({ subnet: SUBNET, primary: nth(0) });
  w.putOn(ENI_B, ...ipsOf(rows.slice(1, 9)));
  const row = await w.request(ENI_A);
  assert.ok(w.secondariesOf(ENI_A).includes(row.ip));
  assert.equal((await w.ipsWith('occupied')).filter(one => rows.some(row => row.ip === one)).length, 9);
});

assigning('a refusal that is not about addresses is told as it is, and marks none of them', async () => {
  const w = await pooled({ vpc: ROOMY });
  w.refuseCalls(ASSIGN, 'IncorrectState', 'The ENI is in a bad way.');
  const occupied = await w.ipsWith('occupied');
  assert.match(
    (await failure(w.request(ENI_A))).line,
    /EC2 refused: The ENI is in a bad way \(IncorrectState/,
  );
  assert.is(w.callsOf(ASSIGN), 1);
  assert.equal(await w.ipsWith('occupied'), occupied);
});

assigning(
  'a subnet that EC2 calls full, though the ledger has free addresses, is told in its words',
  async () => {
    const w = await pooled({ vpc: ROOMY });
    w.refuseCalls(ASSIGN, 'InsufficientFreeAddressesInSubnet', 'There are none for you.');
    const says =
      /^subnet-0a1 \(10\.0\.1\.0\/24\) has no free address left for eni-0a: EC2 refused: There are none for you \(Insuff/;
    const { code, line } = await failure(w.request(ENI_A));
    assert.is(code, 'exhausted');
    assert.match(line, says);
    assert.ok((await w.freeRows(1)).length > 0);
  },
);

assigning(
  'a refusal that calls another address taken proves nothing of those that were asked for',
  async () => {
    const w = await pooled({ vpc: ROOMY });
    w.refuseCalls(ASSIGN, 'InvalidParameterValue', '[10.0.9.9] assigned, but move is not allowed.');
    const before = await w.ipsWith('occupied');
    const says = /EC2 refused: \[10\.0\.9\.9\] assigned, but move is not allowed/;
    const [row] = await w.freeRows(1);
    for (const how of [{ named: row?.ip ?? '' }, {}])
      assert.match((await failure(w.request(ENI_A, how))).line, says);
    assert.equal(await w.ipsWith('occupied'), before);
    assert.ok(w.callsOf(ASSIGN) <= 9, `${w.callsOf(ASSIGN)} calls`);
  },
);

/** EC2 refuses each call that names one of these, in words that nobody knows. */
function rejected(w: World, ...ips: string[]): void {
  const { assign: real } = w.vpc.network;
  Object.assign(w.vpc.network, {
    assign: (asked: Parameters<typeof real>[0]) => {
      if (asked.ips?.some(one => ips.includes(one))) throw new Ec2Error('InvalidParameterValue', UNKNOWN);
      return real.call(w.vpc.network, asked);
    },
  });
}
const UNKNOWN = 'The moon is in the wrong house.';

assigning('one refused in unknown words is found by halving, skipped, and not occupied', async () => {
  const { w, rows, nth } = await withFree(60, { vpc: LARGE });
  const bad = nth(0);
  rejected(w, bad);
  const { ready, error, calls, rejected: found } = await assignTo(w.context, ENI_A, rows, 49);
  assert.is(error, null);
  assert.is(calls, 8, '49, 25, 13, 7, 4, 2 and 1 are refused, and the next is given');
  assert.is(found, 1);
  assert.is(ready.length, 1);
  assert.is(await w.statusOf(bad), 'free');
  assert.is((await w.rowOf(bad)).refusedAt, w.time.now);
  assert.equal(await w.ipsWith('occupied'), ['10.0.1.4', '10.0.1.5'], 'the primaries');
  const asked = await w.freeRows(2_000);
  assert.not.ok(asked.some(row => row.ip === bad));
  w.time.now += SKIPPED_FOR_MS;
  assert.is((await w.freeRows(2_000)).at(-1)?.ip, bad, 'after ten minutes it comes last');
});

assigning('those of a batch that was refused are suspects, and tried last', async () => {
  const { w, rows, nth } = await withFree(6, { vpc: LARGE });
  rejected(w, nth(0));
  // 0 to 3, 0 and 1, and 0 alone are refused; 4 and 5 were in none of these.
  const { ready, calls } = await assignTo(w.context, ENI_A, rows, 4);
  assert.equal(ipsOf(ready), [nth(4)]);
  assert.is(calls, 4);
});

assigning('after three that EC2 refuses alone the request is refused in its words', async () => {
  const w = await pooled({ vpc: ROOMY });
  w.refuseCalls(ASSIGN, 'InvalidParameterValue', UNKNOWN);
  const before = await w.ipsWith('occupied');
  const error = await failure(w.request(ENI_A));
  assert.match(error.line, /EC2 refused: The moon is in the wrong house \(InvalidParameterValue\)/);
  assert.ok(w.callsOf(ASSIGN) <= 8, `${w.callsOf(ASSIGN)} calls`);
  assert.equal(await w.ipsWith('occupied'), before);
  assert.equal(await w.ipsWith('assigning'), []);
  const { rows } = await w.store.withStatus(SUBNET, ['free']);
  assert.is(rows.filter(row => row.refusedAt !== null).length, 3);
});

/** EC2 refuses all calls for ENI A, in words that nobody knows. */
function rejectedOn(w: World, eni: string): void {
  const { assign: real } = w.vpc.network;
  Object.assign(w.vpc.network, {
    assign: (asked: Parameters<typeof real>[0]) => {
      if (asked.eni === eni) throw new Ec2Error('InvalidParameterValue', UNKNOWN);
      return real.call(w.vpc.network, asked);
    },
  });
}

assigning('an ENI on which EC2 refuses every address keeps none from the others of its subnet', async () => {
  const w = await pooled({ policy: NOT_WARM });
  rejectedOn(w, ENI_A);
  let asked = 0;
  while ((await w.freeRows(2_000)).length > 0) {
    assert.match((await failure(w.request(ENI_A))).line, /The moon is in the wrong house/);
    assert.ok(++asked < 100, 'it finds no end');
  }
  const before = w.callsOf(ASSIGN);
  assert.match((await failure(w.request(ENI_A))).line, /The moon is in the wrong house/, 'it is told why');
  assert.ok(w.callsOf(ASSIGN) - before <= 3, `${w.callsOf(ASSIGN) - before} calls`);
  const given = await w.request(ENI_B);
  assert.is((await w.rowOf(given.ip)).refusedAt, null);
  assert.ok(w.secondariesOf(ENI_B).includes(given.ip));
});

assigning('a request makes eight calls at most, whatever it meets', async () => {
  const w = await pooled({ vpc: LARGE, policy: { warmMin: 30, warmMax: 40 } });
  w.refuseCalls(ASSIGN, 'InvalidParameterValue', UNKNOWN);
  assert.is((await failure(w.request(ENI_A))).code, 'ec2-invalid');
  assert.is(w.callsOf(ASSIGN), 8);
});

assigning('a refused `--ip` quotes EC2', async () => {
  const { w, nth } = await withFree(1);
  rejected(w, nth(0));
  assert.match((await failure(w.request(ENI_A, { named: nth(0) }))).line, /The moon is in the wrong/);
  assert.ok(await w.request(ENI_A), 'and another is given at once');
});

assigning('a lost reply within the search leaves its half in doubt, and the others free', async () => {
  const { w, rows } = await withFree(8);
  w.refuseCalls(ASSIGN, 'InvalidParameterValue', 'no', 1);
  w.vpc.faults.add({ kind: 'hang', action: ASSIGN, times: 1 });
  const { error, unanswered } = await assignTo(w.context, ENI_A, rows);
  assert.is(error?.code, 'ec2-unknown');
  assert.equal(ipsOf(unanswered), ipsOf(rows.slice(0, 4)));
  assert.equal((await w.ipsWith('assigning')).sort(), ipsOf(rows.slice(0, 4)).sort());
});

const refusals: [code: string, ends: string][] = [
  ['PrivateIpAddressLimitExceeded', 'ec2-limit'],
  ['InsufficientFreeAddressesInSubnet', 'ec2-subnet-full'],
  ['RequestLimitExceeded', 'ec2-throttled'],
  ['UnauthorizedOperation', 'ec2-denied'],
  ['InvalidNetworkInterfaceID.NotFound', 'ec2-not-found'],
];
for (const [code, ends] of refusals)
  assigning(`after ${code} the addresses are free again at once`, async () => {
    const { w, rows } = await withFree(3);
    w.refuseCalls(ASSIGN, code, 'refused', 1);
    assert.is((await assignTo(w.context, ENI_A, rows)).error?.code, ends);
    for (const row of rows) assert.is(await w.statusOf(row.ip), 'free');
  });

for (const fault of [{ kind: 'lostReply' }, { kind: 'hang' }, { kind: 'applyLate', ms: 300_000 }] as const)
  assigning(`after ${fault.kind} the intent is settled after the grace only, and only forward`, async () => {
    const { w, rows, nth } = await withFree(2);
    w.vpc.faults.add({ ...fault, action: ASSIGN, times: 1 });
    assert.is((await assignTo(w.context, ENI_A, rows)).error?.code, 'ec2-unknown');
    assert.is((await w.ipsWith('assigning')).length, 2);
    const writtenAt = (await w.rowOf(nth(0))).movedAt;
    w.time.now = writtenAt + POLICY.graceMs - 1;
    assert.is(await takeOver(w.another().context), 0);
    assert.is((await w.ipsWith('assigning')).length, 2, 'not before the grace is over');
    w.time.now += 1;
    assert.is(await takeOver(w.another().context), 2);
    assert.equal(w.secondariesOf(ENI_A), []);
    for (const row of rows) assert.is(await w.statusOf(row.ip), 'free');
  });

assigning('what an unassign took off does not return to that ENI while reads may be late', async () => {
  const w = await pooled({ policy: NOT_WARM });
  const rows = await w.requests(ENI_A, 9);
  const gone = rows[0]?.ip ?? '';
  await w.release(ENI_A, gone);
  assert.is((await unassign(w.context, [await w.rowOf(gone)])).freed.length, 1);
  assert.match((await failure(w.request(ENI_A, { named: gone }))).line, /may return to it in 300 s/);
  assert.is((await failure(w.request(ENI_A))).code, 'exhausted', 'early reuse or not');
  w.time.now += LATE_READS_MS;
  assert.is((await w.request(ENI_A, { named: gone })).ip, gone);
});

assigning('when there is no permit for the rest, it is free again, and the caller is told why', async () => {
  const { w, rows, nth } = await withFree(4);
  w.putOn(ENI_B, nth(1));
  let given = 0;
  const permit: Cloud['permit'] = async kind => {
    if (given++ > 0) throw new IpamError('ec2-throttled', 'not sent');
    return await w.context.cloud.permit(kind);
  };
  const context = { ...w.context, cloud: { ...w.context.cloud, permit } };
  const result = await assignTo(context, ENI_A, rows);
  assert.is(result.error?.code, 'ec2-throttled');
  assert.equal(await w.ipsWith('assigning'), []);
  assert.is(await w.statusOf(nth(1)), 'occupied');
  assert.is(w.callsOf(ASSIGN), 1);
});

assigning('others that look for free addresses at the same time do not make a batch smaller', async () => {
  const { w, rows } = await withFree(6);
  await w.store.move(rows.slice(0, 2).map(row => ({ row, move: 'assign', iface: ENI_B })));
  const result = await assignTo(w.context, ENI_A, rows, 3);
  assert.equal(ipsOf(result.ready), ipsOf(rows.slice(2, 5)));
});

assigning('a call is not sent when its intent took too long to write', async () => {
  const { w, rows } = await withFree(2);
  const { move } = w.store;
  const slow = {
    ...w.store,
    move: async (...args: Parameters<typeof move>) => {
      const moved = await move(...args);
      w.time.now += POLICY.callDeadlineMs;
      return moved;
    },
  };
  const result = await assignTo({ ...w.context, store: slow }, ENI_A, rows);
  assert.is(result.error?.code, 'ec2-unreachable');
  assert.is(w.callsOf(ASSIGN), 0);
  assert.equal(await w.ipsWith('assigning'), []);
});

const bounds = suite('bounds of a request');

bounds('a hung assign on one ENI does not delay another', async () => {
  const w = await pooled({ vpc: ROOMY });
  await w.enis.adopt(ENI_B);
  w.vpc.faults.add({ kind: 'hang', action: ASSIGN, eni: ENI_A });
  const stuck = failure(w.request(ENI_A));
  const before = w.time.now;
  await w.request(ENI_B);
  assert.is(w.time.now, before + GATHER_MS);
  assert.is((await stuck).code, 'ec2-unknown');
});

bounds('a queue of requests fails together, counted from the start of the outage', async () => {
  const w = await pooled({ vpc: ROOMY });
  w.vpc.faults.add({ kind: 'throttle', action: ASSIGN });
  const before = w.time.now;
  for (let i = 0; i < 5; i++) assert.is((await failure(w.request(ENI_A))).code, 'ec2-throttled');
  assert.ok(w.time.now - before >= POLICY.requestTimeoutMs);
  assert.ok(w.time.now - before < POLICY.requestTimeoutMs + 5_000, `${w.time.now - before} ms`);
});

bounds('a cold start ends at its bound though EC2 answers each call, late', async () => {
  const w = await pooled({ vpc: ROOMY, policy: { requestTimeoutMs: 20_000 } });
  w.vpc.faults.add({ kind: 'latency', ms: 9_000, action: ASSIGN });
  w.refuseCalls(ASSIGN, 'InvalidParameterValue');
  assert.is((await w.inTime(20_000 + ANSWERED_WITHIN_MS, failure(w.request(ENI_A)))).code, 'ec2-unknown');
});

/** Another server, whose first permit is there at once. A later one takes a minute, or ends with the signal of its wait. */
function withLatePermits(w: World) {
  let asked = 0;
  const permit: Cloud['permit'] = async (kind, signal) => {
    if (asked++ > 0) await w.time.wait(60_000, signal);
    if (signal?.aborted) throw tooLate(kind, signal);
    return await w.context.cloud.permit(kind);
  };
  const cloud: Cloud = { ...w.context.cloud, as: () => cloud, permit };
  return { server: w.serverWith({ cloud }), permits: () => asked };
}

bounds('a request waits until its bound for the permit of a further call, too', async () => {
  const w = await pooled({ policy: { ...NOT_WARM, requestTimeoutMs: 20_000 } });
  rejectedOn(w, ENI_A);
  while ((await w.freeRows(2_000)).length > 0) await failure(w.request(ENI_A));
  const { server, permits } = withLatePermits(w);
  const error = await w.inTime(20_000, failure(server.request(ENI_A)));
  assert.equal([error.code, permits()], ['exhausted', 2]);
});

bounds('a refused `--ip` waits for no further permit', async () => {
  const { w, nth } = await withFree(2);
  rejected(w, nth(0));
  w.putOn(ENI_B, nth(1));
  for (const [ip, says] of [
    [nth(0), /The moon is in the wrong/],
    [nth(1), /is in use on eni-0b/],
  ] as const) {
    const { server, permits } = withLatePermits(w);
    assert.match((await failure(server.request(ENI_A, { named: ip }))).line, says);
    assert.is(permits(), 1);
  }
});

bounds('a named address whose call has no answer is refused at once, not at the bound', async () => {
  const { w, rows, nth } = await withFree(1);
  w.vpc.faults.add({ kind: 'lostReply', action: ASSIGN, times: 1 });
  await assignTo(w.context, ENI_A, rows);
  w.time.now += POLICY.callDeadlineMs;
  const before = w.time.now;
  assert.match((await failure(w.request(ENI_A, { named: nth(0) }))).line, /EC2 has not answered yet/);
  assert.is(w.time.now, before);
});

bounds('an outage that ends in time is only a wait', async () => {
  const w = await pooled({ vpc: ROOMY });
  w.vpc.faults.add({ kind: 'throttle', action: ASSIGN, times: 5 });
  assert.is((await w.request(ENI_A)).status, 'allocated');
});

bounds('a request whose caller has gone stops waiting', async () => {
  const w = await pooled({ vpc: ROOMY });
  w.vpc.faults.add({ kind: 'throttle', action: ASSIGN });
  assert.is((await w.inTime(1000, failure(w.request(ENI_A, { caller: GONE })))).code, 'caller-gone');
});

for (const s of [assigning, bounds]) s.run();
