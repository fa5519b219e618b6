// Goal: idle addresses of our ENIs go where a request waits, and nothing else moves. Method: the whole machine on a
// simulated VPC whose subnet is full, and an ENI that is full of idle addresses.
import type { Cloud } from '../../../src/cloud/cloud.ts';
import { parseCidr } from '../../../src/domain/address.ts';
import type { EniId } from '../../../src/domain/ids.ts';
import { evict, steal } from '../../../src/ipam/pool/steal.ts';
import type { Fault } from '../../../src/simulator/model/faults.ts';
import { noteUsed } from '../../kit/sightings.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ASSIGN, DESCRIBE, ENI_A, ENI_B, LARGE, ROOMY, SUBNET, UNASSIGN, withEnis } from '../../kit/vpcs.ts';
import {
  assignTo,
  failure,
  ipsOf,
  NOT_WARM,
  POLICY,
  pooled,
  type World,
  within,
  world,
} from '../../kit/world.ts';

const ENI_C = 'eni-0c' as EniId;
const WITH_C = withEnis(ROOMY, {
  id: ENI_C,
  primary: '10.0.1.6',
  attachment: { instance: 'i-0a', deviceIndex: 2 },
});
const ANY_TWO = { range: null, count: 2, which: 'any' } as const;
const ready = async (w: World, eni: EniId): Promise<number> =>
  (await w.store.readyOn(eni, null, 99)).rows.length;

/** One call for all that is free. */
const assignAll = async (w: World, eni: EniId): Promise<unknown> =>
  assignTo(w.context, eni, await w.freeRows(9, { eni }));

const stealing = suite('a full subnet');

stealing('serves a request from idle addresses of our other ENIs in two calls', async () => {
  const w = world({ policy: { warmMin: 0, warmMax: 3 } });
  await assignAll(w, ENI_A);
  const before = [w.callsOf(ASSIGN), w.callsOf(UNASSIGN)];
  const row = await w.request(ENI_B);
  assert.ok(w.secondariesOf(ENI_B).includes(row.ip));
  assert.equal(
    [w.callsOf(ASSIGN), w.callsOf(UNASSIGN)],
    before.map(calls => calls + 1),
  );
  assert.is(w.linesOf('early reuse'), 0, 'nobody ever had it');
});

/** A call for ENI B that has all free addresses in hand. */
async function allInHand(fault: Fault) {
  const w = await pooled({ policy: { warmMin: 0, warmMax: 4 } });
  w.vpc.faults.add({ ...fault, action: ASSIGN, times: 1 });
  const underWay = assignAll(w, ENI_B);
  while ((await w.ipsWith('assigning')).length < 9) await w.time.wait(1);
  return { w, underWay };
}

for (const [what, fault] of [
  ['is answered', { kind: 'latency', ms: 500 }],
  ['has no answer', { kind: 'lostReply' }],
] as const)
  stealing(`waits for what is being put on another of our ENIs by a call that ${what}`, async () => {
    const { w, underWay } = await allInHand(fault);
    const first = w.request(ENI_B);
    const row = await w.request(ENI_A);
    assert.ok(w.secondariesOf(ENI_A).includes(row.ip));
    assert.is.not((await first).ip, row.ip);
    await underWay;
  });

stealing('waits no longer than a call may be sent', async () => {
  const { w, underWay } = await allInHand({ kind: 'hang' });
  const since = w.time.now;
  assert.is((await failure(w.request(ENI_A))).code, 'exhausted');
  assert.ok(w.time.now - since < POLICY.callDeadlineMs + 2_500);
  await underWay;
});

/** A world in which ENI A holds all nine addresses, of which it has released so many. */
async function heldByA(released: number, policy = {}) {
  const w = world({ policy: { ...NOT_WARM, ...policy } });
  const ips = ipsOf(await w.requests(ENI_A, 9));
  for (const ip of ips.slice(0, released)) await w.release(ENI_A, ip);
  return { w, ips };
}

stealing('those past the quarantine first, the others by early reuse', async () => {
  const { w, ips } = await heldByA(1);
  w.time.now += POLICY.quarantineMs;
  await w.release(ENI_A, ips[1] ?? '');
  for (const reuses of [0, 1]) {
    assert.is((await w.request(ENI_B)).ip, ips[reuses]);
    assert.is(w.linesOf('early reuse'), reuses);
  }
});

stealing('with strict reuse only those past the quarantine', async () => {
  const { w } = await heldByA(1, { strictReuse: true, requestTimeoutMs: 1_000 });
  assert.is((await failure(w.request(ENI_B))).code, 'exhausted');
  assert.is(w.callsOf(UNASSIGN), 0);
});

stealing('with strict reuse those past the quarantine are taken', async () => {
  const { w, ips } = await heldByA(1, { strictReuse: true });
  w.time.now += POLICY.quarantineMs;
  assert.is((await w.request(ENI_B)).ip, ips[0]);
});

stealing('a request that EC2 takes off nothing for waits as for EC2', async () => {
  const { w, ips } = await heldByA(1);
  w.time.now += POLICY.quarantineMs;
  w.vpc.faults.add({ kind: 'throttle', action: UNASSIGN, times: 3 });
  assert.is((await w.request(ENI_B)).ip, ips[0]);
});

for (const [what, pauseMs] of [
  ['past the quarantine', POLICY.quarantineMs],
  ['by early reuse', 0],
] as const)
  stealing(`one that a process uses without holding it is passed over: ${what}`, async () => {
    const { w, ips } = await heldByA(1);
    w.time.now += 1;
    await w.release(ENI_A, ips[1] ?? '');
    await noteUsed(w.store, await w.rowOf(ips[0] ?? ''));
    w.time.now += pauseMs;
    assert.is((await w.request(ENI_B)).ip, ips[1]);
    assert.is(await w.statusOf(ips[0] ?? ''), 'ready');
  });

stealing('where processes use all of them, a request is refused at once', async () => {
  const { w, ips } = await heldByA(1);
  await noteUsed(w.store, await w.rowOf(ips[0] ?? ''));
  const error = await failure(w.inTime(0, w.request(ENI_B)));
  assert.is(error.code, 'exhausted');
});

stealing('from the ENI that has most of them, and not from the one that asks', async () => {
  const w = world({ vpc: WITH_C, policy: NOT_WARM });
  const held = [];
  for (const [eni, count] of [
    [ENI_A, 4],
    [ENI_B, 5],
    [ENI_C, 2],
  ] as const)
    held.push(...(await w.requests(eni, count)));
  for (const { iface, ip } of held) if (iface !== null) await w.release(iface, ip);
  w.time.now += POLICY.quarantineMs;
  const home = await w.enis.adopt(ENI_B);
  await steal(w.context, w.enis, home, ANY_TWO);
  assert.equal([await ready(w, ENI_A), await ready(w, ENI_B), await ready(w, ENI_C)], [2, 5, 2]);
  assert.is((await steal(w.context, w.enis, home, { ...ANY_TWO, count: 3 })).length, 3);
  assert.is(await ready(w, ENI_B), 5);
  assert.is(w.callsOf(UNASSIGN), 3, 'one call for each ENI that is needed');
});

stealing('many ENIs that ask at once each get one of what is idle', async () => {
  const asking = Array.from({ length: 6 }, (_, i) => `eni-0d${i}` as EniId);
  const more = asking.map((id, i) => ({ id, attachment: { instance: 'i-0b', deviceIndex: i + 2 } }));
  const subnets = [{ id: SUBNET, cidr: '10.0.1.0/27' }];
  const w = world({ vpc: withEnis({ ...LARGE, subnets }, ...more), policy: NOT_WARM });
  const held = [];
  while ((await w.ipsWith('free')).length > 0 || held.length === 0) held.push(await w.request(ENI_A));
  for (const { ip } of held) await w.release(ENI_A, ip);
  w.time.now += POLICY.quarantineMs;
  // Each call of the store takes a moment, in which others look and choose too.
  const late = <A extends unknown[], T>(call: (...args: A) => Promise<T>) => {
    return async (...args: A) => {
      await w.time.wait(1);
      return await call(...args);
    };
  };
  w.intercept('readyOn', late);
  w.intercept('withStatus', late);
  w.intercept('move', late);
  w.intercept('freeFor', late);
  w.intercept('onEni', late);
  const given = await Promise.all(asking.map(id => w.request(id)));
  assert.is(new Set(ipsOf(given)).size, asking.length);
});

for (const [what, signal, reads] of [
  ['an ENI that EC2 shows elsewhere is not tried again and again', undefined, 2],
  ['nothing more is tried when nobody waits any longer', AbortSignal.abort(), 1],
] as const)
  stealing(what, async () => {
    const w = world({ vpc: WITH_C, instance: 'i-0a', policy: NOT_WARM });
    for (const { ip } of await w.requests(ENI_C, 2)) await w.release(ENI_C, ip);
    const home = await w.enis.adopt(ENI_A);
    w.detach(ENI_C);
    const before = w.callsOf(DESCRIBE);
    assert.equal(await steal(w.context, w.enis, home, ANY_TWO, signal), []);
    assert.is(w.callsOf(DESCRIBE) - before, reads);
    assert.is(w.callsOf(UNASSIGN), 0);
  });

stealing('only addresses of the range, and never a primary', async () => {
  const w = world({ vpc: ROOMY, policy: { warmMin: 0, warmMax: 2 } });
  await w.request(ENI_A);
  const home = await w.enis.adopt(ENI_B);
  const range = { ...ANY_TWO, range: parseCidr('10.0.1.0/30') };
  assert.equal(await steal(w.context, w.enis, home, range), []);
  w.intercept('withStatus', withStatus => async (...asked) => {
    const { now, rows } = await withStatus(...asked);
    return { now, rows: rows.map(row => ({ ...row, primary: true })) };
  });
  assert.equal(await steal(w.context, w.enis, home, ANY_TWO), []);
});

stealing('a refill takes nothing back', async () => {
  const w = world({ policy: { warmMin: 2, warmMax: 3 } });
  w.vpc.faults.add({ kind: 'latency', ms: 250, action: ASSIGN });
  await w.enis.adopt(ENI_A);
  await w.request(ENI_B);
  await w.requests(ENI_A, 3);
  await w.time.wait(2_500);
  assert.is(w.callsOf(UNASSIGN), 0);
});

stealing("a request takes nothing from an ENI that is not this ledger's", async () => {
  const w = world({ policy: NOT_WARM });
  const [held] = await w.requests(ENI_A, 9);
  await w.release(ENI_A, held?.ip ?? '');
  const other = w.another();
  const home = await other.enis.adopt(ENI_B);
  const wanted = { ...ANY_TWO, count: 1 };
  const all = await w.store.enis();
  const enis = async () => all.map(eni => ({ ...eni, ours: eni.id !== ENI_A }));
  const context = { ...other.context, store: { ...w.store, enis } };
  assert.equal(await steal(context, { ...other.enis, readAll: enis }, home, wanted), []);
  assert.is((await steal(other.context, other.enis, home, wanted)).length, 1);
});

stealing.run();

const evicting = suite('an ENI that is full of idle addresses');

/** ENI A has one holder and eight idle addresses. */
async function fullOfIdle(): Promise<World> {
  const w = world({ vpc: ROOMY });
  await w.request(ENI_A);
  assert.is(w.secondariesOf(ENI_A).length, 9);
  return w;
}

evicting('a named address gets the place of an idle one', async () => {
  const w = await fullOfIdle();
  const [named = ''] = await w.ipsWith('free');
  assert.is((await w.request(ENI_A, { named })).ip, named);
  assert.is(w.secondariesOf(ENI_A).length, 9);
});

evicting('a request of a range of which none is ready gets the place of an idle one', async () => {
  const w = await fullOfIdle();
  const range = '10.0.1.240/28';
  assert.not.ok((await w.ipsWith('ready')).some(ip => within(range, ip)));
  assert.ok(within(range, (await w.request(ENI_A, { range })).ip));
  assert.is(w.secondariesOf(ENI_A).length, 9);
});

for (const [by, more] of [
  ['', {}],
  [', even by name', { named: '10.0.1.240' }],
] as const)
  evicting(`a range outside of the subnet gets none of them${by}`, async () => {
    const w = await fullOfIdle();
    const error = await failure(w.request(ENI_A, { ...more, range: '10.9.0.0/24' }));
    assert.is(error.code, 'bad-request');
    assert.match(error.line, /--ip-range 10\.9\.0\.0\/24 is not inside 10\.0\.1\.0\/24/);
    assert.is(w.callsOf(UNASSIGN), 0);
  });

evicting('the wait for a permit is no EC2 call without an answer', async () => {
  const w = await fullOfIdle();
  const { cloud } = w.context;
  const permit: Cloud['permit'] = async kind => {
    await w.time.wait(5_000);
    return await cloud.permit(kind);
  };
  const home = await w.enis.adopt(ENI_A);
  const context = { ...w.context, cloud: { ...cloud, permit } };
  assert.is(await evict(context, home, () => false, 1), 1);
});

evicting('held ones keep theirs', async () => {
  const w = await fullOfIdle();
  await w.requests(ENI_A, 8);
  const [named = ''] = await w.ipsWith('free');
  assert.is((await failure(w.request(ENI_A, { named }))).code, 'ec2-limit');
  assert.is(w.callsOf(UNASSIGN), 0);
});

evicting.run();
