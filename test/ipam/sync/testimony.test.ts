// Goal: an agent's readings end a leak on its own host's ENIs, and nothing else: not those of others, not by an old, foreign
// or repeated ticket, at whichever server; and what a host shows to one server, all withhold. Method: central servers on one
// ledger and a simulated VPC, told by tests what hosts show.
import type { EniId, InstanceId } from '../../../src/domain/ids.ts';
import { type HostReading, WITNESS_AGE_MS } from '../../../src/domain/witness.ts';
import { createTestimony, type Testimony } from '../../../src/ipam/sync/testimony.ts';
import { recallWithheld } from '../../../src/ipam/sync/withheld.ts';
import { createWitnessed, type WitnessMode } from '../../../src/ipam/sync/witnessed.ts';
import type { ProbeAnswer } from '../../../src/witness/witness.ts';
import { placeOf, readingWith, useWith } from '../../kit/readings.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { DESCRIBE, ENI_A, ENI_B, ROOMY } from '../../kit/vpcs.ts';
import { failure, NOT_WARM, type World, world } from '../../kit/world.ts';

const [A, B] = ['i-0a', 'i-0b'] as [InstanceId, InstanceId];
const ENDED = 'holder ended: nothing on its host uses the address';

/** A server that agents tell of their hosts. */
function heardBy(w: World, mode: WitnessMode = 'release'): Testimony {
  const witnessed = createWitnessed(w.context, w, { mode, ageMs: WITNESS_AGE_MS });
  return createTestimony(w.context, { attachments: w.attachments, witnessed });
}

/** Two hosts of a central ledger; each holds an address, old enough. */
async function hosts(mode?: WitnessMode) {
  const w = world({ vpc: ROOMY, policy: NOT_WARM });
  const by = (instance: InstanceId) => ({ from: { instance, id: null, sentMsAgo: 0, givenTo: null } });
  const a = await w.request(ENI_A, by(A));
  const b = await w.request(ENI_B, by(B));
  w.time.now += WITNESS_AGE_MS;
  const testimony = heardBy(w, mode);
  const mac = (eni: EniId) => w.vpc.network.eni(eni).mac;
  const reading = (patch: Partial<HostReading> = {}) => readingWith({ macs: [mac(ENI_A)], ...patch });
  /** What the agent of a host does. */
  const tell = async (patch: Partial<HostReading> = {}, host = A, server = testimony) => {
    const { ticket } = await server.begin(host);
    const probes = await server.readings(host, ticket, reading(patch));
    if (probes.length === 0) return;
    const answers = probes.map(({ mac }): ProbeAnswer => ({ mac, kind: 'not ipvlan' }));
    await server.probed(host, ticket, answers);
  };
  const tellAfter = async (ms: number, ...more: Parameters<typeof tell>) => {
    w.time.now += ms;
    await tell(...more);
  };
  return { w, a: a.ip, b: b.ip, testimony, mac, reading, tell, tellAfter };
}

const telling = suite('what agents tell');

/** What a host shows of a container that has the address on the interface. */
const runs = (ip: string, mac: string, container: string): Partial<HostReading> => ({
  uses: [useWith(ip as never, { isInNetworks: true, endpoints: [{ mac, container }] })],
});

telling('the id of a container: counts for an address on an ENI of the host, and of no other', async () => {
  const { w, a, b, mac, tell } = await hosts();
  const [one, other] = ['a'.repeat(64), 'b'.repeat(64)];
  const idsOf = async () => [(await w.rowOf(a)).containerId, (await w.rowOf(b)).containerId];
  for (const eni of [ENI_A, ENI_B]) await tell({ ...runs(b, mac(eni), other), macs: [mac(eni)] }, A);
  await tell(runs(a, mac(ENI_B), other), A);
  await tell(runs(a, mac(ENI_A), other), B);
  assert.equal(await idsOf(), [null, null]);
  await tell(runs(a, mac(ENI_A), one), A);
  await tell(runs(b, mac(ENI_B), other), B);
  assert.equal(await idsOf(), [one, other]);
});

telling('the id of a container: is not noted of what another instance was given on the ENI', async () => {
  const { w, a, mac, tell } = await hosts();
  w.reattach(ENI_A, B);
  await w.enis.refresh(ENI_A);
  w.time.now += WITNESS_AGE_MS;
  const own = await w.request(ENI_A, { from: { instance: B, id: null, sentMsAgo: 0, givenTo: null } });
  const uses = [a, own.ip].flatMap(ip => runs(ip, mac(ENI_A), 'b'.repeat(64)).uses ?? []);
  await tell({ uses }, B);
  assert.is((await w.rowOf(own.ip)).containerId, 'b'.repeat(64));
  assert.is((await w.rowOf(a)).containerId, null);
});

telling('two readings that show an address nowhere: end the holding, after the probe', async () => {
  const { w, a, b, testimony, mac, reading, tell } = await hosts();
  await tell();
  assert.is(await w.statusOf(a), 'allocated');
  w.time.now += WITNESS_AGE_MS;
  const { ticket, enis } = await testimony.begin(A);
  assert.equal(enis, [{ mac: mac(ENI_A), ips: ['10.0.1.4', a] }]);
  const probes = await testimony.readings(A, ticket, reading());
  assert.equal(probes, [{ mac: mac(ENI_A), ips: [a] }]);
  assert.is(await w.statusOf(a), 'allocated');
  await testimony.probed(A, ticket, [{ mac: mac(ENI_A), kind: 'probed', free: [a] as never }]);
  assert.is(await w.statusOf(a), 'ready');
  assert.is(await w.statusOf(b), 'allocated');
  assert.is(w.linesOf(ENDED), 1);
  assert.is(await w.store.fact('ended by evidence'), '1');
});

const ANSWERS: [what: string, answers: (mac: string) => readonly ProbeAnswer[]][] = [
  ['that a slave has it', mac => [{ mac, kind: 'probed', free: [] }]],
  ['of another address', mac => [{ mac, kind: 'probed', free: ['10.0.1.77'] as never }]],
  ['that it could not ask', mac => [{ mac, kind: 'failed', why: 'no right to' }]],
  ['of another interface', () => [{ mac: '02:0a:1b:2c:3d:99', kind: 'not ipvlan' }]],
  ['nothing', () => []],
];
for (const [what, answers] of ANSWERS)
  telling(`a kernel that answers ${what}: keeps the holding`, async () => {
    const { w, a, testimony, mac, reading, tell } = await hosts();
    await tell();
    w.time.now += WITNESS_AGE_MS;
    const { ticket } = await testimony.begin(A);
    assert.is((await testimony.readings(A, ticket, reading())).length, 1);
    await testimony.probed(A, ticket, answers(mac(ENI_A)));
    assert.is(await w.statusOf(a), 'allocated');
  });

telling('another host: changes nothing on the ENI, whatever it sends', async () => {
  const { w, a, b, mac, tellAfter } = await hosts();
  await w.release(ENI_A, a);
  const [held] = await w.requests(ENI_A, 1);
  const before = await w.store.sightings([ENI_A]);
  const lies = {
    macs: [mac(ENI_A), mac(ENI_B)],
    uses: [useWith(b, { isInNetworks: true }), useWith(a, { places: [placeOf()] })],
  };
  for (let i = 0; i < 5; i++) await tellAfter(WITNESS_AGE_MS, lies, B);
  assert.is(await w.statusOf(held?.ip ?? ''), 'allocated');
  assert.is(await w.statusOf(a), held?.ip === a ? 'allocated' : 'ready');
  assert.equal((await w.store.sightings([ENI_A])).rows, before.rows);
});

telling('an ENI that has moved: is shown by neither host until ledger and EC2 agree', async () => {
  const { w, a, testimony, tellAfter } = await hosts();
  await tellAfter(0);
  w.reattach(ENI_A, B);
  w.time.now += WITNESS_AGE_MS;
  for (const host of [A, B])
    assert.equal(
      (await testimony.begin(host)).enis.map(eni => eni.ips.includes(a)),
      host === A ? [] : [false],
    );
  await w.enis.refresh(ENI_A);
  w.time.now += WITNESS_AGE_MS;
  assert.is((await testimony.begin(B)).enis.length, 2, 'now it is the other host’s');
  const macs = [ENI_A, ENI_B].map(eni => w.vpc.network.eni(eni).mac);
  const uses = [useWith(a), useWith((await w.ipsWith('allocated'))[1] as never, { isInNetworks: true })];
  for (let i = 0; i < 3; i++) await tellAfter(WITNESS_AGE_MS, { macs, uses }, B);
  assert.is(await w.statusOf(a), 'allocated', 'it was given to the former host, which alone can show it');
});

telling('a holding of no known instance, on an ENI that was attached anew: is kept', async () => {
  for (const isAnew of [true, false]) {
    const { w, tellAfter } = await hosts();
    const { ip } = await w.request(ENI_A);
    if (isAnew) w.reattach(ENI_A, A);
    await w.enis.refresh(ENI_A);
    for (let i = 0; i < 3; i++) await tellAfter(WITNESS_AGE_MS);
    assert.is(await w.statusOf(ip), isAnew ? 'allocated' : 'ready');
  }
});

telling('EC2 shows another attachment at last: the holding is kept', async () => {
  const { w, a, testimony, mac, reading, tell } = await hosts();
  await tell();
  w.time.now += WITNESS_AGE_MS;
  const { ticket } = await testimony.begin(A);
  assert.is((await testimony.readings(A, ticket, reading())).length, 1);
  w.reattach(ENI_A, A);
  await testimony.probed(A, ticket, [{ mac: mac(ENI_A), kind: 'not ipvlan' }]);
  assert.is(await w.statusOf(a), 'allocated');
  assert.is(w.linesOf('holdings without a user kept'), 1);
});

telling('EC2 does not say whose the ENI is: nothing is begun', async () => {
  const { w, testimony } = await hosts();
  w.refuseCalls(DESCRIBE, 'InternalError');
  w.time.now += WITNESS_AGE_MS;
  assert.match((await failure(testimony.begin(A))).line, /EC2 has not said/);
});

const tickets = suite('tickets');
const NOT_VALID = /^the ticket is not that of a reading of this host/;

tickets('a ticket of another host, an unknown one, and one of another server: are refused', async () => {
  const { w, testimony, reading } = await hosts();
  const { ticket } = await testimony.begin(A);
  const theirs = (await testimony.begin(B)).ticket;
  for (const [host, wrong] of [
    [A, theirs],
    [B, ticket],
    [A, '00000000-0000-4000-8000-000000000001'],
  ] as const) {
    assert.match((await failure(testimony.readings(host, wrong, reading()))).line, NOT_VALID);
    assert.match((await failure(testimony.probed(host, wrong, []))).line, NOT_VALID);
  }
  const other = heardBy(w.another());
  assert.match((await failure(other.readings(A, ticket, reading()))).line, NOT_VALID);
  await testimony.readings(A, ticket, reading());
});

tickets('one that is older than 30 s: is refused, at each step', async () => {
  const { w, a, testimony, reading, tell } = await hosts();
  await tell();
  w.time.now += WITNESS_AGE_MS;
  const first = await testimony.begin(A);
  w.time.now += 30_001;
  assert.match((await failure(testimony.readings(A, first.ticket, reading()))).line, NOT_VALID);
  const second = await testimony.begin(A);
  assert.is((await testimony.readings(A, second.ticket, reading())).length, 1);
  w.time.now += 30_001;
  assert.match((await failure(testimony.probed(A, second.ticket, []))).line, NOT_VALID);
  assert.is(await w.statusOf(a), 'allocated');
});

tickets('each step: is taken once, and in its order', async () => {
  const { w, a, testimony, mac, reading, tellAfter } = await hosts();
  const { ticket } = await testimony.begin(A);
  assert.match((await failure(testimony.probed(A, ticket, []))).line, NOT_VALID);
  await testimony.readings(A, ticket, reading());
  for (let i = 0; i < 3; i++) {
    w.time.now += 1_000;
    assert.match((await failure(testimony.readings(A, ticket, reading()))).line, NOT_VALID);
  }
  const [counted] = (await w.store.sightings([ENI_A])).rows;
  assert.is(counted?.unseenReadings, 1, 'a repeated reading counts once');
  await tellAfter(WITNESS_AGE_MS);
  assert.is(await w.statusOf(a), 'ready');
  const again = await w.request(ENI_A, {
    named: a,
    from: { instance: A, id: null, sentMsAgo: 0, givenTo: null },
  });
  const answer = [{ mac: mac(ENI_A), kind: 'not ipvlan' }] as const;
  assert.match((await failure(testimony.probed(A, ticket, answer))).line, NOT_VALID);
  assert.is((await w.rowOf(a)).generation, again.generation);
});

tickets('a new begin: takes the place of the one before, at the same server and at another', async () => {
  const { w, a, testimony, reading, tell } = await hosts();
  await tell();
  w.time.now += WITNESS_AGE_MS;
  const first = await testimony.begin(A);
  const second = await testimony.begin(A);
  assert.match((await failure(testimony.readings(A, first.ticket, reading()))).line, NOT_VALID);
  const before = await w.store.sightings([ENI_A]);
  const other = heardBy(w.another());
  const elsewhere = await other.begin(A);
  assert.equal(await testimony.readings(A, second.ticket, reading()), [], 'it is not weighed any more');
  assert.equal((await w.store.sightings([ENI_A])).rows, before.rows);
  assert.equal(
    await other.readings(A, elsewhere.ticket, reading()),
    [],
    'this server has not seen it as long',
  );
  assert.is(await w.statusOf(a), 'allocated');
});

tickets(
  'a reading that waits at one server while the next one is saved at another: changes nothing',
  async () => {
    const { w, a, reading, tellAfter, tell } = await hosts();
    await tell();
    const slow = heardBy(w);
    const late = await slow.begin(A);
    const go = Promise.withResolvers<void>();
    const back = w.intercept('saveReading', save => async (...args) => {
      back();
      await go.promise;
      return await save(...args);
    });
    const waiting = slow.readings(A, late.ticket, reading());
    await tellAfter(0, { uses: [useWith(a, { isInNetworks: true })] }, A, heardBy(w.another()));
    go.resolve();
    assert.equal(await waiting, []);
    const [seen] = (await w.store.sightings([ENI_A])).rows;
    assert.is(seen?.unseenSince, null, 'what was seen last counts');
  },
);

tickets('a probe that is answered late: ends nothing once another reading was begun elsewhere', async () => {
  const { w, a, testimony, mac, reading, tell } = await hosts();
  await tell();
  w.time.now += WITNESS_AGE_MS;
  const { ticket } = await testimony.begin(A);
  assert.is((await testimony.readings(A, ticket, reading())).length, 1);
  await heardBy(w.another()).begin(A);
  await testimony.probed(A, ticket, [{ mac: mac(ENI_A), kind: 'not ipvlan' }]);
  assert.is(await w.statusOf(a), 'allocated');
});

const counting = suite('readings at several servers');

counting('an agent that changes servers: the count goes on, with as much time at the new one', async () => {
  const { w, a, tellAfter } = await hosts();
  await tellAfter(0);
  const other = heardBy(w.another());
  await tellAfter(WITNESS_AGE_MS, {}, A, other);
  assert.is(await w.statusOf(a), 'allocated');
  const [counted] = (await w.store.sightings([ENI_A])).rows;
  assert.is(counted?.unseenReadings, 2);
  await tellAfter(WITNESS_AGE_MS, {}, A, other);
  assert.is(await w.statusOf(a), 'ready');
});

counting('an unanswered call for the ENI: the reading does not count', async () => {
  const { w, a, tellAfter } = await hosts();
  for (let i = 0; i < 4; i++) await tellAfter(WITNESS_AGE_MS, { unanswered: [ENI_A] });
  assert.is(await w.statusOf(a), 'allocated');
});

counting('a call in flight that the reading leaves out: what it is given is too young to count', async () => {
  const { w, tellAfter } = await hosts();
  const from = { instance: A, id: '00000000-0000-4000-8000-000000000009', sentMsAgo: 0, givenTo: null };
  const { ip } = await w.request(ENI_A, { from });
  await tellAfter(60_000);
  // The answer was lost, and the agent repeats the call at another server at the end of its time.
  w.time.now += 59_000;
  const again = await w.another().request(ENI_A, { from: { ...from, sentMsAgo: 119_000, givenTo: null } });
  assert.is(again.ip, ip);
  await tellAfter(WITNESS_AGE_MS - 1_000);
  await tellAfter(60_000);
  assert.is(await w.statusOf(ip), 'allocated');
});

counting('a reading of no boot or no engine: proves nothing', async () => {
  for (const missing of [{ boot: null }, { engine: null }]) {
    const { w, a, tellAfter } = await hosts();
    for (let i = 0; i < 4; i++) await tellAfter(WITNESS_AGE_MS, missing);
    assert.is(await w.statusOf(a), 'allocated');
  }
});

counting('an engine whose data was wiped: is known for each host apart', async () => {
  const { w, a, b, mac, tellAfter } = await hosts();
  const runtimes = { hasOtherRuntimes: true };
  const ofB = { ...runtimes, macs: [mac(ENI_B)], engine: 'engine of b' };
  await tellAfter(0, runtimes);
  await tellAfter(0, ofB, B);
  for (let i = 0; i < 2; i++) await tellAfter(WITNESS_AGE_MS, { ...runtimes, engine: 'wiped' });
  await tellAfter(0, ofB, B);
  await tellAfter(WITNESS_AGE_MS, ofB, B);
  assert.is(await w.statusOf(a), 'allocated', 'what was given before it was wiped is left to the operator');
  assert.is(await w.statusOf(b), 'ready');
});

counting('what was read, and why it was not complete: is known by host', async () => {
  const { w, tellAfter } = await hosts();
  await tellAfter(0, { incomplete: 'no dockerd' });
  const { rows, now } = await w.store.witnesses();
  assert.equal(
    rows.map(({ instance, readAt, incomplete }) => [instance, readAt, incomplete]),
    [[A, now, 'no dockerd']],
  );
});

counting('--witness report: says so once, asks for no probe, and ends nothing', async () => {
  const { w, a, tellAfter } = await hosts('report');
  for (let i = 0; i < 4; i++) await tellAfter(WITNESS_AGE_MS);
  assert.is(await w.statusOf(a), 'allocated');
  assert.is(w.linesOf('holding without a user, kept'), 1);
});

const withholding = suite('withhold at several servers');

/** A ready address that a process of host A still has, as it has shown one server. */
async function runsOn() {
  const parts = await hosts('report');
  const { w, a, tellAfter } = parts;
  const other = w.another();
  await w.release(ENI_A, a);
  w.time.now += w.context.policy.cooldownMs;
  const shows = { uses: [useWith(a, { places: [placeOf()] })] };
  await tellAfter(0, shows);
  return { ...parts, other, shows };
}

withholding('what a host shows to one server: is given by none', async () => {
  const { w, a, other } = await runsOn();
  assert.is.not((await w.request(ENI_A)).ip, a);
  await recallWithheld(other.store, other.cache);
  assert.is.not((await other.request(ENI_A)).ip, a);
  assert.match(
    (await failure(other.request(ENI_A, { named: a }))).line,
    /in use on this host by process 321/,
  );
  assert.is(await w.statusOf(a), 'ready');
});

withholding('what a host does not show any more: is given again by all', async () => {
  const { a, other, tellAfter } = await runsOn();
  await recallWithheld(other.store, other.cache);
  await tellAfter(0);
  await recallWithheld(other.store, other.cache);
  assert.is((await other.request(ENI_A)).ip, a);
});

withholding('another host that is read: gives nothing back', async () => {
  const { w, a, mac, tellAfter } = await runsOn();
  await tellAfter(0, { macs: [mac(ENI_B)] }, B);
  assert.is.not((await w.request(ENI_A)).ip, a);
});

withholding('what is shown while the ledger is asked: is newer', async () => {
  const { w, a, tell, shows } = await runsOn();
  await tell();
  const { rows } = await w.store.usedSightings();
  assert.equal(rows, []);
  const slow = {
    usedSightings: async () => {
      const read = await w.store.usedSightings();
      await tell(shows);
      return read;
    },
  };
  await recallWithheld(slow, w.cache);
  assert.is.not((await w.request(ENI_A)).ip, a);
});

withholding('one that could not become occupied: is withheld all the same', async () => {
  const { w, a, other, tellAfter, shows } = await runsOn();
  const back = w.intercept('move', () => async () => []);
  await tellAfter(10_000, shows);
  back();
  assert.is(await w.statusOf(a), 'ready');
  await recallWithheld(other.store, other.cache);
  assert.is.not((await other.request(ENI_A)).ip, a);
  assert.is.not((await w.request(ENI_A)).ip, a);
});

withholding('no server takes it off its ENI', async () => {
  const { w, a, other } = await runsOn();
  await w.requests(ENI_A, 8);
  const { line } = await failure(other.request(ENI_A, { named: '10.0.1.99' }));
  assert.match(line, 'PrivateIpAddressLimitExceeded');
  assert.is(await w.statusOf(a), 'ready');
});
withholding(
  'a host that says all its addresses are in use: does not get its tenant past the quota',
  async () => {
    const { w, a, mac, tellAfter } = await hosts('report');
    const { eni } = await w.enis.look(ENI_A);
    await w.store.saveEnis([{ ...eni, tenant: 'red' }]);
    await w.store.saveTenant({ name: 'red', quota: 3, profile: null });
    await w.requests(ENI_A, 2);
    for (const ip of await w.ipsWith('allocated')) await w.release(ENI_A, ip);
    const uses = (await w.ipsWith('ready')).map(ip => useWith(ip as never, { places: [placeOf()] }));
    for (let i = 0; i < 3; i++) await tellAfter(60_000, { macs: [mac(ENI_A)], uses });
    assert.match((await failure(w.request(ENI_A))).line, 'tenant red is at its quota: 3 of 3');
    assert.is(await w.statusOf(a), 'ready');
  },
);

for (const one of [telling, tickets, counting, withholding]) one.run();
