/** Assigns a free address for one request, and claims it: for an address that the pool would not be filled with. */
import { type Allocation, isRested } from '../../domain/allocation.ts';
import type { IpamError } from '../../domain/error.ts';
import type { Reading } from '../../store/store.ts';
import type { IpamContext } from '../context.ts';
import { assign } from '../ec2/assign.ts';
import { since } from '../pool/cache.ts';
import type { Asked } from './request.ts';

/** What came of it. */
export interface Claimed {
  /** Null: others were quicker, or the rest says why. */
  readonly row: Allocation | null;
  /** Found to be taken by somebody else. */
  readonly taken: readonly Allocation[];
  /** What EC2 said last. */
  readonly error: IpamError | null;
}

/** Assigns the first of the candidates that EC2 accepts, and claims it. They are chosen once there is a permit, so that the
 *  choice is not old. */
export async function claimFree(
  context: IpamContext,
  asked: Asked,
  choose: () => Promise<Reading<Allocation>>,
): Promise<Claimed> {
  const { eni } = asked.home;
  using permit = await context.cloud.permit('assign', asked.signal);
  const { rows, now } = await choose();
  const { ready, taken, error } = await assign(context, eni.id, permit, rows, 1);
  const [here] = ready;
  const before = rows.find(row => row.ip === here?.ip);
  const row = here === undefined ? null : await claimReady(context, asked, here, { now, before });
  return { row, taken, error };
}

/** Claims a ready row; null: others were quicker. `before`: the row as it was at `now`, by the store's clock, when it was
 *  chosen. */
export async function claimReady(
  context: IpamContext,
  { home, holder }: Asked,
  row: Allocation,
  { now, before = row }: { readonly now: number; readonly before?: Allocation | undefined },
): Promise<Allocation | null> {
  const [claimed = null] = await context.store.move([{ row, move: 'claim', holder }]);
  if (claimed !== null) logEarlyReuse(context, home.eni.id, before, now);
  return claimed;
}

/** Notes that the row, as it was at `now`, was claimed before it had rested, if so. */
export function logEarlyReuse(
  { policy, log }: IpamContext,
  eni: Asked['home']['eni']['id'],
  row: Allocation,
  now: number,
): void {
  if (isRested(row, eni, policy, now)) return;
  log('warn', 'early reuse', { eni, ip: row.ip, restedMs: now - since(row), restedFrom: row.restedFrom });
}
