/** The parts of this floor, tied together: all that one server process does about addresses. */

import { type IpamContext, withSights } from './context.ts';
import { type Enis, knownEnis } from './ec2/enis.ts';
import { sightsOf } from './ec2/sights.ts';
import { type Hints, hintsOf } from './pool/cache.ts';
import { type WarmPools, warmPools } from './pool/warm-pool.ts';
import { type Pools, pools } from './pools.ts';
import { type Allocator, allocator } from './request/allocate.ts';
import { glancesOf } from './request/glances.ts';
import { outagesOf } from './request/retry.ts';
import { type GiveBack, giveBack } from './request/rollback.ts';
import { type Keeper, type KeeperOptions, keeper } from './sync/keeper.ts';
import { glance } from './sync/reconcile.ts';

export interface Ipam {
  readonly enis: Enis;
  readonly hints: Hints;
  readonly nobodys: GiveBack;
  readonly pools: Pools;
  readonly allocator: Allocator;
  readonly warm: WarmPools;
  readonly keeper: Keeper;
}

export function openIpam(given: IpamContext, options: KeeperOptions): Ipam {
  const context = withSights(given, sightsOf(given));
  const enis = knownEnis(context);
  const nobodys = giveBack(context);
  const hints = hintsOf(context.policy, context.clock);
  const outages = outagesOf(context);
  const warm = warmPools(context, enis, hints);
  return {
    enis,
    hints,
    nobodys,
    warm,
    pools: pools(context, { enis, warm, outages }),
    allocator: allocator(context, {
      enis,
      glances: glancesOf(context, glance),
      nobodys,
      hints,
      warm,
      outages,
    }),
    keeper: keeper(context, { enis, hints, nobodys, warm }, options),
  };
}
