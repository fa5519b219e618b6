/** Takes addresses off their ENIs. */
import type { Permit } from '../../cloud/cloud.ts';
import type { Allocation, Change } from '../../domain/allocation.ts';
import { type IpamError, isError, isRefusal } from '../../domain/error.ts';
import type { EniId } from '../../domain/ids.ts';
import { ANSWERED_WITHIN_MS } from '../../domain/unanswered.ts';
import type { IpamContext } from '../context.ts';
import { isGone } from './identity.ts';
import { batchesByEni, CALL_ADDRESSES_MAX, change, ipsOf, noAnswer, outcome, write } from './intents.ts';

/** Whether an address may be taken off the ENI: embedded, only while EC2 shows it on this instance. What the ledger says
 *  of that may be old, and the ENI another ledger's by now, which may have put the same address there. */
export async function isHere({ cloud, instance }: IpamContext, eni: EniId): Promise<boolean> {
  if (instance === null) return true;
  const [seen] = await cloud.enisById([eni]);
  return seen?.instance === instance;
}

export interface Unassigned {
  /** Those that are free now. */
  readonly freed: readonly Allocation[];
  /** Why others are not: what EC2 said last. Null: it took off all that was still ready. */
  readonly error: IpamError | null;
}

/** Takes ready rows off their ENIs, one call for each. */
export async function unassign(context: IpamContext, rows: readonly Allocation[]): Promise<Unassigned> {
  const freed: Allocation[] = [];
  let error: IpamError | null = null;
  for (const [eni, batch] of batchesByEni(rows)) {
    const permit = await context.cloud.permit('unassign');
    const result = await unassignFrom(context, eni, batch, permit);
    freed.push(...result.freed);
    error = result.error ?? error;
  }
  return { freed, error };
}

/** For a request that waits: what came of the work, or after a while that EC2 doesn't answer. The work goes on. */
export async function inTime(
  context: IpamContext,
  eni: EniId,
  work: Promise<Unassigned>,
): Promise<Unassigned> {
  const { wait, sights, log } = context;
  sights?.sent(work);
  work.catch(error => log('warn', 'unassign not settled yet', { eni, error }));
  const over = new AbortController();
  const late = wait(ANSWERED_WITHIN_MS, over.signal).then(() => ({ freed: [], error: noAnswer(eni) }));
  try {
    return await Promise.race([work, late]);
  } finally {
    over.abort();
  }
}

/** Takes ready rows off the ENI. Uses the permit or gives it back. */
export async function unassignFrom(
  context: IpamContext,
  eni: EniId,
  rows: readonly Allocation[],
  permit: Permit,
): Promise<Unassigned> {
  using unassigning = permit;
  if (!(await isHere(context, eni))) return { freed: [], error: null };
  const changes = rows.slice(0, CALL_ADDRESSES_MAX).map(change('unassign'));
  return await callUnassign(context, eni, changes, unassigning, 'kept');
}

/** Writes the intents, sends their call and settles them. Halves a batch that is refused for an address in it.
 *  `otherwise`: what a definite refusal for another reason makes of them; null leaves them for later, and says that a
 *  call for them before this one may have had no answer. */
export async function callUnassign(
  context: IpamContext,
  eni: EniId,
  changes: readonly Change[],
  permit: Permit,
  otherwise: 'kept' | null,
): Promise<Unassigned> {
  const { store, cloud, log } = context;
  const { intents, sendBefore } = await write(context, changes);
  if (intents.length === 0) return { freed: [], error: null };
  const ips = ipsOf(intents);
  const error = await outcome(permit.send(eni, ips, sendBefore));
  if (error === null) log('info', 'unassigned', { eni, ips });
  else log('warn', 'unassign failed', { eni, ips, error: error.line });
  const gone =
    (isError(error, 'ec2-not-found') && (await isGone(context, eni))) ||
    (isError(error, 'ec2-not-assigned') && intents.length === 1);
  if (error === null || gone) {
    const unsure = otherwise === null;
    const freed = await store.move(intents.map(change('unassigned', { unsure })));
    return { freed, error: null };
  }
  if (isError(error, 'ec2-not-assigned')) {
    const middle = Math.ceil(intents.length / 2);
    const halves = [intents.slice(0, middle), intents.slice(middle)];
    const results: Unassigned[] = [];
    for (const half of halves) {
      using again = await cloud.permit('unassign');
      results.push(await callUnassign(context, eni, half.map(change('unassign again')), again, otherwise));
    }
    return {
      freed: results.flatMap(result => result.freed),
      error: results.find(result => result.error !== null)?.error ?? null,
    };
  }
  if (isRefusal(error) && otherwise !== null) await store.move(intents.map(change(otherwise)));
  return { freed: [], error };
}
