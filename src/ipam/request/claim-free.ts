/** Assigns and claims a free address for one request: a named one, one that has not rested, or one that EC2 has refused. */
import { type Allocation, isRested } from '../../domain/allocation.ts';
import { type IpamError, isError } from '../../domain/error.ts';
import type { Limited } from '../../domain/tenant.ts';
import type { Reading } from '../../store/store.ts';
import type { IpamContext } from '../context.ts';
import { assign } from '../ec2/assign.ts';
import { stopInDoubt } from '../ec2/in-doubt.ts';
import { since } from '../pool/cache.ts';
import { claimOf, sendClaim } from './claim.ts';
import type { Asked } from './request.ts';
import { isEc2Away } from './retry.ts';

export interface Claimed {
  /** The claimed row. Null if another request claimed it first, or for the reason in the other fields. */
  readonly row: Allocation | null;
  /** The rows whose addresses EC2 says are on another ENI. */
  readonly taken: readonly Allocation[];
  /** The last error of EC2, or the tenant's quota. */
  readonly error: IpamError | null;
  /** The tenant of the ENI if it is at its quota; else null. */
  readonly full: Limited | null;
}

/** Assigns the first candidate that EC2 accepts, and claims it. `choose` reads the candidates; it runs after the
 *  wait for a permit, so that they are not stale. */
export async function claimFree(
  context: IpamContext,
  asked: Asked,
  choose: () => Promise<Reading<Allocation>>,
): Promise<Claimed> {
  const { eni } = asked.home;
  const permit = () => context.cloud.permit('assign', asked.signal);
  using first = await permit();
  const { rows, now } = await choose();
  const { ready, taken, error, full, unanswered } = await assign(
    context,
    eni.id,
    { first, next: permit },
    rows,
    1,
  );
  for (const { token } of unanswered) if (token !== null) asked.unanswered.add(token);
  const [here] = ready;
  const before = rows.find(row => row.ip === here?.ip);
  const row = here === undefined ? null : await claimReady(context, asked, here, { now, before });
  return { row, taken, error, full };
}

/** Addresses that are read for `claimSkipped`. More than one, since other requests may take some first. */
const SKIPPED_LOOK = 32;

/** Claims an address that EC2 refused within SKIPPED_FOR_MS, for a request that finds no other. EC2 may have refused it for
 *  the ENI that asked. Returns null if there is none, if EC2 is away, or if it calls the ENI or the subnet full. Throws its
 *  other refusals. */
export async function claimSkipped(context: IpamContext, asked: Asked): Promise<Allocation | null> {
  const { home, pool } = asked;
  const query = {
    subnet: home.subnet.id,
    eni: home.eni.id,
    range: pool.range,
    rest: context.policy,
  } as const;
  const choose = (limit = SKIPPED_LOOK) => context.store.freeFor({ ...query, which: 'skipped', limit });
  if ((await choose(1)).rows.length === 0) return null;
  try {
    await stopInDoubt(context, home.eni.id, asked.unanswered);
    const { row, error } = await claimFree(context, asked, choose);
    if (error === null) return row;
    throw error;
  } catch (error) {
    if (isEc2Away(error) || isError(error, 'exhausted', 'ec2-limit', 'ec2-subnet-full')) return null;
    throw error;
  }
}

/** Claims a ready row. Returns null if another request claimed it first. `before` is the row as it was read at
 *  `now`, by the store's clock. */
export async function claimReady(
  context: IpamContext,
  asked: Asked,
  row: Allocation,
  { now, before = row }: { readonly now: number; readonly before?: Allocation | undefined },
): Promise<Allocation | null> {
  if (!asked.authority.isProved()) await asked.authority.prove();
  const claimed = await sendClaim(context, asked, claimOf(context, asked, row));
  if (claimed !== null) logEarlyReuse(context, asked, before, now);
  return claimed;
}

/** Logs an early reuse if the row, as it was at `now`, had not rested. */
export function logEarlyReuse(
  { policy, observer }: IpamContext,
  { home, log }: Asked,
  row: Allocation,
  now: number,
): void {
  const eni = home.eni.id;
  if (isRested(row, eni, policy, now)) return;
  observer?.reusedEarly();
  log('warn', 'early reuse', {
    eni,
    ip: row.ip,
    restedMs: Math.round(now - since(row)),
    restedFrom: row.restedFrom,
  });
}
