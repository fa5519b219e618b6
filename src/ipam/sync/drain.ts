/** Gives back what the pools of a subnet have too much of. */
import type { Allocation } from '../../domain/allocation.ts';
import type { EniId, SubnetId } from '../../domain/ids.ts';
import { excessOf } from '../../domain/pool-size.ts';
import type { LedgerEni } from '../../store/store.ts';
import { type IpamContext, urgently } from '../context.ts';
import { oursIn } from '../ec2/enis.ts';
import { unassign } from '../ec2/unassign.ts';
import { since } from '../pool/cache.ts';
import type { WarmPools } from '../pool/warm-pool.ts';

/** A ready address is too many only when nobody wanted it for this long: the longest quarantine that is usual, so that
 *  what comes back is good for any ENI. */
const IDLE_MS = 600_000;
/** Fewer than `warmMax` wait to be given back together, but no longer than this: a pool that breathes would else cost a
 *  call for each address that it can do without. */
const ALONE_MS = 3_600_000;
/** Addresses taken off in one go. */
const DRAINED_MAX = 500;

/** Takes off those ready addresses that have long been idle and are beyond the high mark of their ENI; returns how many are free now. ENIs that are attached to nothing, or whose last pool Docker has
 *  released, keep none. */
export async function drain(
  context: IpamContext,
  warm: WarmPools,
  subnet: SubnetId,
  enis: readonly LedgerEni[],
): Promise<number> {
  const { rows, now } = await context.store.withStatus(subnet, ['ready']);
  const byEni = Map.groupBy(
    rows.filter(row => !row.primary),
    row => row.iface,
  );
  const chosen: Allocation[] = [];
  for (const eni of enis) {
    const ready = byEni.get(eni.id) ?? [];
    const isWanted = eni.instance !== null && eni.releasedAt === null;
    const excess = isWanted ? excessOf(ready.length, warm.highOf(eni.id)) : ready.length;
    const idle = ready.filter(row => now - row.movedAt >= IDLE_MS);
    // Those that would be given last: other servers still remember the first ones as ready.
    const back = idle.sort((a, b) => since(b) - since(a)).slice(0, excess);
    const isWorthACall =
      back.length >= context.policy.warmMax || back.some(row => now - row.movedAt >= ALONE_MS);
    if (isWorthACall || !isWanted) chosen.push(...back);
  }
  return await recycle(context, chosen.slice(0, DRAINED_MAX));
}

// Gives idle addresses back to their subnets.

/** The ready addresses of our ENIs in the subnet that have been idle for `idleMs`, longest first. */
export async function idle(
  context: IpamContext,
  subnet: SubnetId,
  idleMs: number,
  limit: number,
): Promise<Allocation[]> {
  const ours = new Set<EniId>(oursIn(await context.store.enis(), context.instance).map(eni => eni.id));
  const { rows, now } = await context.store.withStatus(subnet, ['ready']);
  return rows
    .filter(row => row.iface !== null && ours.has(row.iface) && !row.primary && now - row.movedAt >= idleMs)
    .sort((a, b) => a.movedAt - b.movedAt)
    .slice(0, limit);
}

/** Takes them off their ENIs, many per call; returns how many are free now. What was claimed meanwhile stays. */
export const recycle = async (context: IpamContext, rows: readonly Allocation[]): Promise<number> =>
  (
    await unassign(
      urgently(context, () => 'recycle'),
      rows,
    )
  ).freed.length;
