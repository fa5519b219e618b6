// Goal: a request is not told "full" because what was under way ends between two of its reads.
// Method: somebody else's EC2 call ends right before the nth read of the ledger, for every n.
import type { Ipv4 } from '../../../src/domain/address.ts';
import type { Allocation, MoveName } from '../../../src/domain/allocation.ts';
import type { EniId } from '../../../src/domain/ids.ts';
import { TENANT_TAG } from '../../../src/domain/tenant.ts';
import { unassign } from '../../../src/ipam/ec2/unassign.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ENI_A, ENI_B, LARGE, ROOMY, SMALL, SUBNET } from '../../kit/vpcs.ts';
import { ipsOf, NOT_WARM, type World, world, wrapStore } from '../../kit/world.ts';

/** More reads than a request makes until it waits for the second time. */
const READS_MAX = 40;
/** How long an EC2 call takes. */
const CALL_MS = 200;

interface UnderWay {
  readonly w: World;
  /** Ends what is under way. */
  end(): Promise<unknown>;
  readonly named?: string;
}

async function moveAs(w: World, row: Allocation, move: MoveName, iface?: EniId): Promise<Allocation> {
  const [moved] = await w.store.move([iface === undefined ? { row, move } : { row, move, iface }]);
  if (moved === undefined) throw new Error(`${row.ip} was not moved`);
  return moved;
}

async function assigningOn(w: World, eni: EniId): Promise<Allocation> {
  const [row] = await w.freeRows(1);
  if (row === undefined) throw new Error('no address is free');
  return await moveAs(w, row, 'assign', eni);
}

async function withQuota(): Promise<World> {
  const enis = LARGE.enis?.map(eni => ({ ...eni, tags: { [TENANT_TAG]: 'red' } })) ?? [];
  const w = world({ vpc: { ...LARGE, enis }, policy: NOT_WARM });
  await w.store.saveTenant({ name: 'red', quota: 2, profile: null });
  await w.request(ENI_A);
  await w.enis.adopt(ENI_B);
  return w;
}

/** What ends an assign: the address is on the ENI. */
const succeeds = (w: World, row: Allocation, eni: EniId) => async () => {
  w.putOn(eni, row.ip);
  await moveAs(w, row, 'assigned');
};

async function atQuota(): Promise<UnderWay> {
  const w = await withQuota();
  const row = await assigningOn(w, ENI_B);
  return { w, end: () => moveAs(w, row, 'refused') };
}

async function idleAtQuota(eni: EniId): Promise<UnderWay> {
  const w = await withQuota();
  return { w, end: succeeds(w, await assigningOn(w, eni), eni) };
}

async function onFullEni(): Promise<UnderWay> {
  const w = world({ vpc: ROOMY, policy: NOT_WARM });
  const [first] = await w.requests(ENI_A, 9);
  if (first === undefined) throw new Error('no address was given');
  await w.release(ENI_A, first.ip);
  const leaving = await moveAs(w, await w.rowOf(first.ip), 'unassign');
  const end = async () => {
    w.takeOff(ENI_A, first.ip);
    await moveAs(w, leaving, 'unassigned');
  };
  return { w, end };
}

async function inFullSubnet(): Promise<UnderWay & { readonly row: Allocation }> {
  const w = world({ vpc: SMALL, policy: NOT_WARM });
  await w.requests(ENI_A, 8);
  await w.enis.adopt(ENI_B);
  const row = await assigningOn(w, ENI_B);
  return { w, row, end: () => moveAs(w, row, 'refused') };
}

async function idleInFullSubnet(): Promise<UnderWay> {
  const { w, row } = await inFullSubnet();
  return { w, end: succeeds(w, row, ENI_B) };
}

/** An operator gives the address back to the subnet. That begins between two reads, and ends soon after. */
async function restingInFullSubnet(): Promise<UnderWay> {
  const policy = { ...NOT_WARM, strictReuse: true, quarantineMs: 60_000 };
  const w = world({ vpc: SMALL, policy });
  await w.requests(ENI_A, 8);
  const { ip } = await w.request(ENI_B);
  await w.release(ENI_B, ip);
  const end = async () => {
    const leaving = await moveAs(w, await w.rowOf(ip), 'unassign');
    void w.time.wait(CALL_MS).then(async () => {
      w.takeOff(ENI_B, ip);
      await moveAs(w, leaving, 'unassigned');
    });
  };
  return { w, end };
}

/** What is free has not rested. An assign of another server takes the tenant's last place between two reads, and soon
 *  gives it back. */
async function restingAtQuota(): Promise<UnderWay> {
  const enis = SMALL.enis?.map(eni => ({ ...eni, tags: { [TENANT_TAG]: 'red' } })) ?? [];
  const w = world({ vpc: { ...SMALL, enis }, policy: NOT_WARM });
  const left = ipsOf(await w.requests(ENI_B, 2));
  await w.requests(ENI_A, 7);
  for (const ip of left) await w.release(ENI_B, ip);
  await unassign(w.context, await Promise.all(left.map(ip => w.rowOf(ip))));
  await w.store.saveTenant({ name: 'red', quota: 8, profile: null });
  const end = async () => {
    const [row] = (await w.store.withStatus(SUBNET, ['free'])).rows;
    const [going] = row === undefined ? [] : await w.store.move([{ row, move: 'assign', iface: ENI_B }]);
    // Else the request has taken that place before.
    if (going !== undefined) void w.time.wait(CALL_MS).then(() => moveAs(w, going, 'refused'));
  };
  return { w, end };
}

/** All that is free rests, and ENI A has one place left. An address of another server takes it between two reads, and is
 *  soon unassigned. */
async function restingOnFullEni(): Promise<UnderWay> {
  const w = world({ vpc: { ...SMALL, subnets: [{ id: SUBNET, cidr: '10.0.1.0/27' }] }, policy: NOT_WARM });
  const left = ipsOf(await w.requests(ENI_B, 9));
  await w.requests(ENI_A, 8);
  const others = (await w.store.withStatus(SUBNET, ['free'])).rows;
  await w.store.move(others.map(row => ({ row, move: 'hold' as const, reservedFor: 'a printer' })));
  for (const ip of left) await w.release(ENI_B, ip);
  await unassign(w.context, await Promise.all(left.map(ip => w.rowOf(ip))));
  const end = async () => {
    const row = (await w.store.withStatus(SUBNET, ['free'])).rows.at(-1);
    if (row === undefined || w.secondariesOf(ENI_A).length === 9) return; // the request has that place
    w.putOn(ENI_A, row.ip);
    const placed = await moveAs(w, await moveAs(w, row, 'assign', ENI_A), 'assigned');
    const leaving = await moveAs(w, placed, 'unassign');
    void w.time.wait(CALL_MS).then(async () => {
      w.takeOff(ENI_A, row.ip);
      await moveAs(w, leaving, 'unassigned');
    });
  };
  return { w, end };
}

const ended = suite('a request while a call of others ends');

const SITUATIONS: Readonly<Record<string, () => Promise<UnderWay>>> = {
  'at its quota, an assign that EC2 refuses': atQuota,
  'at its quota, for a named address, an assign that EC2 refuses': async () => ({
    ...(await atQuota()),
    named: '10.0.3.77',
  }),
  'at its quota, an assign of an address that is idle then': () => idleAtQuota(ENI_B),
  'at its quota, for a named address, an assign of one that is idle on the same ENI then': async () => ({
    ...(await idleAtQuota(ENI_A)),
    named: '10.0.3.77',
  }),
  'on a full ENI, an unassign': onFullEni,
  'on a full ENI, for a named address, an unassign': async () => ({
    ...(await onFullEni()),
    named: '10.0.1.77',
  }),
  'in a full subnet, an assign that EC2 refuses': inFullSubnet,
  'in a full subnet, an assign of an address that is idle then': idleInFullSubnet,
  'in a full subnet, with strict reuse, an unassign that begins': restingInFullSubnet,
};

/** Asks for an address, and ends the call before the nth read. Returns how many reads were made until then or, without
 *  such a read, in all. */
async function readsUntilEnd(situation: () => Promise<UnderWay>, before: number): Promise<number> {
  const { w, end, named } = await situation();
  const real = { ...w.store };
  let reads = 0;
  const counted = wrapStore(real, async (_, call) => {
    if (reads === before) {
      Object.assign(w.store, real);
      await end();
    } else reads++;
    return await call();
  });
  Object.assign(w.store, counted);
  const asked = w.request(ENI_A, named === undefined ? {} : { named });
  const row = await asked.catch(error => assert.unreachable(`read ${before}: ${error.message}`));
  assert.is((row as { readonly ip: Ipv4; readonly iface: EniId }).iface, ENI_A);
  return reads;
}

for (const [name, situation] of Object.entries(SITUATIONS))
  ended(`${name}: it gets an address, whenever the call ends`, async () => {
    for (let before = 0; before < READS_MAX; before++)
      assert.is(await readsUntilEnd(situation, before), before, 'the request has made all these reads');
  });

for (const [name, situation] of [
  ['at its quota, while EC2 refuses an assign', restingAtQuota],
  ['on an ENI that has just been filled, while an address leaves it', restingOnFullEni],
] as const)
  ended(`${name}: it gets an address that still rests`, async () => {
    for (let before = 0; (await readsUntilEnd(situation, before)) === before; before++)
      assert.ok(before < READS_MAX);
  });

ended.run();
