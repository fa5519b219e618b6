/** The parts of this floor, tied together: all that one server process does about addresses. */
import { type Allocator, allocator } from './allocator.ts';
import { type Enis, knownEnis } from './enis.ts';
import { type GiveBack, giveBack } from './give-back.ts';
import { glancesOf } from './glances.ts';
import { type Hints, hintsOf } from './hints.ts';
import { type Keeper, type KeeperOptions, keeper } from './keeper.ts';
import { type Machine, withSights } from './machine.ts';
import { outagesOf } from './outages.ts';
import { type Pools, pools } from './pools.ts';
import { glance } from './reconciler.ts';
import { sightsOf } from './sights.ts';
import { type WarmPools, warmPools } from './warm-pool.ts';

export interface Ipam {
  readonly enis: Enis;
  readonly hints: Hints;
  readonly nobodys: GiveBack;
  readonly pools: Pools;
  readonly allocator: Allocator;
  readonly warm: WarmPools;
  readonly keeper: Keeper;
}

export function openIpam(given: Machine, options: KeeperOptions): Ipam {
  const machine = withSights(given, sightsOf(given));
  const enis = knownEnis(machine);
  const nobodys = giveBack(machine);
  const hints = hintsOf(machine.policy, machine.clock);
  const outages = outagesOf(machine);
  const warm = warmPools(machine, enis, hints);
  return {
    enis,
    hints,
    nobodys,
    warm,
    pools: pools(machine, { enis, warm, outages }),
    allocator: allocator(machine, {
      enis,
      glances: glancesOf(machine, glance),
      nobodys,
      hints,
      warm,
      outages,
    }),
    keeper: keeper(machine, { enis, hints, nobodys, warm }, options),
  };
}
