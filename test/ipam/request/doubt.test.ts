// Goal: a call of which nobody knows what became keeps no container from its start. Method: the whole machine on a
// simulated VPC whose assign takes 250 ms; one assign goes wrong, and 46 containers start on that ENI.
import { type Allocation, LATE_READS_MS } from '../../../src/domain/allocation.ts';
import { ANSWERED_WITHIN_MS, askedFor } from '../../../src/domain/unanswered.ts';
import { unassign } from '../../../src/ipam/ec2/unassign.ts';
import { type FillRequest, fill } from '../../../src/ipam/pool/refill.ts';
import type { Fault } from '../../../src/simulator/model/faults.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ASSIGN, DESCRIBE, ENI_A, ENI_B, LARGE, ROOMY, SMALL, SUBNET, UNASSIGN } from '../../kit/vpcs.ts';
import { failure, ipsOf, NOT_WARM, pooled, type World, world } from '../../kit/world.ts';

const ASSIGN_MS = 250;
const STARTS = 46;
/** The longest that a start may take. */
const START_MS_MAX = 4_000;

async function scene(fault: Fault, options: Parameters<typeof world>[0] = {}): Promise<World> {
  const w = await pooled({ vpc: LARGE, ...options });
  w.vpc.faults.add({ action: ASSIGN, times: 1, ...fault });
  w.vpc.faults.add({ kind: 'latency', ms: ASSIGN_MS, action: ASSIGN });
  return w;
}

/** How long each start took, the longest first. */
async function start(w: World, count: number, how: 'at once' | 'one after another'): Promise<number[]> {
  const took: number[] = [];
  const ips: string[] = [];
  const one = async () => {
    const before = w.time.now;
    ips.push((await w.request(ENI_A)).ip);
    took.push(w.time.now - before);
  };
  if (how === 'at once') await Promise.all(Array.from({ length: count }, one));
  else for (let i = 0; i < count; i++) await one();
  assert.is(new Set(ips).size, count, 'no address is given twice');
  for (const ip of ips) assert.ok(w.secondariesOf(ENI_A).includes(ip), `${ip} is not on the ENI`);
  return took.sort((a, b) => b - a);
}

const INTERNAL = { code: 'InternalError', message: 'An internal error has occurred' };
const FAULTS: [why: string, fault: Fault][] = [
  ['hung, and never applied', { kind: 'hang' }],
  ['hung, and applied', { kind: 'latency', ms: 60_000 }],
  ['hung, and applied five minutes later', { kind: 'applyLate', ms: 300_000 }],
  ['answered 500, and not applied', { kind: 'error', ...INTERNAL }],
  ['answered 500, and applied', { kind: 'lostReply', ...INTERNAL }],
  ['cut, and applied', { kind: 'lostReply' }],
];

const starting = suite('starts after a call without an answer');
for (const [why, fault] of FAULTS)
  for (const how of ['at once', 'one after another'] as const)
    starting(`one assign ${why}: 46 ${how}, none refused, none slower than 4 s`, async () => {
      const w = await scene(fault);
      const first = start(w, 1, 'at once');
      if (how === 'one after another') await first;
      const took = await start(w, STARTS, how);
      await first;
      console.log(`  ${why}, ${how}: longest ${took[0]} ms, ${w.callsOf(ASSIGN)} calls`);
      assert.ok((took[0] ?? 0) <= START_MS_MAX, `${took[0]} ms`);
    });

const ROOMS = [
  ['empty', 0],
  ['half full', 24],
  ['with one place left', 48],
] as const;
for (const [room, held] of ROOMS)
  for (const [why, fault] of FAULTS)
    starting(`an ENI ${room}, one assign ${why}: each place is given within 4 s`, async () => {
      const w = await pooled({ vpc: LARGE, policy: NOT_WARM });
      if (held > 0) await start(w, held, 'at once');
      w.vpc.faults.add({ action: ASSIGN, times: 1, ...fault });
      w.vpc.faults.add({ kind: 'latency', ms: ASSIGN_MS, action: ASSIGN });
      const took = await start(w, 49 - held, 'at once');
      assert.ok((took[0] ?? 0) <= START_MS_MAX, `${took[0]} ms`);
      assert.is(
        (await w.inTime(START_MS_MAX, failure(w.request(ENI_A)))).code,
        'exhausted',
        'one more is refused',
      );
    });

starting('where the lost batch fills the ENI and reads are late, the start waits for the read', async () => {
  const w = await pooled({ vpc: LARGE, policy: NOT_WARM });
  await start(w, 48, 'at once');
  const lagMs = 8_000;
  w.time.now += 60_000; // what is there already, every read shows
  w.vpc.faults.add({ kind: 'lostReply', action: ASSIGN, times: 1 });
  w.vpc.faults.add({ kind: 'readLag', ms: lagMs, action: DESCRIBE });
  const [took = 0] = await start(w, 1, 'at once');
  assert.ok(took >= lagMs - 1_000 && took <= lagMs + 4_000, `${took} ms`);
});

starting('another server that has seen nothing of it goes on after 2 s as well', async () => {
  const w = await scene({ kind: 'hang' });
  const lost = start(w, 1, 'at once');
  await w.time.wait(500);
  const other = w.another();
  const took = await start(other, STARTS, 'at once');
  await lost;
  assert.ok((took[0] ?? 0) <= START_MS_MAX, `${took[0]} ms`);
});

starting('`--ip`: its address is given as soon as a read shows it', async () => {
  const w = await scene({ kind: 'latency', ms: 60_000 });
  const named = '10.0.1.77';
  assert.is((await w.inTime(START_MS_MAX, w.request(ENI_A, { named }))).ip, named);
  assert.is(w.callsOf(ASSIGN), 1);
});

starting('while rows are in doubt a call names no more than wait, and a refill none', async () => {
  const w = await scene({ kind: 'hang' });
  await start(w, 1, 'at once');
  const inDoubt = (await w.ipsWith('assigning')).length;
  assert.ok(inDoubt > 1);
  await start(w, 3, 'at once');
  assert.is(w.secondariesOf(ENI_A).length, 4);
  await w.time.wait(10_000);
  assert.is(w.secondariesOf(ENI_A).length, 4);
  assert.is((await w.ipsWith('assigning')).length, inDoubt);
});

starting('EC2 that answers nothing for a quarter of an hour does not use up the subnet', async () => {
  const w = await scene({ kind: 'error', ...INTERNAL, times: 1_000_000 });
  const until = w.time.now + 900_000;
  while (w.time.now < until) {
    const waiting = Array.from({ length: 10 }, () => failure(w.request(ENI_A)));
    await w.time.wait(1_000);
    for (const error of await Promise.all(waiting))
      assert.ok(['ec2-unknown', 'unavailable'].includes(error.code), error.line);
  }
  const inDoubt = (await w.ipsWith('assigning')).length;
  console.log(`  EC2 away for 15 min, 10 waiting: ${w.callsOf(ASSIGN)} calls, ${inDoubt} addresses in doubt`);
  assert.ok(inDoubt <= 100, `${inDoubt}`);
  w.vpc.faults.clear();
  const clearedAt = w.time.now;
  for (let given = false; !given; ) {
    given = await w.request(ENI_A).then(
      () => true,
      () => false,
    );
    await w.time.wait(1_000);
    assert.ok(w.time.now - clearedAt < 61_000, 'EC2 is asked again within a minute');
  }
  assert.ok(((await start(w, 10, 'at once'))[0] ?? 0) <= START_MS_MAX, 'and then all are served');
});

starting('who waits when EC2 is well again after a minute is served within seconds', async () => {
  const w = await pooled({ vpc: LARGE, policy: NOT_WARM });
  w.vpc.faults.add({ kind: 'hang', action: ASSIGN });
  const wellAt = w.time.now + 60_000;
  const starts: Promise<number>[] = [];
  for (let i = 0; i < 20; i++) {
    starts.push(w.request(ENI_A).then(() => w.time.now - wellAt));
    await w.time.wait(1_000);
  }
  await w.time.wait(wellAt - w.time.now);
  w.vpc.faults.clear();
  const latestMs = Math.max(...(await Promise.all(starts)));
  console.log(`  EC2 away for a minute, 20 waiting: served within ${latestMs} ms`);
  assert.ok(latestMs <= 10_000, `${latestMs} ms`);
});

for (const outageMs of [60_000, 150_000])
  starting(`one call hung after ${outageMs / 1000} s of outage: no start takes over 4 s`, async () => {
    const w = await pooled({ vpc: LARGE, policy: NOT_WARM });
    w.vpc.faults.add({ kind: 'hang', action: ASSIGN });
    const endsAt = w.time.now + outageMs;
    const during: Promise<unknown>[] = [];
    while (w.time.now < endsAt) {
      during.push(w.request(ENI_A).catch(error => error));
      await w.time.wait(5_000);
    }
    w.vpc.faults.clear();
    await Promise.all(during);
    await w.time.wait(10_000);
    await start(w, 1, 'at once');
    w.vpc.faults.add({ kind: 'hang', action: ASSIGN, times: 1 });
    const [took = 0] = await start(w, 3, 'at once');
    assert.ok(took <= START_MS_MAX, `${took} ms`);
  });

starting('a call without an answer in a /28 leaves half for those who wait and come later', async () => {
  const w = await pooled({ vpc: SMALL });
  w.vpc.faults.add({ kind: 'hang', action: ASSIGN, times: 1 });
  const took = await start(w, 4, 'at once');
  assert.ok((took[0] ?? 0) <= START_MS_MAX, `${took[0]} ms`);
  await w.time.wait(600_000);
  await start(w, 1, 'at once');
});

starting('who waits for EC2 is given what another container gives up meanwhile', async () => {
  const w = world({ vpc: LARGE, policy: { ...NOT_WARM, cooldownMs: 0 } });
  const { ip } = await w.request(ENI_A);
  w.vpc.faults.add({ kind: 'hang', action: ASSIGN });
  // So that the calls are far apart.
  await startsWhileHung(w, 60);
  const waiting = w.request(ENI_A);
  await w.time.wait(3_000);
  await w.release(ENI_A, ip);
  const tookMs = await w.tookMs(waiting);
  assert.is((await waiting).ip, ip);
  assert.ok(tookMs <= 500, `${tookMs} ms`);
});

starting(
  'in a subnet where all is held or without an answer, the start waits until EC2 shows it',
  async () => {
    const w = world({ vpc: SMALL, policy: NOT_WARM });
    await w.requests(ENI_B, 8);
    await w.enis.adopt(ENI_A);
    w.vpc.faults.add({ kind: 'applyLate', ms: 25_000, action: ASSIGN, times: 1 });
    const { ip } = await w.request(ENI_A);
    assert.ok(w.secondariesOf(ENI_A).includes(ip));
  },
);

/** All that is free rests, and ENI A has one place left. */
async function lastPlaceAndResting(): Promise<World> {
  const vpc = { ...SMALL, subnets: [{ id: SUBNET, cidr: '10.0.1.0/27' }] };
  const w = world({ vpc, policy: NOT_WARM });
  const resting = ipsOf(await w.requests(ENI_B, 9)).slice(0, 3);
  await start(w, 8, 'at once');
  const { rows } = await w.store.withStatus(SUBNET, ['free']);
  await w.store.move(rows.map(row => ({ row, move: 'hold' as const, reservedFor: 'a printer' })));
  for (const ip of resting) await w.release(ENI_B, ip);
  await unassign(w.context, await Promise.all(resting.map(ip => w.rowOf(ip))));
  w.time.now += LATE_READS_MS; // a read shows them on ENI A only if they are there
  return w;
}

for (const [why, lagMs] of [
  ['', 0],
  [' and reads are late', 8_000],
] as const)
  starting(`where the lost call for an address that rests fills the ENI${why}, the start waits`, async () => {
    const w = await lastPlaceAndResting();
    w.vpc.faults.add({ kind: 'lostReply', action: ASSIGN, times: 1 });
    w.vpc.faults.add({ kind: 'readLag', ms: lagMs, action: DESCRIBE });
    const before = w.callsOf(ASSIGN);
    const [took = 0] = await start(w, 1, 'at once');
    assert.ok(took <= lagMs + START_MS_MAX, `${took} ms`);
    assert.ok(w.callsOf(ASSIGN) - before <= 5, `${w.callsOf(ASSIGN) - before} calls`);
    assert.is((await failure(w.request(ENI_A))).code, 'exhausted', 'one more is refused');
  });

starting('where a lost unassign keeps a place, an address that rests gets that of an idle one', async () => {
  const w = await lastPlaceAndResting();
  const [resting = ''] = await w.ipsWith('free');
  const held = ipsOf((await w.store.onEni(ENI_A)).rows.filter(row => row.status === 'allocated'));
  await w.request(ENI_A, { named: (await w.ipsWith('free')).at(-1) ?? '' });
  for (const ip of held.slice(0, 2)) await w.release(ENI_A, ip);
  w.vpc.faults.add({ kind: 'hang', action: UNASSIGN, times: 1 });
  await unassign(w.context, [await w.rowOf(held[0] ?? '')]);
  await w.time.wait(60_000);
  const range = `${resting}/32`;
  assert.is((await w.inTime(START_MS_MAX, w.request(ENI_A, { range }))).ip, resting);
  assert.is(await w.statusOf(held[1] ?? ''), 'free');
});

starting('EC2 that answers 500 at once does not use up the addresses that rest', async () => {
  const w = world({ vpc: { ...LARGE, subnets: [{ id: SUBNET, cidr: '10.0.1.0/26' }] }, policy: NOT_WARM });
  const resting = ipsOf(await w.requests(ENI_B, 40));
  await w.enis.adopt(ENI_A);
  const { rows } = await w.store.withStatus(SUBNET, ['free']);
  await w.store.move(rows.map(row => ({ row, move: 'hold' as const, reservedFor: 'a printer' })));
  for (const ip of resting) await w.release(ENI_B, ip);
  await unassign(w.context, await Promise.all(resting.map(ip => w.rowOf(ip))));
  w.vpc.faults.add({ kind: 'error', ...INTERNAL, action: ASSIGN });
  const waiting = Array.from({ length: 5 }, () => w.request(ENI_A));
  await w.time.wait(3_000);
  const inDoubt = (await w.ipsWith('assigning')).length;
  assert.ok(inDoubt <= 2 * waiting.length, `${inDoubt} in doubt`);
  w.vpc.faults.clear();
  await w.inTime(20_000, Promise.all(waiting));
});

/** A start every two seconds while EC2 hangs; how each ended, and after how long. */
async function startsWhileHung(w: World, count: number): Promise<{ code: string; tookMs: number }[]> {
  const ends: Promise<{ code: string; tookMs: number }>[] = [];
  for (let i = 0; i < count; i++) {
    const before = w.time.now;
    ends.push(failure(w.request(ENI_A)).then(({ code }) => ({ code, tookMs: w.time.now - before })));
    await w.time.wait(2_000);
  }
  return await Promise.all(ends);
}

for (const [how, count] of [
  ['a server', 1],
  ['two servers', 2],
] as const)
  starting(`${how}, EC2 hung, and starts keep coming: each is told so within its bound`, async () => {
    const options = { vpc: LARGE, policy: { requestTimeoutMs: 60_000, warmMin: 0, warmMax: 0 } };
    const first = world(options);
    await first.enis.adopt(ENI_A);
    first.vpc.faults.add({ kind: 'hang', action: ASSIGN });
    const servers = [first, ...Array.from({ length: count - 1 }, () => first.another())];
    const ends = (await Promise.all(servers.map(w => startsWhileHung(w, 60)))).flat();
    assert.equal([...new Set(ends.map(end => end.code))], ['ec2-unknown']);
    const longestMs = Math.max(...ends.map(end => end.tookMs));
    assert.ok(longestMs <= 60_000 + ANSWERED_WITHIN_MS, `${longestMs} ms`);
    assert.is((await first.ipsWith('allocated')).length, 0);
  });

for (const [whose, before] of [
  ['its own calls', async () => {}],
  // Each time that it has a permit, the other one has just asked for two addresses.
  ["another server's calls", otherAsks],
] as const)
  starting(`all tries used up on ${whose} without answers: told so, and not exhausted`, async () => {
    const w = world({ vpc: LARGE, policy: NOT_WARM });
    const home = await w.enis.adopt(ENI_A);
    w.vpc.faults.add({ kind: 'hang', action: ASSIGN });
    await before(w);
    await w.time.wait(6_000);
    const asked: FillRequest = {
      ...{ range: null, waiting: () => 1, marks: () => ({ low: 0, high: 0 }), gather: async () => {} },
      signal: () => undefined,
      permit: async () => {
        await before(w);
        return await w.context.cloud.permit('assign');
      },
    };
    assert.is((await failure(fill(w.context, w.enis, w.cache, home, asked))).code, 'ec2-unknown');
  });

async function otherAsks(w: World): Promise<void> {
  for (const ip of (await w.ipsWith('free')).slice(0, 2)) {
    const row = await w.rowOf(ip);
    await w.store.move([{ row, move: 'assign', iface: ENI_A }]);
  }
}

starting('an unassign that hangs keeps nobody waiting for a place', async () => {
  const w = world({ vpc: ROOMY });
  await w.request(ENI_A);
  w.vpc.faults.add({ kind: 'hang', action: UNASSIGN, times: 1 });
  const before = w.time.now;
  const [named = ''] = await w.ipsWith('free');
  assert.is((await w.request(ENI_A, { named })).ip, named);
  assert.ok(w.time.now - before <= START_MS_MAX + 1_000, `${w.time.now - before} ms`);
});

for (const [why, fault] of [
  ['hung', { kind: 'hang' }],
  ['answered 500', { kind: 'error', ...INTERNAL }],
] as const satisfies [string, Fault][])
  for (const outageMs of [130_000, 400_000])
    starting(
      `${why} for ${outageMs / 1000} s, while starts came: those after it are all served`,
      async () => {
        const w = await pooled({ vpc: LARGE, policy: NOT_WARM });
        w.vpc.faults.add({ ...fault, action: ASSIGN });
        const endsAt = w.time.now + outageMs;
        const during: Promise<unknown>[] = [];
        while (w.time.now < endsAt) {
          during.push(failure(w.request(ENI_A)));
          await w.time.wait(7_000);
        }
        await Promise.all(during);
        w.vpc.faults.clear();
        w.vpc.faults.add({ kind: 'latency', ms: ASSIGN_MS, action: ASSIGN });
        const [took = 0] = await start(w, 3, 'one after another');
        assert.ok(took <= 40_000, `${took} ms`);
      },
    );

starting('the first start after a long outage waits until EC2 may be asked', async () => {
  const w = await pooled({ vpc: ROOMY, policy: { requestTimeoutMs: 4_000, warmMin: 0, warmMax: 0 } });
  const action = ASSIGN;
  w.refuseCalls(action, 'Unavailable', 'away');
  for (let i = 0; i < 2; i++) assert.ok(await w.request(ENI_A).catch(error => error instanceof Error));
  w.vpc.faults.clear();
  assert.is((await w.inTime(5_000, w.request(ENI_A))).status, 'allocated');
});
starting.run();

const asking = suite('askedFor');
const intent = (token: string, ageMs: number): Allocation =>
  ({ status: 'assigning', movedAt: -ageMs, token }) as Allocation;
const cases: [ages: number[], next: 'all' | 'one' | 'none', why: string][] = [
  [[], 'all', 'nothing is being asked'],
  [[100, 200, 300], 'all', 'calls that may yet be answered hinder none'],
  [[2_000], 'all', 'one without an answer gets a companion'],
  [[2_000, 100], 'none', 'and no third'],
  [[5_900, 3_900], 'none', 'not even when both have ended'],
  [[6_000, 4_000], 'one', 'but 4 s after the last one address is tried'],
  [[10_000, 2_000], 'one', 'or 10 s after the first'],
  [Array(12).fill(4_000), 'none', 'while few are open'],
  [Array(12).fill(4_800), 'one', 'or 0.4 s after the last one for each that is open'],
  [Array(60).fill(23_999), 'none', 'no sooner, however many they are'],
  [[20_000, 12_000, 2_000], 'none', 'with each that is open the pause grows'],
  [[20_000, 15_000, 2_000], 'one', 'by 5 s'],
];
for (const [ages, next, why] of cases)
  asking(why, () =>
    assert.is(
      askedFor(
        ages.map((age, i) => intent(`${i}`, age)),
        0,
      ).next,
      next,
    ),
  );
const placed = (ageMs: number) => ({ status: 'allocated', placedAt: -ageMs }) as Allocation;
asking('once EC2 has answered a later call, all that wait are asked for', () => {
  const lost = [intent('a', 5_000), intent('b', 3_000)];
  assert.is(askedFor([...lost, placed(5_001)], 0).next, 'none');
  assert.is(askedFor([...lost, placed(2_000)], 0).next, 'all');
});
asking('calls from before the last answer do not delay what follows a call that came after it', () => {
  const lost = Array.from({ length: 40 }, (_, i) => intent(`${i}`, 60_000 + i));
  const hung = [intent('a', 2_000), intent('b', 100)];
  assert.is(askedFor([...lost, placed(50_000), ...hung.slice(0, 1)], 0).next, 'all', 'a companion');
  assert.is(askedFor([...lost, placed(50_000), ...hung], 0).next, 'none');
  const later = [intent('a', 6_000), intent('b', 4_000)];
  assert.is(askedFor([...lost, placed(50_000), ...later], 0).next, 'one');
});
asking('a call that was written when EC2 last answered still has no answer', () => {
  const lost = [intent('a', 5_000), intent('b', 3_000), intent('c', 3_000)];
  assert.is(askedFor([...lost, placed(3_000)], 0).next, 'none');
});
asking('a batch that is known to have had no answer is in doubt at once', () => {
  const rows = [intent('a', 100), intent('b', 100)];
  const { inFlight, inDoubt } = askedFor(rows, 0, new Set(['a']));
  assert.equal([inDoubt, inFlight], [[rows[0]], [rows[1]]]);
});
asking.run();
