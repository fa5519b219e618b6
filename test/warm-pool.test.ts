// Goal: containers find a ready address, EC2 is asked seldom, and warmth on one ENI starves no other.
// Method: the whole machine on a simulated VPC whose assign takes 250 ms, in a time that passes only while all wait.
import type { EniId } from '../src/domain/ids.ts';
import { drain } from '../src/ipam/drain.ts';
import type { World as VpcDescription } from '../src/simulator/world.ts';
import { assert, suite } from './uvu.ts';
import {
  callsOf,
  ENI_A,
  ENI_B,
  failure,
  ipsWith,
  POLICY,
  ROOMY,
  release,
  request,
  SMALL,
  SUBNET,
  secondariesOf,
  type World,
  world,
} from './world.ts';

const ASSIGN = 'AssignPrivateIpAddresses';
const UNASSIGN = 'UnassignPrivateIpAddresses';
const ASSIGN_MS = 250;
const IDLE_MS = 600_000;
/** ENIs that hold 49 beside their primary. */
const LARGE: VpcDescription = {
  ...ROOMY,
  subnets: [{ id: SUBNET, cidr: '10.0.0.0/22' }],
  instances: [
    { id: 'i-0a', type: 'm5.24xlarge' },
    { id: 'i-0b', type: 'm5.24xlarge' },
  ],
  enis: (ROOMY.enis ?? []).map(({ primary, ...eni }) => ({ ...eni, primary: primary ?? '' })),
};

async function slow(policy: Parameters<typeof world>[0] extends infer O ? O : never): Promise<World> {
  const w = world(policy);
  await w.enis.adopt(ENI_A);
  w.vpc.faults.add({ kind: 'latency', ms: ASSIGN_MS, action: ASSIGN });
  return w;
}
/** Lets the refills that are under way end. */
const settled = (w: World): Promise<void> => w.time.wait(10 * ASSIGN_MS);
const ready = async (w: World, eni: EniId): Promise<number> =>
  (await w.store.readyOn(eni, null, 99)).rows.length;
const drainAll = async (w: World): Promise<number> =>
  drain(w.machine, w.warm, SUBNET, await w.enis.readAll());

const filling = suite('refill');

filling('the claim that leaves too few begins it, and waits for nothing', async () => {
  const w = await slow({ vpc: LARGE });
  await request(w, ENI_A);
  assert.is(callsOf(w, ASSIGN), 1);
  assert.is(await ready(w, ENI_A), 12);
  const before = w.time.now;
  for (let i = 0; i < 6; i++) await request(w, ENI_A);
  assert.is(w.time.now, before, 'nobody waited');
  assert.is(callsOf(w, ASSIGN), 1, 'the call has its turn only when the claim has been answered');
  await settled(w);
  assert.is(callsOf(w, ASSIGN), 2);
  assert.is(await ready(w, ENI_A), 18, 'up to the high mark of a pool that gained 6');
});

filling('between the marks nothing is asked of EC2', async () => {
  const w = await slow({ vpc: LARGE });
  const held = [];
  for (let i = 0; i < 3; i++) held.push(await request(w, ENI_A));
  await settled(w);
  const before = callsOf(w, ASSIGN);
  for (const { ip } of held) await release(w, ENI_A, ip);
  for (let i = 0; i < 3; i++) await request(w, ENI_A);
  await settled(w);
  assert.is(callsOf(w, ASSIGN), before);
});

filling(
  '49 one after another, as dockerd sends them: five calls at most, and only who met one waits',
  async () => {
    const w = await slow({ vpc: LARGE });
    const ips = new Set<string>();
    let waited = 0;
    for (let i = 0; i < 49; i++) {
      const before = w.time.now;
      ips.add((await request(w, ENI_A)).ip);
      if (w.time.now > before) waited++;
    }
    assert.is(ips.size, 49);
    assert.ok(callsOf(w, ASSIGN) <= 5, `${callsOf(w, ASSIGN)} calls`);
    assert.ok(waited <= callsOf(w, ASSIGN), `${waited} waited`);
  },
);

filling('50 ENIs at once with 8 each: a call each, and none waits for another', async () => {
  const ids = Array.from({ length: 50 }, (_, i) => `eni-0c${i.toString(16).padStart(2, '0')}` as EniId);
  const w = world({
    vpc: {
      subnets: [{ id: SUBNET, cidr: '10.0.0.0/20' }],
      instances: ids.map((_, i) => ({ id: `i-0c${i.toString(16).padStart(2, '0')}`, type: 'm5.4xlarge' })),
      enis: ids.map((id, i) => ({
        id,
        subnet: SUBNET,
        attachment: { instance: `i-0c${i.toString(16).padStart(2, '0')}`, deviceIndex: 1 },
      })),
    },
  });
  for (const id of ids) await w.enis.adopt(id);
  w.vpc.faults.add({ kind: 'latency', ms: ASSIGN_MS, action: ASSIGN });
  const before = w.time.now;
  const rows = await Promise.all(ids.flatMap(id => Array.from({ length: 8 }, () => request(w, id))));
  assert.is(new Set(rows.map(row => row.ip)).size, 400);
  assert.is(w.time.now - before, ASSIGN_MS);
  assert.is(callsOf(w, ASSIGN), 50);
});

filling('a container that crashes and starts again makes no pool grow beyond what cools down', async () => {
  const w = await slow({ vpc: LARGE });
  for (let i = 0; i < 200; i++) {
    const { ip } = await request(w, ENI_A);
    await w.time.wait(10_000);
    await release(w, ENI_A, ip);
    await w.time.wait(50);
  }
  assert.ok(secondariesOf(w, ENI_A).length <= 13, `${secondariesOf(w, ENI_A).length} addresses`);
});

filling('who comes while a refill is under way is served by it', async () => {
  const w = await slow({ vpc: LARGE });
  for (let i = 0; i < 13; i++) await request(w, ENI_A);
  const before = w.time.now;
  await request(w, ENI_A);
  assert.ok(w.time.now - before <= ASSIGN_MS);
  assert.is(callsOf(w, ASSIGN), 2);
});

filling('off with --warm-max 0: each call brings just what waits', async () => {
  const w = await slow({ vpc: LARGE, policy: { warmMin: 0, warmMax: 0 } });
  for (let i = 0; i < 3; i++) await request(w, ENI_A);
  await settled(w);
  assert.is(callsOf(w, ASSIGN), 3);
  assert.is(secondariesOf(w, ENI_A).length, 3);
});

filling('leaves the last addresses of the subnet for requests that wait', async () => {
  const w = await slow({ vpc: SMALL });
  await w.enis.adopt(ENI_B);
  await request(w, ENI_A); // of 9, four are left: two for each ENI
  assert.is(secondariesOf(w, ENI_A).length, 5);
  for (let i = 0; i < 4; i++) await request(w, ENI_A);
  await settled(w);
  assert.is(secondariesOf(w, ENI_A).length, 5, 'a refill takes none of them');
  await request(w, ENI_A);
  assert.is(secondariesOf(w, ENI_A).length, 6, 'a request that waits takes what it needs');
});

filling('one that fails is not tried again with every claim', async () => {
  const w = await slow({ vpc: LARGE });
  await request(w, ENI_A);
  w.vpc.faults.add({ kind: 'throttle', action: ASSIGN });
  for (let i = 0; i < 12; i++) {
    await request(w, ENI_A);
    await w.time.wait(100);
  }
  assert.is(w.lines.filter(line => line.message === 'refill failed').length, 1);
});

filling('none for an ENI that is attached to nothing', async () => {
  const w = await slow({ vpc: LARGE });
  await request(w, ENI_A);
  const eni = await w.store.eni(ENI_A);
  assert.ok(eni);
  await w.store.saveEnis([{ ...eni, instance: null, attachment: null }]);
  w.enis.forget(ENI_A);
  for (let i = 0; i < 12; i++) await request(w, ENI_A);
  await settled(w);
  assert.is(callsOf(w, ASSIGN), 1);
});

filling('ends before the server does, and no other begins', async () => {
  const w = await slow({ vpc: LARGE });
  for (let i = 0; i < 7; i++) await request(w, ENI_A);
  await w.warm.stop();
  assert.is(callsOf(w, ASSIGN), 2);
  assert.equal(await ipsWith(w, 'assigning'), []);
  for (let i = 0; i < 17; i++) await request(w, ENI_A);
  await settled(w);
  assert.is(callsOf(w, ASSIGN), 2);
});

filling.run();

const draining = suite('drain');

draining('gives back what is beyond the high mark once it has long been idle, in one call', async () => {
  const w = await slow({ vpc: LARGE });
  await request(w, ENI_A);
  w.time.now += IDLE_MS - 1;
  assert.is(await drainAll(w), 0);
  w.time.now += 1;
  assert.is(await drainAll(w), 6);
  assert.is(callsOf(w, UNASSIGN), 1);
  assert.is(await ready(w, ENI_A), 6);
  assert.is(await drainAll(w), 0);
});

draining('an ENI that is attached to nothing keeps none', async () => {
  const w = await slow({ vpc: LARGE });
  await request(w, ENI_A);
  const eni = await w.store.eni(ENI_A);
  assert.ok(eni);
  await w.store.saveEnis([{ ...eni, instance: null, attachment: null }]);
  w.time.now += IDLE_MS;
  await drainAll(w);
  assert.is(await ready(w, ENI_A), 0);
  assert.is((await ipsWith(w, 'allocated')).length, 1);
});

draining('nor one whose pool Docker has released, until the next request', async () => {
  const w = await slow({ vpc: LARGE });
  await request(w, ENI_A);
  await w.pools.release({ eni: ENI_A, range: null });
  w.time.now += IDLE_MS;
  await drainAll(w);
  assert.is(await ready(w, ENI_A), 0);
  assert.is((await ipsWith(w, 'allocated')).length, 1, 'no address changed its holder');
  await request(w, ENI_A);
  w.time.now += IDLE_MS;
  await drainAll(w);
  assert.is(await ready(w, ENI_A), 6);
});

draining('another server knows of it from the ledger', async () => {
  const w = await slow({ vpc: LARGE });
  await request(w, ENI_A);
  const other = w.another();
  await w.pools.release({ eni: ENI_A, range: null });
  assert.is.not((await w.store.eni(ENI_A))?.releasedAt, null);
  w.time.now += IDLE_MS;
  await drainAll(other);
  assert.is(await ready(w, ENI_A), 0);
  await request(other, ENI_A);
  assert.is((await w.store.eni(ENI_A))?.releasedAt, null);
});

draining('a pool that was asked for again is wanted again', async () => {
  const w = await slow({ vpc: LARGE });
  await request(w, ENI_A);
  await w.pools.release({ eni: ENI_A, range: null });
  await w.pools.request({ eniId: ENI_A, instanceId: null, pool: '10.0.0.0/22', subPool: '' });
  assert.is((await w.store.eni(ENI_A))?.releasedAt, null);
});

draining("the pool of an ENI that is not this ledger's is nobody's to release", async () => {
  const w = await slow({ vpc: LARGE });
  await w.pools.release({ eni: ENI_B, range: null });
  assert.is((await w.store.eni(ENI_B))?.releasedAt, null);
});

draining.run();

const takingBack = suite('a subnet that has run dry');

takingBack(
  'serves a request from the idle addresses of our other ENIs, in an unassign and an assign',
  async () => {
    const w = world({ policy: { warmMin: 0, warmMax: 3 } });
    for (let i = 0; i < 3; i++) await request(w, ENI_A); // takes 7 of 9
    for (let i = 0; i < 2; i++) await request(w, ENI_B);
    const before = { assign: callsOf(w, ASSIGN), unassign: callsOf(w, UNASSIGN) };
    const row = await request(w, ENI_B);
    assert.ok(secondariesOf(w, ENI_B).includes(row.ip));
    assert.is(callsOf(w, ASSIGN) - before.assign, 1);
    assert.is(callsOf(w, UNASSIGN) - before.unassign, 1);
    assert.is(w.lines.filter(line => line.message === 'early reuse').length, 0, 'nobody ever had it');
  },
);

takingBack('those past the quarantine first, the others by early reuse', async () => {
  const w = world({ policy: { warmMin: 0, warmMax: 0 } });
  const ips = [];
  for (let i = 0; i < 9; i++) ips.push((await request(w, ENI_A)).ip);
  await release(w, ENI_A, ips[0] ?? '');
  w.time.now += POLICY.quarantineMs;
  await release(w, ENI_A, ips[1] ?? '');
  assert.is((await request(w, ENI_B)).ip, ips[0]);
  assert.is(w.lines.filter(line => line.message === 'early reuse').length, 0);
  assert.is((await request(w, ENI_B)).ip, ips[1]);
  assert.is(w.lines.filter(line => line.message === 'early reuse').length, 1);
});

takingBack('with strict reuse only those past the quarantine', async () => {
  const w = world({ policy: { warmMin: 0, warmMax: 0, strictReuse: true, requestTimeoutMs: 1_000 } });
  const ips = [];
  for (let i = 0; i < 9; i++) ips.push((await request(w, ENI_A)).ip);
  await release(w, ENI_A, ips[0] ?? '');
  assert.is((await failure(request(w, ENI_B))).code, 'exhausted');
  assert.is(callsOf(w, UNASSIGN), 0);
});

takingBack('a refill takes nothing back', async () => {
  const w = await slow({ policy: { warmMin: 2, warmMax: 3 } });
  await request(w, ENI_B);
  for (let i = 0; i < 3; i++) await request(w, ENI_A);
  await settled(w);
  assert.is(callsOf(w, UNASSIGN), 0);
});

takingBack("nor does a request from an ENI that is not this ledger's", async () => {
  const w = world({ policy: { warmMin: 0, warmMax: 0 } });
  for (let i = 0; i < 8; i++) await request(w, ENI_A);
  const { ip } = await request(w, ENI_A);
  await release(w, ENI_A, ip);
  const other = w.another();
  const enis = await w.store.enis();
  const foreign = { ...w.store, enis: async () => enis.map(eni => ({ ...eni, ours: eni.id !== ENI_A })) };
  const { takeBack } = await import('../src/ipam/take-back.ts');
  const home = await other.enis.adopt(ENI_B);
  const known = { ...other.enis, readAll: foreign.enis };
  const wanted = { range: null, count: 1, which: 'any' } as const;
  assert.equal(await takeBack({ ...other.machine, store: foreign }, known, home, wanted), []);
  assert.is((await takeBack(other.machine, other.enis, home, wanted)).length, 1);
});

takingBack.run();
