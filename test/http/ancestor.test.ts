// Goal: the worst faults of the program that this one replaces stay gone, and its networks go on working after an
// upgrade. Method: Docker's requests on the wire, to the whole machine on a small simulated VPC.
import type { Ipv4 } from '../../src/domain/address.ts';
import { createDriver } from '../../src/http/driver.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import type { Store } from '../../src/store/store.ts';
import { assert, suite } from '../kit/uvu.ts';
import { ASSIGN, ENI_A, ENI_B, ROOMY, SMALL, SUBNET } from '../kit/vpcs.ts';
import { NOT_WARM, POLICY, type World, world } from '../kit/world.ts';

type Answer = Readonly<Record<string, unknown>>;

/** The machine behind the wire. */
function served(options: Parameters<typeof world>[0] = { vpc: ROOMY }) {
  const w = world(options);
  const app = createDriver({ pools: w.pools, allocator: w.allocator, opened: async () => {} }, w.context.log);
  const post = async (method: string, body: unknown): Promise<Answer> => {
    const response = await app.request(`/IpamDriver.${method}`, {
      method: 'POST',
      body: typeof body === 'string' ? body : JSON.stringify(body),
    });
    assert.is(response.status, 200);
    return (await response.json()) as Answer;
  };
  const start = async (PoolID: string = ENI_A): Promise<string> => {
    const answer = await post('RequestAddress', { PoolID, Address: '', Options: null });
    assert.is(answer.Error, undefined);
    return String(answer.Address).split('/')[0] ?? '';
  };
  const create = (Pool = '10.0.1.0/24', eni: string = ENI_A) =>
    post('RequestPool', {
      AddressSpace: 'ec2-ipam',
      Pool,
      SubPool: '',
      Options: { 'eni-id': eni },
      V6: false,
    });
  const release = (PoolID: string, Address: string) => post('ReleaseAddress', { PoolID, Address });
  return { w, post, start, create, release };
}

/** The rows of the ledger in the statuses that a fault would change. */
const holders = async (w: World) => [
  await w.ipsWith('allocated'),
  await w.ipsWith('ready'),
  await w.ipsWith('reserved'),
];

const ancestor = suite('faults of the ancestor');

ancestor('RequestPool frees nothing, nor does the failed create of a second network', async () => {
  const { w, post, start, create } = served();
  await create();
  const running = await start();
  const before = await holders(w);
  await create();
  assert.match(String((await create('10.0.2.0/24')).Error), /is not the subnet of eni-0a/);
  assert.equal(await post('ReleasePool', { PoolID: ENI_A }), {}); // what Docker sends when a create fails
  assert.equal(await holders(w), before);
  for (let i = 0; i < 8; i++) assert.is.not(await start(), running);
});

ancestor("an ENI's primary address is never given", async () => {
  const { w, post, create } = served({ vpc: SMALL });
  await create('10.0.1.0/28');
  const given: string[] = [];
  for (;;) {
    const { Address, Error: error } = await post('RequestAddress', { PoolID: ENI_A, Address: '' });
    if (error !== undefined) break;
    given.push(String(Address));
  }
  assert.is(given.length, 9);
  for (const primary of ['10.0.1.4', '10.0.1.5']) {
    assert.not.ok(given.includes(`${primary}/28`));
    assert.ok((await post('RequestAddress', { PoolID: ENI_A, Address: primary })).Error);
    assert.is(await w.statusOf(primary), 'occupied');
  }
});

ancestor('the release of the gateway, which every network rm sends, changes nothing', async () => {
  const { w, start, create, release } = served();
  await create();
  await start();
  const before = await holders(w);
  assert.equal(await release(ENI_A, '10.0.1.1'), {});
  assert.equal(await holders(w), before);
});

ancestor('addresses that others took behind our back do not block a subnet', async () => {
  const ways = [false, true].flatMap(unnamedRefusals =>
    [0, 8].map(warmMin => ({ unnamedRefusals, warmMin })),
  );
  for (const { unnamedRefusals, warmMin } of ways) {
    const { w, start, create } = served({ vpc: SMALL, policy: { warmMin }, unnamedRefusals });
    await create('10.0.1.0/28');
    const foreign = (await w.ipsWith('free')).slice(0, 8) as Ipv4[];
    w.vpc.network.assign({ eni: ENI_B, ips: foreign });
    const ip = await start();
    assert.not.ok(foreign.some(one => one === ip));
    assert.ok(w.secondariesOf(ENI_A).includes(ip));
  }
});

ancestor('an assign that hangs on one ENI delays no start on another', async () => {
  const { w, post, start, create } = served({ vpc: ROOMY, policy: NOT_WARM });
  await create();
  await create('10.0.1.0/24', ENI_B);
  w.vpc.faults.add({ kind: 'hang', action: ASSIGN, eni: ENI_A });
  const order: string[] = [];
  const hung = post('RequestAddress', { PoolID: ENI_A, Address: '' }).then(({ Error: error }) => {
    order.push(ENI_A);
    assert.match(String(error), /EC2 has not answered a call for eni-0a/);
  });
  while (order.length === 0 && w.callsOf(ASSIGN) === 0) await new Promise(resolve => setImmediate(resolve));
  const before = w.time.now;
  await start(ENI_B);
  order.push(ENI_B);
  // Time passes while the answer is written, but not as much as the hung call may take.
  assert.ok(w.time.now - before < POLICY.callDeadlineMs, `${w.time.now - before} ms`);
  await hung;
  assert.equal(order, [ENI_B, ENI_A]);
});

ancestor('a release by another pool changes nothing', async () => {
  const { w, start, create, release } = served();
  await create();
  await create('10.0.1.0/24', ENI_B);
  const ip = await start(ENI_A);
  await start(ENI_B);
  const before = await holders(w);
  assert.equal(await release(ENI_B, ip), {});
  assert.equal(await holders(w), before);
});

ancestor('no error carries a stack, whatever goes wrong', async () => {
  const store = (clock: () => number): Store => ({
    ...createMemoryStore({ clock }),
    readyOn: () => Promise.reject(new TypeError('SELECT * FROM allocation')),
  });
  const wrongs: [what: string, method: string, body: unknown, fault?: 'a bug'][] = [
    ['no JSON', 'RequestAddress', '{'],
    ['no PoolID', 'RequestAddress', {}],
    ['no such ENI', 'RequestAddress', { PoolID: 'eni-0ff', Address: '' }],
    ['no ENI', 'RequestPool', { Pool: '10.0.1.0/24', Options: {} }],
    ['no address', 'ReleaseAddress', { PoolID: ENI_A, Address: 'x' }],
    ['EC2 refuses', 'RequestAddress', { PoolID: ENI_A, Address: '' }],
    ['a bug', 'RequestAddress', { PoolID: ENI_A, Address: '' }, 'a bug'],
  ];
  for (const [what, method, body, fault] of wrongs) {
    const { w, post, create } = served(fault === undefined ? { vpc: ROOMY } : { vpc: ROOMY, store });
    await create();
    w.refuseCalls(ASSIGN, 'UnauthorizedOperation', 'You are not authorized to perform this operation.');
    const error = String((await post(method, body)).Error);
    assert.match(error, /^[^\n]{20,}$/, what);
    assert.not.match(error, /SELECT|TypeError|node:|\.ts\b| at /, what);
  }
});

const upgrade = suite('upgrade from the ancestor');

/** After `migrate`: all that the ledger knows of an ENI is that the ancestor's networks were on it. */
async function upgraded() {
  const parts = served();
  const { store } = parts.w;
  const unread = { instance: null, attachment: null, addressLimit: null, prefixes: 0 };
  const never = {
    attachmentSeenAt: null,
    earlierAttachment: null,
    claimsEndBefore: null,
    tenant: null,
    mac: null,
  };
  for (const id of [ENI_A, ENI_B]) {
    const rest = { ...unread, ...never, ours: false, countIntentAt: null, releasedAt: null };
    await store.saveEnis([{ id, subnet: SUBNET, primary: '0.0.0.0' as Ipv4, ...rest }]);
    await store.adopt(id);
  }
  return parts;
}

upgrade('a network of the ancestor works on, though Docker asks for no pool again', async () => {
  const { w, start, release } = await upgraded();
  const ip = await start(ENI_A);
  assert.is(await w.statusOf(ip), 'allocated');
  assert.equal(await release(ENI_A, ip), {});
  assert.is(await w.statusOf(ip), 'ready');
});

upgrade('a container of the ancestor keeps its address until it is released', async () => {
  const { w, start, release } = await upgraded();
  w.putOn(ENI_A, '10.0.1.9');
  for (let i = 0; i < 7; i++) assert.is.not(await start(ENI_A), '10.0.1.9');
  assert.is(await w.statusOf('10.0.1.9'), 'occupied');
  assert.equal(await release(ENI_B, '10.0.1.9'), {});
  assert.is(await w.statusOf('10.0.1.9'), 'occupied', 'not by another ENI');
  assert.equal(await release(ENI_A, '10.0.1.9'), {});
  assert.is(await w.statusOf('10.0.1.9'), 'ready');
});

upgrade("the first word about an ENI may be the release of the ancestor's container", async () => {
  const { w, release } = await upgraded();
  w.putOn(ENI_A, '10.0.1.9');
  assert.equal(await release(ENI_A, '10.0.1.9'), {});
  assert.is(await w.statusOf('10.0.1.9'), 'ready');
});

for (const s of [ancestor, upgrade]) s.run();
