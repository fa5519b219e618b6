// Goal: who gets which address. Method: the whole machine on a small simulated VPC.
import type { Ipv4 } from '../../../src/domain/address.ts';
import { IpamError } from '../../../src/domain/error.ts';
import type { EniId } from '../../../src/domain/ids.ts';
import { unassign } from '../../../src/ipam/ec2/unassign.ts';
import { GATHER_MS } from '../../../src/ipam/pool/warm-pool.ts';
import { CHECK_EVERY_MS } from '../../../src/ipam/request/subnet-check.ts';
import { putOn } from '../../kit/ledger.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ASSIGN, DESCRIBE, ENI_A, ENI_B, ROOMY, SUBNET } from '../../kit/vpcs.ts';
import {
  failure,
  GONE,
  ipsOf,
  NOT_WARM,
  POLICY,
  pooled,
  within,
  withoutAttachment,
  world,
} from '../../kit/world.ts';

const requesting = suite('request');

requesting('a cold request assigns what it needs and twice the warm maximum, in one call', async () => {
  const w = world({ vpc: ROOMY, policy: { warmMin: 1, warmMax: 2 } });
  const row = await w.request(ENI_A, { holder: 'web' });
  assert.is(row.status, 'allocated');
  assert.is(row.holder, 'web');
  assert.is(w.secondariesOf(ENI_A).length, 5);
  assert.ok(w.secondariesOf(ENI_A).includes(row.ip));
  assert.is(w.callsOf(ASSIGN), 1);
  assert.is((await w.ipsWith('ready')).length, 4);
});

requesting('a warm request asks EC2 nothing', async () => {
  const w = world({ vpc: ROOMY });
  await w.request(ENI_A);
  const before = w.callsOf();
  await w.request(ENI_A);
  assert.is(w.callsOf(), before);
});

requesting('nobody gets an address twice, from two servers on one ledger', async () => {
  const w = world({ vpc: ROOMY });
  const other = w.another();
  const rows = await Promise.all([w, other, w, other, w, other, w, other].map(one => one.request(ENI_A)));
  assert.is(new Set(ipsOf(rows)).size, 8);
  for (const row of rows) assert.ok(w.secondariesOf(ENI_A).includes(row.ip));
});

requesting('requests that wait for one cold ENI share its assign', async () => {
  const w = world({ vpc: ROOMY, policy: { warmMin: 2 } });
  w.vpc.faults.add({ kind: 'latency', ms: 250, action: ASSIGN });
  await Promise.all([w.request(ENI_A), w.request(ENI_A), w.request(ENI_A)]);
  assert.is(w.callsOf(ASSIGN), 1);
});

for (const [waiting, type] of [
  [49, 'm5.24xlarge'],
  [63, 'wide.one'],
] as const)
  requesting(`${waiting} that wait for one cold ENI at once are served by one assign`, async () => {
    const instanceTypes = { 'wide.one': { enis: 4, addressesPerEni: 64 } };
    const instances = [
      { id: 'i-0a', type },
      { id: 'i-0b', type: 'm5.large' },
    ];
    const w = await pooled({ vpc: { ...ROOMY, instanceTypes, instances } });
    w.vpc.faults.add({ kind: 'latency', ms: 250, action: ASSIGN });
    const before = w.time.now;
    const rows = await Promise.all(Array.from({ length: waiting }, () => w.request(ENI_A)));
    assert.is(new Set(ipsOf(rows)).size, waiting);
    assert.is(w.callsOf(ASSIGN), 1);
    assert.is(w.time.now - before, GATHER_MS + 250);
  });

requesting('whose address a stranger keeps locked in the store takes another one', async () => {
  const w = world({ vpc: ROOMY, policy: { warmMin: 2 } });
  const [first, second] = await w.requests(ENI_A, 2);
  for (const row of [first, second]) await w.release(ENI_A, row?.ip ?? '');
  w.time.now += POLICY.cooldownMs;
  const locked = (await w.store.readyOn(ENI_A, null, 1)).rows[0]?.ip ?? first?.ip;
  const move: typeof w.store.move = async changes => {
    if (locked !== undefined && changes.some(({ row }) => row.ip === locked))
      throw new IpamError('store-down', 'it is locked', { addresses: [locked] });
    return await w.store.move(changes);
  };
  const server = w.serverWith({ store: { ...w.store, move } });
  assert.is.not((await w.inTime(5_000, server.request(ENI_A))).ip, locked);
});

requesting('an ENI that was moved to a larger instance is not full any more', async () => {
  const instances = [
    { id: 'i-0a', type: 't3.nano' },
    { id: 'i-0b', type: 'm5.large' },
  ];
  const w = world({ vpc: { ...ROOMY, instances }, policy: NOT_WARM });
  await w.request(ENI_A);
  assert.is((await failure(w.request(ENI_A))).code, 'exhausted');
  w.reattach(ENI_A, 'i-0b');
  assert.is((await failure(w.request(ENI_A))).code, 'exhausted', 'what was read within a minute will do');
  w.time.now += 60_000;
  assert.is((await w.request(ENI_A)).status, 'allocated');
});

requesting("an instance type's limit is asked of EC2 once, also by a server that starts anew", async () => {
  const w = world({ vpc: ROOMY });
  await w.request(ENI_A);
  await w.another().request(ENI_B);
  assert.is(w.callsOf('DescribeInstanceTypes'), 1);
  assert.is((await w.store.eni(ENI_B))?.addressLimit, 10);
});

requesting('nobody is given an address who has gone before it is claimed', async () => {
  const w = world({ vpc: ROOMY });
  await w.request(ENI_A);
  assert.is((await failure(w.request(ENI_A, { caller: GONE }))).code, 'caller-gone');
  assert.is((await w.ipsWith('allocated')).length, 1);
});

requesting('the primary and the reserved addresses are never given', async () => {
  const w = world();
  const given: string[] = ipsOf(await w.requests(ENI_A, 9));
  for (const ip of ['10.0.1.0', '10.0.1.1', '10.0.1.2', '10.0.1.3', '10.0.1.4', '10.0.1.5', '10.0.1.15'])
    assert.not.ok(given.includes(ip), ip);
  assert.is(new Set(given).size, 9);
});

/** A ledger that calls the primary of ENI A free. */
async function withFreePrimary() {
  const w = world();
  const primary = '10.0.1.4' as Ipv4;
  await w.store.add([{ subnet: SUBNET, ip: primary, status: 'free', iface: null, primary: false }]);
  return { w, primary: () => w.rowOf(primary) };
}

requesting('the primary is not given even when the ledger calls it free', async () => {
  const { w, primary } = await withFreePrimary();
  await w.request(ENI_A);
  assert.is((await primary()).status, 'occupied');
  assert.is((await primary()).primary, true);
});

requesting('a primary that the ledger has ready is occupied before anything is given', async () => {
  const { w, primary } = await withFreePrimary();
  await putOn(w.store, [await primary()], ENI_A);
  await w.enis.adopt(ENI_A);
  assert.is((await primary()).status, 'occupied');
  assert.is((await primary()).primary, true);
});

requesting('a range narrows the choice', async () => {
  const w = world({ vpc: ROOMY });
  for (let i = 0; i < 6; i++) {
    const { ip } = await w.request(ENI_A, { range: '10.0.1.128/25' });
    assert.ok(within('10.0.1.128/25', ip), ip);
  }
});

requesting('a full ENI is said to be full, with what to do', async () => {
  const w = world({ vpc: ROOMY });
  await w.requests(ENI_A, 9);
  const error = await failure(w.request(ENI_A));
  assert.is(error.code, 'exhausted');
  assert.match(error.line, /eni-0a has no address left: it holds 9 beside its primary; stop a container/);
});

requesting('an empty subnet is said to be empty', async () => {
  const w = world({ policy: NOT_WARM });
  await w.requests(ENI_A, 5);
  await w.requests(ENI_B, 4);
  const error = await failure(w.request(ENI_B));
  assert.is(error.code, 'exhausted');
  assert.match(error.line, /subnet-0a1 \(10\.0\.1\.0\/28\) has no free address left for eni-0b/);
  assert.match(
    error.line,
    /recycle` .* of other ENIs, .*; one that was unassigned .* returns to it after 5 minutes at the earliest$/,
  );
});

requesting('an unknown ENI is an error and changes nothing', async () => {
  const w = world();
  const error = await failure(w.request('eni-0ff' as EniId));
  assert.is(error.code, 'ec2-not-found');
  assert.equal(await w.store.tally(), []);
});

requesting('an embedded ledger reads the subnet before it says that it is full, once a minute', async () => {
  const w = world({ instance: 'i-0a', policy: NOT_WARM });
  const theirs = ['10.0.1.10', '10.0.1.11', '10.0.1.12', '10.0.1.13', '10.0.1.14'];
  w.putOn(ENI_B, ...theirs);
  await w.requests(ENI_A, 4);
  const reads = () => w.callsOf(DESCRIBE);
  const before = reads();
  const line = /subnet-0a1 .* has no free address left/;
  assert.match((await failure(w.request(ENI_A))).line, line);
  assert.is(reads() - before, 1);
  assert.match((await failure(w.request(ENI_A))).line, line);
  assert.is(reads() - before, 1, 'what was read within a minute will do');
  w.takeOff(ENI_B, ...theirs);
  w.time.now += CHECK_EVERY_MS;
  const both = [failure(w.request(ENI_A)), failure(w.request(ENI_A))];
  for (const error of await Promise.all(both)) assert.match(error.line, line, 'one read is not enough');
  assert.is(reads() - before, 2, 'all who ask share it');
  w.time.now += CHECK_EVERY_MS;
  assert.ok(theirs.includes((await w.request(ENI_A)).ip));
  assert.is(reads() - before, 4, 'and one that tells where the ENI is');
});

requesting('an embedded ledger assigns nothing on an ENI that has moved to another instance', async () => {
  const w = world({ instance: 'i-0a', policy: NOT_WARM });
  await w.request(ENI_A);
  w.reattach(ENI_A, 'i-0b');
  w.time.now += 90_000;
  const assigns = w.callsOf(ASSIGN);
  const { line } = await failure(w.request(ENI_A));
  assert.match(line, /^eni-0a is not attached to i-0a, and this server serves only its ENIs; attach it here/);
  assert.is(w.callsOf(ASSIGN), assigns);
});

requesting('an embedded ledger asks where an ENI is only when it has not been told for a while', async () => {
  const w = world({ instance: 'i-0a', policy: NOT_WARM });
  await w.request(ENI_A);
  const reads = w.callsOf(DESCRIBE);
  await w.request(ENI_A);
  assert.is(w.callsOf(DESCRIBE), reads);
  w.time.now += 90_000;
  await w.request(ENI_A);
  await w.request(ENI_A);
  assert.is(w.callsOf(DESCRIBE), reads + 1);
});

requesting('an ENI that another process has found to have left is looked up again', async () => {
  const w = world({ instance: 'i-0a' });
  await w.request(ENI_A);
  await withoutAttachment(w, ENI_A);
  await w.enis.readAll();
  assert.is(w.enis.recall(ENI_A), null);
});

requesting('is not refused while what another server tried in vain is free again', async () => {
  const w = world({ policy: NOT_WARM });
  // Another server has every free address in hand until this one has looked for any that rests.
  const back = w.intercept('freeFor', freeFor => async query => {
    if (query.which === 'any') back();
    return { ...(await freeFor(query)), rows: [] };
  });
  assert.is((await w.request(ENI_A)).status, 'allocated');
});

requesting('a request is refused in time although the read before hangs', async () => {
  const w = world({ instance: 'i-0a', policy: { ...NOT_WARM, requestTimeoutMs: 5_000 } });
  await w.requests(ENI_A, 9);
  w.vpc.faults.add({ kind: 'hang', action: DESCRIBE });
  assert.is((await w.inTime(5_000, failure(w.request(ENI_A)))).code, 'exhausted');
});

const resting = suite('rest');

resting('an address cools down before it is given again on its ENI', async () => {
  const w = world({ vpc: ROOMY, policy: NOT_WARM });
  const { ip } = await w.request(ENI_A);
  await w.release(ENI_A, ip);
  assert.is.not((await w.request(ENI_A)).ip, ip);
  w.time.now += POLICY.cooldownMs;
  assert.is((await w.request(ENI_A)).ip, ip);
});

resting('with nothing else left the longest-resting is reused early, and that is logged', async () => {
  const w = world({ vpc: ROOMY });
  const [first, second] = ipsOf(await w.requests(ENI_A, 9));
  await w.release(ENI_A, first ?? '');
  w.time.now += 1000;
  await w.release(ENI_A, second ?? '');
  assert.is((await w.request(ENI_A)).ip, first);
  assert.is(w.linesOf('early reuse'), 1);
});

resting('early reuse asks EC2 once when the ENI can hold no more, and says so', async () => {
  const w = world({ policy: { ...NOT_WARM, graceMs: 0 } });
  await w.requests(ENI_B, 4);
  for (const ip of await w.ipsWith('allocated')) await w.release(ENI_B, ip);
  await unassign(w.context, (await w.store.readyOn(ENI_B, null, 9)).rows);
  await w.requests(ENI_A, 5);
  w.refuseCalls(ASSIGN, 'PrivateIpAddressLimitExceeded');
  const before = w.callsOf(ASSIGN);
  const { line } = await failure(w.request(ENI_A));
  assert.match(line, /eni-0a has no address left: it holds as many as it may/);
  assert.is(w.callsOf(ASSIGN) - before, 1);
  assert.is(w.linesOf('early reuse'), 0, 'nothing was given');
});

resting('with strict reuse the start waits, and gets the address once it has rested', async () => {
  const w = world({ vpc: ROOMY, policy: { strictReuse: true } });
  const [ip = ''] = ipsOf(await w.requests(ENI_A, 9));
  await w.release(ENI_A, ip);
  const before = w.time.now;
  assert.is((await w.request(ENI_A)).ip, ip);
  assert.ok(w.time.now - before >= POLICY.cooldownMs);
});

resting('with strict reuse the start is refused at its bound', async () => {
  const w = world({ vpc: ROOMY, policy: { strictReuse: true, cooldownMs: 600_000 } });
  await w.requests(ENI_A, 8);
  await w.release(ENI_A, (await w.request(ENI_A)).ip);
  const before = w.time.now;
  assert.match((await failure(w.request(ENI_A))).line, /has no address left that has rested/);
  assert.ok(w.time.now - before >= POLICY.requestTimeoutMs);
  assert.ok(w.time.now - before < POLICY.requestTimeoutMs + 5_000);
});

resting('quarantine holds before another ENI, and is longer than the cooldown', async () => {
  const w = world({ policy: { ...NOT_WARM, graceMs: 0 } });
  const [ip = ''] = ipsOf(await w.requests(ENI_A, 8));
  await w.release(ENI_A, ip);
  assert.is((await unassign(w.context, [await w.rowOf(ip)])).freed.length, 1);
  w.time.now += POLICY.quarantineMs - 1;
  assert.is.not((await w.request(ENI_B)).ip, ip, 'the other free address comes first');
  w.time.now += 1;
  assert.is((await w.request(ENI_B)).ip, ip);
  assert.is(w.linesOf('early reuse'), 0);
});

for (const s of [requesting, resting]) s.run();
