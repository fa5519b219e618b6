// Goal: a release ends the holding that there was when it arrived, whichever server began that, and none that began
// later. Method: several servers on one ledger, a store that fails or waits, and time that passes meanwhile.
import type { Ipv4 } from '../../../src/domain/address.ts';
import type { Allocation } from '../../../src/domain/allocation.ts';
import { IpamError } from '../../../src/domain/error.ts';
import { createMemoryStore } from '../../../src/store/memory.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { DESCRIBE, ENI_A, ENI_B, ROOMY, SMALL } from '../../kit/vpcs.ts';
import { failure, ipsOf, NOT_WARM, POLICY, storeAway, type World, world } from '../../kit/world.ts';

const NAMED = '10.0.1.77' as Ipv4;
const LARGE_ENI = {
  ...ROOMY,
  instanceTypes: { 'test.large': { enis: 2, addressesPerEni: 250 } },
  instances: ROOMY.instances?.map(instance => ({ ...instance, type: 'test.large' })) ?? [],
};
const later = ({ time }: World, ms: number) => {
  time.now += ms;
};
/** Two servers on one ledger, whose clock is `skew.ms` ahead of theirs. */
function servers(skewMs = 0) {
  const skew = { ms: skewMs };
  const w = world({ vpc: ROOMY, store: now => createMemoryStore({ clock: () => now() + skew.ms }) });
  return { w, other: w.another(), skew };
}
const hold = (w: World, holder: string | null = null): Promise<Allocation> =>
  w.request(ENI_A, { named: NAMED, holder });
/** The address is released at one server and given to the next holder by another. */
async function giveAnew(ends: World, begins = ends): Promise<void> {
  await ends.release(ENI_A, NAMED);
  await hold(begins, 'next');
}
async function endsHolding(w: World, released: Promise<boolean>, ip: string = NAMED): Promise<void> {
  assert.is(await released, true);
  assert.is(await w.statusOf(ip), 'ready');
}
const isHeldBy = async (w: World, holder: string) => assert.is((await w.rowOf(NAMED)).holder, holder);
/** The next move is made and the answer lost, and meanwhile `work` is done. */
function loseAnswer(w: World, work: () => Promise<unknown>): void {
  const back = w.intercept('move', move => async changes => {
    back();
    await move(changes);
    await work();
    throw new IpamError('store-down', 'the answer was lost');
  });
}
/** A release that waits for `open`. */
function waitingRelease({ allocator }: World) {
  const { promise, resolve: open } = Promise.withResolvers<void>();
  return { released: allocator.release({ eni: ENI_A, range: null }, NAMED, () => promise), open };
}

const several = suite('a release at one of several servers');

several('costs one commit and no read where that server gave the address', async () => {
  const { w, other } = servers();
  await other.request(ENI_A);
  const { ip } = await w.request(ENI_A);
  const calls = w.countingCalls('get', 'move');
  assert.is(await w.release(ENI_A, ip), true);
  assert.equal(calls, { get: 0, move: 1 });
});

for (const [what, restMs] of [
  ['long ago', 40_000],
  ['a moment ago', 3],
] as const)
  several(`ends what another server took back and gave again ${what}`, async () => {
    const { w, other } = servers();
    const { ip } = await w.request(ENI_A);
    later(w, 1_000);
    await other.release(ENI_A, ip);
    later(w, restMs);
    await other.request(ENI_A, { named: ip });
    later(w, restMs);
    await endsHolding(w, w.release(ENI_A, ip), ip);
  });

several('is answered as a no only after the ledger was read', async () => {
  const { w, other } = servers();
  const { ip } = await w.request(ENI_A);
  await other.release(ENI_A, ip);
  const calls = w.countingCalls('get');
  await w.release(ENI_A, ip);
  assert.equal(calls, { get: 1 });
});

several('that was made, and answered "no" since another server has given the address anew', async () => {
  const { w, other } = servers();
  const { ip } = await w.request(ENI_A);
  later(w, 1_000);
  const back = w.intercept('move', move => async changes => {
    back();
    await move(changes);
    later(w, 1);
    await other.request(ENI_A, { named: ip });
    return [];
  });
  assert.is(await w.release(ENI_A, ip), true);
  assert.is(await w.statusOf(ip), 'allocated');
});

several.run();

const late = suite('a release that comes to the ledger late');

/** `changes` happen while the release waits for the store for a minute. */
function whileAway(w: World, changes: () => Promise<unknown> = async () => {}): Promise<boolean> {
  const back = w.intercept('get', () => async () => {
    later(w, 60_000);
    back();
    await changes();
    return await storeAway();
  });
  return w.release(ENI_A, NAMED);
}
/** The other server knows the ENI and the store's clock, and does not remember who has the address. */
async function heldByFirst() {
  const parts = servers();
  await parts.other.request(ENI_A, { named: '10.0.1.88' });
  await hold(parts.w);
  later(parts.w, 100);
  return parts;
}

late('ends a holding that began before it arrived', async () => {
  const { w, other } = await heldByFirst();
  await endsHolding(w, whileAway(other));
});

late('keeps one that began after it arrived, and says so', async () => {
  const { w, other } = await heldByFirst();
  await whileAway(other, () => giveAnew(w));
  await isHeldBy(w, 'next');
  assert.is(other.linesOf('release refused'), 1);
});

for (const [what, stepMs] of [
  ['forward', 300_000],
  ['back', -300_000],
] as const)
  late(`keeps one that began after it arrived although the store's clock was set ${what}`, async () => {
    const { w, other, skew } = await heldByFirst();
    await whileAway(other, () => {
      skew.ms = stepMs;
      return giveAnew(w);
    });
    await isHeldBy(w, 'next');
  });

late('ends what is dated later than the ledger is, at a server that has just started', async () => {
  const { w, other, skew } = servers(300_000);
  await hold(w);
  skew.ms = 0;
  later(w, 100);
  await endsHolding(w, whileAway(other));
});

late('keeps what was given anew after its own first try, on a clock that was set back before', async () => {
  const { w, other, skew } = servers(100_000);
  await hold(w);
  skew.ms = 0;
  later(w, 100);
  loseAnswer(w, async () => {
    later(w, 5_000);
    await hold(other, 'next');
    w.intercept('get', get => async (...asked) => {
      later(w, 10_000); // so that a look tells little of the store's clock
      return await get(...asked);
    });
  });
  await w.release(ENI_A, NAMED);
  await isHeldBy(w, 'next');
});

/** A store that is far away: each look takes so long, and reads in the middle of that. */
const farAway = (w: World, lookMs = 2_000) =>
  w.intercept('get', get => async (...asked) => {
    later(w, lookMs / 2);
    const read = await get(...asked);
    later(w, lookMs / 2);
    return read;
  });

late('ends what nobody else has ended since, however far away the store is', async () => {
  const { w, other } = servers();
  await hold(w);
  later(w, 10);
  farAway(other);
  await endsHolding(w, other.release(ENI_A, NAMED));
});

late('ends what began a moment ago and was last given up long before', async () => {
  const { w, other } = servers();
  await hold(w);
  await w.release(ENI_A, NAMED);
  later(w, 60_000);
  await hold(w);
  farAway(other);
  await endsHolding(w, other.release(ENI_A, NAMED));
});

for (const [when, beforeMs, afterMs, laterMs] of [
  ['before that', 2_000, 0, 3_000],
  ['since', 0, 2_000, 10],
  ['by minutes since', 0, 300_000, 10],
] as const)
  late(`keeps what was given anew after its own first try, on a clock set forward ${when}`, async () => {
    const { w, other, skew } = servers();
    await hold(w);
    later(w, 60_000);
    loseAnswer(w, async () => {
      skew.ms += beforeMs;
      later(w, laterMs);
      await hold(other, 'next');
      skew.ms += afterMs;
    });
    const released = w.release(ENI_A, NAMED);
    if (afterMs === 0) assert.is(await released, true);
    else assert.match((await failure(released)).line, /may have been given anew/);
    await isHeldBy(w, 'next');
  });

late('is refused where the holding began within the time that a late look takes', async () => {
  const { w, other } = await heldByFirst();
  const released = whileAway(other, async () => {
    w.time.now -= 60_000 - 20;
    await giveAnew(w);
    w.time.now += 60_000;
    farAway(other, 100);
  });
  assert.match((await failure(released)).line, /may have been given anew/);
  await isHeldBy(w, 'next');
});

late('is refused where nobody can tell what it was to end', async () => {
  const { w, other } = servers();
  await hold(w);
  await giveAnew(w);
  farAway(other);
  assert.match(
    (await failure(other.release(ENI_A, NAMED))).line,
    /^10\.0\.1\.77 may have been given anew .*; if nobody uses it, run `ec2-ipam release subnet-0a1 10/,
  );
  await isHeldBy(w, 'next');
});

late('since the ledger was not open yet, keeps what began after it arrived', async () => {
  const { w, other } = await heldByFirst();
  const { released, open } = waitingRelease(other);
  await w.release(ENI_A, NAMED);
  later(w, 5_000);
  await hold(w, 'next');
  later(w, 60_000);
  open();
  await released;
  await isHeldBy(w, 'next');
});

late('ends what it remembers, and nothing that began later', async () => {
  const { w, other } = servers();
  await hold(w);
  later(w, 100);
  const { released, open } = waitingRelease(w);
  later(w, 1_000);
  await giveAnew(other, w);
  later(w, 60_000);
  open();
  await released;
  await isHeldBy(w, 'next');
});

late.run();

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
  ['in a subnet that it leaves dry', SMALL, ENI_B],
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
    const told = w.lines.filter(line => line.level === 'error' && line.message.startsWith('stopped before'));
    assert.is(told.length, 1);
    assert.equal(told[0]?.fields.ips, [ip]);
  });

owing.run();

const named = suite('--ip and the release of the same address');

/** The next read of a row calls `work` once it has read. */
function afterRead(w: World, work: () => unknown): void {
  const back = w.intercept('get', get => async (...asked) => {
    back();
    const read = await get(...asked);
    await work();
    return read;
  });
}

named('waits for the release that this server has in hand', async () => {
  const { w } = servers();
  await hold(w, 'before');
  const { released, open } = waitingRelease(w);
  afterRead(w, open);
  assert.is((await hold(w, 'after')).holder, 'after');
  assert.is(await released, true);
  await isHeldBy(w, 'after');
});

named('waits for one that is made while the row is read', async () => {
  const { w } = servers();
  await hold(w);
  afterRead(w, () => released);
  const released = w.release(ENI_A, NAMED);
  assert.is((await hold(w, 'after')).holder, 'after');
});

named('waits for one that is tried again, since the store has failed', async () => {
  const { w } = servers();
  await hold(w);
  let failures = 0;
  w.intercept('move', move => async changes => {
    if (changes[0]?.move === 'release' && failures++ < 3) return await storeAway();
    return await move(changes);
  });
  const released = w.release(ENI_A, NAMED);
  assert.is((await hold(w, 'after')).holder, 'after');
  assert.is(await released, true);
});

named('is refused when the release does not end within its bound', async () => {
  const { w } = servers();
  await hold(w, 'before');
  const { open } = waitingRelease(w);
  const before = w.time.now;
  assert.match((await failure(hold(w))).line, /is held by container before/);
  assert.ok(w.time.now - before >= POLICY.requestTimeoutMs);
  open();
});

named('is refused at once when no release is in hand', async () => {
  const { w } = servers();
  await hold(w);
  assert.is(await w.tookMs(failure(hold(w))), 0);
});

named.run();
