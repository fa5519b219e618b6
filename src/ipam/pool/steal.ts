/** Unassigns idle addresses while a request waits: from other ENIs when the subnet is exhausted (`steal`), or on
 *  this ENI when it is full (`evict`). */
import { type Cidr, contains } from '../../domain/address.ts';
import { type Allocation, INTENTS, isIntent, isRested } from '../../domain/allocation.ts';
import type { EniId } from '../../domain/ids.ts';
import type { Limited } from '../../domain/tenant.ts';
import type { IpamContext } from '../context.ts';
import { tenantAtQuota } from '../ec2/assign.ts';
import { type Enis, type Home, oursIn } from '../ec2/enis.ts';
import { inTime, removable, unassignFrom } from '../ec2/unassign.ts';
import { since } from './cache.ts';

export interface StealRequest {
  readonly range: Cidr | null;
  readonly count: number;
  /** `rested`: only addresses past the quarantine. `any`: without any of those, the one that has rested longest. */
  readonly which: 'rested' | 'any';
}

export interface RoomRequest {
  /** Whether the request can use the address, so that it stays on the ENI. */
  readonly isUsable: (row: Allocation) => boolean;
  readonly count: number;
}

/** Calls of one `steal`. Another request may claim the chosen addresses first, or choose the same. */
const TRIES_MAX = 8;
/** Calls for one ENI that free nothing. Its addresses may be on another ENI by now, so that a repeat frees none. */
const TRIES_ON_ENI_MAX = 2;

/** Takes up to `count` ready addresses off our other ENIs, since the subnet has no free ones. Starts with the ENI
 *  that has most of them. Returns the rows that are free now. The signal ends it between two calls. Throws EC2's
 *  error if no address was freed because of it. */
export async function steal(
  context: IpamContext,
  enis: Enis,
  home: Home,
  { range, count, which }: StealRequest,
  signal?: AbortSignal,
): Promise<Allocation[]> {
  const idle = () => idleElsewhere(context, enis, home, range, which);
  const freed = await takeOff(context, idle, count, signal);
  if (freed.length > 0)
    context.log('info', 'addresses stolen, subnet exhausted', {
      subnet: home.subnet.id,
      for: home.eni.id,
      ips: freed.map(row => row.ip),
    });
  return freed;
}

/** Unassigns up to `count` of the rows that `look` returns before each call. */
async function takeOff(
  context: IpamContext,
  look: () => Promise<readonly Allocation[]>,
  count: number,
  signal?: AbortSignal,
): Promise<Allocation[]> {
  const freed: Allocation[] = [];
  const failures = new Map<EniId, number>();
  const idle = async () =>
    (await look()).filter(({ iface }) => iface !== null && (failures.get(iface) ?? 0) < TRIES_ON_ENI_MAX);
  for (let tries = 0; tries < TRIES_MAX && freed.length < count; tries++) {
    if (tries > 0 && signal?.aborted) break;
    if ((await idle()).length === 0) break;
    const permit = await context.cloud.permit('unassign', signal);
    const chosen = await idle().then(
      rows => chooseFrom(rows, context.random),
      error => {
        permit[Symbol.dispose]();
        throw error;
      },
    );
    const eni = chosen[0]?.iface ?? null;
    if (eni === null) {
      permit[Symbol.dispose]();
      break;
    }
    const asked = unassignFrom(context, eni, chosen.slice(0, count - freed.length), permit);
    const result = await inTime(context, eni, asked);
    freed.push(...result.freed);
    if (result.freed.length === 0) failures.set(eni, (failures.get(eni) ?? 0) + 1);
    if (result.error !== null && freed.length === 0) throw result.error;
  }
  return freed;
}

/** Makes room for a request of a tenant that is at its quota: takes ready addresses that the request cannot use off its
 *  ENI, or idle ones off the tenant's other ENIs, in any subnet. Takes nothing from others. Returns how many. */
export async function makeRoomFor(
  context: IpamContext,
  enis: Enis,
  home: Home,
  tenant: Limited,
  { isUsable, count }: RoomRequest,
  signal?: AbortSignal,
): Promise<number> {
  const evicted = await evict(context, home, isUsable, count, signal);
  if (evicted > 0) return evicted;
  const freed = await takeOff(context, () => idleOf(context, enis, home, tenant), count, signal);
  if (freed.length > 0)
    context.log('info', 'addresses taken from another ENI of a tenant at its quota', {
      tenant: tenant.name,
      for: home.eni.id,
      ips: freed.map(row => row.ip),
    });
  return freed.length;
}

/** What a request may soon get an address from. Both in one read: an address that passes from one to the other between
 *  two reads would be in neither. */
const SOON = ['ready', ...INTENTS] as const;

/** Returns whether a tenant that was at its quota has room again, or may have it soon: an ENI of it has an idle address,
 *  or one that is being assigned or unassigned. Reads those before the quota: an assign that EC2 refuses gives its
 *  place back. */
export async function mayGetRoom(
  context: IpamContext,
  enis: Enis,
  home: Home,
  tenant: Limited,
): Promise<boolean> {
  const { store, policy, host } = context;
  const own = (await enis.readAll()).filter(eni => eni.tenant === tenant.name);
  const ids = new Set(own.map(eni => eni.id));
  const here = new Set(oursIn(own, host.instance).map(eni => eni.id));
  const idle: Allocation[] = [];
  for (const subnet of new Set(own.map(eni => eni.subnet))) {
    const { rows, now } = await store.withStatus(subnet, SOON);
    const isUnderWay = (row: Allocation) =>
      isIntent(row) && row.iface !== null && ids.has(row.iface) && now - row.movedAt < policy.callDeadlineMs;
    if (rows.some(isUnderWay)) return true;
    idle.push(...rows.filter(row => isReadyOn(row, here)));
  }
  if ((await removable(context, idle)).length > 0) return true;
  return (await tenantAtQuota(context, home.eni.id)) === null;
}

/** Returns whether the full subnet may soon have an address for the request: one is being assigned or unassigned, or
 *  another ENI of ours has an idle one. */
export async function maySteal(
  context: IpamContext,
  enis: Enis,
  home: Home,
  range: Cidr | null,
): Promise<boolean> {
  const { store, policy } = context;
  const others = await othersThan(context, enis, home);
  const { rows, now } = await store.withStatus(home.subnet.id, SOON);
  const usable = rows.filter(row => range === null || contains(range, row.ip));
  if (usable.some(row => isIntent(row) && now - row.movedAt < policy.callDeadlineMs)) return true;
  const idle = usable.filter(row => isReadyOn(row, others));
  return (await removable(context, idle)).length > 0;
}

const isReadyOn = ({ status, iface, primary }: Allocation, enis: ReadonlySet<EniId>): boolean =>
  status === 'ready' && !primary && iface !== null && enis.has(iface);

/** Returns the ready addresses on the tenant's ENIs but this one, without those in use. */
async function idleOf(
  context: IpamContext,
  enis: Enis,
  { eni }: Pick<Home, 'eni'>,
  { name }: Pick<Limited, 'name'>,
): Promise<readonly Allocation[]> {
  const own = oursIn(await enis.readAll(), context.host.instance).filter(
    one => one.tenant === name && one.id !== eni.id,
  );
  const ids = new Set(own.map(one => one.id));
  const idle: Allocation[] = [];
  for (const subnet of new Set(own.map(one => one.subnet))) {
    const { rows } = await context.store.withStatus(subnet, ['ready']);
    idle.push(...rows.filter(row => isReadyOn(row, ids)));
  }
  return await removable(context, idle);
}

/** Returns the ready addresses past the quarantine on our other ENIs of the subnet. If there are none and `which`
 *  is `any`, returns the one that has rested longest. */
export async function idleElsewhere(
  context: IpamContext,
  enis: Enis,
  home: Home,
  range: Cidr | null,
  which: StealRequest['which'],
): Promise<readonly Allocation[]> {
  const { eni, subnet } = home;
  const others = await othersThan(context, enis, home);
  const { rows, now } = await context.store.withStatus(subnet.id, ['ready']);
  const ready = rows.filter(row => isReadyOn(row, others) && (range === null || contains(range, row.ip)));
  const elsewhere = await removable(context, ready);
  const rested = elsewhere.filter(row => isRested(row, eni.id, context.policy, now));
  if (rested.length > 0 || which === 'rested') return rested;
  return elsewhere.toSorted((a, b) => since(a) - since(b)).slice(0, 1);
}

/** Returns our ENIs but this one. */
async function othersThan({ host }: IpamContext, enis: Enis, { eni }: Home): Promise<ReadonlySet<EniId>> {
  const others = oursIn(await enis.readAll(), host.instance).filter(one => one.id !== eni.id);
  return new Set(others.map(one => one.id));
}

/** Returns the rows of the ENI that has most of them, last released first, since that ENI would give those last.
 *  The ENI (of several with as many) and the start are random, so that concurrent calls seldom choose the same
 *  rows. */
function chooseFrom(rows: readonly Allocation[], random: () => number): Allocation[] {
  const groups = [...Map.groupBy(rows, row => row.iface).values()];
  const most = Math.max(...groups.map(group => group.length));
  const largest = groups.filter(group => group.length === most);
  const group = largest[Math.floor(random() * largest.length)] ?? [];
  const order = group.toSorted((a, b) => since(b) - since(a));
  const start = Math.floor(random() * order.length);
  return [...order.slice(start), ...order.slice(0, start)];
}

/** Takes up to `count` ready addresses that the request cannot use off the ENI, since the ENI is full. Those that
 *  would be given last go first. Returns how many were taken off. */
export async function evict(
  context: IpamContext,
  { eni }: Home,
  isUsable: (row: Allocation) => boolean,
  count: number,
  signal?: AbortSignal,
): Promise<number> {
  const { rows } = await context.store.onEni(eni.id);
  const ready = rows.filter(row => row.status === 'ready' && !row.primary && !isUsable(row));
  const idle = await removable(context, ready);
  const last = idle.toSorted((a, b) => since(b) - since(a)).slice(0, count);
  if (last.length === 0) return 0;
  const permit = await context.cloud.permit('unassign', signal);
  const { freed, error } = await inTime(context, eni.id, unassignFrom(context, eni.id, last, permit));
  if (freed.length === 0 && error !== null) throw error;
  return freed.length;
}
