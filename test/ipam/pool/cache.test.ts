// Goal: what a process remembers saves reads and decides nothing. Method: rows put in and taken out by hand, on a clock
// that stands where it is put; then two servers on one ledger, of which each is ignorant of what the other does.
import { type Cidr, type Ipv4, parseCidr } from '../../../src/domain/address.ts';
import type { Allocation } from '../../../src/domain/allocation.ts';
import { createCache } from '../../../src/ipam/pool/cache.ts';
import { rowWith } from '../../kit/rows.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ENI_A, ENI_B, ROOMY, SUBNET } from '../../kit/vpcs.ts';
import { NOT_WARM, POLICY, storeAway, world } from '../../kit/world.ts';

const NOW = 1_000_000;
const row = (ip: string, more: Partial<Allocation> = {}): Allocation =>
  rowWith({ subnet: SUBNET, ip: ip as Ipv4, status: 'ready', generation: 1, movedAt: NOW, ...more });
const rests = (ip: string, since: number) => row(ip, { restedSince: since, restedFrom: ENI_A });

/** A cache that has learned these rows of ENI A. */
function knowing(...rows: Allocation[]) {
  const clock = { now: 0 };
  const cache = createCache(POLICY, () => clock.now);
  const learn = (...read: Allocation[]) => cache.learn(ENI_A, { now: NOW, rows: read });
  learn(...rows);
  return { cache, clock, learn, take: (range: Cidr | null = null) => cache.take(ENI_A, range) };
}

const taking = suite('take');

taking('a row that somebody keeps locked comes last, for a while or until it was moved', () => {
  const { cache, clock, learn, take } = knowing();
  const next = () => {
    learn(row('10.0.1.7'), rests('10.0.1.8', NOW - 50_000));
    const taken = take();
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
  const rows = [rests('10.0.1.6', NOW - 40_000), row('10.0.1.7'), rests('10.0.1.8', NOW - 50_000)];
  const { take } = knowing(...rows);
  const taken = [1, 2, 3, 4].map(() => take()?.ip);
  assert.equal(taken, ['10.0.1.7', '10.0.1.8', '10.0.1.6', undefined]);
});

taking("none that cools down, by the store's clock and not the process's", () => {
  const { cache, clock, take } = knowing(rests('10.0.1.6', NOW - POLICY.cooldownMs + 10));
  assert.is(take(), null);
  assert.equal(cache.count(ENI_A, null), { usable: 0, resting: 1 });
  clock.now += 9;
  assert.is(take(), null);
  clock.now += 1;
  assert.is(take()?.ip, '10.0.1.6');
});

taking('only those of the range, and of the ENI', () => {
  const { cache, take } = knowing(row('10.0.1.6'), row('10.0.1.200'));
  const range = parseCidr('10.0.1.128/25');
  assert.is(cache.take(ENI_B, null), null);
  assert.is(take(range)?.ip, '10.0.1.200');
  assert.is(take(range), null);
});

taking('nothing more that others may have moved, once one of the ENI has been', () => {
  const { cache, take } = knowing(row('10.0.1.6'), row('10.0.1.7'));
  const taken = take();
  assert.ok(taken);
  cache.settled(taken, false);
  assert.is(take(), null);
});

taking('what the ledger does not name any more is forgotten', () => {
  const { cache, learn } = knowing(row('10.0.1.6'), row('10.0.1.7'));
  learn(row('10.0.1.7'));
  assert.equal(cache.count(ENI_A, null), { usable: 1, resting: 0 });
});

taking('nothing that was claimed otherwise', () => {
  const { cache, take } = knowing(row('10.0.1.6'));
  cache.note(row('10.0.1.6', { status: 'allocated' }));
  assert.is(take(), null);
});

taking('never a primary', () => {
  const { cache, take } = knowing(row('10.0.1.4', { primary: true }));
  cache.note(row('10.0.1.4', { primary: true }));
  assert.is(take(), null);
});

taking('what is being claimed is not learned anew before that has ended', () => {
  const { cache, learn, take } = knowing(row('10.0.1.6'));
  const taken = take();
  assert.ok(taken);
  learn(row('10.0.1.6'));
  assert.is(take(), null);
  cache.settled(taken, true);
  learn(row('10.0.1.6'));
  assert.is(take()?.ip, '10.0.1.6');
});

taking('a withheld row: is neither offered nor counted, until it is no more or has moved', () => {
  const { cache, take } = knowing(row('10.0.1.7'));
  cache.withhold([ENI_A], [{ row: row('10.0.1.7'), finding: 'process 1' }]);
  assert.is(cache.withheld(row('10.0.1.7')), 'process 1');
  assert.is(cache.withheld(row('10.0.1.7', { generation: 2 })), null);
  assert.is(cache.withheld(row('10.0.1.8')), null);
  assert.is(take(), null);
  assert.is(cache.takeResting(ENI_A, null, NOW), null);
  assert.equal(cache.count(ENI_A, null), { usable: 0, resting: 0 });
  cache.note(row('10.0.1.7', { generation: 2 }));
  assert.is(take()?.generation, 2);
  cache.settled(row('10.0.1.7'), true);
  cache.withhold([ENI_B], []);
  assert.is(cache.withheld(row('10.0.1.7')), 'process 1', 'another ENI says nothing of it');
  cache.withhold([ENI_A], []);
  cache.note(row('10.0.1.7'));
  assert.is(take()?.ip, '10.0.1.7');
});

taking.run();

const holding = suite('holding');

holding('is remembered for its ENI, once', () => {
  const { cache } = knowing();
  const held = row('10.0.1.6', { status: 'allocated' });
  cache.note(held);
  assert.is(cache.holding(ENI_B, held.ip), null);
  assert.is(cache.holding(ENI_A, held.ip)?.generation, 1);
  assert.is(cache.holding(ENI_A, held.ip), null);
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

/** Two servers on one ledger without a cooldown, of which the first has given an address. */
async function twoServers() {
  const w = world({ vpc: ROOMY, policy: { cooldownMs: 0 } });
  const { ip } = await w.request(ENI_A);
  return { w, other: w.another(), ip };
}

serving('a release that was made and answered "no" ends no later holding', async () => {
  const { w, other, ip } = await twoServers();
  let answered = 0;
  // What a store does that reads back by its token what it has committed.
  const move: typeof w.store.move = async changes => {
    const moved = await w.store.move(changes);
    if (changes[0]?.move !== 'release' || answered++ > 0) return moved;
    await other.request(ENI_A, { named: ip });
    return [];
  };
  const behind = w.serverWith({ store: { ...w.store, move } });
  for (const remembered of [true, false]) {
    answered = 0;
    if (remembered) {
      await other.release(ENI_A, ip);
      await behind.request(ENI_A, { named: ip });
    }
    w.time.now += 1000;
    assert.is(await behind.release(ENI_A, ip), true);
    assert.is(await w.statusOf(ip), 'allocated', remembered ? 'remembered' : 'read');
  }
});

serving('a holding that another server began is ended by a server whose store answered late', async () => {
  const { w, other, ip } = await twoServers();
  await w.release(ENI_A, ip);
  const back = w.intercept('move', move => async changes => {
    const moved = await move(changes);
    w.time.now += 5000;
    return moved;
  });
  await w.request(ENI_A, { named: ip });
  back();
  w.time.now += 1;
  await other.release(ENI_A, ip);
  await other.request(ENI_A, { named: ip });
  w.time.now += 1;
  assert.is(await w.release(ENI_A, ip), true);
  assert.is(await w.statusOf(ip), 'ready');
});

for (const [isMade, isRemembered] of [
  [true, true],
  [true, false],
  [false, true],
  [false, false],
]) {
  const what = `${isMade ? 'made' : 'not made'}, ${isRemembered ? 'remembered' : 'read'}`;
  serving(`a release of unknown outcome (${what}) ends no later holding`, async () => {
    const { w, other, ip } = await twoServers();
    const releasing = isRemembered ? w : w.another();
    w.time.now += 1000;
    let failures = 0;
    w.intercept('move', move => async changes => {
      if (changes[0]?.move !== 'release' || failures++ > 0) return move(changes);
      if (isMade) {
        await move(changes);
        w.time.now += 10;
        await other.request(ENI_A, { named: ip });
      }
      return await storeAway();
    });
    assert.is(await releasing.release(ENI_A, ip), true);
    assert.is((await w.ipsWith('allocated')).includes(ip), isMade);
  });
}

serving('what is remembered of another holding does not hide the one that is to be ended', async () => {
  const { w, other, ip } = await twoServers();
  await other.release(ENI_A, ip);
  w.time.now += 1000;
  await other.request(ENI_A, { named: ip });
  w.time.now += 1000;
  const back = w.intercept('move', () => async () => {
    back();
    return await storeAway();
  });
  assert.is(await w.release(ENI_A, ip), true);
  assert.not.ok((await w.ipsWith('allocated')).includes(ip));
});

serving.run();
