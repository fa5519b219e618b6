/** Unassigns idle ready addresses: the surplus of the pools of a subnet (`drain`), and what an operator asks for
 *  (`recycle`). */
import type { Allocation } from '../../domain/allocation.ts';
import type { EniId, SubnetId } from '../../domain/ids.ts';
import { excessOf } from '../../domain/pool-size.ts';
import type { LedgerEni } from '../../store/store.ts';
import { type IpamContext, urgently } from '../context.ts';
import { oursIn } from '../ec2/enis.ts';
import { removable, unassign, unassignUnreached } from '../ec2/unassign.ts';
import { since } from '../pool/cache.ts';
import type { WarmPools } from '../pool/warm-pool.ts';

/** Ready addresses that have been idle for less are kept. It is the default quarantine, so that a drained address
 *  has rested for every ENI. */
const IDLE_MS = 600_000;
/** A surplus smaller than `warmMax` is collected for at most this long. Otherwise a pool whose size varies would
 *  cost an EC2 call for each address. */
const COLLECT_MS = 3_600_000;
/** Addresses unassigned in one call of `drain`. */
const DRAINED_MAX = 500;

/** Unassigns the ready addresses above the high mark of their ENI that have been idle for ten minutes. ENIs that
 *  are attached to no instance, or whose pool Docker has released, keep none. Returns how many addresses are free
 *  now. */
export async function drain(
  context: IpamContext,
  warm: WarmPools,
  subnet: SubnetId,
  enis: readonly LedgerEni[],
): Promise<number> {
  const { rows: all, now } = await context.store.withStatus(subnet, ['ready']);
  const rows = all.filter(row => !row.primary);
  // No process is reached by an ENI that is attached to no instance.
  const away = new Set(enis.filter(eni => eni.instance === null).map(eni => eni.id));
  const isAway = ({ iface }: Allocation) => iface !== null && away.has(iface);
  const unused = await removable(
    context,
    rows.filter(row => !isAway(row)),
  );
  const byEni = Map.groupBy([...unused, ...rows.filter(isAway)], row => row.iface);
  const chosen: Allocation[] = [];
  for (const eni of enis) {
    const ready = byEni.get(eni.id) ?? [];
    const isWanted = eni.instance !== null && eni.releasedAt === null;
    const excess = isWanted ? excessOf(ready.length, warm.highOf(eni.id)) : ready.length;
    const idle = ready.filter(row => now - row.movedAt >= IDLE_MS);
    // The most recently released ones, which would be given last: other servers may still offer the others.
    const surplus = idle.sort((a, b) => since(b) - since(a)).slice(0, excess);
    const isDue =
      surplus.length >= context.policy.warmMax || surplus.some(row => now - row.movedAt >= COLLECT_MS);
    if (isDue || !isWanted) chosen.push(...surplus);
  }
  const [unreached, others] = [true, false].map(is =>
    chosen.slice(0, DRAINED_MAX).filter(row => isAway(row) === is),
  ) as [Allocation[], Allocation[]];
  const { freed } = await unassignUnreached(
    urgently(context, () => 'idle'),
    unreached,
  );
  return freed.length + (await unassignIdle(context, others));
}

/** Returns the ready addresses of our ENIs in the subnet that have been idle for `idleMs`, longest first. */
export async function idle(
  context: IpamContext,
  subnet: SubnetId,
  idleMs: number,
  limit: number,
): Promise<Allocation[]> {
  const ours = new Set<EniId>(oursIn(await context.store.enis(), context.host.instance).map(eni => eni.id));
  const { rows, now } = await context.store.withStatus(subnet, ['ready']);
  const old = rows.filter(
    row => row.iface !== null && ours.has(row.iface) && !row.primary && now - row.movedAt >= idleMs,
  );
  const unused = await removable(context, old);
  return unused.toSorted((a, b) => a.movedAt - b.movedAt).slice(0, limit);
}

/** Unassigns the rows, many in one call. Returns how many are free now. A row that was claimed since it was read
 *  stays. */
export const unassignIdle = async (context: IpamContext, rows: readonly Allocation[]): Promise<number> =>
  (
    await unassign(
      urgently(context, () => 'idle'),
      rows,
    )
  ).freed.length;
