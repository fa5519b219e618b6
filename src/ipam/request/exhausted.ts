/** The error of a request that finds no address: it names the full ENI, tenant or subnet, and what to do. */
import { formatCidr } from '../../domain/address.ts';
import { LATE_READS_MS } from '../../domain/allocation.ts';
import { IpamError } from '../../domain/error.ts';
import { atQuota } from '../../domain/tenant.ts';
import type { Policy } from '../context.ts';
import type { Home } from '../ec2/enis.ts';
import type { Filled } from '../pool/refill.ts';

const STAYS_AWAY = `one that was unassigned from an ENI returns to it after ${LATE_READS_MS / 60_000} minutes at the earliest`;

/** `held` is the number of addresses on the ENI; null if EC2 refused one more and the number is unknown. */
export type Exhausted =
  | Extract<Filled, { outcome: 'subnet full' | 'tenant full' }>
  | { readonly outcome: 'eni full'; readonly held: number | null; readonly inDoubt?: boolean };

export function exhausted({ strictReuse }: Policy, { eni, subnet }: Home, why: Exhausted): IpamError {
  if (why.outcome === 'tenant full') return atQuota(why.tenant);
  const strict = strictReuse ? ' that has rested (--strict-reuse is on)' : '';
  if (why.outcome === 'eni full')
    return new IpamError(
      'exhausted',
      `${eni.id} has no address left${strict}: it holds ${why.held ?? 'as many as it may'} beside its primary`,
      { hint: 'stop a container there, or use a larger instance type or a further ENI' },
    );
  const says = why.byEc2 === undefined ? '' : `: ${why.byEc2.message}`;
  return new IpamError(
    'exhausted',
    `${subnet.id} (${formatCidr(subnet.cidr)}) has no free address left${strict} for ${eni.id}${says}`,
    {
      hint: `run \`ec2-ipam recycle\` to unassign idle ones of other ENIs, or use a larger subnet; ${STAYS_AWAY}`,
    },
  );
}
