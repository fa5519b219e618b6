/** The claim of an address, and the answer to a request that is repeated. */
import { contains } from '../../domain/address.ts';
import type { Allocation, Change } from '../../domain/allocation.ts';
import { IpamError } from '../../domain/error.ts';
import { isHeldBy } from '../../domain/origin.ts';
import type { IpamContext } from '../context.ts';
import type { Asked } from './request.ts';

/** Reads of a row that other servers change. */
const TRIES_MAX = 5;

/** Returns the claim of the ready row. It does not apply if another row has the id of the request. Null if this row has
 *  it: the request was given the address before, and that has been released. A rollback would have cleared the id. */
export function claimOf(
  { host }: Pick<IpamContext, 'host'>,
  { holder, from, call = null }: Asked,
  row: Allocation,
): Change | null {
  const { id } = from;
  if (id !== null && row.requestId === id) return null;
  return { row, move: 'claim', holder, instance: from.instance ?? host.instance, requestId: id, call };
}

/** Makes the claim, and notes when it was sent. Returns null if the row has changed, or without a claim. */
export async function sendClaim(
  context: IpamContext,
  asked: Asked,
  change: Change | null,
): Promise<Allocation | null> {
  if (change === null) return null;
  asked.claimSentAt = context.deadlineClock();
  const [claimed = null] = await context.store.move([change]);
  return claimed;
}

/** Returns the address that the request was given before and holds; null if it was given none, or if the claim was
 *  rolled back. The rollback of an earlier answer is a "no" after that. Throws conflict if the address has been released,
 *  and bad-request if another request has the id. */
export async function givenBefore(context: IpamContext, asked: Asked): Promise<Allocation | null> {
  const { id } = asked.from;
  if (id === null) return null;
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    const [row] = (await context.store.withRequest(id)).rows;
    if (row === undefined) return null;
    refuseOther(context, asked, row);
    if (!asked.authority.isProved()) await asked.authority.prove();
    const repeated = await sendClaim(context, asked, { row, move: 'repeat' });
    if (repeated === null) continue;
    asked.isRepeated = true;
    asked.log('info', 'request repeated', { eni: row.iface, ip: row.ip });
    return repeated;
  }
  throw new IpamError('unavailable', 'other requests kept changing the address of this request', {
    hint: 'try again',
  });
}

function refuseOther({ host }: IpamContext, { pool, named, from }: Asked, row: Allocation): void {
  const isSame =
    row.iface === pool.eni &&
    (named === null || named === row.ip) &&
    (pool.range === null || contains(pool.range, row.ip));
  if (!isHeldBy(row, from) && isSame)
    throw new IpamError('conflict', `this request was given ${row.ip} before, and that has been released`, {
      hint: 'ask with another id',
    });
  if (!isSame || row.instance !== (from.instance ?? host.instance))
    throw new IpamError('bad-request', 'another request has the same id', { hint: 'ask with another id' });
}
