/** Early reuse: if no rested address is left, a request gets the address that has rested longest. */
import { contains } from '../../domain/address.ts';
import type { Allocation } from '../../domain/allocation.ts';
import { IpamError, isError } from '../../domain/error.ts';
import type { IpamContext } from '../context.ts';
import type { Enis } from '../ec2/enis.ts';
import { isSeenSoon, stopInDoubt } from '../ec2/in-doubt.ts';
import { since } from '../pool/cache.ts';
import { evict, steal } from '../pool/steal.ts';
import { claimFree, claimReady } from './claim-free.ts';
import { type Exhausted, exhausted } from './exhausted.ts';
import type { Asked } from './request.ts';
import { untilRoom } from './until-room.ts';

/** Ready addresses in one read: those that have rested longest. */
export const READY_LOOK = 256;
/** Free addresses in one read. More than one, since other requests may take some first. */
const FREE_LOOK = 32;
/** Ready addresses that are tried after one read. */
const TRIES_MAX = 8;

/** Claims the address that has rested longest: ready on this ENI, or free, or, without any of those, ready on
 *  another ENI. Returns null if there is none, or if other requests claimed them first. Throws exhausted if the ENI
 *  or the subnet is full. */
export async function claimEarly(
  context: IpamContext,
  enis: Enis,
  asked: Asked,
  why: Exhausted,
): Promise<Allocation | null> {
  const { home, pool, signal } = asked;
  const { rows: all, now } = await context.store.readyOn(home.eni.id, pool.range, READY_LOOK);
  const rows = all.filter(row => asked.withheld(row) === null);
  const ready = rows.at(0) ?? null;
  const free = why.outcome === 'subnet full' ? why.resting : null;
  if (free !== null && (ready === null || since(free) < since(ready))) {
    const claimed = await claimLongestFree(context, asked).catch(error => {
      // EC2 is away, or has no place for another one: the ready address needs no EC2 call.
      if (ready === null || !(error instanceof IpamError) || !isOfEc2(error)) throw error;
      return null;
    });
    if (claimed !== null) return claimed;
  }
  if (ready === null && why.outcome === 'subnet full') {
    const wanted = { range: pool.range, count: 1, which: 'any' } as const;
    const stolen = await steal(context, enis, home, wanted, signal);
    if (stolen.length > 0) return await claimLongestFree(context, asked);
  }
  for (const row of rows.slice(0, TRIES_MAX)) {
    const claimed = await claimReady(context, asked, row, { now });
    if (claimed !== null) return claimed;
  }
  return null;
}

const isOfEc2 = ({ code }: IpamError): boolean => code === 'exhausted' || code.startsWith('ec2-');

async function claimLongestFree(context: IpamContext, asked: Asked): Promise<Allocation | null> {
  const { home, pool } = asked;
  const { eni, subnet } = home;
  await stopInDoubt(context, eni.id, asked.unanswered);
  const query = { subnet: subnet.id, eni: eni.id, range: pool.range, rest: context.policy } as const;
  let before: readonly Allocation[] = [];
  const choose = async () => {
    before = (await context.store.onEni(eni.id)).rows;
    return await context.store.freeFor({ ...query, which: 'any', limit: FREE_LOOK });
  };
  const { row, error, full } = await claimFree(context, asked, choose);
  if (full !== null) return null; // others have taken the tenant's last places: the next fill looks for room
  if (isError(error, 'ec2-limit')) {
    const isUsable = ({ ip }: Allocation) => pool.range === null || contains(pool.range, ip);
    if ((await evict(context, home, isUsable, 1, asked.signal)) > 0) return null;
    // A call without an answer may have filled the ENI: the next read shows it, or a later one.
    const { rows } = await context.store.onEni(eni.id);
    const isInDoubt = rows.some(({ status }) => status === 'assigning');
    if ((await isSeenSoon(context, eni.id, asked.signal)) || isInDoubt) return null;
    if (await untilRoom(context, asked, before, isUsable)) return null;
    throw exhausted(context.policy, home, { outcome: 'eni full', held: null });
  }
  if (isError(error, 'ec2-subnet-full'))
    throw exhausted(context.policy, home, { outcome: 'subnet full', resting: null, byEc2: error });
  if (error !== null) throw error;
  return row;
}
