// Goal: what EC2 does not show counts only from a client of the ledger's account and Region. Method: servers on one
// ledger whose clients are in another Region, of another account, or in a subnet that is shared with theirs.
import { createMemoryClient } from '../../../src/cloud/memory.ts';
import { STANDS_FOR_MS } from '../../../src/domain/eni-departure.ts';
import type { EniId } from '../../../src/domain/ids.ts';
import { checkIdentity } from '../../../src/ipam/ec2/account.ts';
import { takeOver } from '../../../src/ipam/ec2/recover.ts';
import { unassign } from '../../../src/ipam/ec2/unassign.ts';
import { createEvidence } from '../../../src/ipam/sync/holders.ts';
import { close, compare, reconcile } from '../../../src/ipam/sync/reconcile.ts';
import type { Caller } from '../../../src/simulator/model/caller.ts';
import { ACCOUNT_ID } from '../../../src/simulator/model/records.ts';
import { createMemoryStore } from '../../../src/store/memory.ts';
import type { Store } from '../../../src/store/store.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ENI_A, ENI_B, ROOMY, SUBNET } from '../../kit/vpcs.ts';
import { createContext, failure, POLICY, type World, world } from '../../kit/world.ts';

const OTHER = '210987654321';
const FACT = 'region and account';
const STRANGER = 'eni-0f' as EniId;
const PARTICIPANT: Caller = { account: OTHER, region: null };
const SHARED = {
  ...ROOMY,
  subnets: [{ id: SUBNET, cidr: '10.0.1.0/24', sharedWith: [OTHER] }],
  enis: [...(ROOMY.enis ?? []), { id: STRANGER, subnet: SUBNET, primary: '10.0.1.99', owner: OTHER }],
};
const PLACES: [what: string, vpc: typeof ROOMY, caller: Caller][] = [
  ['of another Region', ROOMY, { account: ACCOUNT_ID, region: 'us-east-1' }],
  ['of another account, which sees nothing', ROOMY, PARTICIPANT],
  ['of another account, which sees the subnet and its own ENI in it', SHARED, PARTICIPANT],
];

/** A server whose client is `caller`'s, by now. */
function misplaced(w: World, caller: () => Caller): World {
  const client = createMemoryClient(w.vpc, { wait: w.time.wait, deadlineClock: () => w.time.now, caller });
  return w.serverWith(createContext(w.time, { ...w.context, client }));
}
const NETWORK = { eniId: STRANGER, instanceId: null, pool: '10.0.1.0/24', subPool: '' };
/** So many passes of the server's reconciler, each of which is followed by ten minutes. */
async function passes({ context, enis, time }: World, count: number, proof = createEvidence(context)) {
  for (let i = 0; i < count; i++) {
    await reconcile(context, enis, proof, SUBNET);
    time.now += STANDS_FOR_MS.gone;
  }
}
/** Two ENIs in use: holders, what is ready, and a stranger's address. `isUpgraded`: nobody noted whose they are. */
async function used(vpc: typeof ROOMY, isUpgraded = false): Promise<World> {
  let notes = !isUpgraded;
  const store = (now: () => number): Store => {
    const memory = createMemoryStore({ clock: now });
    const noteFactOnce: Store['noteFactOnce'] = async (name, value) =>
      notes ? await memory.noteFactOnce(name, value) : value;
    return { ...memory, noteFactOnce };
  };
  const w = world({ vpc, store, policy: { warmMin: 1, warmMax: 3 } });
  for (const eni of [ENI_A, ENI_B]) await w.request(eni, { holder: 'web' });
  w.putOn(ENI_B, '10.0.1.77');
  await reconcile(w.context, w.enis, createEvidence(w.context), SUBNET);
  w.time.now += 3_600_000;
  notes = true;
  return w;
}
const stateOf = async (w: World) =>
  await Promise.all((['allocated', 'ready', 'occupied'] as const).map(status => w.ipsWith(status)));

const identity = suite('identity');

identity('a ledger learns account and Region from the first ENI that it adopts', async () => {
  const w = world({ vpc: ROOMY });
  assert.is(await w.store.fact(FACT), null);
  await w.enis.adopt(ENI_A);
  assert.is(await w.store.fact(FACT), `eu-central-1 ${ACCOUNT_ID}`);
});

for (const [what, vpc, caller] of PLACES) {
  identity(`a server ${what} frees nothing and gives up nobody, whenever it comes`, async () => {
    for (const isUpgraded of [false, true]) {
      const w = await used(vpc, isUpgraded);
      const before = await stateOf(w);
      const { context, enis } = misplaced(w, () => caller);
      const proof = createEvidence(context);
      for (let i = 0; i < 5; i++) {
        await reconcile(context, enis, proof, SUBNET);
        await close(context, await compare(context, SUBNET));
        w.time.now += STANDS_FOR_MS.gone;
      }
      const { rows } = await w.store.withStatus(SUBNET, ['ready']);
      assert.equal((await unassign(context, rows)).freed, []);
      assert.equal(await stateOf(w), before);
      w.time.now += POLICY.graceMs;
      assert.is(await takeOver(context), 0);
      assert.is((await w.store.fact(FACT))?.includes(OTHER) ?? false, false);
    }
  });

  identity(`a server ${what} leaves an unfinished intent as it is`, async () => {
    const w = await used(vpc);
    const { rows } = await w.store.withStatus(SUBNET, ['ready']);
    await w.store.move(rows.slice(0, 1).map(row => ({ row, move: 'unassign' })));
    w.time.now += POLICY.graceMs;
    assert.is(await takeOver(misplaced(w, () => caller).context), 0);
    assert.is((await w.ipsWith('unassigning')).length, 1);
    w.time.now += POLICY.graceMs;
    assert.is(await takeOver(w.context), 1, 'the right one makes an end of it');
  });
}

identity('a server at the wrong place is told so in one line', async () => {
  const [elsewhere, blind, participant] = PLACES.map(([, , caller]) => caller);
  const w = await used(SHARED);
  await checkIdentity(w.context);
  const line = async (caller: Caller | undefined) =>
    (await failure(checkIdentity(misplaced(w, () => caller as Caller).context))).line;
  assert.match(
    await line(elsewhere),
    /^the EC2 client is in us-east-1, the ledger in eu-central-1; set AWS_REGION/,
  );
  assert.match(
    await line(participant),
    /^the credentials belong to account 210987654321, the ledger to 123456/,
  );
  const unseen = await used(ROOMY);
  await checkIdentity(misplaced(unseen, () => blind as Caller).context);
  assert.match(unseen.lines.at(-1)?.message ?? '', /no network interface shown by EC2/);
});

identity('a server at the wrong place cannot make a network there', async () => {
  const w = await used(SHARED);
  const { pools } = misplaced(w, () => PARTICIPANT);
  assert.match(
    (await failure(pools.request(NETWORK))).line,
    /^eni-0f belongs to account 210987654321, the ledger to 12/,
  );
  assert.is((await w.store.eni(STRANGER))?.ours ?? false, false);
});

identity('an upgraded ledger learns its place only from a server that sees its ENIs', async () => {
  const w = await used(SHARED, true);
  const { pools, context, enis } = misplaced(w, () => PARTICIPANT);
  await reconcile(context, enis, createEvidence(context), SUBNET);
  const line = /^EC2 shows this server eni-0f and no ENI of its ledger;/;
  assert.match((await failure(pools.request(NETWORK))).line, line);
  assert.is(await w.store.fact(FACT), null);
  await reconcile(w.context, w.enis, createEvidence(w.context), SUBNET);
  assert.is(await w.store.fact(FACT), `eu-central-1 ${ACCOUNT_ID}`);
});

identity('credentials that change while a server runs prove nothing from then on', async () => {
  const w = await used(SHARED);
  let caller: Caller = { account: ACCOUNT_ID, region: null };
  const server = misplaced(w, () => caller);
  const proof = createEvidence(server.context);
  await reconcile(server.context, server.enis, proof, SUBNET);
  const before = await stateOf(w);
  caller = PARTICIPANT;
  await passes(server, 4, proof);
  assert.equal(await stateOf(w), before);
});

identity('an ENI is gone only where another one of its owner is shown', async () => {
  const w = await used(ROOMY);
  for (const eni of [ENI_A, ENI_B]) {
    w.detach(eni);
    w.vpc.network.deleteEni(eni);
  }
  const proof = createEvidence(w.context);
  await passes(w, 3, proof);
  assert.is((await w.ipsWith('allocated')).length, 2, 'as good as no rights to see any');
  w.vpc.network.createEni({ subnet: SUBNET });
  await passes(w, 2, proof);
  assert.is((await w.ipsWith('allocated')).length, 0);
});

identity.run();
