// Goal: a tenant gets its quota and no more, takes nothing from others at it, and its waiting does not hold them.
// Method: the whole machine on a simulated VPC whose ENIs have tags.
import type { EniId } from '../../../src/domain/ids.ts';
import { TENANT_TAG } from '../../../src/domain/tenant.ts';
import { createEvidence } from '../../../src/ipam/sync/holders.ts';
import { reconcile } from '../../../src/ipam/sync/reconcile.ts';
import type { World as VpcDescription } from '../../../src/simulator/model/world.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ASSIGN, ENI_A, ENI_B, LARGE, SUBNET, UNASSIGN, withEnis } from '../../kit/vpcs.ts';
import { failure, ipsOf, NOT_WARM, POLICY, type World, world } from '../../kit/world.ts';

const ENI_C = 'eni-0c' as EniId;
const OTHERS = { primary: '10.0.0.7', attachment: { instance: 'i-0b', deviceIndex: 2 } };
/** A and B are red's, C is nobody's. */
const TAGGED: VpcDescription = withEnis(
  { ...LARGE, enis: LARGE.enis?.map(eni => ({ ...eni, tags: { [TENANT_TAG]: 'red' } })) ?? [] },
  { id: ENI_C, ...OTHERS },
);

async function redWith(quota: number, policy = {}, more: Parameters<typeof world>[0] = {}): Promise<World> {
  const w = world({ vpc: TAGGED, policy: { ...NOT_WARM, ...policy }, ...more });
  await w.store.saveTenant({ name: 'red', quota, profile: null });
  return w;
}
const usedBy = async (w: World) => (await w.store.tenantOf(ENI_A))?.used;

const tenants = suite('a tenant');

tenants(
  'gets its quota on all its ENIs together, and no more: the error says which, and what to do',
  async () => {
    const w = await redWith(5);
    await w.requests(ENI_A, 3);
    await w.requests(ENI_B, 2);
    const before = w.callsOf();
    const error = await failure(w.inTime(0, w.request(ENI_B)));
    assert.is(
      error.line,
      'tenant red is at its quota: 5 of 5 addresses are used; stop containers of red, or run ' +
        '`ec2-ipam tenant set red --quota N`',
    );
    assert.is(error.code, 'exhausted');
    assert.is(w.callsOf(), before, 'EC2 is not asked');
    await w.requests(ENI_C, 20);
  },
);

tenants('that nobody declared has no quota', async () => {
  const w = await redWith(1);
  await w.store.removeTenant('red');
  await w.requests(ENI_A, 10);
});

tenants('at its quota gets an address again when a container stops, or its quota is raised', async () => {
  const w = await redWith(2);
  const [first] = ipsOf(await w.requests(ENI_A, 2));
  await failure(w.request(ENI_B));
  await w.release(ENI_A, first ?? '');
  const row = await w.request(ENI_B);
  assert.is(row.iface, ENI_B);
  assert.is(await usedBy(w), 2);
  await failure(w.request(ENI_B));
  await w.store.saveTenant({ name: 'red', quota: 3, profile: null });
  await w.request(ENI_B);
});

tenants('of many requests at once as many are served as its quota lets through', async () => {
  const w = await redWith(7);
  const asked = Array.from({ length: 20 }, (_, i) => w.request(i % 2 === 0 ? ENI_A : ENI_B));
  const answers = await Promise.allSettled(asked);
  assert.is(answers.filter(one => one.status === 'fulfilled').length, 7);
  assert.is(await usedBy(w), 7);
});

tenants('on two servers at once stays within its quota', async () => {
  const w = await redWith(7);
  const servers = [w, w.another()];
  const asked = Array.from({ length: 20 }, (_, i) => servers[i % 2]?.request(i % 2 === 0 ? ENI_A : ENI_B));
  const answers = await Promise.allSettled(asked);
  assert.is(answers.filter(one => one.status === 'fulfilled').length, 7);
});

tenants('at its quota waits for an address that another server is assigning for it', async () => {
  const w = await redWith(1);
  const gone = new AbortController();
  w.vpc.faults.add({ kind: 'latency', ms: 1_000, action: ASSIGN, times: 1 });
  const first = failure(w.request(ENI_A, { caller: gone.signal }));
  await w.time.wait(300);
  const second = w.another().request(ENI_A);
  gone.abort();
  await first;
  assert.is((await second).iface, ENI_A);
  assert.is(w.callsOf(ASSIGN), 1);
});

tenants('at its quota takes idle addresses off its own ENIs, and none off others', async () => {
  const w = await redWith(4, { warmMin: 0, warmMax: 4 });
  const ips = ipsOf(await w.requests(ENI_C, 3));
  for (const ip of ips) await w.release(ENI_C, ip);
  await w.requests(ENI_A, 2);
  const idle = await w.ipsWith('ready');
  assert.ok(idle.length >= 3 + 1, `${idle}`);
  await w.requests(ENI_B, 2);
  assert.is(await usedBy(w), 4);
  await failure(w.request(ENI_B));
  assert.is(w.secondariesOf(ENI_C).length, w.secondariesOf(ENI_C).filter(ip => idle.includes(ip)).length);
  for (const ip of ips)
    assert.ok(w.secondariesOf(ENI_C).includes(ip), `${ip} was taken off another tenant's ENI`);
});

tenants('at its quota gets an address of its own that still rests', async () => {
  const w = await redWith(1);
  const { ip } = await w.request(ENI_A);
  await w.release(ENI_A, ip);
  assert.is((await w.request(ENI_A)).ip, ip);
  assert.is(w.linesOf('early reuse'), 1);
  assert.is(w.callsOf(UNASSIGN), 0);
});

tenants('with strict reuse waits for an address of its own that still rests', async () => {
  const w = await redWith(1, { strictReuse: true });
  const { ip } = await w.request(ENI_A);
  await w.release(ENI_A, ip);
  const tookMs = await w.tookMs(w.request(ENI_A));
  assert.ok(tookMs >= POLICY.cooldownMs && tookMs < POLICY.cooldownMs + 5_000, `${tookMs} ms`);
});

tenants(
  'keeps its pools warm within its quota, and leaves the last address to a request elsewhere',
  async () => {
    const w = await redWith(8, { warmMin: 4, warmMax: 8 });
    await w.request(ENI_A);
    assert.ok(((await usedBy(w)) ?? 0) <= 4, 'a call takes half of what is left');
    await w.time.wait(600_000);
    const used = (await usedBy(w)) ?? 0;
    assert.ok(used > 4 && used < 8, `${used} are used`);
    assert.is(w.linesOf('refill failed'), 0);
    await w.request(ENI_B);
    assert.is(w.callsOf(UNASSIGN), 0);
  },
);

tenants('a named request: counts too, and is told of the quota', async () => {
  const w = await redWith(2);
  const { ip } = await w.request(ENI_A, { named: '10.0.0.100' });
  await w.request(ENI_A);
  assert.match(
    (await failure(w.request(ENI_B, { named: '10.0.0.101' }))).line,
    /^tenant red is at its quota/,
  );
  await w.release(ENI_A, ip);
  const row = await w.request(ENI_B, { named: '10.0.0.101' });
  assert.is(row.ip, '10.0.0.101');
  assert.is(await w.statusOf(ip), 'free', 'an idle one of its own made room');
});

tenants('a named request that waits for room in vain: is told of the quota', async () => {
  const w = await redWith(1);
  await w.enis.adopt(ENI_B);
  const [row] = await w.freeRows(1);
  assert.ok(row);
  let [intent] = await w.store.move([{ row, move: 'assign', iface: ENI_B }]);
  let isOver = false;
  const asked = failure(w.request(ENI_A, { named: '10.0.0.100' })).finally(() => (isOver = true));
  // Others try again and again, and fail: the place is always about to be free.
  while (!isOver) {
    await w.time.wait(15_000);
    if (intent === undefined) break;
    const [free] = await w.store.move([{ row: intent, move: 'refused' }]);
    [intent] = free === undefined ? [] : await w.store.move([{ row: free, move: 'assign', iface: ENI_B }]);
  }
  assert.match((await asked).line, /^tenant red is at its quota/);
});

tenants('a warm start: costs no more statements with a tenant than without', async () => {
  const w = await redWith(20, { warmMin: 2, warmMax: 6 });
  for (const eni of [ENI_A, ENI_C]) await w.request(eni);
  await w.time.wait(60_000);
  const counts = w.countingCalls('move', 'tenantOf', 'tenants', 'eni');
  for (const eni of [ENI_A, ENI_C]) await w.allocator.request(await asked(eni));
  assert.equal({ ...counts }, { move: 2, tenantOf: 0, tenants: 0, eni: 0 });
});
const asked = async (eni: EniId) => ({
  pool: { eni, range: null },
  named: null,
  holder: null,
  caller: new AbortController().signal,
});

tenants('a cold start: asks for the quota once, and not at all without a tenant', async () => {
  const w = await redWith(20);
  await w.enis.adopt(ENI_A);
  await w.enis.adopt(ENI_C);
  const counts = w.countingCalls('tenantOf');
  await w.request(ENI_C);
  assert.is(counts.tenantOf, 0);
  await w.request(ENI_A);
  assert.is(counts.tenantOf, 1);
});

async function compare({ context, enis }: World): Promise<void> {
  await reconcile(context, enis, createEvidence(context), SUBNET);
}

tenants('a tag that changes: counts from the next comparison on', async () => {
  const w = await redWith(1);
  await w.requests(ENI_C, 1);
  await w.request(ENI_A);
  w.vpc.network.tag(ENI_C, { [TENANT_TAG]: 'red' });
  await w.request(ENI_C);
  await compare(w);
  assert.is((await w.store.eni(ENI_C))?.tenant, 'red');
  assert.match((await failure(w.request(ENI_C))).line, /^tenant red is at its quota: 3 of 1/);
  w.vpc.network.tag(ENI_C, {});
  await compare(w);
  await w.request(ENI_C);
});

const byProfile = (): VpcDescription => ({
  ...TAGGED,
  instances: TAGGED.instances?.map(one => (one.id === 'i-0b' ? { ...one, profile: 'web' } : one)) ?? [],
  enis: TAGGED.enis?.map(eni => (eni.id === ENI_B ? { ...eni, tags: { [TENANT_TAG]: 'blue' } } : eni)) ?? [],
});

tenants('of an instance profile has the ENIs of its instances, unless a tag names another', async () => {
  const w = await redWith(2, {}, { vpc: byProfile() });
  await w.requests(ENI_C, 1);
  assert.is((await w.store.eni(ENI_C))?.tenant, null);
  assert.is(w.callsOf('DescribeInstances'), 1, 'for the type only: no tenant has a profile');
  await w.store.saveTenant({ name: 'red', quota: 2, profile: 'web' });
  await compare(w);
  const [a, b, c] = await Promise.all([ENI_A, ENI_B, ENI_C].map(async id => (await w.store.eni(id))?.tenant));
  assert.equal([a, b, c], ['red', 'blue', 'red']);
  await w.request(ENI_C);
  assert.match((await failure(w.request(ENI_A))).line, /^tenant red is at its quota: 2 of 2/);
  await w.requests(ENI_B, 3);
});

tenants('of an instance profile: keeps its ENIs while EC2 does not show the instance', async () => {
  const w = await redWith(5, {}, { vpc: byProfile() });
  await w.store.saveTenant({ name: 'red', quota: 5, profile: 'web' });
  await w.request(ENI_C);
  w.refuseCalls('DescribeInstances', 'UnauthorizedOperation');
  await compare(w);
  assert.is((await w.store.eni(ENI_C))?.tenant, 'red');
  assert.is(w.linesOf('instance profiles not read, tenants kept'), 1);
  w.vpc.faults.clear();
  await w.store.removeTenant('red');
  await w.store.saveTenant({ name: 'other', quota: 5, profile: 'db' });
  await compare(w);
  assert.is((await w.store.eni(ENI_C))?.tenant, null);
});

tenants('what a cached record of an ENI says of its tenant does not let it past the quota', async () => {
  const w = await redWith(1);
  await w.request(ENI_A);
  await w.request(ENI_C);
  const eni = await w.store.eni(ENI_C);
  assert.ok(eni);
  await w.store.saveEnis([{ ...eni, tenant: 'red' }]);
  const calls = w.callsOf(ASSIGN);
  assert.match((await failure(w.request(ENI_C))).line, /^tenant red is at its quota: 2 of 1/);
  assert.is(w.callsOf(ASSIGN), calls);
});

tenants(
  'at its quota: a release of what did not count changes nothing, with one line in the log',
  async () => {
    const w = await redWith(1, {}, { vpc: withSecondary() });
    await w.request(ENI_A);
    assert.is(await w.statusOf('10.0.0.50'), 'occupied');
    assert.not(await w.release(ENI_A, '10.0.0.50'));
    assert.is(await w.statusOf('10.0.0.50'), 'occupied');
    assert.is(w.linesOf('release changed nothing, the address would count'), 1);
    await w.store.saveTenant({ name: 'red', quota: 2, profile: null });
    assert.ok(await w.release(ENI_A, '10.0.0.50'));
  },
);
const withSecondary = (): VpcDescription => ({
  ...TAGGED,
  enis: (TAGGED.enis ?? []).map(eni => (eni.id === ENI_A ? { ...eni, secondaries: ['10.0.0.50'] } : eni)),
});
tenants.run();
