/** Unassigns addresses from their ENIs. */
import type { Permit } from '../../cloud/cloud.ts';
import { type Allocation, type Change, mayComeBack } from '../../domain/allocation.ts';
import { type IpamError, isError, isRefusal } from '../../domain/error.ts';
import type { EniId } from '../../domain/ids.ts';
import { isUsedIdle } from '../../domain/sighting.ts';
import { ANSWERED_WITHIN_MS } from '../../domain/unanswered.ts';
import type { IpamContext } from '../context.ts';
import { isGone } from './account.ts';
import {
  answered,
  batchesByEni,
  CALL_ADDRESSES_MAX,
  change,
  ipsOf,
  newEc2Call,
  noAnswer,
  outcome,
  write,
} from './intents.ts';

/** Returns whether addresses of the ENI may be changed. Embedded, only while EC2 shows it on this instance: the ledger's
 *  record may be old, and the ledger of another instance may have assigned the same address there since. Ask before
 *  each call: the wait for a permit may be long. */
export async function isHere({ cloud, host: { instance } }: IpamContext, eni: EniId): Promise<boolean> {
  if (instance === null) return true;
  const [seen] = await cloud.enisById([eni]);
  return seen?.instance === instance;
}

/** Returns the rows without those that a process of a host uses though nobody holds them: such an address would be
 *  taken from it, and given to another container. And without those that a repair may put on their ENI again. Leave them
 *  out before some rows of many are chosen, too: chosen again and again, they would keep others from their turn. */
export async function removable(
  { store, policy }: IpamContext,
  rows: readonly Allocation[],
): Promise<readonly Allocation[]> {
  if (rows.length === 0) return rows;
  const { rows: sightings, now } = await store.usedSightings();
  const used = new Map(sightings.map(one => [`${one.subnet} ${one.ip}`, one]));
  return rows.filter(row => {
    const one = used.get(`${row.subnet} ${row.ip}`);
    return (one === undefined || !isUsedIdle(row, one)) && !mayComeBack(row, policy, now);
  });
}

export interface Unassigned {
  /** The rows that are free now. */
  readonly freed: readonly Allocation[];
  /** The last error of EC2; null if every row that was still ready is free now. */
  readonly error: IpamError | null;
}

/** Unassigns ready rows, with one call for each ENI and batch. */
export const unassign = (context: IpamContext, rows: readonly Allocation[]): Promise<Unassigned> =>
  fromEach(context, rows, unassignFrom);

/** The same, also for rows that processes use: no packet reaches these, since EC2 shows the address on no ENI, or the ENI
 *  on no instance. Of those that a repair may put there again, only the intents are written, so that nobody gets them.
 *  They are taken over after the grace. */
export const unassignUnreached = (context: IpamContext, rows: readonly Allocation[]): Promise<Unassigned> =>
  fromEach(context, rows, (_, eni, batch, permit) =>
    takeOff(context, eni, permit, async () => {
      const unsure = batch.filter(row => row.repairUnsureAt !== null);
      if (unsure.length > 0) await context.store.move(unsure.map(change('unassign')));
      return batch.filter(row => row.repairUnsureAt === null);
    }),
  );

async function fromEach(
  context: IpamContext,
  rows: readonly Allocation[],
  work: typeof unassignFrom,
): Promise<Unassigned> {
  const freed: Allocation[] = [];
  let error: IpamError | null = null;
  for (const [eni, batch] of batchesByEni(rows)) {
    const permit = await context.cloud.permit('unassign');
    const result = await work(context, eni, batch, permit);
    freed.push(...result.freed);
    error = result.error ?? error;
  }
  return { freed, error };
}

/** Returns the result of `work`, or an ec2-unknown error after ANSWERED_WITHIN_MS. For a waiting request. The work
 *  goes on in the background. */
export async function inTime(
  context: IpamContext,
  eni: EniId,
  work: Promise<Unassigned>,
): Promise<Unassigned> {
  const { wait, followUps, log } = context;
  followUps?.sent(work);
  work.catch(error => log('warn', 'unassign not settled yet', { eni, error }));
  const over = new AbortController();
  const late = wait(ANSWERED_WITHIN_MS, over.signal).then(() => ({ freed: [], error: noAnswer(eni) }));
  try {
    return await Promise.race([work, late]);
  } finally {
    over.abort();
  }
}

/** Unassigns ready rows of one ENI, at most CALL_ADDRESSES_MAX. Uses the permit or gives it back. */
export async function unassignFrom(
  context: IpamContext,
  eni: EniId,
  rows: readonly Allocation[],
  permit: Permit,
): Promise<Unassigned> {
  return await takeOff(context, eni, permit, () => removable(context, rows.slice(0, CALL_ADDRESSES_MAX)));
}

async function takeOff(
  context: IpamContext,
  eni: EniId,
  permit: Permit,
  choose: () => Promise<readonly Allocation[]>,
): Promise<Unassigned> {
  using unassigning = permit;
  if (!(await isHere(context, eni))) return { freed: [], error: null };
  const changes = (await choose()).map(change('unassign'));
  if (changes.length === 0) return { freed: [], error: null };
  return await callUnassign(context, eni, changes, unassigning, 'kept');
}

/** Writes the intents, sends their call and settles them. A batch that is refused for one of its addresses is
 *  halved. `onRefusal` is the move after a definite refusal for another reason. Null leaves the intents as they
 *  are, and means that an earlier call for them may have had no answer. */
export async function callUnassign(
  context: IpamContext,
  eni: EniId,
  changes: readonly Change[],
  permit: Permit,
  onRefusal: 'kept' | null,
): Promise<Unassigned> {
  const { store, cloud, log } = context;
  const call = newEc2Call();
  const { intents, sendBefore } = await write(context, changes, call);
  if (intents.length === 0) return { freed: [], error: null };
  const ips = ipsOf(intents);
  const error = await outcome(permit.send(eni, ips, sendBefore));
  if (error === null) log('info', 'unassigned', { eni, ips });
  else log('warn', 'unassign failed', { eni, ips, error: error.line });
  const gone =
    (isError(error, 'ec2-not-found') && (await isGone(context, eni))) ||
    (isError(error, 'ec2-not-assigned') && intents.length === 1);
  if (error === null || gone) {
    const unsure = onRefusal === null;
    const freed = await store.move(intents.map(change('unassigned', { unsure, ...answered(call, error) })));
    return { freed, error: null };
  }
  const { ec2 } = answered(call, error);
  if (isError(error, 'ec2-not-assigned')) {
    await store.endEc2Call(ec2.id, ec2.result);
    const middle = Math.ceil(intents.length / 2);
    const halves = [intents.slice(0, middle), intents.slice(middle)];
    const results: Unassigned[] = [];
    for (const half of halves) {
      using next = await cloud.permit('unassign');
      if (!(await isHere(context, eni))) break; // a read settles the rest
      results.push(await callUnassign(context, eni, half.map(change('unassign again')), next, onRefusal));
    }
    return {
      freed: results.flatMap(result => result.freed),
      error: results.find(result => result.error !== null)?.error ?? null,
    };
  }
  if (isRefusal(error) && onRefusal !== null) await store.move(intents.map(change(onRefusal, { ec2 })));
  else if (isRefusal(error)) await store.endEc2Call(ec2.id, ec2.result);
  return { freed: [], error };
}
