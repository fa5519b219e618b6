// Goal: containers find a ready address, EC2 is asked seldom, and warmth on one ENI starves no other.
// Method: the whole machine on a simulated VPC whose assign takes 250 ms, in a time that passes only while all wait.
import type { Cloud, Urgency } from '../../../src/cloud/cloud.ts';
import { type Cidr, parseCidr } from '../../../src/domain/address.ts';
import type { EniId } from '../../../src/domain/ids.ts';
import { openIpam } from '../../../src/ipam/ipam.ts';
import { createCache } from '../../../src/ipam/pool/cache.ts';
import { fill } from '../../../src/ipam/pool/refill.ts';
import { steal } from '../../../src/ipam/pool/steal.ts';
import { GATHER_MS } from '../../../src/ipam/pool/warm-pool.ts';
import { drain, recycle } from '../../../src/ipam/sync/drain.ts';
import type { World as VpcDescription } from '../../../src/simulator/model/world.ts';
import { createGroupCommit } from '../../../src/store/group-commit.ts';
import { assert, suite } from '../../kit/uvu.ts';
import {
  ASSIGN,
  assignTo,
  DESCRIBE,
  ENI_A,
  ENI_B,
  failure,
  ipsOf,
  NOT_WARM,
  POLICY,
  ROOMY,
  SMALL,
  SUBNET,
  UNASSIGN,
  type World,
  within,
  world,
} from '../../kit/world.ts';

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

async function slow(options: Parameters<typeof world>[0]): Promise<World> {
  const w = world(options);
  await w.enis.adopt(ENI_A);
  w.vpc.faults.add({ kind: 'latency', ms: ASSIGN_MS, action: ASSIGN });
  return w;
}
/** Lets the refills that are under way end. */
const settled = (w: World): Promise<void> => w.time.wait(10 * ASSIGN_MS);
const ready = async (w: World, eni: EniId): Promise<number> =>
  (await w.store.readyOn(eni, null, 99)).rows.length;
const drainAll = async (w: World): Promise<number> =>
  drain(w.context, w.warm, SUBNET, await w.enis.readAll());

const filling = suite('refill');

filling('the claim that leaves too few begins it, and waits for nothing', async () => {
  const w = await slow({ vpc: LARGE });
  await w.request(ENI_A);
  assert.is(w.callsOf(ASSIGN), 1);
  assert.is(await ready(w, ENI_A), 12);
  const before = w.time.now;
  await w.requests(ENI_A, 6);
  assert.is(w.time.now, before, 'nobody waited');
  assert.is(w.callsOf(ASSIGN), 1, 'the call has its turn only when the claim has been answered');
  await settled(w);
  assert.is(w.callsOf(ASSIGN), 2);
  assert.is(await ready(w, ENI_A), 20, 'up to the high mark of a pool that gained 7');
});

filling('between the marks nothing is asked of EC2', async () => {
  const w = await slow({ vpc: LARGE });
  const held = await w.requests(ENI_A, 3);
  await settled(w);
  const before = w.callsOf(ASSIGN);
  for (const { ip } of held) await w.release(ENI_A, ip);
  await w.requests(ENI_A, 3);
  await settled(w);
  assert.is(w.callsOf(ASSIGN), before);
});

filling('49 one after another: five calls at most, and only who met one waits', async () => {
  const w = await slow({ vpc: LARGE });
  const ips = new Set<string>();
  let waited = 0;
  for (let i = 0; i < 49; i++) {
    const before = w.time.now;
    ips.add((await w.request(ENI_A)).ip);
    if (w.time.now > before) waited++;
  }
  assert.is(ips.size, 49);
  assert.ok(w.callsOf(ASSIGN) <= 5, `${w.callsOf(ASSIGN)} calls`);
  assert.ok(waited <= w.callsOf(ASSIGN), `${waited} waited`);
});

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
  const rows = await Promise.all(ids.flatMap(id => Array.from({ length: 8 }, () => w.request(id))));
  assert.is(new Set(ipsOf(rows)).size, 400);
  assert.is(w.time.now - before, GATHER_MS + ASSIGN_MS);
  assert.is(w.callsOf(ASSIGN), 50);
});

filling('those who come within a moment of the first share its call', async () => {
  const w = await slow({ vpc: LARGE, policy: NOT_WARM });
  const first = w.request(ENI_A);
  await w.time.wait(GATHER_MS - 1);
  const second = w.request(ENI_A);
  assert.is(new Set([(await first).ip, (await second).ip]).size, 2);
  assert.is(w.callsOf(ASSIGN), 1);
});

filling('those who find that all is being claimed let the claims be made', async () => {
  const w = await slow({ vpc: LARGE, policy: NOT_WARM });
  const { move, readyOn } = w.store;
  let reads = 0;
  Object.assign(w.store, {
    move: createGroupCommit(changes => move(changes), { lanesMax: 1 }),
    readyOn: async (...args: Parameters<typeof readyOn>) => {
      reads++;
      if (reads > 1000) throw new Error('it reads and reads, and nothing else has its turn');
      return readyOn(...args);
    },
  });
  const rows = await Promise.all(Array.from({ length: 49 }, () => w.request(ENI_A)));
  assert.is(new Set(ipsOf(rows)).size, 49);
  for (const { ip } of rows.slice(0, 3)) await w.release(ENI_A, ip);
  w.time.now += 60_000;
  reads = 0;
  const more = await Promise.allSettled(Array.from({ length: 5 }, () => w.request(ENI_A)));
  assert.is(
    more.filter(({ status }) => status === 'fulfilled').length,
    3,
    'the ENI is full, and three are ready',
  );
  assert.ok(reads < 100, `${reads} reads`);
});

filling('a container that crashes and starts again makes no pool grow beyond what cools down', async () => {
  const w = await slow({ vpc: LARGE });
  for (let i = 0; i < 200; i++) {
    const { ip } = await w.request(ENI_A);
    await w.time.wait(10_000);
    await w.release(ENI_A, ip);
    await w.time.wait(50);
  }
  assert.ok(w.secondariesOf(ENI_A).length <= 13, `${w.secondariesOf(ENI_A).length} addresses`);
});

filling('who comes while a refill is under way is served by it', async () => {
  const w = await slow({ vpc: LARGE });
  await w.requests(ENI_A, 13);
  const before = w.time.now;
  await w.request(ENI_A);
  assert.ok(w.time.now - before <= GATHER_MS + ASSIGN_MS);
  assert.is(w.callsOf(ASSIGN), 2);
});

filling('a network is warm before its first container comes', async () => {
  const w = await slow({ vpc: LARGE });
  await w.pools.request({ eniId: ENI_A, instanceId: null, pool: '10.0.0.0/22', subPool: '' });
  assert.is(await ready(w, ENI_A), 0, 'which docker network create does not wait for');
  await settled(w);
  assert.is(await ready(w, ENI_A), 6);
});

filling('what was claimed while it was under way begins the next one, without another claim', async () => {
  const w = await slow({ vpc: LARGE });
  await w.requests(ENI_A, 6);
  await w.time.wait(GATHER_MS + 1);
  assert.is(w.callsOf(ASSIGN), 2);
  await w.requests(ENI_A, 6);
  await settled(w);
  assert.is(w.callsOf(ASSIGN), 3);
  assert.is(await ready(w, ENI_A), 30);
});

filling('pools of one ENI by their ranges are each their own', async () => {
  const w = await slow({ vpc: LARGE, policy: { warmMin: 0, warmMax: 1 } });
  const before = w.time.now;
  const [low, high] = await Promise.all([
    w.request(ENI_A, { range: '10.0.0.64/26' }),
    w.request(ENI_A, { range: '10.0.2.0/24' }),
  ]);
  assert.is(w.time.now - before, GATHER_MS + ASSIGN_MS, 'neither waits for the other');
  assert.ok(within('10.0.0.64/26', low.ip), low.ip);
  assert.ok(within('10.0.2.0/24', high.ip), high.ip);
});

filling('finds what another server has made ready, and then needs no read for it', async () => {
  const w = await slow({ vpc: LARGE });
  const other = w.another();
  await w.request(ENI_A);
  const before = w.callsOf(ASSIGN);
  await other.requests(ENI_A, 14);
  await settled(w);
  const made = w.callsOf(ASSIGN) - before;
  assert.ok(made > 0);
  const calls = w.countingCalls('readyOn');
  await w.request(ENI_A); // all that it remembers is gone: it reads once
  await w.request(ENI_A);
  assert.is(calls.readyOn, 1);
});

filling('learns by the way what is ready', async () => {
  const w = await slow({ vpc: LARGE });
  await w.request(ENI_A);
  const cache = createCache(POLICY, w.context.clock);
  const home = await w.enis.adopt(ENI_A);
  const marks = () => ({ low: 2, high: 6 });
  const nothing = async () => {};
  const permit = () => w.context.cloud.permit('assign');
  const asked = { range: null, waiting: () => 0, marks, signal: () => undefined, gather: nothing, permit };
  assert.equal(await fill(w.context, w.enis, cache, home, asked), { outcome: 'ready', assigned: 0 });
  assert.is(cache.count(ENI_A, null).usable, 12);
});

filling('a refill that a container has come to wait for is as urgent as that container', async () => {
  const w = await slow({ vpc: LARGE });
  const turns: string[] = [];
  let free = Promise.resolve();
  const cloud = (urgency: () => Urgency): Cloud => ({
    ...w.context.cloud,
    as: cloud,
    async permit(kind) {
      await free;
      turns.push(urgency());
      return await w.context.cloud.permit(kind);
    },
  });
  const spied = openIpam(
    { ...w.context, cloud: cloud(() => 'cold') },
    { server: 'a', reconcileEveryMs: 60_000 },
  );
  const ask = () => ({ ...w, ...spied }).request(ENI_A);
  await ask();
  let open = () => {};
  free = new Promise(resolve => {
    open = resolve;
  });
  for (let i = 0; i < 12; i++) await ask();
  const waits = ask();
  await w.time.wait(1);
  open();
  await waits;
  assert.equal(turns, ['cold', 'cold']);
  for (let i = 0; i < 20; i++) await ask();
  await spied.warm.stop();
  assert.is(turns.at(-1), 'refill');
  const rows = (await w.store.readyOn(ENI_A, null, 9)).rows;
  await recycle({ ...w.context, cloud: cloud(() => 'cold') }, rows);
  assert.is(turns.at(-1), 'recycle');
});

filling('the count of the ENIs in a subnet is a minute old at most', async () => {
  const w = await slow({ vpc: SMALL });
  assert.is(await w.enis.countIn(SUBNET), 1);
  await w.another().enis.adopt(ENI_B);
  assert.is(await w.enis.countIn(SUBNET), 1, 'a minute old is good enough');
  w.time.now += 60_000;
  assert.is(await w.enis.countIn(SUBNET), 2);
});

filling('with --warm-max 0 each call brings just what waits', async () => {
  const w = await slow({ vpc: LARGE, policy: NOT_WARM });
  await w.requests(ENI_A, 3);
  await settled(w);
  assert.is(w.callsOf(ASSIGN), 3);
  assert.is(w.secondariesOf(ENI_A).length, 3);
});

filling('leaves the last addresses of the subnet for requests that wait', async () => {
  const w = await slow({ vpc: SMALL });
  await w.enis.adopt(ENI_B);
  await w.request(ENI_A);
  assert.is(w.secondariesOf(ENI_A).length, 4, 'half of nine');
  await w.requests(ENI_A, 4);
  await settled(w);
  assert.is(w.secondariesOf(ENI_A).length, 5, 'a refill leaves two for each ENI');
  await w.request(ENI_A);
  assert.is(w.secondariesOf(ENI_A).length, 6, 'a request that waits takes what it needs');
});

filling('an ENI counts for the reserve as soon as a network is made on it', async () => {
  const w = world({ vpc: SMALL });
  await w.enis.readAll();
  assert.is(await w.enis.countIn(SUBNET), 0);
  for (const eni of [ENI_A, ENI_B]) await w.enis.adopt(eni);
  assert.is(await w.enis.countIn(SUBNET), 2);
});

filling('one that fails is not tried again with every claim', async () => {
  const w = await slow({ vpc: LARGE });
  await w.request(ENI_A);
  w.vpc.faults.add({ kind: 'throttle', action: ASSIGN });
  for (let i = 0; i < 12; i++) {
    await w.request(ENI_A);
    await w.time.wait(100);
  }
  assert.is(w.linesOf('refill failed'), 1);
});

filling('what a failed refill would have brought, the next start that waits brings: one call', async () => {
  const w = await slow({ vpc: LARGE });
  await w.request(ENI_A);
  w.vpc.faults.add({ kind: 'throttle', action: ASSIGN, times: 1 });
  await w.requests(ENI_A, 12);
  await w.time.wait(ASSIGN_MS);
  const before = w.callsOf(ASSIGN);
  await w.requests(ENI_A, 12);
  assert.ok(w.callsOf(ASSIGN) - before <= 1, `${w.callsOf(ASSIGN) - before} calls`);
});

filling(
  "another server's call in flight is a part of what a start brings, not a reason for more",
  async () => {
    const w = await slow({ vpc: LARGE });
    const other = w.another();
    await other.enis.adopt(ENI_A);
    const theirs = other.request(ENI_A, { range: '10.0.2.0/24' });
    await w.time.wait(GATHER_MS + 1);
    for (let i = 0; i < 3; i++) await w.request(ENI_A, { range: '10.0.1.0/24' });
    await theirs;
    assert.is(w.callsOf(ASSIGN), 3, 'theirs, and one and its refill of ours');
  },
);

filling('one prefix takes one place: an m5.large with a /28 holds eight of ours', async () => {
  const [a, b] = ROOMY.enis ?? [];
  assert.ok(a && b);
  const w = world({ vpc: { ...ROOMY, enis: [{ ...a, prefixes: ['10.0.1.64/28'] }, b] } });
  const given: string[] = ipsOf(await w.requests(ENI_A, 8));
  assert.not.ok(given.some(ip => within('10.0.1.64/28', ip)));
  assert.match((await failure(w.request(ENI_A))).line, /no address left: it holds 9 beside its primary/);
});

filling('a prefix that comes or goes changes the room by one place', async () => {
  const w = world({ vpc: ROOMY, policy: NOT_WARM });
  await w.requests(ENI_A, 8);
  const prefixed = (prefixes: Cidr[]) => Object.assign(w.vpc.network.eni(ENI_A), { prefixes });
  prefixed([parseCidr('10.0.1.64/28')]);
  w.refuseCalls(ASSIGN, 'PrivateIpAddressLimitExceeded', 'full');
  assert.is((await failure(w.request(ENI_A))).code, 'exhausted');
  prefixed([]);
  w.vpc.faults.clear();
  w.time.now += 60_000;
  assert.ok(await w.request(ENI_A));
});

filling('an ENI that is attached to nothing has none', async () => {
  const w = await slow({ vpc: LARGE });
  await w.request(ENI_A);
  const eni = await w.store.eni(ENI_A);
  assert.ok(eni);
  await w.store.saveEnis([{ ...eni, instance: null, attachment: null }]);
  w.enis.forget(ENI_A);
  await w.requests(ENI_A, 12);
  await settled(w);
  assert.is(w.callsOf(ASSIGN), 1);
});

/** A server with a cloud whose permits come late. */
async function queued(permitMs: number, requestTimeoutMs: number): Promise<World> {
  const w = await slow({ vpc: LARGE, policy: { requestTimeoutMs } });
  const permit: Cloud['permit'] = async kind => {
    await w.time.wait(permitMs);
    return await w.context.cloud.permit(kind);
  };
  const cloud: Cloud = { ...w.context.cloud, as: () => ({ ...w.context.cloud, permit }), permit };
  return { ...w, ...openIpam({ ...w.context, cloud }, { server: 'a', reconcileEveryMs: 60_000 }) };
}

filling('who has waited for a permit until the time was over is told that', async () => {
  const w = await queued(60_000, 30_000);
  const before = w.time.now;
  const first = failure(w.request(ENI_A));
  await w.time.wait(10_000);
  const second = failure(w.request(ENI_A));
  assert.match((await first).line, /no permit for the call in time; raise --ec2-share/);
  assert.is(w.time.now - before, 30_000, 'although another one waits for longer');
  assert.is((await second).code, 'ec2-throttled');
  assert.is(w.time.now - before, 40_000);
});

filling('a call that nobody waits for any more ends before the server does, as a refill', async () => {
  const w = await queued(60_000, 30_000);
  await failure(w.request(ENI_A));
  await w.warm.stop();
  assert.equal(await w.ipsWith('assigning'), []);
  assert.is(await ready(w, ENI_A), 6);
});

filling('ends before the server does, and no other begins', async () => {
  const w = await slow({ vpc: LARGE });
  await w.requests(ENI_A, 7);
  await w.warm.stop();
  assert.is(w.callsOf(ASSIGN), 2);
  assert.equal(await w.ipsWith('assigning'), []);
  await w.requests(ENI_A, 17);
  await settled(w);
  assert.is(w.callsOf(ASSIGN), 2);
});

filling.run();

const draining = suite('drain');

draining('gives back what is beyond the high mark once it has long been idle, in one call', async () => {
  const w = await slow({ vpc: LARGE });
  await w.request(ENI_A);
  w.time.now += IDLE_MS - 1;
  assert.is(await drainAll(w), 0);
  w.time.now += 1;
  assert.is(await drainAll(w), 6);
  assert.is(w.callsOf(UNASSIGN), 1);
  assert.is(await ready(w, ENI_A), 6);
  assert.is(await drainAll(w), 0);
});

draining('gives back those that would be given last', async () => {
  const w = await slow({ vpc: LARGE });
  await w.request(ENI_A);
  const late = (await w.request(ENI_A)).ip;
  await w.time.wait(1000);
  await w.release(ENI_A, late);
  w.time.now += IDLE_MS;
  await drainAll(w);
  assert.not.ok((await w.ipsWith('ready')).includes(late));
});

draining('a few wait for others to go with them, but not for ever', async () => {
  const w = await slow({ vpc: LARGE });
  await w.requests(ENI_A, 2);
  w.time.now += IDLE_MS;
  assert.is(await ready(w, ENI_A), 11);
  assert.is(await drainAll(w), 0, 'five that are too many are not worth a call');
  w.time.now += 3_600_000 - IDLE_MS;
  assert.is(await drainAll(w), 5);
});

draining('never a primary, even when the ledger calls it ready', async () => {
  const w = await slow({ vpc: LARGE });
  await w.request(ENI_A);
  const [row] = (await w.store.readyOn(ENI_A, null, 1)).rows;
  assert.ok(row);
  const primary = { ...row, primary: true, movedAt: 0 };
  const store = { ...w.store, withStatus: async () => ({ now: w.time.now, rows: [primary] }) };
  const enis = (await w.enis.readAll()).map(eni => ({ ...eni, releasedAt: 1 }));
  assert.is(await drain({ ...w.context, store }, w.warm, SUBNET, enis), 0);
  assert.is(w.callsOf(UNASSIGN), 0);
});

draining('what a pool gained before Docker released it is forgotten', async () => {
  const w = await slow({ vpc: LARGE });
  await w.requests(ENI_A, 10);
  assert.ok(w.warm.highOf(ENI_A) > 6);
  await w.pools.release({ eni: ENI_A, range: null });
  assert.is(w.warm.highOf(ENI_A), 6);
});

draining('a server that remembers the ENI as wanted learns that it was released', async () => {
  const w = await slow({ vpc: LARGE });
  await w.request(ENI_A);
  const other = w.another();
  await other.request(ENI_A);
  await w.pools.release({ eni: ENI_A, range: null });
  await other.enis.readAll();
  await other.request(ENI_A);
  assert.is((await w.store.eni(ENI_A))?.releasedAt, null);
});

draining('an ENI that is attached to nothing keeps none', async () => {
  const w = await slow({ vpc: LARGE });
  await w.request(ENI_A);
  const eni = await w.store.eni(ENI_A);
  assert.ok(eni);
  await w.store.saveEnis([{ ...eni, instance: null, attachment: null }]);
  w.time.now += IDLE_MS;
  await drainAll(w);
  assert.is(await ready(w, ENI_A), 0);
  assert.is((await w.ipsWith('allocated')).length, 1);
});

draining('an ENI whose pool Docker has released keeps none until the next request', async () => {
  const w = await slow({ vpc: LARGE });
  await w.request(ENI_A);
  await w.pools.release({ eni: ENI_A, range: null });
  w.time.now += IDLE_MS;
  await drainAll(w);
  assert.is(await ready(w, ENI_A), 0);
  assert.is((await w.ipsWith('allocated')).length, 1, 'no address changed its holder');
  await w.request(ENI_A);
  w.time.now += IDLE_MS;
  await drainAll(w);
  assert.is(await ready(w, ENI_A), 6);
});

draining('another server knows of a released pool from the ledger', async () => {
  const w = await slow({ vpc: LARGE });
  await w.request(ENI_A);
  const other = w.another();
  await w.pools.release({ eni: ENI_A, range: null });
  assert.is.not((await w.store.eni(ENI_A))?.releasedAt, null);
  w.time.now += IDLE_MS;
  await drainAll(other);
  assert.is(await ready(w, ENI_A), 0);
  await other.request(ENI_A);
  assert.is((await w.store.eni(ENI_A))?.releasedAt, null);
});

draining('a pool that was asked for again is wanted again', async () => {
  const w = await slow({ vpc: LARGE });
  await w.request(ENI_A);
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

const makingRoom = suite('an ENI that is full of idle addresses');
const takingBack = suite('a subnet that has run dry');

/** One call for all that is free. */
const assignAll = async (w: World, eni: EniId): Promise<unknown> =>
  assignTo(w.context, eni, await w.freeRows(9, { eni }));

takingBack('serves a request from idle addresses of our other ENIs in two calls', async () => {
  const w = world({ policy: { warmMin: 0, warmMax: 3 } });
  await assignAll(w, ENI_A);
  const before = { assign: w.callsOf(ASSIGN), unassign: w.callsOf(UNASSIGN) };
  const row = await w.request(ENI_B);
  assert.ok(w.secondariesOf(ENI_B).includes(row.ip));
  assert.is(w.callsOf(ASSIGN) - before.assign, 1);
  assert.is(w.callsOf(UNASSIGN) - before.unassign, 1);
  assert.is(w.linesOf('early reuse'), 0, 'nobody ever had it');
});

for (const [what, fault] of [
  ['is answered', { kind: 'latency', ms: 500 }],
  ['has no answer', { kind: 'lostReply' }],
] as const)
  takingBack(`waits for what is being put on another of our ENIs by a call that ${what}`, async () => {
    const w = world({ policy: { warmMin: 0, warmMax: 4 } });
    await w.enis.adopt(ENI_A);
    w.vpc.faults.add({ ...fault, action: ASSIGN, times: 1 });
    const underWay = assignAll(w, ENI_B);
    while ((await w.ipsWith('assigning')).length < 9) await w.time.wait(1);
    const first = w.request(ENI_B);
    const row = await w.request(ENI_A);
    assert.ok(w.secondariesOf(ENI_A).includes(row.ip));
    assert.is.not((await first).ip, row.ip);
    await underWay;
  });

takingBack('waits no longer than a call may be sent', async () => {
  const w = world({ policy: { warmMin: 0, warmMax: 4 } });
  await w.enis.adopt(ENI_A);
  w.vpc.faults.add({ kind: 'hang', action: ASSIGN, times: 1 });
  const underWay = assignAll(w, ENI_B);
  while ((await w.ipsWith('assigning')).length < 9) await w.time.wait(1);
  const since = w.time.now;
  assert.is((await failure(w.request(ENI_A))).code, 'exhausted');
  assert.ok(w.time.now - since < POLICY.callDeadlineMs + 2_500);
  await underWay;
});

takingBack('those past the quarantine first, the others by early reuse', async () => {
  const w = world({ policy: NOT_WARM });
  const ips: string[] = ipsOf(await w.requests(ENI_A, 9));
  await w.release(ENI_A, ips[0] ?? '');
  w.time.now += POLICY.quarantineMs;
  await w.release(ENI_A, ips[1] ?? '');
  assert.is((await w.request(ENI_B)).ip, ips[0]);
  assert.is(w.linesOf('early reuse'), 0);
  assert.is((await w.request(ENI_B)).ip, ips[1]);
  assert.is(w.linesOf('early reuse'), 1);
});

takingBack('with strict reuse only those past the quarantine', async () => {
  const w = world({ policy: { ...NOT_WARM, strictReuse: true, requestTimeoutMs: 1_000 } });
  const ips: string[] = ipsOf(await w.requests(ENI_A, 9));
  await w.release(ENI_A, ips[0] ?? '');
  assert.is((await failure(w.request(ENI_B))).code, 'exhausted');
  assert.is(w.callsOf(UNASSIGN), 0);
});

takingBack('with strict reuse those past the quarantine are taken', async () => {
  const w = world({ policy: { ...NOT_WARM, strictReuse: true } });
  const ips: string[] = ipsOf(await w.requests(ENI_A, 9));
  await w.release(ENI_A, ips[0] ?? '');
  w.time.now += POLICY.quarantineMs;
  assert.is((await w.request(ENI_B)).ip, ips[0]);
});

const anyTwo = { range: null, count: 2, which: 'any' } as const;

takingBack('from the ENI that has most of them, and not from the one that asks', async () => {
  const C = 'eni-0c' as EniId;
  const w = world({
    vpc: {
      ...ROOMY,
      enis: [
        ...(ROOMY.enis ?? []),
        { id: C, subnet: SUBNET, primary: '10.0.1.6', attachment: { instance: 'i-0a', deviceIndex: 2 } },
      ],
    },
    policy: NOT_WARM,
  });
  const held = [];
  for (const eni of [ENI_A, ENI_A, ENI_A, ENI_A, ENI_B, ENI_B, ENI_B, ENI_B, ENI_B, C, C])
    held.push(await w.request(eni));
  for (const { iface, ip } of held) if (iface !== null) await w.release(iface, ip);
  w.time.now += POLICY.quarantineMs;
  const home = await w.enis.adopt(ENI_B);
  await steal(w.context, w.enis, home, anyTwo);
  assert.equal([await ready(w, ENI_A), await ready(w, ENI_B), await ready(w, C)], [2, 5, 2]);
  assert.is((await steal(w.context, w.enis, home, { ...anyTwo, count: 3 })).length, 3);
  assert.is(await ready(w, ENI_B), 5);
  assert.is(w.callsOf(UNASSIGN), 3, 'one call for each ENI that is needed');
});

takingBack('when EC2 does not take them off, the request is told that, and waits as for EC2', async () => {
  const w = world({ policy: NOT_WARM });
  const ips: string[] = ipsOf(await w.requests(ENI_A, 9));
  await w.release(ENI_A, ips[0] ?? '');
  w.time.now += POLICY.quarantineMs;
  w.vpc.faults.add({ kind: 'throttle', action: UNASSIGN, times: 3 });
  assert.is((await w.request(ENI_B)).ip, ips[0]);
});

takingBack('many ENIs that ask at once each get one of what is idle', async () => {
  const asking = Array.from({ length: 6 }, (_, i) => `eni-0d${i}` as EniId);
  const w = world({
    vpc: {
      ...ROOMY,
      subnets: [{ id: SUBNET, cidr: '10.0.1.0/27' }],
      instances: [
        { id: 'i-0a', type: 'm5.24xlarge' },
        { id: 'i-0b', type: 'm5.24xlarge' },
      ],
      enis: [
        ...(ROOMY.enis ?? []),
        ...asking.map((id, i) => ({
          id,
          subnet: SUBNET,
          attachment: { instance: 'i-0b', deviceIndex: i + 2 },
        })),
      ],
    },
    policy: NOT_WARM,
  });
  const { readyOn, withStatus, move, freeFor, onEni } = w.store;
  // Each call of the store takes a moment, in which others look and choose too.
  const late = <A extends unknown[], T>(call: (...args: A) => Promise<T>) => {
    return async (...args: A) => {
      await w.time.wait(1);
      return await call(...args);
    };
  };
  const held = [];
  while ((await w.ipsWith('free')).length > 0 || held.length === 0) held.push(await w.request(ENI_A));
  for (const { ip } of held) await w.release(ENI_A, ip);
  w.time.now += POLICY.quarantineMs;
  Object.assign(w.store, {
    readyOn: late(readyOn),
    withStatus: late(withStatus),
    move: late(move),
    freeFor: late(freeFor),
    onEni: late(onEni),
  });
  const given = await Promise.all(asking.map(id => w.request(id)));
  assert.is(new Set(ipsOf(given)).size, asking.length);
});

/** An embedded ledger with two ready addresses on an ENI that EC2 has meanwhile given to another instance. */
async function movedAway() {
  const C = 'eni-0c' as EniId;
  const attachment = { instance: 'i-0a', deviceIndex: 2 };
  const enis = [...(ROOMY.enis ?? []), { id: C, subnet: SUBNET, primary: '10.0.1.6', attachment }];
  const w = world({ vpc: { ...ROOMY, enis }, instance: 'i-0a', policy: NOT_WARM });
  const held = [await w.request(C), await w.request(C)];
  for (const { ip } of held) await w.release(C, ip);
  const home = await w.enis.adopt(ENI_A);
  w.detach(C);
  return { w, home };
}

takingBack('an ENI that EC2 shows elsewhere is not tried again and again', async () => {
  const { w, home } = await movedAway();
  const reads = w.callsOf(DESCRIBE);
  assert.equal(await steal(w.context, w.enis, home, anyTwo), []);
  assert.is(w.callsOf(DESCRIBE) - reads, 2);
  assert.is(w.callsOf(UNASSIGN), 0);
});

takingBack('nothing more is tried when nobody waits any longer', async () => {
  const { w, home } = await movedAway();
  const reads = w.callsOf(DESCRIBE);
  assert.equal(await steal(w.context, w.enis, home, anyTwo, AbortSignal.abort()), []);
  assert.is(w.callsOf(DESCRIBE) - reads, 1);
});

takingBack('only addresses of the range, and never a primary', async () => {
  const w = world({ vpc: ROOMY, policy: { warmMin: 0, warmMax: 2 } });
  await w.request(ENI_A);
  const home = await w.enis.adopt(ENI_B);
  const range = { ...anyTwo, range: parseCidr('10.0.1.0/30') };
  assert.equal(await steal(w.context, w.enis, home, range), []);
  const primary = async (...args: Parameters<typeof w.store.withStatus>) => {
    const { now, rows } = await w.store.withStatus(...args);
    return { now, rows: rows.map(row => ({ ...row, primary: true })) };
  };
  const store = { ...w.store, withStatus: primary };
  assert.equal(await steal({ ...w.context, store }, w.enis, home, anyTwo), []);
});

const fullOfWarmth = async () => {
  const w = world({ vpc: ROOMY });
  await w.request(ENI_A);
  assert.is(w.secondariesOf(ENI_A).length, 9);
  return w;
};

makingRoom('a named address gets the place of an idle one', async () => {
  const w = await fullOfWarmth();
  const named = (await w.ipsWith('free'))[0] ?? '';
  assert.is((await w.request(ENI_A, { named })).ip, named);
  assert.is(w.secondariesOf(ENI_A).length, 9);
});

makingRoom('a request of a range of which none is ready gets the place of an idle one', async () => {
  const w = await fullOfWarmth();
  const range = '10.0.1.240/28';
  assert.not.ok((await w.ipsWith('ready')).some(ip => within(range, ip)));
  assert.ok(within(range, (await w.request(ENI_A, { range })).ip));
  assert.is(w.secondariesOf(ENI_A).length, 9);
});

for (const more of [{}, { named: '10.0.1.240' }])
  makingRoom(
    `a range outside of the subnet gets none of them${more.named ? ', even by name' : ''}`,
    async () => {
      const w = await fullOfWarmth();
      const error = await failure(w.request(ENI_A, { ...more, range: '10.9.0.0/24' }));
      assert.is(error.code, 'bad-request');
      assert.match(error.line, /--ip-range 10\.9\.0\.0\/24 is not inside 10\.0\.1\.0\/24/);
      assert.is(w.callsOf(UNASSIGN), 0);
    },
  );

makingRoom('held ones keep theirs', async () => {
  const w = await fullOfWarmth();
  await w.requests(ENI_A, 8);
  const named = (await w.ipsWith('free'))[0] ?? '';
  assert.is((await failure(w.request(ENI_A, { named }))).code, 'ec2-limit');
  assert.is(w.callsOf(UNASSIGN), 0);
});

makingRoom.run();

takingBack('a refill takes nothing back', async () => {
  const w = await slow({ policy: { warmMin: 2, warmMax: 3 } });
  await w.request(ENI_B);
  await w.requests(ENI_A, 3);
  await settled(w);
  assert.is(w.callsOf(UNASSIGN), 0);
});

takingBack("a request takes nothing from an ENI that is not this ledger's", async () => {
  const w = world({ policy: NOT_WARM });
  await w.requests(ENI_A, 8);
  const { ip } = await w.request(ENI_A);
  await w.release(ENI_A, ip);
  const other = w.another();
  const enis = await w.store.enis();
  const foreign = { ...w.store, enis: async () => enis.map(eni => ({ ...eni, ours: eni.id !== ENI_A })) };
  const home = await other.enis.adopt(ENI_B);
  const known = { ...other.enis, readAll: foreign.enis };
  const wanted = { range: null, count: 1, which: 'any' } as const;
  assert.equal(await steal({ ...other.context, store: foreign }, known, home, wanted), []);
  assert.is((await steal(other.context, other.enis, home, wanted)).length, 1);
});

takingBack.run();
