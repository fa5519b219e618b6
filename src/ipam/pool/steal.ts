/** For requests that wait: idle addresses are taken off where they are in the way. */
import { type Cidr, contains } from '../../domain/address.ts';
import { type Allocation, isRested } from '../../domain/allocation.ts';
import type { EniId } from '../../domain/ids.ts';
import type { IpamContext } from '../context.ts';
import { type Enis, type Home, oursIn } from '../ec2/enis.ts';
import { inTime, unassign, unassignFrom } from '../ec2/unassign.ts';
import { since } from './cache.ts';

export interface StealRequest {
  readonly range: Cidr | null;
  readonly count: number;
  /** `rested`: only those past the quarantine; `any`: then those that have rested longest. */
  readonly which: 'rested' | 'any';
}

/** Others may take what is chosen, or choose the same. */
const TRIES_MAX = 8;
/** The same on one ENI: EC2 may show it somewhere else by now, so that nothing is taken off it. */
const TRIES_ON_ENI_MAX = 2;

/** The subnet has run dry: takes up to `count` ready addresses off our other ENIs, from those first that have most of
 *  them; returns those that are free now. The signal ends it between two calls. Throws what EC2 said when that is why
 *  there are none. */
export async function steal(
  context: IpamContext,
  enis: Enis,
  home: Home,
  { range, count, which }: StealRequest,
  signal?: AbortSignal,
): Promise<Allocation[]> {
  const freed: Allocation[] = [];
  const inVain = new Map<EniId, number>();
  const idle = async () =>
    (await idleElsewhere(context, enis, home, range, which)).filter(
      ({ iface }) => iface !== null && (inVain.get(iface) ?? 0) < TRIES_ON_ENI_MAX,
    );
  for (let tries = 0; tries < TRIES_MAX && freed.length < count; tries++) {
    if (tries > 0 && signal?.aborted) break;
    if ((await idle()).length === 0) break;
    const permit = await context.cloud.permit('unassign', signal);
    const chosen = chooseFrom(await idle(), context.random);
    const eni = chosen[0]?.iface ?? null;
    if (eni === null) {
      permit[Symbol.dispose]();
      break;
    }
    const asked = unassignFrom(context, eni, chosen.slice(0, count - freed.length), permit);
    const result = await inTime(context, eni, asked);
    freed.push(...result.freed);
    if (result.freed.length === 0) inVain.set(eni, (inVain.get(eni) ?? 0) + 1);
    if (result.error !== null && freed.length === 0) throw result.error;
  }
  if (freed.length > 0)
    context.log('info', 'addresses stolen: subnet exhausted', {
      subnet: home.subnet.id,
      for: home.eni.id,
      ips: freed.map(row => row.ip),
    });
  return freed;
}

/** The ready addresses on our other ENIs of the subnet: those past the quarantine; with none of them and `any`, the one
 *  that has rested longest. */
export async function idleElsewhere(
  context: IpamContext,
  enis: Enis,
  { eni, subnet }: Home,
  range: Cidr | null,
  which: StealRequest['which'],
): Promise<Allocation[]> {
  const ours = new Set(oursIn(await enis.readAll(), context.instance).map(one => one.id));
  const { rows, now } = await context.store.withStatus(subnet.id, ['ready']);
  const elsewhere = rows.filter(
    row =>
      row.iface !== null &&
      row.iface !== eni.id &&
      ours.has(row.iface) &&
      !row.primary &&
      (range === null || contains(range, row.ip)),
  );
  const rested = elsewhere.filter(row => isRested(row, eni.id, context.policy, now));
  if (rested.length > 0 || which === 'rested') return rested;
  return elsewhere.sort((a, b) => since(a) - since(b)).slice(0, 1);
}

/** The rows of the ENI that has most of them, those first that would be given last there; of several such ENIs any,
 *  and from somewhere on, so that those who choose at the same time seldom choose the same. */
function chooseFrom(rows: readonly Allocation[], random: () => number): Allocation[] {
  const groups = [...Map.groupBy(rows, row => row.iface).values()];
  const most = Math.max(...groups.map(group => group.length));
  const largest = groups.filter(group => group.length === most);
  const group = largest[Math.floor(random() * largest.length)] ?? [];
  const order = group.toSorted((a, b) => since(b) - since(a));
  const start = Math.floor(random() * order.length);
  return [...order.slice(start), ...order.slice(0, start)];
}

/** The ENI may hold no more: takes up to `count` of its ready addresses off that are of no use to the request; returns how
 *  many. Those that would be given last go first. */
export async function evict(
  context: IpamContext,
  { eni }: Home,
  isOfUse: (row: Allocation) => boolean,
  count: number,
): Promise<number> {
  const { rows } = await context.store.onEni(eni.id);
  const idle = rows.filter(row => row.status === 'ready' && !row.primary && !isOfUse(row));
  const last = idle.sort((a, b) => since(b) - since(a)).slice(0, count);
  const { freed, error } = await inTime(context, eni.id, unassign(context, last));
  if (freed.length === 0 && error !== null) throw error;
  return freed.length;
}
