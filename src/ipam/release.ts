/** A container gives its address up. */
import type { Ipv4 } from '../domain/address.ts';
import { type Allocation, moveToGiveUp } from '../domain/allocation.ts';
import { IpamError } from '../domain/error.ts';
import type { Pool } from '../domain/ids.ts';
import type { Enis, Home } from './enis.ts';
import type { Fleet } from './fleet.ts';
import { isSameHolding } from './give-back.ts';
import type { Hints } from './hints.ts';
import type { Machine } from './machine.ts';
import { isEc2Away, isStoreDown, type Outages } from './outages.ts';
import type { WarmPools } from './warm-pool.ts';

/** Tries of a compare-and-set that others keep winning. */
const TRIES_MAX = 5;

interface Parts {
  readonly enis: Enis;
  readonly fleet: Fleet;
  readonly hints: Hints;
  readonly warm: WarmPools;
  readonly outages: Outages;
}

const nobodyHangsUp = () => false;

/** Gives up the holding that the pool's ENI has of the address; false: it was not that ENI's to give up. */
export async function release(
  machine: Machine,
  { enis, fleet, hints, warm, outages }: Parts,
  pool: Pool,
  ip: Ipv4,
): Promise<boolean> {
  /** The holding that is to be ended, as the first try found it. A try that failed for the store, or was answered
   *  "no", may have been made after all: the answer is read back, and somebody else may have moved the row before.
   *  When the next try looks, somebody else may hold the address. */
  let ending: Allocation | null = null;

  const endIn = async (home: Home, isAway: boolean): Promise<boolean> => {
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      // With several servers what is remembered may be older than the holding that is to be ended.
      const remembered = hints.holding(home.subnet.id, ip, home.eni.id);
      const known = fleet.isAlone && ending === null ? remembered : null;
      const row = known ?? (await machine.store.get(home.subnet.id, [ip])).rows.at(0);
      const isIts = row !== undefined && row.iface === home.eni.id && ip !== home.eni.primary;
      // What is not held on an ENI that has left may be another ledger's by now.
      const mayEnd = isIts && (!isAway || row.status === 'allocated');
      const move = mayEnd ? moveToGiveUp(row) : null;
      if (row === undefined || move === null) return ending !== null;
      if (ending !== null && !isSameHolding(row, ending)) return true;
      ending = row;
      const [moved] = await machine.store.move([{ row, move }]);
      if (moved !== undefined) {
        hints.note(moved);
        warm.released({ home, range: pool.range });
        return true;
      }
    }
    throw new IpamError('unavailable', `${ip} changed each time it was to be released`, {
      hint: 'release it again',
    });
  };

  return await outages.store.endure(isStoreDown, nobodyHangsUp, async () => {
    const own = () => enis.own(pool.eni);
    const known = enis.recall(pool.eni);
    const away = known === null ? await enis.away(pool.eni) : null;
    if (away !== null) return await endIn(away, true);
    const home = known ?? (await outages.ec2(pool.eni).endure(isEc2Away, nobodyHangsUp, own));
    // What stands on it is not this ledger's to give up, even where the ledger writes it down.
    return home !== null && (await endIn(home, false));
  });
}
