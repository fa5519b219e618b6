/** What happens when an ENI has no ready address: more are assigned to it, for all who wait. */
import type { Cidr } from '../domain/address.ts';
import type { Allocation } from '../domain/allocation.ts';
import { IpamError, isError } from '../domain/error.ts';
import { assignByCount } from './count.ts';
import type { Enis, Home } from './enis.ts';
import { assign } from './intents.ts';
import type { Machine } from './machine.ts';

/** Batches that may turn out to be other people's altogether, before the request looks around again. */
const ROUNDS_MAX = 8;

export type Cold =
  | { readonly outcome: 'assigned' }
  /** The ENI holds as many addresses as it may. */
  | { readonly outcome: 'eni full'; readonly held: number }
  /** No free address has rested; `resting` is the one that has rested longest. */
  | { readonly outcome: 'subnet dry'; readonly resting: Allocation | null };

/** Assigns what one request needs plus the warm minimum, as far as the ENI has room. Throws EC2's errors other
 *  than those that this function is about. */
export async function assignCold(
  machine: Machine,
  enis: Enis,
  home: Home,
  range: Cidr | null,
): Promise<Cold> {
  const { store, policy } = machine;
  let { eni } = home;
  let most = 1 + policy.warmMin;
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const { rows: onEni } = await store.onEni(eni.id);
    const held = onEni.filter(row => !row.primary).length;
    const room = eni.addressLimit === null ? most : eni.addressLimit - 1 - eni.prefixes - held;
    // While a call has no answer its addresses count as held, so no more than the need goes the same way.
    const unanswered = onEni.some(row => row.status === 'assigning');
    const limit = Math.min(unanswered ? 1 : most, room);
    if (limit < 1 && unanswered)
      throw new IpamError('ec2-unknown', `EC2 has not answered what was asked of it for ${eni.id}`, {
        hint: 'see https://health.aws.amazon.com, the log of the server, and try again',
      });
    if (limit < 1) return { outcome: 'eni full', held };
    const free = await freeFor(machine, home, range, 'rested', limit);
    if (free.length === 0) {
      const [resting = null] = await freeFor(machine, home, range, 'any', 1);
      return { outcome: 'subnet dry', resting };
    }
    const { ready, error, baffled } = await assign(machine, eni.id, free);
    if (ready.length > 0) return { outcome: 'assigned' };
    if (isError(error, 'ec2-limit')) {
      ({ eni } = await enis.refresh(eni.id));
      if (limit === 1) return { outcome: 'eni full', held };
      most = Math.floor(limit / 2);
    } else if (isError(error, 'ec2-subnet-full')) return { outcome: 'subnet dry', resting: null };
    else if (error !== null) throw error;
    else if (baffled && range === null && (await assignByCount(machine, eni.id, limit)) > 0)
      return { outcome: 'assigned' };
  }
  return { outcome: 'subnet dry', resting: null };
}

async function freeFor(
  machine: Machine,
  { eni, subnet }: Home,
  range: Cidr | null,
  which: 'rested' | 'any',
  limit: number,
): Promise<readonly Allocation[]> {
  const query = { subnet: subnet.id, eni: eni.id, range, rest: machine.policy, which, limit };
  return (await machine.store.freeFor(query)).rows;
}
