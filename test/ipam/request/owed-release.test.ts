// Goal: a release that the ledger could not take in time is made once the ledger is back, and no start suffers from it.
// Method: a store that is away, locked or hung while releases arrive, and requests that wait for them.
import type { Ipv4 } from '../../../src/domain/address.ts';
import { IpamError } from '../../../src/domain/error.ts';
import { ANYBODY } from '../../../src/domain/origin.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { DESCRIBE, ENI_A, ENI_B, ROOMY, SMALL } from '../../kit/vpcs.ts';
import { failure, ipsOf, NOT_WARM, storeAway, type World, world } from '../../kit/world.ts';
import { giveAnew, hold, isHeldBy, NAMED, servers } from './servers.ts';

const LARGE_ENI = {
  ...ROOMY,
  instanceTypes: { 'test.large': { enis: 2, addressesPerEni: 250 } },
  instances: ROOMY.instances?.map(instance => ({ ...instance, type: 'test.large' })) ?? [],
};

const owing = suite('a release while the store is away for longer than a request waits');

/** The store took no move while the releases arrived. */
async function owed(w: World, ...ips: string[]): Promise<() => void> {
  const back = w.intercept('move', () => storeAway);
  for (const ip of ips) assert.is((await failure(w.release(ENI_A, ip))).code, 'store-down');
  return back;
}

owing('is refused in time, and made once the store is back', async () => {
  const { w } = servers();
  const { ip } = await w.request(ENI_A);
  const back = await owed(w, ip);
  await failure(w.releases.settleOwed());
  back();
  assert.equal(w.releases.owed(), [ip]);
  await w.releases.settleOwed();
  assert.equal(w.releases.owed(), []);
  assert.is(await w.statusOf(ip), 'ready');
});

owing('is owed once, however often an agent repeats it', async () => {
  const { w } = servers();
  const { ip } = await w.request(ENI_A);
  const back = w.intercept('move', () => storeAway);
  const release = (id: string) => {
    const client = { from: { ...ANYBODY, id }, isLate: () => false, log: w.context.log };
    return failure(w.allocator.release({ eni: ENI_A, range: null }, ip, undefined, client));
  };
  for (const id of ['s-1', 's-1', 's-2', 's-1']) await release(id);
  assert.equal(w.releases.owed(), [ip, ip]);
  back();
  await w.releases.settleOwed();
  assert.equal(w.releases.owed(), []);
  assert.equal([(await w.rowOf(ip)).status, (await w.rowOf(ip)).releaseId], ['ready', 's-1']);
});

owing('is not kept back by one whose row somebody has locked', async () => {
  const { w } = servers();
  const [locked, { ip }] = [await w.request(ENI_A), await w.request(ENI_A)];
  (await owed(w, locked.ip, ip))();
  const unlock = w.intercept('move', move => async changes => {
    if (changes.some(({ row }) => row.ip === locked.ip))
      throw new IpamError('store-down', 'its row is locked', { addresses: [locked.ip] });
    return await move(changes);
  });
  await w.releases.settleOwed();
  assert.is(await w.statusOf(ip), 'ready');
  assert.equal(w.releases.owed(), [locked.ip]);
  unlock();
  await w.releases.settleOwed();
  assert.is(await w.statusOf(locked.ip), 'ready');
});

owing('is kept while EC2 does not say whose its ENI is', async () => {
  const { w } = servers();
  const { ip } = await w.request(ENI_A);
  (await owed(w, ip))();
  w.enis.forget(ENI_A);
  const back = w.intercept('eni', eni => async id => {
    const known = await eni(id);
    return known === null ? null : { ...known, primary: '0.0.0.0' as Ipv4 };
  });
  w.vpc.faults.add({ kind: 'throttle', action: DESCRIBE });
  await w.releases.settleOwed();
  assert.equal(w.releases.owed(), [ip]);
  back();
  w.vpc.faults.clear();
  w.enis.forget(ENI_A);
  await w.releases.settleOwed();
  assert.is(await w.statusOf(ip), 'ready');
});

owing('is made once, so many at a time, however often the loop comes round meanwhile', async () => {
  const w = world({ vpc: LARGE_ENI, policy: { warmMin: 0, warmMax: 200 } });
  const held = await Promise.all(Array.from({ length: 200 }, () => w.request(ENI_A)));
  const back = w.intercept('move', () => storeAway);
  await Promise.all(held.map(({ ip }) => failure(w.release(ENI_A, ip))));
  back();
  let [reads, most] = [0, 0];
  w.intercept('get', get => async (...asked) => {
    most = Math.max(most, ++reads);
    await w.time.wait(1_000);
    reads--;
    return await get(...asked);
  });
  const rounds = [w.releases.settleOwed()];
  for (let round = 0; round < 3; round++) {
    await w.time.wait(500);
    rounds.push(w.releases.settleOwed());
  }
  await Promise.all(rounds);
  assert.equal(w.releases.owed(), []);
  assert.is(w.linesOf('release made late'), 200);
  assert.ok(most <= 50, `${most} reads at once`);
});

owing('is tried alone until the store is back', async () => {
  const { w } = servers();
  const held = [await w.request(ENI_A), await w.request(ENI_A)];
  await owed(w, ...ipsOf(held));
  const tries = w.countingCalls('move');
  await failure(w.releases.settleOwed());
  assert.is(tries.move, 1);
});

for (const [when, rounds] of [
  ['just now', 1],
  ['for long', 100],
] as const)
  owing(`whose row somebody has locked ${when}: a start waits for an outage all the same`, async () => {
    const { w } = servers();
    const [locked] = [await w.request(ENI_A), await w.request(ENI_A)];
    let awayUntil = 0;
    w.intercept('move', move => async changes => {
      if (w.time.now < awayUntil) return await storeAway();
      if (!changes.some(({ row }) => row.ip === locked.ip)) return await move(changes);
      await w.time.wait(5_000);
      throw new IpamError('store-down', 'its row is locked', { addresses: [locked.ip] });
    });
    await failure(w.release(ENI_A, locked.ip));
    for (let i = 0; i < rounds; i++) {
      await w.releases.settleOwed();
      await w.time.wait(1_000);
    }
    awayUntil = w.time.now + 15_000;
    assert.is((await w.request(ENI_A)).status, 'allocated');
  });

for (const [what, vpc, eni] of [
  ['on an ENI that it leaves full', ROOMY, ENI_A],
  ['in a subnet that it leaves full', SMALL, ENI_B],
] as const)
  owing(`is waited for by a request ${what}`, async () => {
    const w = world({ vpc, policy: NOT_WARM });
    const [first] = await w.requests(ENI_A, 9);
    const ip = first?.ip ?? '';
    (await owed(w, ip))();
    const asked = w.request(eni, { holder: 'next' });
    await w.time.wait(3_000);
    await w.releases.settleOwed();
    const { ip: given, holder, iface } = await asked;
    assert.equal({ given, holder, iface }, { given: ip, holder: 'next', iface: eni });
  });

owing('is not waited for by a request that it does not help', async () => {
  const w = world({ vpc: ROOMY, policy: NOT_WARM });
  await w.request(ENI_B, { named: NAMED });
  await w.requests(ENI_A, 9);
  const back = w.intercept('move', () => storeAway);
  await failure(w.release(ENI_B, NAMED));
  back();
  const refused = failure(w.request(ENI_A));
  assert.ok((await w.tookMs(refused)) < 1_000);
  assert.is((await refused).code, 'exhausted');
});

owing('ends no holding that began after it arrived', async () => {
  const { w, other } = servers();
  await hold(w);
  (await owed(w, NAMED))();
  await giveAnew(other);
  await w.releases.settleOwed();
  await isHeldBy(w, 'next');
  assert.equal(w.releases.owed(), []);
});

owing('is waited for by a request for the same address', async () => {
  const { w } = servers();
  await hold(w);
  (await owed(w, NAMED))();
  const asked = hold(w, 'next');
  await w.releases.settleOwed();
  assert.is((await asked).holder, 'next');
});

for (const [by, isRunning] of [
  ['the keeper', true],
  ['a server that stops', false],
] as const)
  owing(`is made by ${by}`, async () => {
    const { w } = servers();
    const { ip } = await w.request(ENI_A);
    (await owed(w, ip))();
    if (isRunning) void w.keeper.run();
    await w.keeper.stop(60_000);
    assert.is(await w.statusOf(ip), 'ready');
  });

for (const [what, isHung] of [
  ['before', false],
  ['at its bound, since the store hangs', true],
] as const)
  owing(`is named in the log of a server that stops ${what}`, async () => {
    const { w } = servers();
    const { ip } = await w.request(ENI_A);
    await owed(w, ip);
    if (isHung) w.intercept('lateOutcomes', () => () => new Promise(() => {}));
    void w.keeper.run();
    await w.keeper.stop(60_000);
    const told = w.lines.filter(
      line => line.level === 'error' && line.message.startsWith('releases not made'),
    );
    assert.is(told.length, 1);
    assert.equal(told[0]?.fields.ips, [ip]);
  });

owing.run();
