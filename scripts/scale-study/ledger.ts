/** The memory store with indexes, for a hundred thousand addresses. Without them each read looks at every row. */
import { type Cidr, contains, type Ipv4, numberOf, spreadOf } from '../../src/domain/address.ts';
import {
  type Allocation,
  isIntent,
  isRested,
  isSkipped,
  mayStillLeave,
} from '../../src/domain/allocation.ts';
import type { SubnetId } from '../../src/domain/ids.ts';
import { keyOf } from '../../src/store/group-commit.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import type { FreeQuery, Store } from '../../src/store/store.ts';

export function openLedger(clock: () => number): Store {
  const memory = createMemoryStore({ clock });
  const rows = new Map<string, Allocation>();
  /** The rows by their ENI, by their status if they are under way, and by subnet and status. */
  const groups = new Map<string, Map<string, Allocation>>();
  /** The free rows of each subnet, in the order of `bestFirst`. */
  const free = new Map<SubnetId, Allocation[]>();

  function file(row: Allocation): void {
    const key = keyOf(row);
    const before = rows.get(key);
    const list = free.get(row.subnet) ?? [];
    free.set(row.subnet, list);
    if (before !== undefined) for (const name of groupsOf(before)) groups.get(name)?.delete(key);
    if (before?.status === 'free') list.splice(placeOf(list, before), 1);
    if (row.status === 'free') list.splice(placeOf(list, row), 0, row);
    for (const name of groupsOf(row)) {
      const group = groups.get(name) ?? new Map<string, Allocation>();
      groups.set(name, group.set(key, row));
    }
    rows.set(key, row);
  }
  const rowsIn = (...names: string[]) => names.flatMap(name => [...(groups.get(name)?.values() ?? [])]);
  const reading = (found: readonly Allocation[]) => ({ now: clock(), rows: found });

  return {
    ...memory,
    async move(changes) {
      const made = await memory.move(changes);
      for (const row of made) file(row);
      return made;
    },
    async add(list) {
      const added = await memory.add(list);
      for (const { subnet, ip } of list)
        if (!rows.has(keyOf({ subnet, ip })))
          for (const row of (await memory.get(subnet, [ip])).rows) file(row);
      return added;
    },
    onEni: async eni => reading(rowsIn(eni).sort(byAddress)),
    readyOn: async (eni, range, limit) =>
      reading(
        rowsIn(eni)
          .filter(row => row.status === 'ready' && !row.primary && isIn(range, row.ip))
          .sort((a, b) => byTime(a.restedSince, b.restedSince) || byAddress(a, b))
          .slice(0, limit),
      ),
    freeFor: async query => reading(bestOf(free.get(query.subnet) ?? [], query, clock())),
    intents: async (ageMs, limit) =>
      reading(
        rowsIn('assigning', 'unassigning')
          .filter(row => row.movedAt <= clock() - ageMs)
          .sort((a, b) => a.movedAt - b.movedAt || byAddress(a, b))
          .slice(0, limit),
      ),
    withStatus: async (subnet, statuses) =>
      reading(rowsIn(...statuses.map(status => `${subnet} ${status}`)).sort(byAddress)),
  };
}

function groupsOf({ subnet, status, iface }: Allocation): string[] {
  const names = [`${subnet} ${status}`, ...(iface === null ? [] : [iface])];
  return isIntent({ status }) ? [...names, status] : names;
}

const isIn = (range: Cidr | null, ip: Ipv4): boolean => range === null || contains(range, ip);
const byTime = (a: number | null, b: number | null): number => (a ?? -1) - (b ?? -1);
const byAddress = (a: Allocation, b: Allocation): number =>
  numbersOf(a.ip).number - numbersOf(b.ip).number || (a.subnet < b.subnet ? -1 : 1);

/** The numbers of an address, computed once. */
const known = new Map<Ipv4, { readonly number: number; readonly spread: number }>();
function numbersOf(ip: Ipv4) {
  const numbers = known.get(ip) ?? { number: numberOf(ip), spread: spreadOf(ip) };
  known.set(ip, numbers);
  return numbers;
}

/** The order of the free rows of a subnet, which is that of the SQL stores' index. */
const bestFirst = (a: Allocation, b: Allocation): number =>
  byTime(a.refusedAt, b.refusedAt) ||
  byTime(a.restedSince, b.restedSince) ||
  numbersOf(a.ip).spread - numbersOf(b.ip).spread ||
  byAddress(a, b);

/** The index of the row in the sorted list, or where to insert it. */
const placeOf = (list: readonly Allocation[], row: Allocation): number =>
  firstWhere(list, other => bestFirst(other, row) >= 0);

/** The index of the first row for which it holds, as it does for all rows after it. */
function firstWhere(list: readonly Allocation[], holds: (row: Allocation) => boolean): number {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(list[middle] as Allocation)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** What `Store.freeFor` returns. Rows that never rested come in the order of `spread` from the hash of the ENI
 *  onward. */
function bestOf(free: readonly Allocation[], query: FreeQuery, now: number): Allocation[] {
  const { eni, range, rest, limit, which } = query;
  const start = spreadOf(eni);
  const hasPast = (row: Allocation) => row.refusedAt !== null || row.restedSince !== null;
  const fresh = firstWhere(free, hasPast);
  const first = firstWhere(free, row => hasPast(row) || numbersOf(row.ip).spread >= start);
  const rested: Allocation[] = [];
  const others: Allocation[] = [];
  for (let i = 0; i < free.length && rested.length < limit; i++) {
    const row = free[i < fresh ? (first + i) % fresh : i] as Allocation;
    if (!isIn(range, row.ip) || isSkipped(row, now) !== (which === 'skipped')) continue;
    if (mayStillLeave(row, eni, rest, now)) continue;
    (isRested(row, eni, rest, now) ? rested : others).push(row);
  }
  return (which === 'any' ? [...rested, ...others] : rested).slice(0, limit);
}
