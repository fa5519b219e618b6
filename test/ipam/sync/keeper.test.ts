// Goal: one server of a ledger keeps it in order, in time and no more often than needed. Method: the keeper's loop on a
// simulated VPC, with what it reads of EC2 counted, and servers that come and go.
import type { Cloud, Urgency } from '../../../src/cloud/cloud.ts';
import { createMemoryClient } from '../../../src/cloud/memory.ts';
import { LATE_READS_MS } from '../../../src/domain/allocation.ts';
import { ABSENT_FOR_MS } from '../../../src/domain/drift.ts';
import { IpamError } from '../../../src/domain/error.ts';
import type { InstanceId } from '../../../src/domain/ids.ts';
import { createRollbacks } from '../../../src/ipam/request/rollback.ts';
import { createEvidence } from '../../../src/ipam/sync/holders.ts';
import { createKeeper } from '../../../src/ipam/sync/keeper.ts';
import { reconcile as pass } from '../../../src/ipam/sync/reconcile.ts';
import { createMemoryStore } from '../../../src/store/memory.ts';
import type { Store } from '../../../src/store/store.ts';
import { noteSightings, sightingWith } from '../../kit/sightings.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ASSIGN, DESCRIBE, ENI_A, ENI_B, ROOMY, SUBNET } from '../../kit/vpcs.ts';
import {
  assignTo,
  createContext,
  NOT_WARM,
  POLICY,
  pooled,
  storeAway,
  type World,
  world,
} from '../../kit/world.ts';

const DAY_MS = 24 * 3_600_000;
const STRANGERS = '10.0.1.99';
const INSTANCE = 'i-0a' as InstanceId;

const keeping = suite('keeper');

/** A keeper that runs; returns what stops it. */
function runKeeper({ context, ...parts }: World, reconcileEveryMs = 60_000, server = 'server-1') {
  const timeOfDay = context.clock;
  const keeper = createKeeper(context, parts, { server, reconcileEveryMs, timeOfDay });
  const run = keeper.run();
  return async () => {
    const stopped = keeper.stop(60_000);
    await run;
    await stopped;
  };
}
/** A keeper that runs for so long. */
async function keep(w: World, ms: number, reconcileEveryMs?: number): Promise<void> {
  const stop = runKeeper(w, reconcileEveryMs);
  await w.time.wait(ms);
  await stop();
}
/** The server whose store tells so of late outcomes. */
function withLateOutcomes(w: World, lateOutcomes: Store['lateOutcomes']): World {
  const context = { ...w.context, store: { ...w.store, lateOutcomes } };
  return { ...w, context, rollbacks: createRollbacks(context) };
}
const servers = async (w: World) => (await w.store.servers()).rows;

keeping('settles what a dead server left, reconciles, and ends in good order', async () => {
  const w = world({ vpc: ROOMY });
  const held = await w.request(ENI_A);
  w.vpc.faults.add({ kind: 'lostReply', action: ASSIGN, times: 1 });
  await assignTo(w.context, ENI_A, await w.freeRows(2));
  assert.is((await w.ipsWith('assigning')).length, 2);
  w.time.now += POLICY.graceMs;
  w.takeOff(ENI_A, held.ip);
  await keep(w, 30_000);
  assert.equal(await w.ipsWith('assigning', 'unassigning'), []);
  assert.ok(w.secondariesOf(ENI_A).includes(held.ip));
  const [server] = await servers(w);
  assert.is(server?.id, 'server-1');
  assert.is.not(server?.stoppedAt, null);
});

keeping('a stop does not wait for the next round', async () => {
  const w = world({ vpc: ROOMY });
  const stop = runKeeper(w);
  await w.time.wait(2_500);
  assert.is(await w.tookMs(stop()), 0);
});

keeping('rolls back a claim that was reported as failed and was made after all', async () => {
  const w = world({ vpc: ROOMY });
  const [held, missed] = [await w.request(ENI_A, { holder: 'web' }), await w.request(ENI_A)];
  const told = [
    { change: { row: held, move: 'claim' as const }, row: held },
    { change: { row: missed, move: 'missed' as const }, row: missed },
  ];
  await keep(
    withLateOutcomes(w, async () => ({ moved: told.splice(0), unsettled: 0 })),
    3_000,
  );
  assert.is(await w.statusOf(held.ip), 'ready');
  assert.is(await w.statusOf(missed.ip), 'allocated', 'a repair has a holder');
});

for (const [what, lateOutcomes, isInGoodOrder] of [
  ['no claims', async () => ({ moved: [], unsettled: 0 }), true],
  ['one claim', async () => ({ moved: [], unsettled: 1 }), false],
  ['none at all, as it is away,', storeAway, false],
] as const)
  keeping(`${what} unsettled in the store: it ends ${isInGoodOrder ? '' : 'not '}in good order`, async () => {
    const w = world({ vpc: ROOMY });
    await keep(withLateOutcomes(w, lateOutcomes), 3_000);
    assert.is((await servers(w))[0]?.stoppedAt === null, !isInGoodOrder);
  });

keeping('the history of more than 30 days ago is deleted, some at a time', async () => {
  const w = world({ vpc: ROOMY });
  const { ip } = await w.request(ENI_A);
  for (let i = 0; i < 1_200; i++) {
    await w.release(ENI_A, ip);
    w.time.now += 1_000;
    await w.request(ENI_A, { named: ip });
  }
  const records = async () => (await w.store.history(SUBNET, ip, 10_000)).rows.length;
  assert.is(await records(), 1_201);
  w.time.now += 30 * DAY_MS - 60_000;
  await w.release(ENI_A, ip);
  const before = await records();
  await keep(w, 3_000);
  const left = await records();
  assert.ok(left < before && left > 1, `${left} of ${before} are left`);
  w.time.now += 60_000 + 3_600_000;
  await keep(w, 3_000);
  assert.is(await records(), 1);
});

keeping(
  'the history stays while the clock of the ledger is ahead of the server, and is trimmed after that',
  async () => {
    let aheadMs = 0;
    const w = world({ vpc: ROOMY, store: now => createMemoryStore({ clock: () => now() + aheadMs }) });
    const { ip } = await w.request(ENI_A);
    await w.release(ENI_A, ip);
    const records = async () => (await w.store.history(SUBNET, ip, 10)).rows.length;
    const hour = async () => {
      w.time.now += 3_600_000;
      await keep(w, 3_000);
    };
    aheadMs = 60 * DAY_MS;
    await hour();
    assert.is(await records(), 1);
    aheadMs = 0;
    w.time.now += 31 * DAY_MS;
    await hour();
    assert.is(await records(), 0);
  },
);

keeping('two servers compare a subnet once, and one goes on when the other is gone', async () => {
  const w = world({ vpc: ROOMY });
  await w.request(ENI_A);
  const stops = [runKeeper(w, 10_000, 'one'), runKeeper(w.another(), 10_000, 'two')];
  const before = w.callsOf(DESCRIBE);
  await w.time.wait(60_000);
  const together = w.callsOf(DESCRIBE) - before;
  assert.ok(together >= 4 && together <= 8, `${together} reads in a minute`);
  await stops[0]?.();
  const alone = w.callsOf(DESCRIBE);
  await w.time.wait(60_000);
  assert.ok(w.callsOf(DESCRIBE) - alone >= 3, 'the lease has ended');
  await stops[1]?.();
});

const denies = async (): Promise<never> => {
  throw new IpamError('ec2-denied', 'no rights');
};
/** Clients of servers to which EC2 shows nothing of the ledger, or which it denies all. */
const BLIND: [what: string, cloudOf: (w: World) => Cloud][] = [
  [
    'of another account',
    ({ context, vpc, time }) =>
      createContext(time, {
        ...context,
        client: createMemoryClient(vpc, {
          wait: time.wait,
          deadlineClock: () => time.now,
          caller: () => ({ account: '210987654321', region: null }),
        }),
      }).cloud,
  ],
  [
    'without rights',
    ({ context }) => {
      const send = { send: denies, [Symbol.dispose]() {} };
      const reads = { eni: denies, enisById: denies, someEni: denies };
      const cloud: Cloud = {
        ...{ ...context.cloud, ...reads, as: () => cloud, permit: async () => send },
        // biome-ignore lint/correctness/useYield: it is denied before the first page
        async *enis() {
          await denies();
        },
      };
      return cloud;
    },
  ],
];
for (const [what, cloudOf] of BLIND)
  for (const isRecorded of [true, false])
    keeping(
      `a server ${what} came first${isRecorded ? '' : ', and no account is recorded'}: another one does what it cannot`,
      async () => {
        const memory = createMemoryStore;
        let notes = isRecorded;
        const w = world({
          vpc: ROOMY,
          policy: NOT_WARM,
          store: now => {
            const store = memory({ clock: now });
            const once = store.noteFactOnce;
            return { ...store, noteFactOnce: async (...fact) => (notes ? await once(...fact) : fact[1]) };
          },
        });
        const held = await w.request(ENI_A);
        const spare = await w.request(ENI_B);
        await w.release(ENI_B, spare.ip);
        notes = true;
        w.vpc.faults.add({ kind: 'lostReply', action: ASSIGN, times: 1 });
        await assignTo(w.context, ENI_A, await w.freeRows(2));
        w.time.now += POLICY.graceMs;
        w.takeOff(ENI_A, held.ip);
        const stops = [runKeeper(w.serverWith({ cloud: cloudOf(w) }), 60_000, 'blind')];
        await w.time.wait(5_000);
        stops.push(runKeeper(w.another(), 60_000, 'other'));
        await w.time.wait(300_000);
        assert.ok(w.secondariesOf(ENI_A).includes(held.ip), 'what was missing is back');
        assert.ok((await w.store.fact('region and account'))?.endsWith('123456789012'));
        await w.time.wait(POLICY.graceMs); // the blind one may have asked in vain, once
        assert.equal(await w.ipsWith('assigning', 'unassigning'), []);
        assert.is(await w.statusOf(spare.ip), 'free', 'what is idle goes back to the subnet');
        for (const stop of stops) await stop();
      },
    );

keeping('several servers that EC2 throttles read no more often than one', async () => {
  const w = await pooled({ vpc: ROOMY });
  w.vpc.faults.add({ kind: 'throttle', action: DESCRIBE, times: 1_000 });
  const calls = w.callsOf(DESCRIBE);
  const stops = [1, 2, 3, 4].map(i => runKeeper(w.another(), 60_000, `s${i}`));
  await w.time.wait(600_000);
  const each = w.callsOf(DESCRIBE) - calls;
  assert.ok(each > 5 && each <= 15, `${each} reads in ten intervals`);
  for (const stop of stops) await stop();
});

/** A host with a ledger of its own, whose keeper runs; what it reads of EC2 is counted. */
async function hostAlone() {
  const w = world({ vpc: ROOMY, instance: INSTANCE, policy: { warmMax: 20 } }); // nothing is drained
  await w.request(ENI_A);
  const reads = { own: 0, whole: 0 };
  const { cloud } = w.context;
  const counted: Cloud = {
    ...cloud,
    as: () => counted,
    async enisById(ids) {
      reads.own++;
      assert.equal(ids, [ENI_A]);
      return await cloud.enisById(ids);
    },
    enis(subnet) {
      reads.whole++;
      return cloud.enis(subnet);
    },
  };
  const stop = runKeeper({ ...w, context: { ...w.context, cloud: counted } });
  /** What is read while so many minutes pass, each of which ends with `work`. */
  const readIn = async (minutes: number, work: () => Promise<unknown> = async () => {}) => {
    const before = { ...reads };
    for (let minute = 0; minute < minutes; minute++) {
      for (const until = w.time.now + 60_000; w.time.now < until; ) await w.time.wait(2_000);
      await work();
    }
    return { own: reads.own - before.own, whole: reads.whole - before.whole };
  };
  return { w, readIn, stop };
}
const startAndStop = async (w: World) => w.release(ENI_A, (await w.request(ENI_A)).ip);

keeping('an embedded ledger at rest has the whole subnet read every ten minutes, and no more', async () => {
  const { w, readIn, stop } = await hostAlone();
  await readIn(15);
  w.putOn(ENI_B, STRANGERS);
  const { own, whole } = await readIn(60);
  assert.is(own, 0);
  assert.ok(whole >= 5 && whole <= 7, `${whole} reads of the whole subnet`);
  assert.is(await w.statusOf(STRANGERS), 'occupied', 'what others do is seen, and disturbs no rest');
  await stop();
});

keeping('an embedded ledger on whose ENIs something moves has them read each minute', async () => {
  const { w, readIn, stop } = await hostAlone();
  await readIn(15);
  const { own, whole } = await readIn(60, () => startAndStop(w));
  assert.ok(own >= 50 && own <= 58, `${own} reads of its own`);
  assert.ok(whole >= 5 && whole <= 7, `${whole} reads of the whole subnet`);
  assert.ok((await readIn(9)).own >= 7, 'it is not at rest at once');
  await readIn(3);
  assert.is((await readIn(9)).own, 0);
  await stop();
});

keeping('on a busy host drift is noticed within two minutes, and compared until it is closed', async () => {
  const { w, readIn, stop } = await hostAlone();
  const held = await w.request(ENI_A);
  await readIn(8);
  await startAndStop(w);
  w.takeOff(ENI_A, held.ip);
  w.refuseCalls(ASSIGN, 'UnauthorizedOperation');
  await readIn(2);
  assert.ok(w.linesOf(`drift: ${held.ip}`) > 0);
  await readIn(30);
  assert.ok((await readIn(10)).own >= 8, 'an address is still missing');
  await stop();
});

keeping('an ENI that has left is compared each minute until what was on it is settled', async () => {
  const { w, readIn, stop } = await hostAlone();
  await readIn(30);
  w.detach(ENI_A);
  await readIn(13);
  assert.ok((await readIn(5)).own >= 4);
  assert.equal(await w.ipsWith('allocated'), []);
  await readIn(30);
  assert.equal(await w.ipsWith('ready', 'assigning', 'unassigning'), []);
  assert.is((await readIn(30)).own, 0);
  await stop();
});

keeping('a host at rest asks no more often while EC2 refuses', async () => {
  const { w, readIn, stop } = await hostAlone();
  await readIn(15);
  w.vpc.faults.add({ kind: 'throttle', action: DESCRIBE });
  const { own, whole } = await readIn(60);
  assert.ok(own === 0 && whole <= 7, `${own} and ${whole} reads`);
  await stop();
});

keeping('of its own ENIs alone, what is missing is repaired and what is elsewhere is let be', async () => {
  const w = world({ vpc: ROOMY, instance: INSTANCE });
  const held = await w.takenOff();
  const before = await w.rowOf('10.0.1.5');
  assert.is(before.iface, ENI_B, 'the primary address of an ENI that is not read');
  for (let i = 0; i < 3; i++) {
    await pass(w.context, w.enis, createEvidence(w.context), SUBNET, 'own');
    w.time.now += ABSENT_FOR_MS;
  }
  assert.ok(w.secondariesOf(ENI_A).includes(held.ip));
  assert.equal(await w.rowOf('10.0.1.5'), before);
});

keeping('an ENI of its own that EC2 does not show is let be', async () => {
  const w = world({ vpc: ROOMY, instance: INSTANCE });
  const held = await w.request(ENI_A);
  w.time.now += LATE_READS_MS;
  const before = await w.store.tally();
  const blind: Cloud = { ...w.context.cloud, as: () => blind, enisById: async () => [] };
  await pass({ ...w.context, cloud: blind }, w.enis, createEvidence(w.context), SUBNET, 'own');
  assert.is((await w.rowOf(held.ip)).missingSince, null);
  assert.equal(await w.store.tally(), before);
});

keeping('notes that its server lives', async () => {
  const w = world({ vpc: ROOMY });
  const stop = runKeeper(w);
  await w.time.wait(1_000);
  const [server, ...others] = await servers(w);
  assert.equal([server?.id, server?.stoppedAt, others], ['server-1', null, []]);
  await stop();
});

keeping('drains what is too much, one server of several', async () => {
  const w = world({ vpc: ROOMY });
  await w.request(ENI_A);
  w.time.now += 3_600_000;
  let looks = 0;
  w.intercept('withStatus', withStatus => (subnet, statuses) => {
    if (statuses.join() === 'ready') looks++;
    return withStatus(subnet, statuses);
  });
  const stops = [runKeeper(w, 3_600_000, 'one'), runKeeper(w.another(), 3_600_000, 'two')];
  await w.time.wait(20_000);
  await Promise.all(stops.map(stop => stop()));
  assert.is(looks, 1);
  assert.is((await w.ipsWith('ready')).length, 6);
});

keeping('stops only when no refill is under way any more', async () => {
  const w = await pooled({ vpc: ROOMY, policy: { warmMin: 1, warmMax: 1 } });
  w.vpc.faults.add({ kind: 'latency', ms: 5_000, action: ASSIGN });
  await w.requests(ENI_A, 3);
  assert.ok((await w.tookMs(w.keeper.stop(60_000))) >= 5_000);
  assert.equal(await w.ipsWith('assigning'), []);
});

keeping('a repair is as urgent as a start that waits, and no ENI waits for another', async () => {
  const w = world({ vpc: ROOMY });
  const held = [await w.request(ENI_A), await w.request(ENI_B)];
  w.time.now += LATE_READS_MS;
  for (const { iface, ip } of held) if (iface !== null) w.takeOff(iface, ip);
  const asked: string[] = [];
  const cloud = (urgency: () => Urgency): Cloud => ({
    ...w.context.cloud,
    as: cloud,
    async permit(kind) {
      asked.push(urgency());
      if (asked.length === 1) throw new IpamError('ec2-throttled', 'not sent');
      return await w.context.cloud.permit(kind);
    },
  });
  await keep({ ...w, context: { ...w.context, cloud: cloud(() => 'cold') } }, 3_000, 3_600_000);
  assert.equal(asked, ['cold', 'cold']);
  const repaired = held.filter(row => [ENI_A, ENI_B].some(eni => w.secondariesOf(eni).includes(row.ip)));
  assert.is(repaired.length, 1);
});

keeping('goes on after EC2 failed', async () => {
  const w = world({ vpc: ROOMY });
  const held = await w.takenOff();
  w.vpc.faults.add({ kind: 'throttle', action: DESCRIBE, times: 1 });
  await keep(w, 20_000, 5_000);
  assert.ok(w.secondariesOf(ENI_A).includes(held.ip));
  assert.is(w.linesOf('reconcile subnet-0a1 failed, retrying'), 1);
});

/** A server whose host is read every minute, and how often it was. */
function readHost(w: World) {
  const seen = { looks: 0 };
  const look = async () => void seen.looks++;
  const ownHost = { everyMs: 60_000, look };
  return { seen, w: { ...w, ownHost } };
}
keeping('reads the host at once, and then at its interval', async () => {
  const { w, seen } = readHost(world({ vpc: ROOMY }));
  await keep(w, 1_000);
  assert.is(seen.looks, 1);
  await keep(w, 181_000);
  assert.is(seen.looks, 1 + 4);
});
keeping('reads the host soon after a release, and not more often than every ten seconds', async () => {
  const { w, seen } = readHost(world({ vpc: ROOMY }));
  const [first, second] = await w.requests(ENI_A, 2);
  const stop = runKeeper(w);
  await w.time.wait(15_000);
  assert.is(seen.looks, 1);
  await w.release(ENI_A, first?.ip ?? '');
  await w.time.wait(2_000);
  assert.is(seen.looks, 2);
  await w.release(ENI_A, second?.ip ?? '');
  await w.time.wait(6_000);
  assert.is(seen.looks, 2);
  await w.time.wait(6_000);
  assert.is(seen.looks, 3);
  await w.time.wait(30_000);
  assert.is(seen.looks, 3);
  await stop();
});

keeping('withholds within seconds what a host has shown to another server', async () => {
  const w = world({ vpc: ROOMY, policy: NOT_WARM });
  const [held] = await w.requests(ENI_A, 1);
  await w.release(ENI_A, held?.ip ?? '');
  const { generation, ip, subnet } = await w.rowOf(held?.ip ?? '');
  const stop = runKeeper(w);
  await w.time.wait(1_000);
  await noteSightings(w.store, [
    sightingWith(0, { subnet, ip, iface: ENI_A, generation, usedSince: 1, finding: 'x' }),
  ]);
  await w.time.wait(7_000);
  assert.is(w.cache.withheld(await w.rowOf(ip)), 'x');
  await stop();
});

keeping.run();
