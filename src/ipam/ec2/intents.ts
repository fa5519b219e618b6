/**
 * The protocol between ledger and EC2. An intent is written first; its writer sends one call, once and only
 * while the intent is young, and settles it by that call's own answer. An intent whose call had no answer is
 * left as it is: after the grace no call of ours can still change EC2, and whoever comes by takes it over,
 * only forward, to an Unassign. A process that dies or freezes anywhere in here leaves a row that says so.
 */
import type { Ipv4 } from '../../domain/address.ts';
import { type Allocation, type Change, isIntent, type MoveName } from '../../domain/allocation.ts';
import { IpamError } from '../../domain/error.ts';
import type { EniId } from '../../domain/ids.ts';
import { callDeadline, type IpamContext } from '../context.ts';

/** Addresses in one call. EC2 documents no bound of its own, and what an ENI may hold comes from EC2; where EC2 does not
 *  tell that, a batch that it refuses is halved down to one address in as many calls as a request makes. */
export const CALL_ADDRESSES_MAX = 128;

export const change =
  (move: MoveName, more: Partial<Change> = {}) =>
  (row: Allocation): Change => ({ row, move, ...more });
export const ipsOf = (rows: readonly Allocation[]): Ipv4[] => rows.map(row => row.ip);

/** What an EC2 call returns, or its error. An error that is not EC2's is a bug, and thrown. */
export async function resultOf<T>(call: Promise<T>): Promise<T | IpamError> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof IpamError) return error;
    throw error;
  }
}

/** The error of an EC2 call, or null. */
export async function outcome(call: Promise<unknown>): Promise<IpamError | null> {
  const result = await resultOf(call);
  return result instanceof IpamError ? result : null;
}

/** Intents of this process, and when it is too late to send their call. */
export interface Written {
  readonly intents: Allocation[];
  readonly sendBefore: number;
}

/** Writes intents. Their age counts from before they are written. */
export async function write(
  context: IpamContext,
  changes: readonly Change[],
): Promise<Written & { moved: Allocation[] }> {
  const sendBefore = callDeadline(context);
  const moved = await context.store.move(changes);
  return { moved, intents: moved.filter(isIntent), sendBefore };
}

export const noAnswer = (eni: EniId): IpamError =>
  new IpamError('ec2-unknown', `EC2 has not answered what was asked of it for ${eni}`, {
    hint: 'see the log of the server, and try again',
  });

/** Rows grouped by the ENI they name, at most one call's worth in each. */
export function batchesByEni(rows: readonly Allocation[]): [EniId, Allocation[]][] {
  const byEni = new Map<EniId, Allocation[]>();
  for (const row of rows) {
    if (row.iface === null) continue;
    byEni.set(row.iface, [...(byEni.get(row.iface) ?? []), row]);
  }
  return [...byEni].flatMap(([eni, all]) => {
    const batches: [EniId, Allocation[]][] = [];
    for (let i = 0; i < all.length; i += CALL_ADDRESSES_MAX)
      batches.push([eni, all.slice(i, i + CALL_ADDRESSES_MAX)]);
    return batches;
  });
}
