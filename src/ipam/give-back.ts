/** Claims whose answer reached nobody. They are given back, however long that takes. */
import type { Allocation } from '../domain/allocation.ts';
import type { Machine } from './machine.ts';

/** Claims that wait to be given back; more than this are left to people, as suspects. */
const WAITING_MAX = 10_000;

export interface GiveBack {
  /** Notes a claim that is nobody's. */
  add(claimed: Allocation): void;
  /** Gives back what is noted, and what the store could not tell of when it was claimed. Throws store-down, and
   *  keeps what is left. */
  settle(): Promise<void>;
  /** Whether nothing is noted. */
  readonly isEmpty: boolean;
}

export function giveBack(machine: Machine): GiveBack {
  const { store, log } = machine;
  const waiting: Allocation[] = [];

  function add(claimed: Allocation): void {
    if (waiting.length < WAITING_MAX) waiting.push(claimed);
    else log('error', 'too many claims wait to be given back', { ip: claimed.ip });
  }

  async function settle(): Promise<void> {
    for (const { change, row } of await store.unheard()) if (change.move === 'claim') add(row);
    for (let claimed = waiting.at(0); claimed !== undefined; claimed = waiting.at(0)) {
      if (await isGivenBack(claimed)) waiting.splice(waiting.indexOf(claimed), 1);
    }
  }

  /** False: it changed in between and has to be looked at again. */
  async function isGivenBack(claimed: Allocation): Promise<boolean> {
    const [row] = (await store.get(claimed.subnet, [claimed.ip])).rows;
    if (row === undefined || !isSameHolding(row, claimed)) return true;
    const move = row.missingSince === null ? 'release' : 'retire';
    const [moved] = await store.move([{ row, move }]);
    if (moved === undefined) return false;
    log('warn', 'undone: nobody was told of this claim', { eni: row.iface, ip: row.ip, holder: row.holder });
    return true;
  }

  return {
    add,
    settle,
    get isEmpty() {
      return waiting.length === 0;
    },
  };
}

/** Whether the row still is in the holding that `claimed` began: whoever gives an address up lets it rest anew. */
export const isSameHolding = (row: Allocation, claimed: Allocation): boolean =>
  row.status === claimed.status && row.iface === claimed.iface && row.restedSince === claimed.restedSince;
