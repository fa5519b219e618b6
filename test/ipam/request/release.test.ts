// Goal: a release ends the holding that there was when it arrived, whichever server began that, and none that began
// later; whatever else is released stays as it is. Method: several servers on one ledger, a store that fails or waits,
// and time that passes meanwhile.

import { IpamError } from '../../../src/domain/error.ts';
import type { EniId } from '../../../src/domain/ids.ts';
import { ANYBODY } from '../../../src/domain/origin.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { DESCRIBE, ENI_A, ENI_B, SUBNET } from '../../kit/vpcs.ts';
import { failure, storeAway, type World, world } from '../../kit/world.ts';
import { giveAnew, hold, isHeldBy, later, NAMED, servers, waitingRelease } from './servers.ts';

const releasing = suite('release');

releasing('of an address by its holder makes it ready and lets it rest', async () => {
  const w = world();
  const { ip } = await w.request(ENI_A, { holder: 'web' });
  assert.is(await w.release(ENI_A, ip), true);
  const { status, restedSince, holder } = await w.rowOf(ip);
  assert.equal([status, restedSince, holder], ['ready', w.time.now, null]);
});

const STATUSES = ['allocated', 'occupied', 'reserved', 'ready', 'free'] as const;
const rollbacks: [what: string, eni: EniId, ip: (held: string) => string][] = [
  ['through another ENI', ENI_B, held => held],
  ['of the gateway', ENI_A, () => '10.0.1.1'],
  ['of the primary', ENI_A, () => '10.0.1.4'],
  ["of another ENI's primary", ENI_A, () => '10.0.1.5'],
  ['of an address outside the subnet', ENI_A, () => '192.168.7.7'],
];
for (const [what, eni, ip] of rollbacks)
  releasing(`${what} is a no and changes nothing`, async () => {
    const w = world();
    const { ip: held } = await w.request(ENI_A);
    await w.enis.adopt(eni);
    const before = await w.store.withStatus(SUBNET, STATUSES);
    assert.is(await w.release(eni, ip(held)), false);
    assert.equal(await w.store.withStatus(SUBNET, STATUSES), before);
  });

releasing(
  'that waited for a stopped server ends what was held before the stop, and says that it ends nothing given since',
  async () => {
    const { w, other } = servers();
    const pool = { eni: ENI_A, range: null };
    const release = (sentMsAgo: number) =>
      w.allocator.release(pool, NAMED, undefined, { from: { ...ANYBODY, sentMsAgo }, isLate: () => false });
    await hold(w);
    later(w, 60_000);
    assert.ok(await release(50_000));
    await hold(w);
    later(w, 60_000);
    await giveAnew(other, w);
    const { line } = await failure(release(50_000));
    assert.match(
      line,
      /^10\.0\.1\.77 may have been given anew .*; if nobody uses it, run `ec2-ipam release subnet-0a1 10/,
    );
    await isHeldBy(w, 'next');
  },
);

releasing('a second time is a no', async () => {
  const w = world();
  const { ip } = await w.request(ENI_A);
  await w.release(ENI_A, ip);
  assert.is(await w.release(ENI_A, ip), false);
});

releasing('of an occupied secondary by the ENI that carries it frees it: its record was lost', async () => {
  const w = world();
  w.putOn(ENI_A, '10.0.1.9');
  await w.enis.adopt(ENI_A);
  assert.is(await w.release(ENI_A, '10.0.1.9'), true);
  assert.is(await w.statusOf('10.0.1.9'), 'ready');
});

releasing('of an occupied address that has left its ENI since the last read is a no', async () => {
  const w = world();
  w.putOn(ENI_A, '10.0.1.9');
  await w.enis.adopt(ENI_A);
  w.takeOff(ENI_A, '10.0.1.9');
  assert.is(await w.release(ENI_A, '10.0.1.9'), false);
  assert.is(await w.statusOf('10.0.1.9'), 'occupied');
});

releasing('of an occupied address that EC2 shows on no ENI gives it to nobody at once', async () => {
  const w = world();
  w.putOn(ENI_A, '10.0.1.9');
  await w.enis.adopt(ENI_A);
  w.takeOff(ENI_A, '10.0.1.9');
  await w.store.move([{ row: await w.rowOf('10.0.1.9'), move: 'unseen' }]);
  assert.is(await w.release(ENI_A, '10.0.1.9'), true);
  assert.is(await w.statusOf('10.0.1.9'), 'free');
});

releasing('is made though EC2 is away for a moment', async () => {
  const w = world({ instance: 'i-0a' });
  w.putOn(ENI_A, '10.0.1.9');
  w.vpc.faults.add({ kind: 'throttle', action: DESCRIBE, times: 3 });
  assert.is(await w.release(ENI_A, '10.0.1.9'), true);
});

releasing('that was made though the store failed does not end the next holding', async () => {
  const w = world();
  const { ip } = await w.request(ENI_A);
  const back = w.intercept('move', move => async changes => {
    back();
    await move(changes);
    w.time.now += 1;
    await move([{ row: await w.rowOf(ip), move: 'claim', holder: 'next' }]);
    return await storeAway();
  });
  assert.is(await w.release(ENI_A, ip), true);
  assert.is((await w.rowOf(ip)).holder, 'next');
  assert.is(await w.statusOf(ip), 'allocated');
});

releasing.run();

async function endsHolding(w: World, released: Promise<boolean>, ip: string = NAMED): Promise<void> {
  assert.is(await released, true);
  assert.is(await w.statusOf(ip), 'ready');
}
/** The next move is made and the answer lost, and meanwhile `work` is done. */
function loseAnswer(w: World, work: () => Promise<unknown>): void {
  const back = w.intercept('move', move => async changes => {
    back();
    await move(changes);
    await work();
    throw new IpamError('store-down', 'the answer was lost');
  });
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

several(
  'that was made, and answered "no" since another server has given the address anew: ends no other',
  async () => {
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
  },
);

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

late('keeps one that began after it arrived although the clock was set forward', async () => {
  const { w, other, skew } = await heldByFirst();
  await whileAway(other, () => {
    skew.ms = 300_000;
    return giveAnew(w);
  });
  await isHeldBy(w, 'next');
});

late('is refused, not answered as made, where the clock was set back since it arrived', async () => {
  const { w, other, skew } = await heldByFirst();
  const released = whileAway(other, () => {
    skew.ms = -300_000;
    return giveAnew(w);
  });
  assert.match((await failure(released)).line, /may have been given anew/);
  await isHeldBy(w, 'next');
});

late('is refused, not answered as made, where the clock was set back since the holding began', async () => {
  const { w, other, skew } = await heldByFirst();
  await giveAnew(w);
  later(w, 500);
  skew.ms = -2_000;
  farAway(other, 400);
  assert.match((await failure(other.release(ENI_A, NAMED))).line, /may have been given anew/);
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
    assert.is(await w.release(ENI_A, NAMED), true);
    await isHeldBy(w, 'next');
  });

late(
  'is refused where the clock was set forward, and its first try and another release had ended two',
  async () => {
    const { w, other, skew } = servers();
    await hold(w);
    later(w, 60_000);
    loseAnswer(w, async () => {
      later(w, 10);
      await hold(other);
      later(w, 500);
      await giveAnew(other);
      skew.ms += 4_000;
    });
    assert.match((await failure(w.release(ENI_A, NAMED))).line, /may have been given anew/);
    await isHeldBy(w, 'next');
  },
);

late('keeps what was given anew after its own first try, on a clock set back just before it', async () => {
  const { w, other, skew } = servers();
  await hold(w);
  later(w, 60_000);
  skew.ms -= 954;
  loseAnswer(w, async () => {
    later(w, 10);
    await hold(other, 'next');
    farAway(w);
  });
  assert.is(await w.release(ENI_A, NAMED), true);
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
