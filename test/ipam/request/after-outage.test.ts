// Goal: an outage that has lasted for longer than requests wait costs nobody an address once it is over. Method: EC2 or
// the ledger away until requests have failed for it, and then back; the next request on a cold ENI is the first to see.
import { IpamError } from '../../../src/domain/error.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ASSIGN, ENI_A, ENI_B, ROOMY, SMALL } from '../../kit/vpcs.ts';
import { failure, NOT_WARM, POLICY, type World, world } from '../../kit/world.ts';

/** Requests that come one after the other fail for EC2, until one fails at once. */
async function ec2Away(w: World): Promise<void> {
  await w.enis.adopt(ENI_A);
  w.vpc.faults.add({ kind: 'throttle', action: ASSIGN });
  const before = w.time.now;
  assert.is((await failure(w.request(ENI_A))).code, 'ec2-throttled');
  assert.is((await failure(w.request(ENI_A))).code, 'ec2-throttled');
  assert.ok(w.time.now - before > POLICY.requestTimeoutMs);
  w.vpc.faults.clear();
}

async function storeAway(w: World): Promise<void> {
  await w.enis.adopt(ENI_A);
  const { onEni, readyOn, move } = w.store;
  const away = async () => {
    throw new IpamError('store-down', 'away');
  };
  Object.assign(w.store, { onEni: away, readyOn: away, move: away });
  assert.is((await failure(w.request(ENI_A))).code, 'store-down');
  assert.is((await failure(w.request(ENI_A))).code, 'store-down');
  Object.assign(w.store, { onEni, readyOn, move });
}

const after = suite('the first request after an outage');

for (const [what, away] of [
  ['of EC2', ec2Away],
  ['of the ledger', storeAway],
] as const) {
  after(`${what} gets what was assigned for it`, async () => {
    const w = world({ vpc: ROOMY });
    await away(w);
    assert.is((await w.request(ENI_A)).status, 'allocated');
    assert.is(w.callsOf(ASSIGN) > 0, true);
  });

  after(`${what} gets what was assigned for it, however slow EC2 is`, async () => {
    const w = world({ vpc: ROOMY });
    await away(w);
    w.vpc.faults.add({ kind: 'latency', ms: 9_000, action: ASSIGN });
    assert.is((await w.request(ENI_A)).status, 'allocated');
  });

  after(`${what} gets a named address`, async () => {
    const w = world({ vpc: ROOMY });
    await away(w);
    assert.is((await w.request(ENI_A, { named: '10.0.1.77' })).ip, '10.0.1.77');
  });

  after(`${what} gets what first has to be taken off another ENI`, async () => {
    const policy = { ...NOT_WARM, cooldownMs: 0, quarantineMs: 0 };
    const w = world({ vpc: SMALL, policy });
    const rows = await w.requests(ENI_B, 8);
    await away(w);
    rows.push(await w.request(ENI_B));
    for (const { ip } of rows) await w.release(ENI_B, ip);
    assert.is((await w.request(ENI_A)).iface, ENI_A);
  });

  after(`${what} gets early what rests`, async () => {
    const w = world({ vpc: ROOMY, policy: { cooldownMs: 600_000 } });
    await w.requests(ENI_A, 8);
    const last = await w.request(ENI_A);
    await away(w).catch(() => {});
    w.vpc.faults.clear();
    await w.release(ENI_A, last.ip);
    assert.is((await w.request(ENI_A)).ip, last.ip);
  });
}

after('that waits in vain for others is told why, within the bound', async () => {
  const w = world({ vpc: ROOMY });
  await ec2Away(w);
  w.intercept('move', move => async changes => {
    w.time.now += 10;
    return changes[0]?.move === 'claim' ? [] : await move(changes);
  });
  const before = w.time.now;
  const error = await failure(w.request(ENI_A));
  assert.match(error.line, /other requests claimed each address that became ready on eni-0a/);
  assert.ok(w.time.now - before <= POLICY.requestTimeoutMs + 1_000);
});

after('that loses an address to others after its deadline gets the next one', async () => {
  const w = world({ vpc: ROOMY });
  await ec2Away(w);
  const before = w.time.now;
  let lostLate = 0;
  w.intercept('move', move => async changes => {
    if (changes[0]?.move !== 'claim') return await move(changes);
    w.time.now += 10;
    const isLate = w.time.now - before > POLICY.requestTimeoutMs;
    return isLate && lostLate++ >= 3 ? await move(changes) : [];
  });
  assert.is((await w.request(ENI_A)).status, 'allocated');
  assert.is(lostLate, 4);
});

after('for a named address that others keep moving is told so', async () => {
  const w = world({ vpc: ROOMY });
  await w.request(ENI_A, { named: '10.0.1.77' });
  await w.release(ENI_A, '10.0.1.77');
  w.intercept('move', move => async changes => (changes[0]?.move === 'claim' ? [] : await move(changes)));
  assert.is(
    (await failure(w.request(ENI_A, { named: '10.0.1.77' }))).line,
    'other requests kept changing 10.0.1.77; try again',
  );
});

after.run();
