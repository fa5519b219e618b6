/** A container gives its address up. */
import type { Ipv4 } from '../domain/address.ts';
import { type Allocation, moveToGiveUp } from '../domain/allocation.ts';
import { IpamError } from '../domain/error.ts';
import type { Pool } from '../domain/ids.ts';
import type { Enis, Home } from './enis.ts';
import { isSameHolding } from './give-back.ts';
import type { Hints } from './hints.ts';
import type { Machine } from './machine.ts';
import { isEc2Away, isStoreDown, type Outages } from './outages.ts';
import type { WarmPools } from './warm-pool.ts';

/** Tries of a compare-and-set that others keep winning. */
const TRIES_MAX = 5;

interface Parts {
  readonly enis: Enis;
  readonly hints: Hints;
  readonly warm: WarmPools;
  readonly outages: Outages;
}

const nobodyHangsUp = () => false;

/** Gives up the holding that the pool's ENI has of the address; false: it was not that ENI's to give up. */
export async function release(
  machine: Machine,
  { enis, hints, warm, outages }: Parts,
  pool: Pool,
  ip: Ipv4,
): Promise<boolean> {
  const askedAt = hints.storeNow() ?? Number.NEGATIVE_INFINITY;
  /** The holding that is to be ended, as the first try found it. A try that failed for the store may have been made
   *  after all, and when the next one looks somebody else may hold the address. */
  let ending: { readonly row: Allocation; readonly remembered: boolean } | null = null;

  /** What is remembered may be older than the holding that is to be ended; but one that began after an address was
   *  given up since this was asked is a later one. */
  const isLater = (row: Allocation): boolean => {
    if (ending === null || isSameHolding(row, ending.row)) return false;
    return !ending.remembered || (row.restedSince !== null && row.restedSince >= askedAt);
  };

  const endIn = async (home: Home): Promise<boolean> => {
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      const remembered = hints.holding(home.subnet.id, ip, home.eni.id);
      const row = remembered ?? (await machine.store.get(home.subnet.id, [ip])).rows.at(0);
      const isIts = row !== undefined && row.iface === home.eni.id && ip !== home.eni.primary;
      const move = isIts ? moveToGiveUp(row) : null;
      if (row === undefined || move === null) return ending !== null;
      if (isLater(row)) return true;
      ending = { row, remembered: remembered !== null };
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
    const adopt = () => enis.adopt(pool.eni);
    return await endIn(
      enis.recall(pool.eni) ?? (await outages.ec2(pool.eni).endure(isEc2Away, nobodyHangsUp, adopt)),
    );
  });
}
