// Goal: what a process remembers saves reads and decides nothing. Method: rows put in and taken out by hand, on a clock
// that stands where it is put; then two servers on one ledger, of which each is ignorant of what the other does.
import type { Allocation, Status } from '../../../src/domain/allocation.ts';
import { IpamError } from '../../../src/domain/error.ts';
import { openIpam } from '../../../src/ipam/ipam.ts';
import { type Cache, createCache } from '../../../src/ipam/pool/cache.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ENI_A, ENI_B, NOT_WARM, POLICY, ROOMY, STAYS, SUBNET, world } from '../../kit/world.ts';

const NOW = 1_000_000;
const row = (ip: string, more: Partial<Allocation> = {}): Allocation => ({
  subnet: SUBNET,
  ip: ip as Allocation['ip'],
  status: 'ready' as Status,
  iface: ENI_A,
  generation: 1,
  primary: false,
  movedAt: NOW,
  restedSince: null,
  restedFrom: null,
  leftIface: null,
  leftAt: null,
  leftUnsure: false,
  placedAt: null,
  missingSince: null,
  absentSince: null,
  refusedAt: null,
  holder: null,
  token: null,
  ...more,
});
const rests = (ip: string, since: number) => row(ip, { restedSince: since, restedFrom: ENI_A });

function fresh(): { cache: Cache; clock: { now: number } } {
  const clock = { now: 0 };
  return { cache: createCache(POLICY, () => clock.now), clock };
}

const taking = suite('take');

taking('a row that somebody keeps locked comes last, for a while or until it was moved', () => {
  const { cache, clock } = fresh();
  const rows = [row('10.0.1.7'), rests('10.0.1.8', NOW - 50_000)];
  const next = () => {
    cache.learn(ENI_A, { now: NOW, rows });
    const taken = cache.take(ENI_A, null);
    if (taken !== null) cache.settled(taken, true);
    return taken?.ip;
  };
  assert.is(next(), '10.0.1.7');
  cache.avoid(row('10.0.1.7'));
  assert.is(next(), '10.0.1.8');
  cache.avoid(row('10.0.1.8'));
  assert.is(next(), '10.0.1.7', 'with nothing else it is offered');
  cache.note(row('10.0.1.8'));
  assert.is(next(), '10.0.1.8');
  clock.now += 60_000;
  assert.is(next(), '10.0.1.7');
});

taking('the one that has rested longest, each once', () => {
  const { cache } = fresh();
  const rows = [rests('10.0.1.6', NOW - 40_000), row('10.0.1.7'), rests('10.0.1.8', NOW - 50_000)];
  cache.learn(ENI_A, { now: NOW, rows });
  const taken = [1, 2, 3, 4].map(() => cache.take(ENI_A, null)?.ip);
  assert.equal(taken, ['10.0.1.7', '10.0.1.8', '10.0.1.6', undefined]);
});

taking("none that cools down, by the store's clock and not the process's", () => {
  const { cache, clock } = fresh();
  cache.learn(ENI_A, { now: NOW, rows: [rests('10.0.1.6', NOW - POLICY.cooldownMs + 10)] });
  assert.is(cache.take(ENI_A, null), null);
  assert.equal(cache.count(ENI_A, null), { usable: 0, resting: 1 });
  clock.now += 9;
  assert.is(cache.take(ENI_A, null), null);
  clock.now += 1;
  assert.is(cache.take(ENI_A, null)?.ip, '10.0.1.6');
});

taking('only those of the range, and of the ENI', () => {
  const { cache } = fresh();
  cache.learn(ENI_A, { now: NOW, rows: [row('10.0.1.6'), row('10.0.1.200')] });
  const range = { first: 0x0a000180, last: 0x0a0001ff, maskLength: 25 };
  assert.is(cache.take(ENI_B, null), null);
  assert.is(cache.take(ENI_A, range as never)?.ip, '10.0.1.200');
  assert.is(cache.take(ENI_A, range as never), null);
});

taking('nothing more that others may have moved, once one of the ENI has been', () => {
  const { cache } = fresh();
  cache.learn(ENI_A, { now: NOW, rows: [row('10.0.1.6'), row('10.0.1.7')] });
  const taken = cache.take(ENI_A, null);
  assert.ok(taken);
  cache.settled(taken, false);
  assert.is(cache.take(ENI_A, null), null);
});

taking('what the ledger does not name any more is forgotten', () => {
  const { cache } = fresh();
  cache.learn(ENI_A, { now: NOW, rows: [row('10.0.1.6'), row('10.0.1.7')] });
  cache.learn(ENI_A, { now: NOW, rows: [row('10.0.1.7')] });
  assert.equal(cache.count(ENI_A, null), { usable: 1, resting: 0 });
});

taking('nothing that was claimed otherwise', () => {
  const { cache } = fresh();
  cache.learn(ENI_A, { now: NOW, rows: [row('10.0.1.6')] });
  cache.note(row('10.0.1.6', { status: 'allocated' }));
  assert.is(cache.take(ENI_A, null), null);
});

taking('never a primary', () => {
  const { cache } = fresh();
  cache.learn(ENI_A, { now: NOW, rows: [row('10.0.1.4', { primary: true })] });
  cache.note(row('10.0.1.4', { primary: true }));
  assert.is(cache.take(ENI_A, null), null);
});

taking('what is being claimed is not learned anew before that has ended', () => {
  const { cache } = fresh();
  cache.learn(ENI_A, { now: NOW, rows: [row('10.0.1.6')] });
  const taken = cache.take(ENI_A, null);
  assert.ok(taken);
  cache.learn(ENI_A, { now: NOW, rows: [row('10.0.1.6')] });
  assert.is(cache.take(ENI_A, null), null);
  cache.settled(taken, true);
  cache.learn(ENI_A, { now: NOW, rows: [row('10.0.1.6')] });
  assert.is(cache.take(ENI_A, null)?.ip, '10.0.1.6');
});

taking.run();

const holding = suite('holding');

holding('is remembered for its ENI, once', () => {
  const { cache } = fresh();
  cache.note(row('10.0.1.6', { status: 'allocated' }));
  assert.is(cache.holding(ENI_B, '10.0.1.6' as never), null);
  assert.is(cache.holding(ENI_A, '10.0.1.6' as never)?.generation, 1);
  assert.is(cache.holding(ENI_A, '10.0.1.6' as never), null);
});

holding.run();

const serving = suite('servers that remember');

serving('a warm start costs one commit and no read, a stop one commit and no read', async () => {
  const w = world({ vpc: ROOMY });
  await w.request(ENI_A);
  const calls = w.countingCalls('get', 'readyOn', 'onEni', 'move');
  const { ip } = await w.request(ENI_A);
  assert.equal(calls, { get: 0, readyOn: 0, onEni: 0, move: 1 });
  await w.release(ENI_A, ip);
  assert.equal(calls, { get: 0, readyOn: 0, onEni: 0, move: 2 });
});

serving('what a server took back itself it need not look for', async () => {
  const w = world({ vpc: ROOMY, policy: NOT_WARM });
  const { ip } = await w.request(ENI_A);
  await w.release(ENI_A, ip);
  w.time.now += POLICY.cooldownMs;
  const calls = w.countingCalls('get', 'readyOn', 'onEni', 'move');
  assert.is((await w.request(ENI_A)).ip, ip);
  assert.equal(calls, { get: 0, readyOn: 0, onEni: 0, move: 1 });
});

serving('those who find nothing remembered read together', async () => {
  const w = world({ vpc: ROOMY });
  await w.request(ENI_A);
  const other = w.another();
  await other.enis.adopt(ENI_A);
  const calls = w.countingCalls('readyOn');
  await Promise.all(Array.from({ length: 8 }, () => other.request(ENI_A)));
  assert.is(calls.readyOn, 1);
});

serving('what one gave and the other took back is given by neither before it has rested', async () => {
  const w = world({ vpc: ROOMY });
  const other = w.another();
  const { ip } = await w.request(ENI_A);
  await other.release(ENI_A, ip);
  const ips = [];
  for (let i = 0; i < 8; i++) ips.push((await (i % 2 === 0 ? w : other).request(ENI_A)).ip);
  assert.not.ok(ips.includes(ip));
  assert.is(new Set(ips).size, 8);
});

serving('a holding that another server ended and began anew is ended all the same', async () => {
  const w = world({ vpc: ROOMY, policy: { cooldownMs: 0 } });
  const other = w.another();
  const { ip } = await w.request(ENI_A);
  await other.release(ENI_A, ip);
  w.time.now += 1000;
  assert.is((await other.request(ENI_A, { named: ip })).ip, ip);
  w.time.now += 1000;
  assert.is(await w.release(ENI_A, ip), true);
  assert.is(await w.statusOf(ip), 'ready');
});

serving('a release that was made and answered "no" ends no later holding', async () => {
  const w = world({ vpc: ROOMY, policy: { cooldownMs: 0 } });
  const other = w.another();
  const { ip } = await w.request(ENI_A);
  const { move } = w.store;
  let answered = 0;
  const context = {
    ...w.context,
    store: {
      ...w.store,
      // What a store does that reads back by its token what it has committed.
      async move(changes: Parameters<typeof move>[0]) {
        const moved = await move(changes);
        if (changes[0]?.move !== 'release' || answered++ > 0) return moved;
        await other.request(ENI_A, { named: ip });
        return [];
      },
    },
  };
  const parts = openIpam(context, { server: 'a', reconcileEveryMs: 60_000 });
  const { allocator } = parts;
  const pool = { eni: ENI_A, range: null };
  for (const remembered of [true, false]) {
    answered = 0;
    if (remembered) {
      await other.release(ENI_A, ip);
      await allocator.request({ pool, named: ip as never, holder: null, caller: STAYS });
    }
    w.time.now += 1000;
    assert.is(await allocator.release(pool, ip as never), true);
    assert.is(await w.statusOf(ip), 'allocated', remembered ? 'remembered' : 'read');
  }
});

serving('a holding that another server began is ended by a server whose store answered late', async () => {
  const w = world({ vpc: ROOMY, policy: { cooldownMs: 0 } });
  const other = w.another();
  const { ip } = await w.request(ENI_A);
  await w.release(ENI_A, ip);
  const { move } = w.store;
  const late = async (changes: Parameters<typeof move>[0]) => {
    const moved = await move(changes);
    w.time.now += 5000;
    return moved;
  };
  Object.assign(w.store, { move: late });
  await w.request(ENI_A, { named: ip });
  Object.assign(w.store, { move });
  w.time.now += 1;
  await other.release(ENI_A, ip);
  await other.request(ENI_A, { named: ip });
  w.time.now += 1;
  assert.is(await w.release(ENI_A, ip), true);
  assert.is(await w.statusOf(ip), 'ready');
});

for (const [applied, isAlone] of [
  [true, true],
  [true, false],
  [false, true],
  [false, false],
])
  serving(
    `a release of unknown outcome (${applied ? 'made' : 'not made'}, ${isAlone ? 'remembered' : 'read'}) ends no later holding`,
    async () => {
      const w = world({ vpc: ROOMY, policy: { cooldownMs: 0 } });
      const other = w.another();
      const { ip } = await w.request(ENI_A);
      const { move } = w.store;
      w.time.now += 1000;
      let failures = 0;
      Object.assign(w.context.store, {
        async move(changes: Parameters<typeof move>[0]) {
          if (changes[0]?.move !== 'release' || failures++ > 0) return move(changes);
          if (applied) {
            await move(changes);
            w.time.now += 10;
            await other.request(ENI_A, { named: ip });
          }
          throw new IpamError('store-down', 'nobody knows');
        },
      });
      assert.is(await w.release(ENI_A, ip), true);
      assert.is((await w.ipsWith('allocated')).includes(ip), applied);
    },
  );

serving('what is remembered of another holding does not hide the one that is to be ended', async () => {
  const w = world({ vpc: ROOMY, policy: { cooldownMs: 0 } });
  const other = w.another();
  const { ip } = await w.request(ENI_A);
  await other.release(ENI_A, ip);
  w.time.now += 1000;
  await other.request(ENI_A, { named: ip });
  w.time.now += 1000;
  const { move } = w.store;
  let failures = 0;
  Object.assign(w.context.store, {
    async move(changes: Parameters<typeof move>[0]) {
      if (failures++ > 0) return move(changes);
      throw new IpamError('store-down', 'not made');
    },
  });
  assert.is(await w.release(ENI_A, ip), true);
  assert.not.ok((await w.ipsWith('allocated')).includes(ip));
});

serving.run();
