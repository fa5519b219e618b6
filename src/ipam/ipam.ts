/** Creates the parts of src/ipam of one server process and connects them. */

import type { IpamContext } from './context.ts';
import { type Attachments, createAttachments } from './ec2/attachments.ts';
import { createEnis, type Enis } from './ec2/enis.ts';
import { createFollowUps } from './ec2/follow-up.ts';
import { type Cache, createCache } from './pool/cache.ts';
import { createWarmPools, type WarmPools } from './pool/warm-pool.ts';
import { createPools, type Pools } from './pools.ts';
import { type Allocator, createAllocator } from './request/allocate.ts';
import { createReleases, type Releases } from './request/release.ts';
import { createOutages } from './request/retry.ts';
import { createRollbacks, type Rollbacks } from './request/rollback.ts';
import { createSubnetChecks } from './request/subnet-check.ts';
import { createKeeper, type Keeper, type KeeperOptions } from './sync/keeper.ts';
import { createOwnHost, type OwnHostOptions } from './sync/own-host.ts';
import { checkSubnet } from './sync/reconcile.ts';
import { createTestimony, type Testimony } from './sync/testimony.ts';
import { createWitnessed, type WitnessedOptions } from './sync/witnessed.ts';

export interface Ipam {
  readonly enis: Enis;
  readonly attachments: Attachments;
  readonly cache: Cache;
  readonly rollbacks: Rollbacks;
  readonly pools: Pools;
  readonly allocator: Allocator;
  readonly releases: Releases;
  readonly warm: WarmPools;
  readonly keeper: Keeper;
  /** Null: what hosts show is not weighed. */
  readonly testimony: Testimony | null;
}

/** How what hosts show is weighed. */
export interface WitnessOptions extends WitnessedOptions {
  /** Embedded: how this host is read; null: it is not. */
  readonly own: OwnHostOptions | null;
}

export interface IpamOptions extends KeeperOptions {
  readonly witness?: WitnessOptions | null;
}

export function openIpam(given: IpamContext, options: IpamOptions): Ipam {
  const context = { ...given, followUps: createFollowUps(given) };
  const enis = createEnis(context);
  const attachments = createAttachments(context);
  const rollbacks = createRollbacks(context);
  const cache = createCache(context.policy, context.clock);
  context.observer?.remembers(cache.countAll);
  const outages = createOutages(context);
  const warm = createWarmPools(context, enis, cache);
  const releases = createReleases(context, { enis, attachments, cache, warm, outages });
  const { witness = null } = options;
  const witnessed = witness === null ? null : createWitnessed(context, { enis, cache, warm }, witness);
  const ownHost =
    witnessed === null || witness?.own == null ? null : createOwnHost(context, witnessed, witness.own);
  return {
    enis,
    attachments,
    cache,
    rollbacks,
    warm,
    releases,
    pools: createPools(context, { enis, attachments, warm, outages }),
    allocator: createAllocator(context, {
      enis,
      attachments,
      subnetChecks: createSubnetChecks(context, checkSubnet),
      rollbacks,
      cache,
      warm,
      outages,
      releases,
    }),
    testimony: witnessed === null ? null : createTestimony(context, { attachments, witnessed }),
    keeper: createKeeper(context, { enis, attachments, cache, rollbacks, releases, warm, ownHost }, options),
  };
}
