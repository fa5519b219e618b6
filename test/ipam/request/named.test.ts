// Goal: a named address is given or refused with the reason, and a release of it that is under way is waited for.
// Method: the whole machine on a small simulated VPC.
import { assert, suite } from '../../kit/uvu.ts';
import { ASSIGN, ENI_A, ENI_B, ROOMY, UNASSIGN } from '../../kit/vpcs.ts';
import { failure, ipsOf, NOT_WARM, POLICY, storeAway, type World, world } from '../../kit/world.ts';
import { hold, isHeldBy, NAMED, servers, waitingRelease } from './servers.ts';

const named = suite('request of a named address');

named('is honoured, and a second request for it is refused with the reason', async () => {
  const w = world({ vpc: ROOMY });
  assert.is((await w.request(ENI_A, { named: NAMED, holder: 'db' })).ip, NAMED);
  const line = '10.0.1.77 is held by container db on eni-0a; choose another address or leave out --ip';
  assert.is((await failure(w.request(ENI_B, { named: NAMED }))).line, line);
});

named('is served while it cools on its ENI, as docker restart needs', async () => {
  const w = world({ vpc: ROOMY, policy: { strictReuse: true } });
  await w.request(ENI_A, { named: NAMED });
  assert.is(await w.release(ENI_A, NAMED), true);
  assert.is((await w.request(ENI_A, { named: NAMED })).ip, NAMED);
});

named('that is ready on another ENI is refused, naming that ENI', async () => {
  const w = world({ vpc: ROOMY });
  await w.request(ENI_A, { named: NAMED });
  await w.release(ENI_A, NAMED);
  const error = await failure(w.request(ENI_B, { named: NAMED }));
  assert.match(error.line, /10\.0\.1\.77 is kept ready on eni-0a, another ENI/);
});

const rejected: [ip: string, why: RegExp][] = [
  ['10.0.1.1', /reserved by AWS: it is the VPC router/],
  ['10.0.1.255', /reserved by AWS/],
  ['10.0.1.4', /primary address of eni-0a/],
  ['10.0.1.5', /in use on eni-0b, not by a container/],
  ['10.9.9.9', /not in 10\.0\.1\.0\/24/],
];
for (const [ip, why] of rejected)
  named(`${ip} is refused: ${why.source}`, async () => {
    const w = world({ vpc: ROOMY });
    assert.match((await failure(w.request(ENI_A, { named: ip }))).line, why);
  });

named('that an operator holds is refused, and the reason is told', async () => {
  const w = world({ vpc: ROOMY });
  await w.request(ENI_A);
  await w.store.move([{ row: await w.rowOf(NAMED), move: 'hold', reservedFor: 'the printer' }]);
  const error = await failure(w.request(ENI_A, { named: NAMED }));
  assert.match(error.line, /10\.0\.1\.77 is reserved by an operator: the printer; choose another/);
});

named('that somebody else has at EC2 is refused, and written down', async () => {
  const w = world({ vpc: ROOMY });
  await w.request(ENI_A);
  w.putOn(ENI_B, '10.0.1.99');
  const error = await failure(w.request(ENI_A, { named: '10.0.1.99' }));
  assert.match(error.line, /10\.0\.1\.99 is in use on eni-0b/);
  assert.is(await w.statusOf('10.0.1.99'), 'occupied');
});

named.run();

const again = suite('--ip and the release of the same address');

/** The next read of a row calls `work` once it has read. */
function afterRead(w: World, work: () => unknown): void {
  const back = w.intercept('get', get => async (...asked) => {
    back();
    const read = await get(...asked);
    await work();
    return read;
  });
}

again('waits for the release that this server has in hand', async () => {
  const { w } = servers();
  await hold(w, 'before');
  const { released, open } = waitingRelease(w);
  afterRead(w, open);
  assert.is((await hold(w, 'after')).holder, 'after');
  assert.is(await released, true);
  await isHeldBy(w, 'after');
});

again('waits for one that is made while the row is read', async () => {
  const { w } = servers();
  await hold(w);
  afterRead(w, () => released);
  const released = w.release(ENI_A, NAMED);
  assert.is((await hold(w, 'after')).holder, 'after');
});

again('waits for one that is tried again, since the store has failed', async () => {
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

again('is refused when the release does not end within its bound', async () => {
  const { w } = servers();
  await hold(w, 'before');
  const { open } = waitingRelease(w);
  const before = w.time.now;
  assert.match((await failure(hold(w))).line, /is held by container before/);
  assert.ok(w.time.now - before >= POLICY.requestTimeoutMs);
  open();
});

again('is refused at once when no release is in hand', async () => {
  const { w } = servers();
  await hold(w);
  assert.is(await w.tookMs(failure(hold(w))), 0);
});

again.run();

const crowded = suite('--ip on a full ENI');

async function full(): Promise<{ w: World; ips: string[] }> {
  const w = world({ vpc: ROOMY, policy: NOT_WARM });
  return { w, ips: ipsOf(await w.requests(ENI_A, 9)) };
}

crowded('is refused at once where nothing can make room', async () => {
  const { w } = await full();
  const before = w.callsOf(ASSIGN);
  assert.is((await w.inTime(0, failure(hold(w)))).code, 'ec2-limit');
  assert.is(w.callsOf(ASSIGN) - before, 1);
});

crowded('of two at once, each gets the place of an idle address', async () => {
  const { w, ips } = await full();
  for (const ip of ips.slice(0, 2)) await w.release(ENI_A, ip);
  w.vpc.faults.add({ kind: 'latency', ms: 300, action: UNASSIGN });
  const both = ['10.0.1.77', '10.0.1.78'].map(named => w.request(ENI_A, { named }));
  await w.inTime(2_000, Promise.all(both));
});

crowded('waits for a release that makes room', async () => {
  const { w, ips } = await full();
  const back = w.intercept('move', move => async changes => {
    if (changes[0]?.move === 'release') await w.time.wait(500);
    return await move(changes);
  });
  const released = w.release(ENI_A, ips[0] ?? '');
  const before = w.callsOf(ASSIGN);
  await w.inTime(1_000, hold(w));
  assert.ok(w.callsOf(ASSIGN) - before <= 3, 'EC2 is not asked again and again meanwhile');
  assert.is(await released, true);
  back();
});

crowded('waits for an unassign, and asks EC2 again when it has ended', async () => {
  const { w, ips } = await full();
  await w.release(ENI_A, ips[0] ?? '');
  const [leaving] = await w.store.move([{ row: await w.rowOf(ips[0] ?? ''), move: 'unassign' }]);
  assert.ok(leaving);
  const before = w.callsOf(ASSIGN);
  const asked = hold(w);
  await w.time.wait(3_000);
  w.takeOff(ENI_A, leaving.ip);
  await w.store.move([{ row: leaving, move: 'unassigned' }]);
  await w.inTime(200, asked);
  assert.is(w.callsOf(ASSIGN) - before, 2);
});

crowded('gets the place of an address whose unassign was made and has no answer', async () => {
  const { w, ips } = await full();
  await w.release(ENI_A, ips[0] ?? '');
  await w.store.move([{ row: await w.rowOf(ips[0] ?? ''), move: 'unassign' }]);
  const before = w.callsOf(ASSIGN);
  const asked = hold(w);
  await w.time.wait(1_000);
  w.takeOff(ENI_A, ips[0] ?? '');
  await w.inTime(4_000, asked);
  assert.is(w.callsOf(ASSIGN) - before, 2);
});

crowded('does not wait for an unassign that has had no answer for too long', async () => {
  const { w, ips } = await full();
  await w.release(ENI_A, ips[0] ?? '');
  await w.store.move([{ row: await w.rowOf(ips[0] ?? ''), move: 'unassign' }]);
  const { callDeadlineMs } = POLICY;
  assert.is((await w.inTime(callDeadlineMs + 200, failure(hold(w)))).code, 'ec2-limit');
});

crowded.run();
