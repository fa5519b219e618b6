/** The parts of this floor, tied together: all that one server process does about addresses. */
import { type Allocator, allocator } from './allocator.ts';
import { type Enis, knownEnis } from './enis.ts';
import { type GiveBack, giveBack } from './give-back.ts';
import { type Keeper, type KeeperOptions, keeper } from './keeper.ts';
import type { Machine } from './machine.ts';
import { Outage } from './outage.ts';
import { type Pools, pools } from './pools.ts';

export interface Ipam {
  readonly enis: Enis;
  readonly nobodys: GiveBack;
  readonly pools: Pools;
  readonly allocator: Allocator;
  readonly keeper: Keeper;
}

export function openIpam(machine: Machine, options: KeeperOptions): Ipam {
  const enis = knownEnis(machine);
  const nobodys = giveBack(machine);
  return {
    enis,
    nobodys,
    pools: pools(machine, enis),
    allocator: allocator(machine, enis, nobodys, new Outage(machine.policy.requestTimeoutMs, machine)),
    keeper: keeper(machine, enis, nobodys, options),
  };
}
