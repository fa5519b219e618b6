// Goal: what is ready beyond need goes back to the subnet, late and in few calls. Method: the whole machine on a
// simulated VPC, and time that is set forward until addresses have long been idle.
import { drain, idle } from '../../../src/ipam/sync/drain.ts';
import { noteUsed } from '../../kit/sightings.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ENI_A, ENI_B, LARGE, SUBNET, UNASSIGN } from '../../kit/vpcs.ts';
import { type World, withoutAttachment, world } from '../../kit/world.ts';

const IDLE_MS = 600_000;
const POOL = { eni: ENI_A, range: null };
const ready = async (w: World): Promise<number> => (await w.store.readyOn(ENI_A, null, 99)).rows.length;
const drainAll = async (w: World): Promise<number> =>
  drain(w.context, w.warm, SUBNET, await w.enis.readAll());
/** A server with so many holders on ENI A. */
async function held(count = 1): Promise<World> {
  const w = world({ vpc: LARGE });
  await w.requests(ENI_A, count);
  return w;
}
const releasedAt = async ({ store }: World, eni = ENI_A) => (await store.eni(eni))?.releasedAt;
async function drainWhenIdle(w: World): Promise<void> {
  w.time.now += IDLE_MS;
  await drainAll(w);
}

const draining = suite('drain');

draining('unassigns what is beyond the high mark once it has long been idle, in one call', async () => {
  const w = await held();
  w.time.now += IDLE_MS - 1;
  assert.is(await drainAll(w), 0);
  w.time.now += 1;
  assert.is(await drainAll(w), 6);
  assert.is(w.callsOf(UNASSIGN), 1);
  assert.is(await ready(w), 6);
  assert.is(await drainAll(w), 0);
});

draining('unassigns those that would be given last', async () => {
  const w = await held();
  const late = (await w.request(ENI_A)).ip;
  await w.time.wait(1000);
  await w.release(ENI_A, late);
  await drainWhenIdle(w);
  assert.not.ok((await w.ipsWith('ready')).includes(late));
});

draining('a few wait for others to go with them, but not for ever', async () => {
  const w = await held(2);
  w.time.now += IDLE_MS;
  assert.is(await ready(w), 11);
  assert.is(await drainAll(w), 0, 'five that are too many are not worth a call');
  w.time.now += 3_600_000 - IDLE_MS;
  assert.is(await drainAll(w), 5);
});

draining(
  'what processes use without holding it neither counts nor keeps others from their turn',
  async () => {
    const w = await held();
    const rows = (await w.store.readyOn(ENI_A, null, 99)).rows;
    const used = rows.slice(-4);
    await noteUsed(w.store, ...used);
    assert.equal(
      (await idle(w.context, SUBNET, 0, 8)).map(row => row.ip).sort(),
      rows
        .slice(0, -4)
        .map(row => row.ip)
        .sort(),
    );
    w.time.now += 3_600_000;
    assert.is(await drainAll(w), rows.length - used.length - 6);
    for (const { ip } of used) assert.is(await w.statusOf(ip), 'ready');
  },
);

draining('never a primary, even when the ledger calls it ready', async () => {
  const w = await held();
  const [row] = (await w.store.readyOn(ENI_A, null, 1)).rows;
  assert.ok(row);
  const primary = { ...row, primary: true, movedAt: 0 };
  const store = { ...w.store, withStatus: async () => ({ now: w.time.now, rows: [primary] }) };
  const enis = (await w.enis.readAll()).map(eni => ({ ...eni, releasedAt: 1 }));
  assert.is(await drain({ ...w.context, store }, w.warm, SUBNET, enis), 0);
  assert.is(w.callsOf(UNASSIGN), 0);
});

draining('what a pool gained before Docker released it is forgotten', async () => {
  const w = await held(10);
  assert.ok(w.warm.highOf(ENI_A) > 6);
  await w.pools.release(POOL);
  assert.is(w.warm.highOf(ENI_A), 6);
});

draining('a server that remembers the ENI as wanted learns that it was released', async () => {
  const w = await held();
  const other = w.another();
  await other.request(ENI_A);
  await w.pools.release(POOL);
  await other.enis.readAll();
  await other.request(ENI_A);
  assert.is(await releasedAt(w), null);
});

draining('an ENI that is attached to nothing keeps none', async () => {
  const w = await held();
  await withoutAttachment(w, ENI_A);
  await drainWhenIdle(w);
  assert.is(await ready(w), 0);
  assert.is((await w.ipsWith('allocated')).length, 1);
});

draining('an ENI that is attached to nothing keeps none that a process used, either', async () => {
  const w = await held();
  const { rows } = await w.store.readyOn(ENI_A, null, 99);
  await noteUsed(w.store, ...rows);
  await drainWhenIdle(w);
  assert.is(await ready(w), rows.length);
  await withoutAttachment(w, ENI_A);
  await drainWhenIdle(w);
  assert.is(await ready(w), 0);
});

draining('an ENI whose pool Docker has released keeps none until the next request', async () => {
  const w = await held();
  await w.pools.release(POOL);
  await drainWhenIdle(w);
  assert.is(await ready(w), 0);
  assert.is((await w.ipsWith('allocated')).length, 1, 'no address changed its holder');
  await w.request(ENI_A);
  await drainWhenIdle(w);
  assert.is(await ready(w), 6);
});

draining('another server knows of a released pool from the ledger', async () => {
  const w = await held();
  const other = w.another();
  await w.pools.release(POOL);
  assert.is.not(await releasedAt(w), null);
  await drainWhenIdle(other);
  assert.is(await ready(w), 0);
  await other.request(ENI_A);
  assert.is(await releasedAt(w), null);
});

draining('a pool that was asked for again is wanted again', async () => {
  const w = await held();
  await w.pools.release(POOL);
  await w.pools.request({ eniId: ENI_A, instanceId: null, pool: '10.0.0.0/22', subPool: '' });
  assert.is(await releasedAt(w), null);
});

draining("the pool of an ENI that is not this ledger's is nobody's to release", async () => {
  const w = await held();
  await w.pools.release({ eni: ENI_B, range: null });
  assert.is(await releasedAt(w, ENI_B), null);
});

draining.run();
