/** Docker's pools, each one ENI's view of its subnet. A pool has no state: its PoolID contains everything. */
import { type Cidr, formatCidr, type Ipv4, parseCidr, routerOf, sameCidr } from '../domain/address.ts';
import { IpamError } from '../domain/error.ts';
import {
  formatPoolId,
  type InstanceId,
  type Pool,
  parseEniId,
  parseInstanceId,
  poolFor,
} from '../domain/ids.ts';
import { ANYBODY, type Origin } from '../domain/origin.ts';
import type { IpamContext } from './context.ts';
import type { Attachments } from './ec2/attachments.ts';
import { type Enis, type Home, notOurs } from './ec2/enis.ts';
import type { WarmPools } from './pool/warm-pool.ts';
import { authorityOver } from './request/authority.ts';
import { type Outages, withRetry } from './request/retry.ts';

/** Engines up to 26 repeat a RequestPool without --subnet, about a thousand times a second, as long as the pool
 *  overlaps a route of the host. The ENI's subnet always does. Only an error ends the loop. */
const LOOP_WINDOW_MS = 1000;

export interface PoolRequest {
  /** `--ipam-opt eni-id=`, and `instance-id=` if given. */
  readonly eniId: string;
  readonly instanceId: string | null;
  /** `--subnet`; empty if absent. */
  readonly pool: string;
  /** `--ip-range`; empty if absent. */
  readonly subPool: string;
  /** Who asks: requests of different hosts take turns. */
  readonly host?: string | undefined;
  /** Aborted when the caller has disconnected. */
  readonly caller?: AbortSignal | undefined;
  /** Default: a client that may use every ENI. */
  readonly from?: Origin;
}
export interface PoolAnswer {
  readonly poolId: string;
  readonly subnet: Cidr;
  readonly gateway: Ipv4;
}

export interface PoolParts {
  readonly enis: Enis;
  readonly attachments: Attachments;
  readonly warm: WarmPools;
  readonly outages: Outages;
}

export interface Pools {
  /** Checks the request against the ENI and marks the ENI as this ledger's. No address changes its holder. */
  request(asked: PoolRequest): Promise<PoolAnswer>;
  /** Returns the VPC router, the only gateway that a subnet has. Throws conflict if the ENI is not this ledger's,
   *  bad-request if `named` is another address, and denied if the client may not use the ENI. */
  gateway(pool: Pool, named: Ipv4 | null, from?: Origin): Promise<{ gateway: Ipv4; subnet: Cidr }>;
  /** Records that Docker released the pool. Its ENI is not kept warm until the next request for it. No address
   *  changes its holder. Throws store-down, and denied if the client may not use the ENI. */
  release(pool: Pool, from?: Origin): Promise<void>;
}

export function createPools(context: IpamContext, parts: PoolParts): Pools {
  const { enis, attachments, warm, outages } = parts;
  const lastWithoutSubnet = new Map<string, number>();

  async function request(asked: PoolRequest): Promise<PoolAnswer> {
    const id = parseEniId(asked.eniId, '--ipam-opt eni-id');
    const instance =
      asked.instanceId === null ? null : parseInstanceId(asked.instanceId, '--ipam-opt instance-id');
    const wanted = asked.pool === '' ? null : parseCidr(asked.pool, '--subnet');
    const range = asked.subPool === '' ? null : parseCidr(asked.subPool, '--ip-range');
    const retrying = withRetry(outages, id, { startedAt: context.clock(), caller: asked.caller });
    const authority = authorityOver(attachments, id, asked.from ?? ANYBODY);
    if (!authority.isProved()) await retrying(authority.prove);
    const { eni, subnet } = await retrying(() => enis.look(id, asked.host));
    const advice = `add --subnet ${formatCidr(subnet.cidr)} --gateway ${routerOf(subnet.cidr)}`;
    if (wanted !== null && !sameCidr(wanted, subnet.cidr))
      throw new IpamError(
        'bad-request',
        `--subnet ${asked.pool} is not the subnet of ${id}, which is ${formatCidr(subnet.cidr)}`,
        {
          hint: advice,
        },
      );
    if (wanted === null) endLoop(id, advice);
    const pool = poolFor(eni.id, subnet.cidr, range);
    await retrying(() => checkInstance({ eni, subnet }, instance, asked.host));
    const home = await retrying(async () => {
      const adopted = await enis.adopt(id);
      const { instance: known } = adopted.eni;
      const isOld = known === null || (instance !== null && known !== instance);
      return await enis.wanted(isOld ? await enis.refresh(id) : adopted);
    });
    warm.wanted({ home, range });
    return { poolId: formatPoolId(pool), subnet: subnet.cidr, gateway: routerOf(subnet.cidr) };
  }

  function endLoop(id: string, advice: string): void {
    const now = context.clock();
    const last = lastWithoutSubnet.get(id) ?? Number.NEGATIVE_INFINITY;
    lastWithoutSubnet.set(id, now);
    if (now - last < LOOP_WINDOW_MS)
      throw new IpamError(
        'bad-request',
        `the network of ${id} needs --subnet: without it this engine repeats the request for ever`,
        {
          hint: advice,
        },
      );
  }

  /** The ledger's record of the attachment may be old, so EC2 is asked before a mismatch counts. */
  async function checkInstance(home: Home, instance: InstanceId | null, host?: string): Promise<void> {
    if (instance === null || home.eni.instance === instance) return;
    const { instance: now } = await context.cloud.as(() => 'cold', host).eni(home.eni.id);
    if (now !== instance)
      throw new IpamError(
        'bad-request',
        `${home.eni.id} is attached to ${now ?? 'no instance'}, not to ${instance}`,
        {
          hint: 'name an ENI of this instance in --ipam-opt eni-id',
        },
      );
  }

  async function gateway(pool: Pool, named: Ipv4 | null, from = ANYBODY) {
    const authority = authorityOver(attachments, pool.eni, from);
    if (!authority.isProved())
      await withRetry(outages, pool.eni, { startedAt: context.clock() })(authority.prove);
    const own = (await enis.own(pool.eni)) ?? (from.instance === null ? null : await enis.adopt(pool.eni));
    if (own === null) throw notOurs(pool.eni, context);
    const { subnet } = own;
    const router = routerOf(subnet.cidr);
    if (named !== null && named !== router)
      throw new IpamError(
        'bad-request',
        `--gateway ${named} is not the VPC router of ${formatCidr(subnet.cidr)}`,
        {
          hint: `use --gateway ${router}`,
        },
      );
    return { gateway: router, subnet: subnet.cidr };
  }

  /** It asks EC2 once: a network is removable while EC2 is away. */
  async function release({ eni }: Pool, from = ANYBODY): Promise<void> {
    const authority = authorityOver(attachments, eni, from);
    if (!authority.isProved()) await authority.prove();
    warm.forget(eni);
    await enis.released(eni);
  }

  return { request, gateway, release };
}
