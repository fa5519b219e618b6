/** Gives idle addresses back to their subnets. */
import type { Allocation } from '../../domain/allocation.ts';
import type { EniId, SubnetId } from '../../domain/ids.ts';
import { type Machine, urgently } from '../context.ts';
import { oursIn } from '../ec2/enis.ts';
import { unassign } from '../ec2/unassign.ts';

/** The ready addresses of our ENIs in the subnet that have been idle for `idleMs`, longest first. */
export async function idle(
  machine: Machine,
  subnet: SubnetId,
  idleMs: number,
  limit: number,
): Promise<Allocation[]> {
  const ours = new Set<EniId>(oursIn(await machine.store.enis(), machine.instance).map(eni => eni.id));
  const { rows, now } = await machine.store.withStatus(subnet, ['ready']);
  return rows
    .filter(row => row.iface !== null && ours.has(row.iface) && !row.primary && now - row.movedAt >= idleMs)
    .sort((a, b) => a.movedAt - b.movedAt)
    .slice(0, limit);
}

/** Takes them off their ENIs, many per call; answers how many are free now. What was claimed meanwhile stays. */
export const recycle = async (machine: Machine, rows: readonly Allocation[]): Promise<number> =>
  (
    await unassign(
      urgently(machine, () => 'recycle'),
      rows,
    )
  ).freed.length;
