// Goal: a holding ends by evidence only after EC2 and the kernel were asked last, and only as the operator allows; an
// address that runs on is given to nobody, whatever way is tried. Method: a server on a simulated VPC, and a witness
// that shows what the test says.
import type { Ipv4 } from '../../../src/domain/address.ts';
import { IpamError } from '../../../src/domain/error.ts';
import { type HostReading, WITNESS_AGE_MS } from '../../../src/domain/witness.ts';
import { unassignIdle } from '../../../src/ipam/sync/drain.ts';
import { createOwnHost } from '../../../src/ipam/sync/own-host.ts';
import { recallWithheld } from '../../../src/ipam/sync/withheld.ts';
import { createWitnessed, type WitnessMode } from '../../../src/ipam/sync/witnessed.ts';
import { createMemoryStore } from '../../../src/store/memory.ts';
import { fakeWitness, placeOf, useWith } from '../../kit/readings.ts';
import { noteSightings, sightingWith } from '../../kit/sightings.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { DESCRIBE, ENI_A, ROOMY, SUBNET, UNASSIGN } from '../../kit/vpcs.ts';
import { failure, NOT_WARM, type World, world } from '../../kit/world.ts';

const ENDED = 'holder ended: nothing on its host uses the address';
const KEPT = 'holding without a user, kept';

/** An embedded server that holds an address of ENI A, old enough, and the witness of its host. */
async function witnessed(mode: WitnessMode = 'release', policy = {}) {
  const clock = { aheadMs: 0 };
  const store = (now: () => number) => createMemoryStore({ clock: () => now() + clock.aheadMs });
  const w = world({ vpc: ROOMY, instance: 'i-0a', store, policy: { ...NOT_WARM, ...policy } });
  const held = await w.request(ENI_A, { holder: 'web' });
  w.time.now += WITNESS_AGE_MS;
  const witness = fakeWitness(w.vpc.network.eni(ENI_A).mac);
  /** The loop of a server process. */
  const lookerOf = (server: World) => {
    const weighing = createWitnessed(server.context, server, { mode, ageMs: WITNESS_AGE_MS });
    return createOwnHost(server.context, weighing, { witness, everyMs: 60_000 });
  };
  const { look } = lookerOf(w);
  /** A reading after so long. */
  const lookAfter = async (ms: number, shows: Partial<HostReading> = {}) => {
    w.time.now += ms;
    witness.shows = shows;
    await look();
  };
  const ip = held.ip;
  return { w, clock, held, ip, witness, lookerOf, look, lookAfter };
}
const runningOn = (ip: Ipv4): Partial<HostReading> => ({ uses: [useWith(ip, { places: [placeOf()] })] });

const ending = suite('end by evidence');
ending('a holding that two readings show nowhere: ends, is counted and logged, and rests', async () => {
  const { w, ip, held, lookAfter } = await witnessed();
  await lookAfter(0);
  assert.is(await w.statusOf(ip), 'allocated');
  await lookAfter(WITNESS_AGE_MS);
  const row = await w.rowOf(ip);
  assert.is(row.status, 'ready');
  assert.is(row.generation, held.generation + 1);
  assert.is(row.restedSince, row.movedAt);
  assert.is(await w.store.fact('ended by evidence'), '1');
  assert.is((await w.store.history(row.subnet, row.ip, 1)).rows[0]?.endedBy, 'evidence');
  const fields = w.lines.find(line => line.message === ENDED)?.fields;
  assert.equal(fields, { cause: 'evidence', eni: ENI_A, ip, holder: 'web', readings: 2 });
  w.time.now += w.context.policy.cooldownMs;
  const reads = w.countingCalls('readyOn');
  assert.is((await w.request(ENI_A)).ip, ip, 'the next container gets it');
  assert.is(reads.readyOn, 0, 'and the server knows of it');
});

ending('a holding after the release of an agent: the id of that release is kept', async () => {
  const { w, ip, held, lookAfter } = await witnessed();
  await w.store.move([{ row: held, move: 'release', releaseId: 's-1' }]);
  await w.request(ENI_A, { named: ip });
  for (const ms of [WITNESS_AGE_MS, WITNESS_AGE_MS]) await lookAfter(ms);
  const { status, releaseId } = await w.rowOf(ip);
  assert.equal([status, releaseId], ['ready', 's-1']);
});

ending('--witness report: says so once, and ends nothing', async () => {
  const { w, ip, lookAfter } = await witnessed('report');
  for (const ms of [0, WITNESS_AGE_MS, 60_000, 60_000]) await lookAfter(ms);
  assert.is(await w.statusOf(ip), 'allocated');
  assert.is(w.linesOf(KEPT), 1);
  assert.is(w.linesOf(ENDED), 0);
});

ending('an address that is in use: is kept, and its container is noted', async () => {
  const { w, ip, lookAfter } = await witnessed();
  const container = { id: 'c1', name: 'named-by-docker', image: 'bb' };
  const shows = { uses: [useWith(ip, { isInNetworks: true, container })] };
  for (const ms of [0, WITNESS_AGE_MS, WITNESS_AGE_MS]) await lookAfter(ms, shows);
  assert.is(await w.statusOf(ip), 'allocated');
  const [sighting] = (await w.store.sightings([ENI_A])).rows;
  assert.is(sighting?.name, 'named-by-docker');
});

const ID = 'c'.repeat(64);
async function shown(of: Awaited<ReturnType<typeof witnessed>>, id = ID) {
  const endpoints = [{ mac: of.w.vpc.network.eni(ENI_A).mac, container: id }];
  return { uses: [useWith(of.ip, { isInNetworks: true, endpoints })] };
}
const idsTold = async ({ w, held: { subnet, ip } }: Awaited<ReturnType<typeof witnessed>>) =>
  (await w.store.history(subnet, ip, 10)).rows.map(one => [one.isHeld, one.containerId]);

ending('the id of a container: is noted with the holding by one reading, and never again', async () => {
  const parts = await witnessed();
  const { w, ip, held, lookAfter } = parts;
  const writes = w.countingCalls('noteContainers');
  for (let i = 0; i < 3; i++) await lookAfter(60_000, await shown(parts));
  await lookAfter(60_000, await shown(parts, 'd'.repeat(64)));
  assert.is(writes.noteContainers, 1);
  assert.equal(await idsTold(parts), [[true, ID]]);
  assert.is((await w.rowOf(ip)).generation, held.generation, 'it is no move');
  await w.release(ENI_A, ip);
  assert.equal(await idsTold(parts), [[false, ID]]);
  for (const ms of [0, 60_000]) await lookAfter(ms, await shown(parts));
  assert.is(writes.noteContainers, 1, 'of what nobody holds none is noted');
});

ending('a holding that ends, or begins, while the host is read: gets no id', async () => {
  const parts = await witnessed();
  const { w, ip, witness, lookAfter } = parts;
  const { read } = witness;
  witness.read = async () => {
    const reading = await read();
    await w.release(ENI_A, ip);
    await w.request(ENI_A, { named: ip });
    return reading;
  };
  await lookAfter(0, await shown(parts));
  assert.equal(await idsTold(parts), [
    [true, null],
    [false, null],
  ]);
  witness.read = read;
  await lookAfter(60_000, await shown(parts, 'd'.repeat(64)));
  assert.equal(await idsTold(parts), [
    [true, 'd'.repeat(64)],
    [false, null],
  ]);
});

ending('a holding that was looked after while the host is read: has its id by the next reading', async () => {
  const parts = await witnessed();
  const { w, ip, witness, lookAfter } = parts;
  const { read } = witness;
  witness.read = async () => {
    const reading = await read();
    await w.store.move([{ row: await w.rowOf(ip), move: 'missed' }]);
    return reading;
  };
  await lookAfter(0, await shown(parts));
  assert.equal(await idsTold(parts), [[true, null]]);
  witness.read = read;
  await lookAfter(0, await shown(parts));
  assert.equal(await idsTold(parts), [[true, ID]]);
});

ending('an id that cannot be noted: keeps nothing else from being done, and is noted later', async () => {
  const parts = await witnessed();
  const { w, lookerOf, witness } = parts;
  const other = await w.request(ENI_A);
  let fails = true;
  const noteContainers: typeof w.store.noteContainers = async found => {
    if (fails) throw new IpamError('store-down', 'a row is locked');
    await w.store.noteContainers(found);
  };
  const context = { ...w.context, store: { ...w.store, noteContainers } };
  const { look } = lookerOf({ ...w, context });
  witness.shows = await shown(parts);
  for (const ms of [WITNESS_AGE_MS, WITNESS_AGE_MS]) {
    w.time.now += ms;
    await look();
  }
  assert.is(await w.statusOf(other.ip), 'ready', 'a leak ends');
  assert.equal([w.linesOf('ids of containers not noted'), await idsTold(parts)], [2, [[true, null]]]);
  fails = false;
  await look();
  assert.equal(await idsTold(parts), [[true, ID]]);
});

const changed: [
  what: string,
  change: (parts: Awaited<ReturnType<typeof witnessed>>) => void,
  says: string,
][] = [
  ['the ENI attached elsewhere', ({ w }) => w.reattach(ENI_A, 'i-0b'), 'EC2 shows their ENI changed'],
  ['the ENI attached anew to the same instance', ({ w }) => w.reattach(ENI_A, 'i-0a'), 'EC2 shows their ENI'],
  ['the ENI detached', ({ w }) => w.detach(ENI_A), 'EC2 shows their ENI changed'],
  ['nothing, since it does not answer', ({ w }) => w.refuseCalls(DESCRIBE, 'InternalError'), 'users kept'],
];
for (const [what, change] of changed)
  ending(`EC2 shows ${what}: the holding is kept`, async () => {
    const parts = await witnessed();
    const { w, ip, lookAfter } = parts;
    await lookAfter(0);
    change(parts);
    await lookAfter(WITNESS_AGE_MS);
    assert.is(await w.statusOf(ip), 'allocated');
    assert.is(w.linesOf('holdings without a user kept'), 1);
  });

ending('the probe: is asked last, of the ENI by its MAC address, and has the last word', async () => {
  const { w, ip, witness, lookAfter } = await witnessed();
  witness.probes = () => ({ kind: 'probed', free: [] });
  await lookAfter(0);
  assert.is(witness.probed, null, 'not before the holding is to end');
  await lookAfter(WITNESS_AGE_MS);
  assert.is(witness.probed, `${w.vpc.network.eni(ENI_A).mac} ${ip}`);
  assert.is(await w.statusOf(ip), 'allocated');
  witness.probes = () => Promise.reject(new IpamError('unavailable', 'no right to probe'));
  await lookAfter(60_000);
  await lookAfter(60_000);
  assert.is(await w.statusOf(ip), 'allocated');
  assert.is(w.linesOf('holdings without a user kept'), 1, 'said once');
  witness.probes = ips => ({ kind: 'probed', free: ips });
  await lookAfter(60_000);
  assert.is(await w.statusOf(ip), 'ready');
});

ending('a holding that changes at the last moment: is kept', async () => {
  const { w, ip, witness, lookAfter } = await witnessed();
  witness.probes = async () => {
    await w.release(ENI_A, ip);
    await w.request(ENI_A, { named: ip, holder: 'next' });
    return { kind: 'not ipvlan' };
  };
  await lookAfter(0);
  await lookAfter(WITNESS_AGE_MS);
  const { status, holder } = await w.rowOf(ip);
  assert.is(status, 'allocated');
  assert.is(holder, 'next');
});

ending("the store's clock set forward: the time has to pass by the clock of the process too", async () => {
  const { w, clock, ip, lookAfter } = await witnessed();
  await lookAfter(0);
  clock.aheadMs = WITNESS_AGE_MS;
  await lookAfter(1_000);
  assert.is(await w.statusOf(ip), 'allocated');
  await lookAfter(WITNESS_AGE_MS - 1_000);
  assert.is(await w.statusOf(ip), 'ready');
});

ending('evidence of another process: counts only together with as much of its own', async () => {
  const { w, ip, lookerOf, lookAfter } = await witnessed();
  await lookAfter(0);
  w.time.now += WITNESS_AGE_MS;
  const another = lookerOf(w);
  await another.look();
  assert.is(await w.statusOf(ip), 'allocated');
  w.time.now += WITNESS_AGE_MS;
  await another.look();
  assert.is(await w.statusOf(ip), 'ready');
});

ending('a process that is suspended in between: its reading is too old', async () => {
  const { w, ip, witness, lookAfter } = await witnessed();
  witness.probes = async () => {
    w.time.now += 31_000;
    return { kind: 'not ipvlan' };
  };
  await lookAfter(0);
  await lookAfter(WITNESS_AGE_MS);
  assert.is(await w.statusOf(ip), 'allocated');
});

ending('an address that is missing from its ENI: is taken off', async () => {
  const { w, ip, held, lookAfter } = await witnessed();
  await w.store.move([{ row: held, move: 'missed' }]);
  await lookAfter(0);
  await lookAfter(WITNESS_AGE_MS);
  assert.is(await w.statusOf(ip), 'unassigning');
});

ending('many at once: a few in each pass, and that is said', async () => {
  const { w, lookAfter } = await witnessed();
  await w.requests(ENI_A, 7);
  await lookAfter(WITNESS_AGE_MS);
  await lookAfter(WITNESS_AGE_MS);
  assert.is((await w.ipsWith('allocated')).length, 5);
  assert.equal(w.lines.find(line => line.message.startsWith('more holdings'))?.fields, { count: 5 });
  await lookAfter(60_000);
  assert.is((await w.ipsWith('allocated')).length, 2);
});

ending('a reading that is not complete: is logged when the reason changes', async () => {
  const { w, lookAfter } = await witnessed();
  for (const incomplete of ['no socket', 'no socket', 'no dockerd']) await lookAfter(1_000, { incomplete });
  const said = w.lines.filter(line => line.message.startsWith('host not read completely'));
  assert.equal(
    said.map(line => line.fields.error),
    ['no socket', 'no dockerd'],
  );
});

ending('a wiped engine with other runtimes: what was given before is left to the operator', async () => {
  const { w, ip, lookAfter } = await witnessed();
  await lookAfter(0);
  const wiped = { engine: 'engine-2', hasOtherRuntimes: true };
  for (let i = 0; i < 3; i++) await lookAfter(WITNESS_AGE_MS, wiped);
  assert.is(await w.statusOf(ip), 'allocated');
  const later = await w.request(ENI_A);
  for (let i = 0; i < 3; i++) await lookAfter(WITNESS_AGE_MS, wiped);
  assert.is(await w.statusOf(later.ip), 'ready', 'what was given since is not');
});

ending('a ledger without ENIs of this instance: reads nothing', async () => {
  const { w, witness, look } = await witnessed();
  const eni = await w.store.eni(ENI_A);
  if (eni !== null) await w.store.saveEnis([{ ...eni, instance: null }]);
  await look();
  assert.is(witness.readings, 0);
});

const withholding = suite('withhold');
/** A ready address that a process still has, after one reading. */
async function runningOnAfterRelease(policy = {}) {
  const parts = await witnessed('report', policy);
  const { w, ip, lookAfter } = parts;
  await w.release(ENI_A, ip);
  w.time.now += w.context.policy.cooldownMs;
  await lookAfter(0, runningOn(ip));
  return parts;
}

withholding('one reading: no container gets it, though it has rested', async () => {
  const { w, ip } = await runningOnAfterRelease();
  assert.is(await w.statusOf(ip), 'ready');
  assert.is.not((await w.request(ENI_A)).ip, ip);
});

withholding('a full ENI: refuses a container at once rather than give it by early reuse', async () => {
  const { w, ip, lookAfter } = await witnessed();
  await w.requests(ENI_A, 8);
  await w.release(ENI_A, ip);
  await lookAfter(0, runningOn(ip));
  const { code } = await w.inTime(5_000, failure(w.request(ENI_A)));
  assert.is(code, 'exhausted');
  assert.is(await w.statusOf(ip), 'ready');
});

withholding('--ip: is refused with who uses it', async () => {
  const { w, ip } = await runningOnAfterRelease();
  const { line } = await failure(w.request(ENI_A, { named: ip }));
  assert.is(
    line,
    `${ip} has no holder, but is in use on this host by process 321 (runc init) in network namespace 4026532001; ` +
      'end that process, or choose another address',
  );
});

withholding('no way that makes room: takes it off its ENI', async () => {
  const { w, ip } = await runningOnAfterRelease();
  await w.requests(ENI_A, 8);
  const calls = w.callsOf(UNASSIGN);
  const { line } = await failure(w.request(ENI_A, { named: '10.0.1.99' }));
  assert.match(line, 'PrivateIpAddressLimitExceeded');
  assert.is(await unassignIdle(w.context, [await w.rowOf(ip)]), 0);
  assert.is(await w.statusOf(ip), 'ready');
  assert.is(w.callsOf(UNASSIGN), calls);
});

withholding('another ready address beside it: makes room instead', async () => {
  const { w, ip, lookAfter } = await witnessed();
  const [other] = await w.requests(ENI_A, 8);
  await w.release(ENI_A, other?.ip ?? '');
  w.time.now += 1_000;
  await w.release(ENI_A, ip);
  await lookAfter(0, runningOn(ip));
  assert.is((await w.request(ENI_A, { named: '10.0.1.99' })).ip, '10.0.1.99');
  assert.is(await w.statusOf(ip), 'ready');
});

withholding('a second reading: it becomes occupied, and no release of Docker makes it ready', async () => {
  const { w, ip, lookAfter } = await runningOnAfterRelease();
  await lookAfter(10_000, runningOn(ip));
  assert.is(await w.statusOf(ip), 'occupied');
  assert.is(w.linesOf('address in use on the host without a holder'), 1);
  assert.is(await w.release(ENI_A, ip), false);
  assert.is(await w.another().release(ENI_A, ip), false);
  assert.is(await w.statusOf(ip), 'occupied');
  await lookAfter(10_000);
  assert.is(await w.statusOf(ip), 'occupied', 'one reading misses it');
  await lookAfter(10_000);
  assert.is(await w.statusOf(ip), 'ready');
  await lookAfter(1_000);
  assert.equal((await w.store.sightings([ENI_A])).rows, []);
  w.time.now += w.context.policy.cooldownMs;
  assert.is((await w.request(ENI_A)).ip, ip);
});

withholding('a read of EC2 that misses it for a moment: it stays withheld, and comes back', async () => {
  const { w, ip, lookAfter } = await runningOnAfterRelease();
  await lookAfter(10_000, runningOn(ip));
  const move = async (name: 'unseen' | 'seen') =>
    void (await w.store.move([{ row: await w.rowOf(ip), move: name, iface: ENI_A, primary: false }]));
  await move('unseen');
  await lookAfter(10_000, runningOn(ip));
  for (const ms of [10_000, 10_000, 10_000]) await lookAfter(ms);
  assert.is(await w.statusOf(ip), 'occupied', 'EC2 does not show it');
  await lookAfter(10_000, runningOn(ip));
  await move('seen');
  assert.is(await w.release(ENI_A, ip), false);
  assert.is(await w.statusOf(ip), 'occupied');
  for (const ms of [10_000, 10_000]) await lookAfter(ms);
  assert.is(await w.statusOf(ip), 'ready');
});

withholding('an address that is occupied for another reason: is still released by Docker', async () => {
  const { w } = await witnessed();
  w.putOn(ENI_A, '10.0.1.99');
  await w.enis.refresh(ENI_A);
  assert.is(await w.statusOf('10.0.1.99'), 'occupied');
  const { generation } = await w.rowOf('10.0.1.99');
  const seen = sightingWith(99, { subnet: SUBNET, iface: ENI_A, generation, seenAt: 1 });
  await noteSightings(w.store, [seen]);
  assert.is(await w.release(ENI_A, '10.0.1.99'), true);
});

withholding('one that cannot become ready yet, at a quota: is tried again', async () => {
  const { w, ip, lookAfter } = await runningOnAfterRelease();
  await lookAfter(10_000, runningOn(ip));
  await lookAfter(10_000);
  const back = w.intercept('move', () => async () => []);
  await lookAfter(10_000);
  back();
  assert.is(await w.statusOf(ip), 'occupied');
  await lookAfter(10_000);
  assert.is(await w.statusOf(ip), 'ready');
});

withholding('a process that starts anew: withholds what was withheld before its first reading', async () => {
  const { w, ip } = await runningOnAfterRelease();
  const next = w.another();
  await recallWithheld(next.store, next.cache);
  assert.is.not((await next.request(ENI_A)).ip, ip);
});

withholding('a reading that misses it: it is given again', async () => {
  const { w, ip, lookAfter } = await runningOnAfterRelease();
  await lookAfter(10_000);
  assert.is((await w.request(ENI_A)).ip, ip);
});

withholding('an address that was claimed during the reading: stays with its holder', async () => {
  const { w, ip, witness, look, lookAfter } = await witnessed();
  await w.release(ENI_A, ip);
  const read = witness.read;
  witness.read = async () => {
    await w.request(ENI_A, { named: ip });
    return await read();
  };
  witness.shows = runningOn(ip);
  await look();
  witness.read = read;
  assert.is(await w.statusOf(ip), 'allocated');
  await lookAfter(1_000, runningOn(ip));
  assert.is(await w.statusOf(ip), 'allocated');
});
for (const one of [ending, withholding]) one.run();
