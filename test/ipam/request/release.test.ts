// Goal: a release ends the holding that there was when it arrived, whichever server began that, and none that began
// later. Method: several servers on one ledger, a store that fails or waits, and time that passes meanwhile.
import type { Ipv4 } from '../../../src/domain/address.ts';
import { IpamError } from '../../../src/domain/error.ts';
import { assert, suite } from '../../kit/uvu.ts';
import {
  countingCalls,
  ENI_A,
  failure,
  type LogLine,
  POLICY,
  ROOMY,
  release,
  request,
  rowOf,
  type World,
  world,
} from '../../kit/world.ts';

const NAMED = '10.0.1.77';
const pool = { eni: ENI_A, range: null };
const later = (w: World, ms: number) => {
  w.time.now += ms;
};
const keptIn = ({ lines }: { lines: readonly LogLine[] }) =>
  lines.filter(line => line.message.startsWith('not released')).length;

const servers = suite('a release at one of several servers');

servers('costs one commit and no read where that server gave the address', async () => {
  const w = world({ vpc: ROOMY });
  const other = w.another();
  await request(other, ENI_A);
  const { ip } = await request(w, ENI_A);
  const calls = countingCalls(w, 'get', 'move');
  assert.is(await release(w, ENI_A, ip), true);
  assert.equal(calls, { get: 0, move: 1 });
});

for (const [what, restMs] of [
  ['long ago', 40_000],
  ['a moment ago', 3],
] as const)
  servers(`ends what another server took back and gave again ${what}`, async () => {
    const w = world({ vpc: ROOMY });
    const other = w.another();
    const { ip } = await request(w, ENI_A);
    later(w, 1_000);
    await release(other, ENI_A, ip);
    later(w, restMs);
    await request(other, ENI_A, { named: ip });
    later(w, restMs);
    assert.is(await release(w, ENI_A, ip), true);
    assert.is((await rowOf(w, ip)).status, 'ready');
  });

servers('is answered as a no only after the ledger was read', async () => {
  const w = world({ vpc: ROOMY });
  const other = w.another();
  const { ip } = await request(w, ENI_A);
  await release(other, ENI_A, ip);
  const calls = countingCalls(w, 'get');
  await release(w, ENI_A, ip);
  assert.equal(calls, { get: 1 });
});

servers('that was made, and answered "no" since another server has given the address anew', async () => {
  const w = world({ vpc: ROOMY });
  const other = w.another();
  const { ip } = await request(w, ENI_A);
  later(w, 1_000);
  const { move } = w.store;
  w.store.move = async changes => {
    w.store.move = move;
    await move(changes);
    later(w, 1);
    await request(other, ENI_A, { named: ip });
    return [];
  };
  assert.is(await release(w, ENI_A, ip), true);
  assert.is((await rowOf(w, ip)).status, 'allocated');
});

servers.run();

const lateness = suite('a release that comes to the ledger late');

/** `changes` happen while the release waits for the store for a minute. */
async function whileAway(w: World, changes: () => Promise<unknown>): Promise<boolean> {
  const { get } = w.store;
  let tries = 0;
  w.store.get = async (subnet, ips) => {
    if (tries++ === 0) {
      later(w, 60_000);
      w.store.get = get;
      await changes();
      throw new IpamError('store-down', 'away');
    }
    return await get(subnet, ips);
  };
  return await release(w, ENI_A, NAMED);
}

/** A server that knows the ENI and the store's clock, and does not remember who has the address. */
async function ignorant(w: World): Promise<World> {
  const other = w.another();
  await request(other, ENI_A, { named: '10.0.1.88' });
  return other;
}

lateness('ends a holding that began before it arrived', async () => {
  const w = world({ vpc: ROOMY });
  const other = await ignorant(w);
  await request(w, ENI_A, { named: NAMED });
  later(w, 100);
  assert.is(await whileAway(other, async () => {}), true);
  assert.is((await rowOf(w, NAMED)).status, 'ready');
});

lateness('keeps one that began after it arrived, and says so', async () => {
  const w = world({ vpc: ROOMY });
  const other = await ignorant(w);
  await request(w, ENI_A, { named: NAMED });
  later(w, 100);
  await whileAway(other, async () => {
    await release(w, ENI_A, NAMED);
    await request(w, ENI_A, { named: NAMED, holder: 'next' });
  });
  assert.is((await rowOf(w, NAMED)).holder, 'next');
  assert.is(keptIn(other), 1);
});

for (const [what, stepMs] of [
  ['forward', 300_000],
  ['back', -300_000],
] as const)
  lateness(`keeps one that began after it arrived although the store's clock was set ${what}`, async () => {
    const skew = { ms: 0 };
    const { createMemoryStore } = await import('../../../src/store/memory.ts');
    const w = world({ vpc: ROOMY, store: now => createMemoryStore({ clock: () => now() + skew.ms }) });
    const other = await ignorant(w);
    await request(w, ENI_A, { named: NAMED });
    later(w, 100);
    await whileAway(other, async () => {
      skew.ms = stepMs;
      await release(w, ENI_A, NAMED);
      await request(w, ENI_A, { named: NAMED, holder: 'next' });
    });
    assert.is((await rowOf(w, NAMED)).holder, 'next');
  });

lateness('ends what is dated later than the ledger is, at a server that has just started', async () => {
  const skew = { ms: 300_000 };
  const { createMemoryStore } = await import('../../../src/store/memory.ts');
  const w = world({ vpc: ROOMY, store: now => createMemoryStore({ clock: () => now() + skew.ms }) });
  await request(w, ENI_A, { named: NAMED });
  skew.ms = 0;
  later(w, 100);
  assert.is(await whileAway(w.another(), async () => {}), true);
  assert.is((await rowOf(w, NAMED)).status, 'ready');
});

lateness(
  'keeps what was given anew after its own first try, on a clock that was set back before',
  async () => {
    const skew = { ms: 100_000 };
    const { createMemoryStore } = await import('../../../src/store/memory.ts');
    const w = world({ vpc: ROOMY, store: now => createMemoryStore({ clock: () => now() + skew.ms }) });
    await request(w, ENI_A, { named: NAMED });
    skew.ms = 0;
    later(w, 100);
    const { get, move } = w.store;
    w.store.move = async changes => {
      w.store.move = move;
      await move(changes);
      later(w, 5_000);
      await request(w.another(), ENI_A, { named: NAMED, holder: 'next' });
      w.store.get = async (subnet, ips) => {
        later(w, 10_000); // so that a look tells little of the store's clock
        return await get(subnet, ips);
      };
      throw new IpamError('store-down', 'the answer was lost');
    };
    await release(w, ENI_A, NAMED);
    assert.is((await rowOf(w, NAMED)).holder, 'next');
  },
);

/** A store that is far away: each look takes so long, and reads in the middle of it. */
function farAway({ store, time }: World, ms: number): void {
  const { get } = store;
  store.get = async (subnet, ips) => {
    time.now += ms / 2;
    const read = await get(subnet, ips);
    time.now += ms / 2;
    return read;
  };
}

lateness('ends what nobody else has ended since, however far away the store is', async () => {
  const w = world({ vpc: ROOMY });
  await request(w, ENI_A, { named: NAMED });
  later(w, 10);
  const other = w.another();
  farAway(other, 2_000);
  assert.is(await release(other, ENI_A, NAMED), true);
  assert.is((await rowOf(w, NAMED)).status, 'ready');
});

lateness('ends what began a moment ago and was last given up long before', async () => {
  const w = world({ vpc: ROOMY });
  await request(w, ENI_A, { named: NAMED });
  await release(w, ENI_A, NAMED);
  later(w, 60_000);
  await request(w, ENI_A, { named: NAMED });
  const other = w.another();
  farAway(other, 2_000);
  assert.is(await release(other, ENI_A, NAMED), true);
  assert.is((await rowOf(w, NAMED)).status, 'ready');
});

for (const [when, beforeMs, afterMs, laterMs] of [
  ['before that', 2_000, 0, 3_000],
  ['since', 0, 2_000, 10],
  ['by minutes since', 0, 300_000, 10],
] as const)
  lateness(
    `keeps what was given anew after its own first try, on a clock that has stepped forward ${when}`,
    async () => {
      const skew = { ms: 0 };
      const { createMemoryStore } = await import('../../../src/store/memory.ts');
      const w = world({ vpc: ROOMY, store: now => createMemoryStore({ clock: () => now() + skew.ms }) });
      await request(w, ENI_A, { named: NAMED });
      later(w, 60_000);
      const { move } = w.store;
      w.store.move = async changes => {
        w.store.move = move;
        await move(changes);
        skew.ms += beforeMs;
        later(w, laterMs);
        await request(w.another(), ENI_A, { named: NAMED, holder: 'next' });
        skew.ms += afterMs;
        throw new IpamError('store-down', 'the answer was lost');
      };
      const released = release(w, ENI_A, NAMED);
      if (afterMs === 0) assert.is(await released, true);
      else assert.match((await failure(released)).line, /may have been given anew/);
      assert.is((await rowOf(w, NAMED)).holder, 'next');
    },
  );

lateness('is refused where nobody can tell what it was to end', async () => {
  const w = world({ vpc: ROOMY });
  await request(w, ENI_A, { named: NAMED });
  await release(w, ENI_A, NAMED);
  await request(w, ENI_A, { named: NAMED, holder: 'next' });
  const other = w.another();
  farAway(other, 2_000);
  const { line } = await failure(release(other, ENI_A, NAMED));
  assert.match(
    line,
    /^10\.0\.1\.77 may have been given anew .*; if nobody uses it, run `ec2-ipam release subnet-0a1 10/,
  );
  assert.is((await rowOf(w, NAMED)).holder, 'next');
});

lateness('since the ledger was not open yet, keeps what began after it arrived', async () => {
  const w = world({ vpc: ROOMY });
  const other = await ignorant(w);
  await request(w, ENI_A, { named: NAMED });
  later(w, 100);
  let open = () => {};
  const opened = new Promise<void>(resolve => {
    open = resolve;
  });
  const released = other.allocator.release(pool, NAMED as Ipv4, () => opened);
  await release(w, ENI_A, NAMED);
  later(w, 5_000);
  await request(w, ENI_A, { named: NAMED, holder: 'next' });
  later(w, 60_000);
  open();
  await released;
  assert.is((await rowOf(w, NAMED)).holder, 'next');
});

lateness('ends what it remembers, and nothing that began later', async () => {
  const w = world({ vpc: ROOMY });
  const other = w.another();
  await request(w, ENI_A, { named: NAMED });
  later(w, 100);
  let open = () => {};
  const opened = new Promise<void>(resolve => {
    open = resolve;
  });
  const released = w.allocator.release(pool, NAMED as Ipv4, () => opened);
  later(w, 1_000);
  await release(other, ENI_A, NAMED);
  await request(w, ENI_A, { named: NAMED, holder: 'next' });
  later(w, 60_000);
  open();
  await released;
  assert.is((await rowOf(w, NAMED)).holder, 'next');
});

lateness.run();

const owing = suite('a release while the store is away for longer than a request waits');

/** The store takes no move until it is told to. */
function withoutStore({ store }: World): () => void {
  const { move } = store;
  store.move = async () => {
    throw new IpamError('store-down', 'away');
  };
  return () => {
    store.move = move;
  };
}

owing('is refused in time, and made once the store is back', async () => {
  const w = world({ vpc: ROOMY });
  const { ip } = await request(w, ENI_A);
  const back = withoutStore(w);
  assert.is((await failure(release(w, ENI_A, ip))).code, 'store-down');
  await failure(w.releases.settleOwed());
  back();
  assert.equal(w.releases.owed(), [ip]);
  await w.releases.settleOwed();
  assert.equal(w.releases.owed(), []);
  assert.is((await rowOf(w, ip)).status, 'ready');
});

owing('is not kept back by one whose row somebody has locked', async () => {
  const w = world({ vpc: ROOMY });
  const locked = await request(w, ENI_A);
  const { ip } = await request(w, ENI_A);
  const back = withoutStore(w);
  await failure(release(w, ENI_A, locked.ip));
  await failure(release(w, ENI_A, ip));
  back();
  const { move } = w.store;
  w.store.move = async changes => {
    if (changes.some(({ row }) => row.ip === locked.ip))
      throw new IpamError('store-down', 'its row is locked', { addresses: [locked.ip] });
    return await move(changes);
  };
  await w.releases.settleOwed();
  assert.is((await rowOf(w, ip)).status, 'ready');
  assert.equal(w.releases.owed(), [locked.ip]);
  w.store.move = move;
  await w.releases.settleOwed();
  assert.is((await rowOf(w, locked.ip)).status, 'ready');
});

owing('ends no holding that began after it arrived', async () => {
  const w = world({ vpc: ROOMY });
  const other = w.another();
  await request(w, ENI_A, { named: NAMED });
  const back = withoutStore(w);
  await failure(release(w, ENI_A, NAMED));
  back();
  await release(other, ENI_A, NAMED);
  await request(other, ENI_A, { named: NAMED, holder: 'next' });
  await w.releases.settleOwed();
  assert.is((await rowOf(w, NAMED)).holder, 'next');
  assert.equal(w.releases.owed(), []);
});

owing('is waited for by a request for the same address', async () => {
  const w = world({ vpc: ROOMY });
  await request(w, ENI_A, { named: NAMED });
  const back = withoutStore(w);
  await failure(release(w, ENI_A, NAMED));
  back();
  const asked = request(w, ENI_A, { named: NAMED, holder: 'next' });
  await w.releases.settleOwed();
  assert.is((await asked).holder, 'next');
});

owing('is made by the keeper', async () => {
  const w = world({ vpc: ROOMY });
  const { ip } = await request(w, ENI_A);
  const back = withoutStore(w);
  await failure(release(w, ENI_A, ip));
  back();
  void w.keeper.run();
  await w.keeper.stop(60_000);
  assert.is((await rowOf(w, ip)).status, 'ready');
});

owing('is made by a server that stops', async () => {
  const w = world({ vpc: ROOMY });
  const { ip } = await request(w, ENI_A);
  const back = withoutStore(w);
  await failure(release(w, ENI_A, ip));
  back();
  await w.keeper.stop(60_000);
  assert.is((await rowOf(w, ip)).status, 'ready');
});

owing('is named in the log of a server that stops before', async () => {
  const w = world({ vpc: ROOMY });
  const { ip } = await request(w, ENI_A);
  withoutStore(w);
  await failure(release(w, ENI_A, ip));
  void w.keeper.run();
  await w.keeper.stop(60_000);
  const told = w.lines.filter(line => line.level === 'error' && line.message.startsWith('stopped before'));
  assert.equal(
    told.map(line => line.fields.ips),
    [[ip]],
  );
});

owing.run();

const named = suite('--ip and the release of the same address');

/** A release that waits, with the address held. */
async function waitingRelease(w: World) {
  await request(w, ENI_A, { named: NAMED, holder: 'before' });
  let letGo = () => {};
  const held = new Promise<void>(resolve => {
    letGo = resolve;
  });
  const released = w.allocator.release(pool, NAMED as Ipv4, () => held);
  return { letGo, released };
}

named('waits for the release that this server has in hand', async () => {
  const w = world({ vpc: ROOMY });
  const { letGo, released } = await waitingRelease(w);
  const { get } = w.store;
  w.store.get = async (subnet, ips) => {
    w.store.get = get;
    const read = await get(subnet, ips);
    letGo();
    return read;
  };
  assert.is((await request(w, ENI_A, { named: NAMED, holder: 'after' })).holder, 'after');
  assert.is(await released, true);
  assert.is((await rowOf(w, NAMED)).holder, 'after');
});

named('waits for one that is made while the row is read', async () => {
  const w = world({ vpc: ROOMY });
  await request(w, ENI_A, { named: NAMED });
  const { get } = w.store;
  w.store.get = async (subnet, ips) => {
    w.store.get = get;
    const read = await get(subnet, ips);
    await released;
    return read;
  };
  const released = w.allocator.release(pool, NAMED as Ipv4);
  assert.is((await request(w, ENI_A, { named: NAMED, holder: 'after' })).holder, 'after');
});

named('waits for one that is tried again, since the store has failed', async () => {
  const w = world({ vpc: ROOMY });
  await request(w, ENI_A, { named: NAMED });
  const { move } = w.store;
  let failures = 0;
  w.store.move = async changes => {
    if (changes[0]?.move === 'release' && failures++ < 3) throw new IpamError('store-down', 'away');
    return await move(changes);
  };
  const released = release(w, ENI_A, NAMED);
  assert.is((await request(w, ENI_A, { named: NAMED, holder: 'after' })).holder, 'after');
  assert.is(await released, true);
});

named('is refused when the release does not end within its bound', async () => {
  const w = world({ vpc: ROOMY });
  const { letGo } = await waitingRelease(w);
  const before = w.time.now;
  assert.match((await failure(request(w, ENI_A, { named: NAMED }))).line, /is held by container before/);
  assert.ok(w.time.now - before >= POLICY.requestTimeoutMs);
  letGo();
});

named('is refused at once when no release is in hand', async () => {
  const w = world({ vpc: ROOMY });
  await request(w, ENI_A, { named: NAMED });
  const before = w.time.now;
  await failure(request(w, ENI_A, { named: NAMED }));
  assert.is(w.time.now, before);
});

named.run();
