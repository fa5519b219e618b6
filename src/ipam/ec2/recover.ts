/** Goes on where somebody stopped: intents that nobody settled, and held addresses that left their ENI. */
import type { Allocation } from '../../domain/allocation.ts';
import { isError } from '../../domain/error.ts';
import type { EniId } from '../../domain/ids.ts';
import { callDeadline, type IpamContext } from '../context.ts';
import { batchesByEni, change, ipsOf, outcome } from './intents.ts';
import { callUnassign, isHere } from './unassign.ts';

/** Intents taken over in one go. */
const TAKE_OVER_MAX = 200;

/** Takes over the intents that nobody settled within the grace, and those that nobody has called for yet;
 *  returns how many are free now. */
export async function takeOver(context: IpamContext): Promise<number> {
  const { rows } = await context.store.intents(context.policy.graceMs, TAKE_OVER_MAX);
  if (rows.length > 0) context.log('warn', 'intents taken over', { ips: ipsOf(rows) });
  return await takeOff(context, rows);
}

/** Makes intents for which no call can be under way any more this process's own, and takes their addresses off;
 *  returns how many are free now. */
export async function takeOff(context: IpamContext, rows: readonly Allocation[]): Promise<number> {
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

/** Assigns held addresses again that are missing from their ENI, with one call for each ENI, and more where EC2
 *  takes some of them only. They stay allocated whatever comes. Returns how many are back. */
export async function repair(context: IpamContext, rows: readonly Allocation[]): Promise<number> {
  let repaired = 0;
  for (const [eni, batch] of batchesByEni(rows)) {
    try {
      repaired += await repairOn(context, eni, batch);
    } catch (error) {
      if (!isError(error, 'ec2-throttled')) throw error;
      context.log('warn', 'repair postponed', { eni, error: error.line });
    }
  }
  return repaired;
}

/** Of a batch that is refused, those are asked for again that EC2 does not name, or half and half, so that neither
 *  one that somebody else has nor the limit of the ENI keeps the others away. */
async function repairOn(context: IpamContext, eni: EniId, rows: readonly Allocation[]): Promise<number> {
  const { store, cloud, log } = context;
  using permit = await cloud.permit('assign');
  const sendBefore = callDeadline(context);
  const missed = await store.move(rows.map(change('missed')));
  if (missed.length === 0) return 0;
  const error = await outcome(permit.send(eni, ipsOf(missed), sendBefore));
  log('warn', 'drift: held addresses missing from their ENI', {
    eni,
    ips: ipsOf(missed),
    ...(error === null ? { repaired: true } : { error: error.line }),
  });
  if (error === null) return (await store.move(missed.map(change('found')))).length;
  if (!isError(error, 'ec2-taken', 'ec2-invalid', 'ec2-limit')) return 0;
  const others = missed.filter(row => !error.addresses.includes(row.ip));
  if (others.length < missed.length) return await repairOn(context, eni, others);
  if (missed.length === 1) return 0;
  const middle = Math.ceil(missed.length / 2);
  const first = await repairOn(context, eni, missed.slice(0, middle));
  return first + (await repairOn(context, eni, missed.slice(middle)));
}
