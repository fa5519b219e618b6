/**
 * Caches the ready and the allocated addresses of the ENIs, so that the start of a container costs one commit and
 * no read. An entry may be stale, since other servers change the same rows: the compare-and-set of a move decides.
 */
import { type Cidr, contains, type Ipv4 } from '../../domain/address.ts';
import { type Allocation, isRested, type Rest, type RowState } from '../../domain/allocation.ts';
import type { EniId } from '../../domain/ids.ts';
import type { Reading } from '../../store/store.ts';

/** At these sizes the oldest entry is evicted. */
const ENIS_MAX = 10_000;
const HOLDINGS_MAX = 50_000;
const AVOIDED_MAX = 10_000;
/** How long a row that was locked in the store is offered last. */
const AVOIDED_MS = 60_000;

export interface Cache {
  /** Replaces the ENI's ready addresses by a reading of all of them. Rows that this process is claiming are left
   *  out. */
  learn(eni: EniId, ready: Reading<Allocation>): void;
  /** Records a row that a move of this process made ready or allocated. */
  note(row: Allocation): void;
  /** Returns the rested address in the range that has rested longest, and one marked by `avoid` only if there is no
   *  other; null if none has rested. It is not offered again before `settled`. */
  take(eni: EniId, range: Cidr | null): Allocation | null;
  /** Returns the address in the range that has rested longest, rested or not, if it was released at `sinceMax` or
   *  before; null if there is none. It is not offered again before `settled`. */
  takeResting(eni: EniId, range: Cidr | null, sinceMax: number): Allocation | null;
  /** Ends the claim of a row that was taken. If the claim failed, another server has changed rows of the ENI, and
   *  the cached ones are dropped. */
  settled(row: Allocation, claimed: boolean): void;
  /** Offers the row last for a minute, since another transaction keeps it locked in the store. */
  avoid(row: Allocation): void;
  /** Does not offer these rows any more, and offers all others of the ENIs again: a process of the host uses them,
   *  though nobody holds them. */
  withhold(enis: readonly EniId[], strays: readonly Withheld[]): void;
  /** Notes what the ledger says of that on all ENIs. `read` reads it; what is withheld meanwhile is newer. */
  recallWithheld(read: () => Promise<readonly Withheld[]>): Promise<void>;
  /** Returns who uses the row, if it is withheld; else null. */
  withheld(row: WithheldRow): string | null;
  /** Returns the row as this process last saw it allocated on the ENI, and drops it; null if unknown. Another
   *  server may have ended that holding and begun others. */
  holding(eni: EniId, ip: Ipv4): Allocation | null;
  /** Records the current time of the store's clock. */
  noteStoreTime(now: number): void;
  /** Returns the time of the store's clock, counted from its last reading; null before the first one. It is never
   *  ahead of the store's clock unless that clock steps back. */
  storeNow(): number | null;
  count(eni: EniId, range: Cidr | null): { usable: number; resting: number };
  /** The same of all ENIs. */
  countAll(): { usable: number; resting: number };
}

type WithheldRow = Pick<RowState, 'subnet' | 'ip' | 'iface' | 'generation'>;
export interface Withheld {
  readonly row: WithheldRow;
  readonly finding: string;
}

/** The subnet is not part of the key, since an ENI is in one subnet. */
const keyOf = ({ iface, ip }: Pick<Allocation, 'iface' | 'ip'>): string => `${iface} ${ip}`;

export function createCache(rest: Rest, clock: () => number): Cache {
  const readyByEni = new Map<EniId, Map<Ipv4, Allocation>>();
  const holdings = new Map<string, Allocation>();
  const claiming = new Set<string>();
  const avoidedUntil = new Map<string, number>();
  /** Who uses the rows that are withheld, by ENI. */
  let withheldOn: Map<EniId | null, ReadonlyMap<string, string>> = new Map();
  /** ENIs whose rows were withheld since the ledger was last asked. */
  let withheldSince = new Set<EniId>();
  let lastReading: { readonly now: number; readonly at: number } | null = null;

  const storeNow = (): number | null =>
    lastReading === null ? null : lastReading.now + (clock() - lastReading.at);
  const noteStoreTime = (now: number): void => {
    lastReading = { now, at: clock() };
  };

  function readyOf(eni: EniId): Map<Ipv4, Allocation> {
    const known = readyByEni.get(eni);
    if (known !== undefined) return known;
    evict(readyByEni, ENIS_MAX);
    const readyRows = new Map<Ipv4, Allocation>();
    readyByEni.set(eni, readyRows);
    return readyRows;
  }

  function learn(eni: EniId, { now, rows }: Reading<Allocation>): void {
    noteStoreTime(now);
    const readyRows = readyOf(eni);
    readyRows.clear();
    for (const row of rows) if (!row.primary && !claiming.has(keyOf(row))) readyRows.set(row.ip, row);
  }

  function note(row: Allocation): void {
    noteStoreTime(row.movedAt);
    avoidedUntil.delete(keyOf(row));
    if (row.status === 'ready' && row.iface !== null && !row.primary) {
      holdings.delete(keyOf(row));
      readyOf(row.iface).set(row.ip, row);
    } else if (row.status === 'allocated') {
      if (row.iface !== null) readyByEni.get(row.iface)?.delete(row.ip);
      evict(holdings, HOLDINGS_MAX);
      holdings.set(keyOf(row), row);
    }
  }

  function* offered(eni: EniId, range: Cidr | null): Generator<{ row: Allocation; rested: boolean }> {
    const now = storeNow() ?? 0;
    for (const row of readyByEni.get(eni)?.values() ?? [])
      if ((range === null || contains(range, row.ip)) && withheld(row) === null)
        yield { row, rested: isRested(row, eni, rest, now) };
  }

  const withheldKeyOf = ({ subnet, ip, generation }: WithheldRow): string => `${subnet} ${ip} ${generation}`;
  const withheld = (row: WithheldRow): string | null =>
    withheldOn.size === 0 ? null : (withheldOn.get(row.iface)?.get(withheldKeyOf(row)) ?? null);
  const byEni = (strays: readonly Withheld[]) =>
    new Map(
      [...Map.groupBy(strays, ({ row }) => row.iface)].map(([eni, ofEni]) => [
        eni,
        new Map(ofEni.map(({ row, finding }) => [withheldKeyOf(row), finding])),
      ]),
    );

  const isAvoided = (row: Allocation): boolean => (avoidedUntil.get(keyOf(row)) ?? 0) > clock();
  const goesBefore = (row: Allocation, other: Allocation): boolean => {
    const late = avoidedUntil.size === 0 ? 0 : Number(isAvoided(row)) - Number(isAvoided(other));
    return late < 0 || (late === 0 && since(row) < since(other));
  };

  function take(eni: EniId, range: Cidr | null): Allocation | null {
    let best: Allocation | null = null;
    for (const { row, rested } of offered(eni, range))
      if (rested && (best === null || goesBefore(row, best))) best = row;
    return reserve(eni, best);
  }

  function takeResting(eni: EniId, range: Cidr | null, sinceMax: number): Allocation | null {
    let best: Allocation | null = null;
    for (const { row } of offered(eni, range))
      if (since(row) <= sinceMax && (best === null || goesBefore(row, best))) best = row;
    return reserve(eni, best);
  }

  function reserve(eni: EniId, row: Allocation | null): Allocation | null {
    if (row === null) return null;
    claiming.add(keyOf(row));
    readyByEni.get(eni)?.delete(row.ip);
    return row;
  }

  function count(eni: EniId, range: Cidr | null) {
    let [usable, resting] = [0, 0];
    for (const { rested } of offered(eni, range)) rested ? usable++ : resting++;
    return { usable, resting };
  }

  function countAll() {
    let [usable, resting] = [0, 0];
    for (const eni of readyByEni.keys()) {
      const ofEni = count(eni, null);
      usable += ofEni.usable;
      resting += ofEni.resting;
    }
    return { usable, resting };
  }

  return {
    learn,
    note,
    take,
    takeResting,
    count,
    countAll,
    noteStoreTime,
    storeNow,
    withhold(enis, strays) {
      for (const eni of enis) {
        withheldOn.delete(eni);
        withheldSince.add(eni);
      }
      for (const [eni, rows] of byEni(strays)) withheldOn.set(eni, rows);
    },
    async recallWithheld(read) {
      withheldSince = new Set();
      const recalled: typeof withheldOn = byEni(await read());
      for (const eni of withheldSince) {
        const newer = withheldOn.get(eni);
        if (newer === undefined) recalled.delete(eni);
        else recalled.set(eni, newer);
      }
      withheldOn = recalled;
    },
    withheld,
    settled(row, claimed) {
      claiming.delete(keyOf(row));
      if (!claimed && row.iface !== null) readyByEni.get(row.iface)?.clear();
    },
    avoid(row) {
      evict(avoidedUntil, AVOIDED_MAX);
      avoidedUntil.set(keyOf(row), clock() + AVOIDED_MS);
    },
    holding(eni, ip) {
      const key = keyOf({ iface: eni, ip });
      const row = holdings.get(key) ?? null;
      holdings.delete(key);
      return row;
    },
  };
}

function evict(map: Map<unknown, unknown>, max: number): void {
  if (map.size < max) return;
  const [oldest] = map.keys();
  map.delete(oldest);
}

/** Returns since when the row rests, by the store's clock; negative infinity if it has rested. */
export const since = (row: Allocation): number => row.restedSince ?? Number.NEGATIVE_INFINITY;
