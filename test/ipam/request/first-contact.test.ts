// Goal: no release and no request takes over an ENI that is not this ledger's. Method: ENIs that nobody has made a
// network on, with other people's addresses, on a central server and on an embedded one; what each costs EC2.
import type { Ipv4 } from '../../../src/domain/address.ts';
import { type EniId, parsePoolId } from '../../../src/domain/ids.ts';
import { survey } from '../../../src/ipam/ec2/survey.ts';
import { operatorRelease } from '../../../src/ipam/request/release.ts';
import type { AddressRequest } from '../../../src/ipam/request/request.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ENI_A, ENI_B, ROOMY, SUBNET } from '../../kit/vpcs.ts';
import { failure, NOT_WARM, STAYS, type World, world } from '../../kit/world.ts';

const FOREIGN = '10.0.1.77' as Ipv4;

/** The request of a container of a network that was made elsewhere, or before this ledger. */
const ask = ({ allocator }: World, more: Partial<AddressRequest> = {}) =>
  allocator.request({ pool: parsePoolId(ENI_A), named: null, holder: null, caller: STAYS, ...more });

async function initialised(instance?: string): Promise<World> {
  const w = world({ vpc: ROOMY, ...(instance === undefined ? {} : { instance }) });
  w.putOn(ENI_A, FOREIGN);
  await survey(w.context, SUBNET);
  return w;
}
const stateOf = async ({ store }: World) => [
  await store.withStatus(SUBNET, ['ready', 'allocated', 'occupied']),
  await store.enis(),
];

const central = suite('first contact with a central server');

central('a release for an ENI that nobody has pooled changes nothing and asks EC2 nothing', async () => {
  const w = await initialised();
  const before = await stateOf(w);
  const calls = w.callsOf();
  assert.is(await w.release(ENI_A, FOREIGN), false);
  assert.equal(await stateOf(w), before);
  assert.is(w.callsOf(), calls);
  assert.equal(w.secondariesOf(ENI_A), [FOREIGN]);
});

central('a release for an ENI that the ledger has never heard of asks EC2 nothing', async () => {
  const w = world({ vpc: ROOMY });
  assert.is(await w.release(ENI_A, FOREIGN), false);
  assert.is(w.callsOf(), 0);
  assert.equal(await w.store.enis(), []);
});

central('a request is refused with what to do, and asks EC2 nothing', async () => {
  const w = await initialised();
  const calls = w.callsOf();
  const told =
    /^eni-0a is not an ENI of this ledger; create its network anew, or run `ec2-ipam adopt eni-0a` on/;
  for (const asked of [ask(w), ask(w, { named: FOREIGN }), w.pools.gateway(parsePoolId(ENI_A), null)]) {
    const { code, line } = await failure(asked);
    assert.is(code, 'conflict');
    assert.match(line, told);
  }
  assert.is(w.callsOf(), calls);
  assert.is((await w.store.eni(ENI_A))?.ours, false);
});

central('RequestPool makes it ours, for all servers of the ledger', async () => {
  const w = await initialised();
  await w.pools.request({ eniId: ENI_A, instanceId: null, pool: '10.0.1.0/24', subPool: '' });
  const calls = w.callsOf();
  const another = w.another();
  assert.is((await another.pools.gateway(parsePoolId(ENI_A), null)).gateway, '10.0.1.1');
  assert.is(w.callsOf(), calls);
  assert.is(await another.release(ENI_A, FOREIGN), true);
  assert.is((await ask(another)).row.iface, ENI_A);
});

central('ReleasePool of an unknown ENI changes nothing', async () => {
  const w = await initialised();
  const before = await stateOf(w);
  await w.pools.release(parsePoolId(ENI_A));
  await w.pools.release(parsePoolId('eni-0ff'));
  assert.equal(await stateOf(w), before);
});

central('an ENI that only the rows of the ancestor tell of is read at its first use', async () => {
  const w = await initialised();
  const known = await w.store.eni(ENI_A);
  if (known === null) throw new Error('init saves it');
  const primary = '0.0.0.0' as Ipv4;
  await w.store.saveEnis([{ ...known, primary, instance: null, attachment: null, addressLimit: null }]);
  await w.store.adopt(ENI_A);
  assert.is(await w.release(ENI_A, FOREIGN), true);
  assert.is((await w.store.eni(ENI_A))?.primary, '10.0.1.4');
  assert.is(await w.statusOf(FOREIGN), 'ready', 'a container of the old days gave it up');
});

central('an operator may not give up what stands on it either', async () => {
  const w = await initialised();
  const { move, refusal } = operatorRelease(await w.rowOf(FOREIGN), false);
  assert.is(move, null);
  assert.match(refusal, /eni-0a is not an ENI of this ledger.*`ec2-ipam adopt eni-0a`/);
});

for (const [what, move, status] of [
  ['refuses', 'refused', 'occupied'],
  ['does not answer', null, 'assigning'],
] as const)
  central(
    `an ENI with an address of others for which EC2 ${what} our call elsewhere: nobody gets it`,
    async () => {
      const w = world({ vpc: ROOMY, policy: NOT_WARM });
      await w.enis.adopt(ENI_A);
      const [row] = await w.freeRows(1);
      assert.ok(row);
      const [intent] = await w.store.move([{ row, move: 'assign', iface: ENI_A }]);
      assert.ok(intent);
      w.putOn(ENI_B, row.ip);
      const adopted = w.enis.adopt(ENI_B);
      await w.time.wait(1_000);
      assert.is((await w.store.eni(ENI_B))?.ours ?? false, false);
      if (move !== null) await w.store.move([{ row: intent, move }]);
      await adopted;
      assert.is(await w.statusOf(row.ip), status);
      assert.is.not((await w.request(ENI_B)).ip, row.ip);
    },
  );

central(
  'an ENI with an address that we take off another one: is ours when it is known whose it is',
  async () => {
    const w = world({ vpc: ROOMY, policy: NOT_WARM });
    const { ip } = await w.request(ENI_A);
    await w.release(ENI_A, ip);
    const [intent] = await w.store.move([{ row: await w.rowOf(ip), move: 'unassign' }]);
    assert.ok(intent);
    w.takeOff(ENI_A, ip);
    w.putOn(ENI_B, ip);
    const adopted = w.enis.adopt(ENI_B);
    await w.time.wait(1_000);
    assert.is((await w.store.eni(ENI_B))?.ours ?? false, false);
    await w.store.move([{ row: intent, move: 'unassigned' }]);
    await adopted;
    assert.is(await w.statusOf(ip), 'occupied');
  },
);

const embedded = suite('first contact with an embedded server');

embedded('an ENI of this instance becomes ours by a request, a release or a gateway request', async () => {
  for (const contact of [
    (w: World) => ask(w),
    (w: World) => w.release(ENI_A, FOREIGN),
    (w: World) => w.pools.gateway(parsePoolId(ENI_A), null),
  ]) {
    const w = await initialised('i-0a');
    await contact(w);
    assert.is((await w.store.eni(ENI_A))?.ours, true);
  }
});

embedded('an ENI of another instance does not become ours', async () => {
  const w = await initialised('i-0b');
  const before = await stateOf(w);
  assert.is(await w.release(ENI_A, FOREIGN), false);
  assert.is(await w.release('eni-0ff' as EniId, FOREIGN), false);
  const { line } = await failure(ask(w));
  assert.match(line, /^eni-0a is not attached to i-0b, and this server serves only its ENIs;/);
  assert.equal(await stateOf(w), before);
  assert.is((await ask(w, { pool: parsePoolId(ENI_B) })).row.iface, ENI_B);
});

for (const s of [central, embedded]) s.run();
