/** What happens when an ENI has no ready address: more are assigned to it, for all who wait. */
import type { Cidr } from '../domain/address.ts';
import type { Allocation } from '../domain/allocation.ts';
import { IpamError, isError } from '../domain/error.ts';
import { assignByCount } from './count.ts';
import type { Enis, Home } from './enis.ts';
import { ASSIGN_CALLS_MAX, assign } from './intents.ts';
import type { Machine } from './machine.ts';

/** Batches that may turn out to be other people's altogether, before the request looks around again. */
const ROUNDS_MAX = 8;

export type Cold =
  | { readonly outcome: 'assigned' }
  /** The ENI holds as many addresses as it may. */
  | { readonly outcome: 'eni full'; readonly held: number }
  /** No free address has rested; `resting` is the one that has rested longest. */
  | { readonly outcome: 'subnet dry'; readonly resting: Allocation | null };

export interface ColdRequest {
  readonly range: Cidr | null;
  /** How many requests wait for the ENI, by now. */
  readonly waiting: () => number;
  /** When nobody waits any longer, on the process's monotonic clock. */
  readonly until: number;
}

/** Assigns what those who wait need plus the warm minimum, as far as the ENI has room. Throws EC2's errors other
 *  than those that this function is about. */
export async function assignCold(
  machine: Machine,
  enis: Enis,
  home: Home,
  asked: ColdRequest,
): Promise<Cold> {
  let { eni } = home;
  let most = Number.POSITIVE_INFINITY;
  let unexplained = 0;
  for (let round = 0; round < ROUNDS_MAX; round++) {
    if (round > 0 && machine.clock() >= asked.until)
      throw new IpamError('unavailable', `EC2 took too long to assign an address to ${eni.id}`, {
        hint: 'try again',
      });
    const { held, unanswered } = await occupancy(machine, home);
    const room =
      eni.addressLimit === null ? Number.POSITIVE_INFINITY : eni.addressLimit - 1 - eni.prefixes - held;
    // While a call has no answer its addresses count as held, so no more than the need goes the same way.
    const need = asked.waiting() + (unanswered ? 0 : machine.policy.warmMin);
    const limit = Math.min(need, most, room);
    if (limit < 1) {
      if (unanswered) throw noAnswer(home);
      const now = await enis.refresh(eni.id, { unlessYoung: true });
      if (roomChanged(eni, now.eni)) ({ eni } = now);
      else return { outcome: 'eni full', held };
      continue;
    }
    const free = await freeFor(machine, home, asked.range, 'rested', limit);
    if (free.length === 0) {
      const [resting = null] = await freeFor(machine, home, asked.range, 'any', 1);
      return { outcome: 'subnet dry', resting };
    }
    const result = await assign(machine, eni.id, free);
    if (result.ready.length > 0) return { outcome: 'assigned' };
    unexplained += result.unexplained;
    if (isError(result.error, 'ec2-limit')) {
      ({ eni } = await enis.refresh(eni.id));
      if (limit === 1) return { outcome: 'eni full', held };
      most = Math.floor(limit / 2);
    } else if (isError(result.error, 'ec2-subnet-full')) return { outcome: 'subnet dry', resting: null };
    else if (result.error !== null) throw result.error;
    else if (unexplained >= ASSIGN_CALLS_MAX && asked.range === null) {
      if ((await assignByCount(machine, eni.id, limit)) > 0) return { outcome: 'assigned' };
      unexplained = 0;
    }
  }
  return { outcome: 'subnet dry', resting: null };
}

/** How many addresses beside the primary the ENI holds, by the ledger, and whether a call has no answer yet. */
async function occupancy({ store }: Machine, { eni }: Home): Promise<{ held: number; unanswered: boolean }> {
  const { rows } = await store.onEni(eni.id);
  return {
    held: rows.filter(row => !row.primary).length,
    unanswered: rows.some(row => row.status === 'assigning'),
  };
}

const roomChanged = (a: Home['eni'], b: Home['eni']): boolean =>
  a.addressLimit !== b.addressLimit || a.prefixes !== b.prefixes;

const noAnswer = ({ eni }: Home): IpamError =>
  new IpamError('ec2-unknown', `EC2 has not answered what was asked of it for ${eni.id}`, {
    hint: 'see the log of the server, and try again',
  });

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
