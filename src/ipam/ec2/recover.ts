/** Goes on where somebody stopped: intents that nobody settled, and held addresses that left their ENI. */
import type { Allocation } from '../../domain/allocation.ts';
import { isError } from '../../domain/error.ts';
import type { EniId } from '../../domain/ids.ts';
import { callDeadline, type Machine } from '../context.ts';
import { batchesByEni, change, ipsOf, outcome } from './intents.ts';
import { callUnassign, isHere } from './unassign.ts';

/** Intents taken over in one go. */
const TAKE_OVER_MAX = 200;

/** Takes over the intents that nobody settled within the grace, and those that nobody has called for yet;
 *  answers how many are free now. */
export async function takeOver(machine: Machine): Promise<number> {
  const { rows } = await machine.store.intents(machine.policy.graceMs, TAKE_OVER_MAX);
  if (rows.length > 0) machine.log('warn', 'take over', { ips: ipsOf(rows) });
  return await takeOff(machine, rows);
}

/** Makes intents for which no call can be under way any more this process's own, and takes their addresses off;
 *  answers how many are free now. */
export async function takeOff(machine: Machine, rows: readonly Allocation[]): Promise<number> {
  let freed = 0;
  for (const [eni, batch] of batchesByEni(rows)) {
    const again = (row: Allocation) =>
      change(row.status === 'assigning' ? 'take over' : 'unassign again')(row);
    await machine.cloud.turn('unassign');
    if (!(await isHere(machine, eni))) continue;
    freed += (await callUnassign(machine, eni, batch.map(again), null)).freed.length;
  }
  return freed;
}

/** Assigns held addresses again that are missing from their ENI, with one call for each ENI, and more where EC2
 *  takes some of them only. They stay allocated whatever comes. Answers how many are back. */
export async function repair(machine: Machine, rows: readonly Allocation[]): Promise<number> {
  let repaired = 0;
  for (const [eni, batch] of batchesByEni(rows)) {
    try {
      repaired += await repairOn(machine, eni, batch);
    } catch (error) {
      if (!isError(error, 'ec2-throttled')) throw error;
      machine.log('warn', 'a repair had no turn, and is tried again', { eni, error: error.line });
    }
  }
  return repaired;
}

/** Of a batch that is refused, those are asked for again that EC2 does not name, or half and half, so that neither
 *  one that somebody else has nor the limit of the ENI keeps the others away. */
async function repairOn(machine: Machine, eni: EniId, rows: readonly Allocation[]): Promise<number> {
  const { store, cloud, log } = machine;
  await cloud.turn('assign');
  const sendBefore = callDeadline(machine);
  const missed = await store.move(rows.map(change('missed')));
  if (missed.length === 0) return 0;
  const error = await outcome(cloud.assign(eni, ipsOf(missed), sendBefore));
  log('warn', 'drift: held addresses were missing from their ENI', {
    eni,
    ips: ipsOf(missed),
    ...(error === null ? { repaired: true } : { error: error.line }),
  });
  if (error === null) return (await store.move(missed.map(change('found')))).length;
  if (!isError(error, 'ec2-taken', 'ec2-unfit', 'ec2-limit')) return 0;
  const others = missed.filter(row => !error.addresses.includes(row.ip));
  if (others.length < missed.length) return await repairOn(machine, eni, others);
  if (missed.length === 1) return 0;
  const middle = Math.ceil(missed.length / 2);
  const first = await repairOn(machine, eni, missed.slice(0, middle));
  return first + (await repairOn(machine, eni, missed.slice(middle)));
}
