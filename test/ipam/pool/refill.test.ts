// Goal: containers find a ready address, EC2 is asked seldom, and warmth on one ENI starves no other.
// Method: the whole machine on a simulated VPC whose assign takes 250 ms, in a time that passes only while all wait.
import type { Cloud, Urgency } from '../../../src/cloud/cloud.ts';
import { tooLate } from '../../../src/cloud/permit-queue.ts';
import { aborted } from '../../../src/domain/abort.ts';
import { parseCidr } from '../../../src/domain/address.ts';
import type { EniId } from '../../../src/domain/ids.ts';
import { createCache } from '../../../src/ipam/pool/cache.ts';
import { fill } from '../../../src/ipam/pool/refill.ts';
import { GATHER_MS } from '../../../src/ipam/pool/warm-pool.ts';
import { unassignIdle } from '../../../src/ipam/sync/drain.ts';
import { createGroupCommit } from '../../../src/store/group-commit.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ASSIGN, ENI_A, ENI_B, LARGE, ROOMY, SMALL, SUBNET } from '../../kit/vpcs.ts';
import {
  failure,
  ipsOf,
  NOT_WARM,
  POLICY,
  pooled,
  type World,
  within,
  withoutAttachment,
  world,
} from '../../kit/world.ts';

const ASSIGN_MS = 250;

async function slow(options: Parameters<typeof world>[0] = {}): Promise<World> {
  const w = await pooled({ vpc: LARGE, ...options });
  w.vpc.faults.add({ kind: 'latency', ms: ASSIGN_MS, action: ASSIGN });
  return w;
}
/** Lets the refills that are under way end. */
const settled = (w: World): Promise<void> => w.time.wait(10 * ASSIGN_MS);
const ready = async (w: World): Promise<number> => (await w.store.readyOn(ENI_A, null, 99)).rows.length;

const filling = suite('refill');

filling('the claim that leaves too few begins it, and waits for nothing', async () => {
  const w = await slow();
  await w.request(ENI_A);
  assert.is(w.callsOf(ASSIGN), 1);
  assert.is(await ready(w), 12);
  assert.is(await w.tookMs(w.requests(ENI_A, 6)), 0, 'nobody waited');
  assert.is(w.callsOf(ASSIGN), 1, 'the call has its turn only when the claim has been answered');
  await settled(w);
  assert.is(w.callsOf(ASSIGN), 2);
  assert.is(await ready(w), 20, 'up to the high mark of a pool that gained 7');
});

filling('between the marks nothing is asked of EC2', async () => {
  const w = await slow();
  const held = await w.requests(ENI_A, 3);
  await settled(w);
  const before = w.callsOf(ASSIGN);
  for (const { ip } of held) await w.release(ENI_A, ip);
  await w.requests(ENI_A, 3);
  await settled(w);
  assert.is(w.callsOf(ASSIGN), before);
});

filling('49 one after another: five calls at most, and only who met one waits', async () => {
  const w = await slow();
  const ips = new Set<string>();
  let waited = 0;
  for (let i = 0; i < 49; i++) {
    const given = w.request(ENI_A);
    if ((await w.tookMs(given)) > 0) waited++;
    ips.add((await given).ip);
  }
  assert.is(ips.size, 49);
  assert.ok(w.callsOf(ASSIGN) <= 5, `${w.callsOf(ASSIGN)} calls`);
  assert.ok(waited <= w.callsOf(ASSIGN), `${waited} waited`);
});

filling('50 ENIs at once with 8 each: a call each, and none waits for another', async () => {
  const numbers = Array.from({ length: 50 }, (_, i) => `0c${i.toString(16).padStart(2, '0')}`);
  const ids = numbers.map(number => `eni-${number}` as EniId);
  const w = world({
    vpc: {
      subnets: [{ id: SUBNET, cidr: '10.0.0.0/20' }],
      instances: numbers.map(number => ({ id: `i-${number}`, type: 'm5.4xlarge' })),
      enis: numbers.map(number => ({
        id: `eni-${number}`,
        subnet: SUBNET,
        attachment: { instance: `i-${number}`, deviceIndex: 1 },
      })),
    },
  });
  for (const id of ids) await w.enis.adopt(id);
  w.vpc.faults.add({ kind: 'latency', ms: ASSIGN_MS, action: ASSIGN });
  const rows = Promise.all(ids.flatMap(id => Array.from({ length: 8 }, () => w.request(id))));
  assert.is(await w.tookMs(rows), GATHER_MS + ASSIGN_MS);
  assert.is(new Set(ipsOf(await rows)).size, 400);
  assert.is(w.callsOf(ASSIGN), 50);
});

filling('those who come within a moment of the first share its call', async () => {
  const w = await slow({ policy: NOT_WARM });
  const first = w.request(ENI_A);
  await w.time.wait(GATHER_MS - 1);
  assert.is.not((await w.request(ENI_A)).ip, (await first).ip);
  assert.is(w.callsOf(ASSIGN), 1);
});

filling('those who find that all is being claimed let the claims be made', async () => {
  const w = await slow({ policy: NOT_WARM });
  let reads = 0;
  w.intercept('move', move => createGroupCommit(changes => move(changes), { lanesMax: 1 }));
  w.intercept('readyOn', readyOn => async (...asked) => {
    if (++reads > 1000) throw new Error('it reads and reads, and nothing else has its turn');
    return readyOn(...asked);
  });
  const rows = await Promise.all(Array.from({ length: 49 }, () => w.request(ENI_A)));
  assert.is(new Set(ipsOf(rows)).size, 49);
  for (const { ip } of rows.slice(0, 3)) await w.release(ENI_A, ip);
  w.time.now += 60_000;
  reads = 0;
  const more = await Promise.allSettled(Array.from({ length: 5 }, () => w.request(ENI_A)));
  const served = more.filter(({ status }) => status === 'fulfilled').length;
  assert.is(served, 3, 'the ENI is full, and three are ready');
  assert.ok(reads < 100, `${reads} reads`);
});

filling('a container that crashes and starts again makes no pool grow beyond what cools down', async () => {
  const w = await slow();
  for (let i = 0; i < 200; i++) {
    const { ip } = await w.request(ENI_A);
    await w.time.wait(10_000);
    await w.release(ENI_A, ip);
    await w.time.wait(50);
  }
  assert.ok(w.secondariesOf(ENI_A).length <= 13, `${w.secondariesOf(ENI_A).length} addresses`);
});

filling('who comes while a refill is under way is served by it', async () => {
  const w = await slow();
  await w.requests(ENI_A, 13);
  assert.ok((await w.tookMs(w.request(ENI_A))) <= GATHER_MS + ASSIGN_MS);
  assert.is(w.callsOf(ASSIGN), 2);
});

filling('a network is warm before its first container comes', async () => {
  const w = await slow();
  await w.pools.request({ eniId: ENI_A, instanceId: null, pool: '10.0.0.0/22', subPool: '' });
  assert.is(await ready(w), 0, 'which docker network create does not wait for');
  await settled(w);
  assert.is(await ready(w), 6);
});

filling('what was claimed while it was under way begins the next one, without another claim', async () => {
  const w = await slow();
  await w.requests(ENI_A, 6);
  await w.time.wait(GATHER_MS + 1);
  assert.is(w.callsOf(ASSIGN), 2);
  await w.requests(ENI_A, 6);
  await settled(w);
  assert.is(w.callsOf(ASSIGN), 3);
  assert.is(await ready(w), 30);
});

filling('pools of one ENI by their ranges are each their own', async () => {
  const w = await slow({ policy: { warmMin: 0, warmMax: 1 } });
  const ranges = ['10.0.0.64/26', '10.0.2.0/24'];
  const rows = Promise.all(ranges.map(range => w.request(ENI_A, { range })));
  assert.is(await w.tookMs(rows), GATHER_MS + ASSIGN_MS, 'neither waits for the other');
  for (const [i, { ip }] of (await rows).entries()) assert.ok(within(ranges[i] ?? '', ip), ip);
});

filling('finds what another server has made ready, and then needs no read for it', async () => {
  const w = await slow();
  const other = w.another();
  await w.request(ENI_A);
  const before = w.callsOf(ASSIGN);
  await other.requests(ENI_A, 14);
  await settled(w);
  assert.ok(w.callsOf(ASSIGN) > before);
  const calls = w.countingCalls('readyOn');
  await w.requests(ENI_A, 2); // all that it remembers is gone: the first reads
  assert.is(calls.readyOn, 1);
});

filling('learns by the way what is ready', async () => {
  const w = await slow();
  await w.request(ENI_A);
  const cache = createCache(POLICY, w.context.clock);
  const asked = {
    range: null,
    waiting: () => 0,
    marks: () => ({ low: 2, high: 6 }),
    signal: () => undefined,
    gather: async () => {},
    permit: () => w.context.cloud.permit('assign'),
  };
  const told = await fill(w.context, w.enis, cache, await w.enis.adopt(ENI_A), asked);
  assert.equal(told, { outcome: 'ready', assigned: 0 });
  assert.is(cache.count(ENI_A, null).usable, 12);
});

filling('a refill that a container has come to wait for is as urgent as that container', async () => {
  const w = await slow();
  const urgencies: string[] = [];
  let free = Promise.resolve();
  const cloudAs = (urgency: () => Urgency): Cloud => ({
    ...w.context.cloud,
    as: cloudAs,
    async permit(kind) {
      await free;
      urgencies.push(urgency());
      return await w.context.cloud.permit(kind);
    },
  });
  const cloud = cloudAs(() => 'cold');
  const spied = w.serverWith({ cloud });
  await spied.request(ENI_A);
  const { promise, resolve: open } = Promise.withResolvers<void>();
  free = promise;
  await spied.requests(ENI_A, 12);
  const waits = spied.request(ENI_A);
  await w.time.wait(1);
  open();
  await waits;
  assert.equal(urgencies, ['cold', 'cold']);
  await spied.requests(ENI_A, 20);
  await spied.warm.stop();
  assert.is(urgencies.at(-1), 'refill');
  await unassignIdle({ ...w.context, cloud }, (await w.store.readyOn(ENI_A, null, 9)).rows);
  assert.is(urgencies.at(-1), 'idle');
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
  const w = await slow({ policy: NOT_WARM });
  await w.requests(ENI_A, 3);
  await settled(w);
  assert.equal([w.callsOf(ASSIGN), w.secondariesOf(ENI_A).length], [3, 3]);
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
  const w = await slow();
  await w.request(ENI_A);
  w.vpc.faults.add({ kind: 'throttle', action: ASSIGN });
  for (let i = 0; i < 12; i++) {
    await w.request(ENI_A);
    await w.time.wait(100);
  }
  assert.is(w.linesOf('refill failed'), 1);
});

filling('what a failed refill would have brought, the next start that waits brings: one call', async () => {
  const w = await slow();
  await w.request(ENI_A);
  w.vpc.faults.add({ kind: 'throttle', action: ASSIGN, times: 1 });
  await w.requests(ENI_A, 12);
  await w.time.wait(ASSIGN_MS);
  const before = w.callsOf(ASSIGN);
  await w.requests(ENI_A, 12);
  assert.ok(w.callsOf(ASSIGN) - before <= 1, `${w.callsOf(ASSIGN) - before} calls`);
});

filling("another server's call in flight is a part of what a start brings", async () => {
  const w = await slow();
  const other = w.another();
  await other.enis.adopt(ENI_A);
  const theirs = other.request(ENI_A, { range: '10.0.2.0/24' });
  await w.time.wait(GATHER_MS + 1);
  for (let i = 0; i < 3; i++) await w.request(ENI_A, { range: '10.0.1.0/24' });
  await theirs;
  assert.is(w.callsOf(ASSIGN), 3, 'theirs, and one and its refill of ours');
});

filling('one prefix takes one place: an m5.large with a /28 holds eight of ours', async () => {
  const [a, b] = ROOMY.enis ?? [];
  assert.ok(a && b);
  const w = world({ vpc: { ...ROOMY, enis: [{ ...a, prefixes: ['10.0.1.64/28'] }, b] } });
  const given = await w.requests(ENI_A, 8);
  assert.not.ok(given.some(({ ip }) => within('10.0.1.64/28', ip)));
  assert.match((await failure(w.request(ENI_A))).line, /no address left: it holds 9 beside its primary/);
});

filling('a prefix that comes or goes changes the room by one place', async () => {
  const w = world({ vpc: ROOMY, policy: NOT_WARM });
  await w.requests(ENI_A, 8);
  const prefixed = (...cidrs: string[]) =>
    Object.assign(w.vpc.network.eni(ENI_A), { prefixes: cidrs.map(cidr => parseCidr(cidr)) });
  prefixed('10.0.1.64/28');
  w.refuseCalls(ASSIGN, 'PrivateIpAddressLimitExceeded');
  assert.is((await failure(w.request(ENI_A))).code, 'exhausted');
  prefixed();
  w.vpc.faults.clear();
  w.time.now += 60_000;
  assert.ok(await w.request(ENI_A));
});

filling('an ENI that is attached to nothing has none', async () => {
  const w = await slow();
  await w.request(ENI_A);
  await withoutAttachment(w, ENI_A);
  w.enis.forget(ENI_A);
  await w.requests(ENI_A, 12);
  await settled(w);
  assert.is(w.callsOf(ASSIGN), 1);
});

/** Another server, whose permits are these. */
function withPermits(w: World, permit: Cloud['permit']): World {
  const cloud: Cloud = { ...w.context.cloud, as: () => cloud, permit };
  return w.serverWith({ cloud });
}

/** A server whose permits take a minute, and whose requests wait for half a minute. */
async function queued(): Promise<World> {
  const w = await slow({ policy: { requestTimeoutMs: 30_000 } });
  const permit: Cloud['permit'] = async kind => {
    await w.time.wait(60_000);
    return await w.context.cloud.permit(kind);
  };
  return withPermits(w, permit);
}

filling('who has waited for a permit until the time was over is told that', async () => {
  const w = await queued();
  const before = w.time.now;
  const first = failure(w.request(ENI_A));
  await w.time.wait(10_000);
  const second = failure(w.request(ENI_A));
  assert.match((await first).line, /no permit for the call in time; raise --ec2-share/);
  assert.is(w.time.now - before, 30_000, 'although another one waits for longer');
  assert.is((await second).code, 'ec2-throttled');
  assert.is(w.time.now - before, 40_000);
});

filling('so is who has waited for the permit of a further call', async () => {
  const w = await slow({ policy: { ...NOT_WARM, requestTimeoutMs: 30_000 } });
  w.refuseCalls(ASSIGN, 'InvalidParameterValue', 'no', 1);
  let permits = 0;
  const permit: Cloud['permit'] = async (kind, signal) => {
    if (permits++ > 0) await w.time.wait(60_000, signal);
    if (signal?.aborted) throw tooLate('assign', signal);
    return await w.context.cloud.permit(kind);
  };
  const error = await w.inTime(30_000, failure(withPermits(w, permit).request(ENI_A)));
  assert.match(error.line, /no permit for the call in time; raise --ec2-share/);
  assert.is(permits, 2);
});

filling('a request that joins a call which nobody waited for any more is served', async () => {
  const w = await slow();
  const left = new AbortController();
  let permits = 0;
  const permit: Cloud['permit'] = async (kind, signal) => {
    if (++permits > 1 || signal === undefined) return await w.context.cloud.permit(kind);
    await aborted(signal);
    await w.time.wait(50); // a queue is looked at now and then
    throw tooLate('assign', signal);
  };
  const server = withPermits(w, permit);
  const first = failure(server.request(ENI_A, { caller: left.signal }));
  await w.time.wait(1_000);
  left.abort();
  const second = server.request(ENI_A);
  assert.is((await first).code, 'caller-gone');
  assert.is((await second).status, 'allocated');
});

filling('a call that nobody waits for any more ends before the server does, as a refill', async () => {
  const w = await queued();
  await failure(w.request(ENI_A));
  await w.warm.stop();
  assert.equal(await w.ipsWith('assigning'), []);
  assert.is(await ready(w), 6);
});

filling('ends before the server does, and no other begins', async () => {
  const w = await slow();
  await w.requests(ENI_A, 7);
  await w.warm.stop();
  assert.is(w.callsOf(ASSIGN), 2);
  assert.equal(await w.ipsWith('assigning'), []);
  await w.requests(ENI_A, 17);
  await settled(w);
  assert.is(w.callsOf(ASSIGN), 2);
});

filling.run();
