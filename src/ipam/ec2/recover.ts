/** Recovers addresses: takes over intents that were not settled, and assigns held addresses that are missing from
 *  their ENI again. */
import type { Allocation } from '../../domain/allocation.ts';
import { IpamError, isError, isRefusal } from '../../domain/error.ts';
import type { EniId } from '../../domain/ids.ts';
import { callDeadline, type IpamContext } from '../context.ts';
import { answered, batchesByEni, change, ipsOf, newEc2Call, outcome } from './intents.ts';
import { callUnassign, isHere, removable, unassign } from './unassign.ts';

/** Intents taken over in one call of `takeOver`. */
const TAKE_OVER_MAX = 200;

/** Takes over the intents that were not settled within the grace, and unassigns their addresses. Returns how many
 *  are free now. */
export async function takeOver(context: IpamContext): Promise<number> {
  const { rows } = await context.store.intents(context.policy.graceMs, TAKE_OVER_MAX);
  if (rows.length > 0) context.log('warn', 'intents taken over', { ips: ipsOf(rows) });
  let freed = 0;
  for (const [eni, batch] of batchesByEni(rows)) {
    const again = (row: Allocation) =>
      change(row.status === 'assigning' ? 'take over' : 'unassign again')(row);
    using permit = await context.cloud.permit('unassign');
    if (!(await isHere(context, eni))) continue;
    freed += (await callUnassign(context, eni, batch.map(again), permit, null)).freed.length;
  }
  return freed;
}

/** Assigns held addresses that are missing from their ENI again, with one call for each ENI, and more calls where
 *  EC2 refuses a batch. The rows stay allocated whatever EC2 answers. Returns how many are back on their ENI. */
export async function repair(context: IpamContext, rows: readonly Allocation[]): Promise<number> {
  let repaired = 0;
  for (const [eni, batch] of batchesByEni(rows)) {
    try {
      repaired += await repairOn(context, eni, batch);
    } catch (error) {
      if (!(error instanceof IpamError && error.code.startsWith('ec2-'))) throw error;
      context.log('warn', 'repair postponed', { eni, error: error.line });
    }
  }
  return repaired;
}

/** When all earlier repairs of a row have been answered, the answer to this one settles it. Else an earlier one may still
 *  be applied, whatever EC2 answers now. Where the ENI is full, ready addresses make room first, once. Sends a refused
 *  batch again without the addresses that EC2 names, or in two halves if it names none. So neither a foreign address nor
 *  the limit of the ENI blocks the rest of the batch. */
async function repairOn(
  context: IpamContext,
  eni: EniId,
  rows: readonly Allocation[],
  mayMakeRoom = true,
): Promise<number> {
  const { store, cloud, log } = context;
  using permit = await cloud.permit('assign');
  if (!(await isHere(context, eni))) return 0;
  const sendBefore = callDeadline(context);
  const call = newEc2Call();
  const unsure = new Set(ipsOf(rows.filter(row => row.repairUnsureAt !== null)));
  const isSure = ({ ip }: Allocation) => !unsure.has(ip);
  const sent = await store.move(rows.map(change('repair', call)));
  if (sent.length === 0) return 0;
  const error = await outcome(permit.send(eni, ipsOf(sent), sendBefore));
  log('warn', 'drift: held addresses missing from their ENI', {
    eni,
    ips: ipsOf(sent),
    ...(error === null ? { repaired: true } : { error: error.line }),
  });
  const { ec2 } = answered(call, error);
  if (error === null) {
    const changes = sent.map(row => change(isSure(row) ? 'repaired' : 'found', { ec2 })(row));
    return (await store.move(changes)).length;
  }
  if (!isRefusal(error)) return 0;
  await store.endEc2Call(ec2.id, ec2.result);
  const settled = await store.move(sent.filter(isSure).map(change('repair refused')));
  const left = [...settled, ...sent.filter(row => !isSure(row))];
  if (!isError(error, 'ec2-taken', 'ec2-invalid', 'ec2-limit')) return 0;
  if (mayMakeRoom && isError(error, 'ec2-limit') && (await makeRoom(context, eni, left.length)) > 0)
    return await repairOn(context, eni, left, false);
  const others = left.filter(row => !error.addresses.includes(row.ip));
  if (others.length < left.length) return await repairOn(context, eni, others, mayMakeRoom);
  if (left.length <= 1) return 0;
  const middle = Math.ceil(left.length / 2);
  const first = await repairOn(context, eni, left.slice(0, middle), mayMakeRoom);
  return first + (await repairOn(context, eni, left.slice(middle), mayMakeRoom));
}

/** Takes ready addresses off a full ENI, so many at most: a container is without a network for want of their places. Those
 *  that were released last go first, since they would be given last. Returns how many are free now. */
async function makeRoom(context: IpamContext, eni: EniId, count: number): Promise<number> {
  const { rows } = await context.store.onEni(eni);
  const idle = await removable(
    context,
    rows.filter(row => row.status === 'ready' && !row.primary),
  );
  const last = idle.toSorted((a, b) => (b.restedSince ?? 0) - (a.restedSince ?? 0)).slice(0, count);
  return (await unassign(context, last)).freed.length;
}
