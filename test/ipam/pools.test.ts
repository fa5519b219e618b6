// Goal: a pool is a pure function of its request; asking for one or giving one back changes no holder.
import type { Ipv4 } from '../../src/domain/address.ts';
import { formatPoolId, parsePoolId } from '../../src/domain/ids.ts';
import { createEnis } from '../../src/ipam/ec2/enis.ts';
import type { PoolRequest } from '../../src/ipam/pools.ts';
import { assert, suite } from '../kit/uvu.ts';
import { DESCRIBE, ENI_A, ROOMY, SUBNET } from '../kit/vpcs.ts';
import { failure, GONE, POLICY, pooled, storeAway, type World, world } from '../kit/world.ts';

const asking = (w: World, more: Partial<PoolRequest> = {}) =>
  w.pools.request({ eniId: ENI_A, instanceId: null, pool: '10.0.1.0/24', subPool: '', ...more });

const pools = suite('pools');

pools('answers the subnet of the ENI, the router, and an id that says all', async () => {
  const answer = await asking(world({ vpc: ROOMY }));
  assert.is(answer.poolId, 'eni-0a');
  assert.is(answer.gateway, '10.0.1.1');
  const ranged = await asking(world({ vpc: ROOMY }), { subPool: '10.0.1.128/25' });
  assert.is(ranged.poolId, 'eni-0a;range=10.0.1.128/25');
  assert.is(formatPoolId(parsePoolId(ranged.poolId)), ranged.poolId);
});

pools('the same request twice has the same answer, also from a server that knows nothing', async () => {
  const w = world({ vpc: ROOMY });
  assert.equal(await asking(w), await asking(w.another()));
});

pools('an unknown subnet is initialised on the spot', async () => {
  const w = world({ vpc: ROOMY });
  await asking(w);
  assert.is((await w.ipsWith('free')).length, 249);
});

/** Networks on so many ENIs of a subnet that is new to the ledger, made at once; answers how often it was read. */
async function atOnce(count: number, prepare: (w: World) => void = () => {}): Promise<number> {
  const ids = Array.from({ length: count }, (_, i) => `eni-0c${i}`);
  const instances = ids.map((_, i) => ({ id: `i-0c${i}`, type: 'm5.large' }));
  const attachment = (i: number) => ({ instance: `i-0c${i}`, deviceIndex: 1 });
  const enis = ids.map((id, i) => ({ id, subnet: SUBNET, attachment: attachment(i) }));
  const w = world({ vpc: { ...ROOMY, instances, enis } });
  prepare(w);
  const servers = [w, w.another()];
  await Promise.all(ids.map(async (eniId, i) => asking(servers[i % 2] ?? w, { eniId })));
  assert.is((await w.store.enis()).filter(eni => eni.ours).length, count);
  assert.is((await w.ipsWith('occupied')).length, count, 'their primaries');
  return w.callsOf('GetSubnetCidrReservations');
}

pools('networks that are made at once in an unknown subnet share a survey for each server', async () => {
  assert.is(await atOnce(20), 2);
});

pools('networks made at once share the next survey when the first fails', async () => {
  let failures = 2;
  const surveys = await atOnce(20, ({ store }) => {
    const { add } = store;
    store.add = async rows => (failures-- <= 0 ? await add(rows) : await storeAway());
  });
  assert.is(surveys, 3, 'two that fail, and one that is there for both');
});

pools('a request for a pool whose containers live changes none of them', async () => {
  const w = world({ vpc: ROOMY });
  const held = await w.request(ENI_A);
  w.time.now += 5_000;
  await asking(w);
  await asking(w.another());
  assert.equal(await w.rowOf(held.ip), held);
});

const refused: [what: string, more: Partial<PoolRequest>, line: RegExp][] = [
  [
    'a wrong --subnet',
    { pool: '10.0.2.0/24' },
    /--subnet 10\.0\.2\.0\/24 is not the subnet of eni-0a, which is 10\.0\.1\.0\/24; add --subnet 10\.0\.1\.0\/24 --gateway 10\.0\.1\.1/,
  ],
  ['any /24', { pool: '0.0.0.0/24' }, /is not the subnet of eni-0a/],
  ['a larger --subnet', { pool: '10.0.0.0/16' }, /is not the subnet of eni-0a/],
  ['no CIDR', { pool: 'fd00::/64' }, /--subnet "fd00::\/64" is not an IPv4 CIDR/],
  ['a range outside', { subPool: '10.0.2.0/25' }, /--ip-range 10\.0\.2\.0\/25 is not inside 10\.0\.1\.0\/24/],
  ['no ENI id', { eniId: 'eth1' }, /--ipam-opt eni-id "eth1" is not an id of the form eni-0123abcd/],
  ['an ENI that is not there', { eniId: 'eni-0ff' }, /eni-0ff/],
  ['another instance', { instanceId: 'i-0b' }, /eni-0a is attached to i-0a, not to i-0b/],
];
for (const [what, more, line] of refused)
  pools(`${what} is refused, and nothing is changed`, async () => {
    const w = world({ vpc: ROOMY });
    assert.match((await failure(asking(w, more))).line, line);
    assert.equal(await w.store.tally(), []);
    assert.equal(await w.store.enis(), []);
  });

pools('the loop of engines up to 26 without --subnet ends with the flags to add', async () => {
  const w = world({ vpc: ROOMY });
  assert.is((await asking(w, { pool: '' })).poolId, 'eni-0a');
  w.time.now += 10;
  const { line } = await failure(asking(w, { pool: '' }));
  assert.match(line, /; add --subnet 10\.0\.1\.0\/24 --gateway 10\.0\.1\.1$/);
  w.time.now += 1_001;
  assert.is((await asking(w, { pool: '' })).poolId, 'eni-0a');
});

pools('the VPC router is the only gateway', async () => {
  const w = await pooled({ vpc: ROOMY });
  const pool = parsePoolId('eni-0a');
  assert.is((await w.pools.gateway(pool, null)).gateway, '10.0.1.1');
  assert.is((await w.pools.gateway(pool, '10.0.1.1' as Ipv4)).gateway, '10.0.1.1');
  assert.match((await failure(w.pools.gateway(pool, '10.0.1.9' as Ipv4))).line, /use --gateway 10\.0\.1\.1/);
});

pools('embedded, the ENI of another instance is refused', async () => {
  const { enis } = world({ vpc: ROOMY, instance: 'i-0b' });
  const { line } = await failure(enis.adopt(ENI_A));
  assert.match(line, /attached to i-0a, and this server serves only the ENIs of i-0b/);
});

pools('an ENI that was detached when it was last seen is looked at again, and warm', async () => {
  const w = world({ vpc: ROOMY });
  w.detach(ENI_A);
  await asking(w);
  assert.is((await w.store.eni(ENI_A))?.instance, null);
  w.attach(ENI_A, 'i-0b');
  await asking(w, { instanceId: 'i-0b' });
  assert.is((await w.store.eni(ENI_A))?.instance, 'i-0b');
  await w.time.wait(1000);
  assert.is((await w.ipsWith('ready')).length, 6);
});

pools('while EC2 throttles, docker network create waits, for as long as a request may', async () => {
  const w = world({ vpc: ROOMY });
  w.vpc.faults.add({ kind: 'throttle', action: DESCRIBE, times: 3 });
  assert.is((await asking(w)).poolId, 'eni-0a');
  w.vpc.faults.add({ kind: 'throttle', action: DESCRIBE });
  const before = w.time.now;
  assert.is((await failure(asking(w, { eniId: 'eni-0b' }))).code, 'ec2-throttled');
  assert.is(w.time.now - before, POLICY.requestTimeoutMs);
  assert.is((await failure(asking(w, { eniId: 'eni-0b', caller: GONE }))).code, 'caller-gone');
});

pools('what EC2 refuses while the ledger is slow is told to whoever asked, and ends no process', async () => {
  const w = world({ vpc: ROOMY });
  w.vpc.faults.add({ kind: 'throttle', action: 'DescribeInstances' });
  const subnets = async () => {
    await new Promise(resolve => setTimeout(resolve, 5));
    return await w.store.subnets();
  };
  const enis = createEnis({ ...w.context, store: { ...w.store, subnets } });
  assert.is((await failure(enis.adopt(ENI_A))).code, 'ec2-throttled');
});

for (const id of [
  '',
  'eni-0a;range=10.0.1.0',
  'eni-0a;color=red',
  'eni-0a;range=10.0.1.128/25;x',
  'pool-1',
  'eni-0a;v6',
])
  pools(`PoolID "${id}" is refused`, () => {
    assert.throws(() => parsePoolId(id));
  });

pools.run();
