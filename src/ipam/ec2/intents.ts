/**
 * Intents: rows that record an EC2 call before it is sent. The process that writes an intent sends its call once,
 * while the intent is younger than the call deadline, and settles the row by the answer to that call. Without an
 * answer the row stays. After the grace no call of ours can still change EC2: any server then takes the intent over
 * and unassigns its address. A process that dies between the two leaves the intent, so that others know what may
 * have happened.
 */
import { randomUUID } from 'node:crypto';
import type { Ipv4 } from '../../domain/address.ts';
import { type Allocation, type Change, isIntent, type MoveName } from '../../domain/allocation.ts';
import { IpamError } from '../../domain/error.ts';
import type { EniId } from '../../domain/ids.ts';
import { callDeadline, type IpamContext } from '../context.ts';

/** Addresses in one call. EC2 documents no bound for a call, only one for an ENI. Where even that is unknown, a
 *  refused batch of this size can still be halved down to one address within the calls that a request may make. */
export const CALL_ADDRESSES_MAX = 128;

export const change =
  (move: MoveName, more: Partial<Change> = {}) =>
  (row: Allocation): Change => ({ row, move, ...more });
/** What the changes of an EC2 call carry for the history: when it begins, and when EC2 has answered. */
export const newEc2Call = () => ({ ec2: { id: randomUUID() } });
export type Ec2Call = ReturnType<typeof newEc2Call>;
export const answered = ({ ec2: { id } }: Ec2Call, error: IpamError | null) => ({
  ec2: { id, result: error === null ? 'done' : `${error.code}: ${error.line}` },
});

export type Answered = ReturnType<typeof answered>;

export const ipsOf = (rows: readonly Allocation[]): Ipv4[] => rows.map(row => row.ip);

/** Returns what an EC2 call returned, or its IpamError. Throws any other error, which is a bug. */
export async function resultOf<T>(call: Promise<T>): Promise<T | IpamError> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof IpamError) return error;
    throw error;
  }
}

/** Returns the error of an EC2 call, or null. */
export async function outcome(call: Promise<unknown>): Promise<IpamError | null> {
  const result = await resultOf(call);
  return result instanceof IpamError ? result : null;
}

export interface Written {
  /** The intents that this process owns. */
  readonly intents: Allocation[];
  /** The time on the deadline clock until which their call may be sent. */
  readonly sendBefore: number;
}

/** Makes the moves before an EC2 call, and returns which of the moved rows are intents. `sendBefore` counts from before they
 *  are written. */
export async function write(
  context: IpamContext,
  changes: readonly Change[],
  call: Ec2Call,
): Promise<Written & { moved: Allocation[] }> {
  const sendBefore = callDeadline(context);
  const moved = await context.store.move(changes.map(one => ({ ...one, ...call })));
  return { moved, intents: moved.filter(isIntent), sendBefore };
}

export const noAnswer = (eni: EniId): IpamError =>
  new IpamError('ec2-unknown', `EC2 has not answered a call for ${eni}`, {
    hint: 'see the log of the server, and try again',
  });

/** Groups rows by the ENI that they name, in batches of at most CALL_ADDRESSES_MAX. Leaves out rows without an ENI.
 */
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
