/** The memory store with an index for each of its reads, for a hundred thousand addresses: the store's own,
 *  which is the specification, looks at every row each time. */
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
import { openMemory } from '../../src/store/memory.ts';
import type { FreeQuery, Store } from '../../src/store/store.ts';

export function openLedger(clock: () => number): Store {
  const memory = openMemory({ clock });
  const groups = new Map<string, Map<Ipv4, Allocation>>();
  const free = new Map<SubnetId, Allocation[]>();
  const rows = new Map<string, Allocation>();

  const groupAt = (name: string): Map<Ipv4, Allocation> => {
    const group = groups.get(name) ?? new Map<Ipv4, Allocation>();
    groups.set(name, group);
    return group;
  };
  const freeIn = (subnet: SubnetId): Allocation[] => {
    const list = free.get(subnet) ?? [];
    free.set(subnet, list);
    return list;
  };

  function file(row: Allocation): void {
    rows.set(keyOf(row), row);
    for (const name of groupsOf(row)) groupAt(name).set(row.ip, row);
  }

  function refile(after: Allocation): void {
    const before = rows.get(keyOf(after));
    if (before !== undefined) {
      for (const name of groupsOf(before)) groupAt(name).delete(before.ip);
      if (before.status === 'free') freeIn(before.subnet).splice(placeOf(freeIn(before.subnet), before), 1);
    }
    file(after);
    if (after.status === 'free') freeIn(after.subnet).splice(placeOf(freeIn(after.subnet), after), 0, after);
  }

  const reading = (found: readonly Allocation[]) => ({ now: clock(), rows: found });
  const groupOf = (...names: string[]) => names.flatMap(name => [...(groups.get(name)?.values() ?? [])]);

  return {
    ...memory,
    async move(changes) {
      const made = await memory.move(changes);
      for (const row of made) refile(row);
      return made;
    },
    async add(list) {
      const added = await memory.add(list);
      for (const subnet of new Set(list.map(row => row.subnet))) {
        const ips = list.filter(row => row.subnet === subnet).map(row => row.ip);
        const fresh = (await memory.get(subnet, ips)).rows.filter(row => !rows.has(keyOf(row)));
        for (const row of fresh) file(row);
        freeIn(subnet).push(...fresh.filter(row => row.status === 'free'));
        freeIn(subnet).sort(bestFirst);
      }
      return added;
    },
    onEni: async eni => reading(inOrder(groupOf(eni))),
    readyOn: async (eni, range, limit) =>
      reading(
        groupOf(eni)
          .filter(row => row.status === 'ready' && !row.primary && isIn(range, row.ip))
          .sort((a, b) => byTime(a.restedSince, b.restedSince) || byAddress(a, b))
          .slice(0, limit),
      ),
    freeFor: async query => reading(bestOf(freeIn(query.subnet), query, clock())),
    intents: async (ageMs, limit) =>
      reading(
        groupOf('assigning', 'unassigning')
          .filter(row => row.movedAt <= clock() - ageMs)
          .sort((a, b) => a.movedAt - b.movedAt || byAddress(a, b))
          .slice(0, limit),
      ),
    withStatus: async (subnet, statuses) =>
      reading(inOrder(groupOf(...statuses.map(status => `${subnet} ${status}`)))),
  };
}

/** The groups in which the row can be found. */
function groupsOf({ subnet, status, iface }: Allocation): string[] {
  const names: string[] = [`${subnet} ${status}`];
  if (iface !== null) names.push(iface);
  if (isIntent({ status })) names.push(status);
  return names;
}

const isIn = (range: Cidr | null, ip: Ipv4): boolean => range === null || contains(range, ip);
const byTime = (a: number | null, b: number | null): number => (a ?? -1) - (b ?? -1);
const byAddress = (a: Allocation, b: Allocation): number =>
  numbersOf(a.ip).number - numbersOf(b.ip).number || (a.subnet < b.subnet ? -1 : 1);

/** By address; each is worked out once, since a pass over a subnet sorts tens of thousands of rows. */
const inOrder = (found: readonly Allocation[]): Allocation[] =>
  found
    .map(row => ({ row, number: numbersOf(row.ip).number }))
    .sort((a, b) => a.number - b.number || (a.row.subnet < b.row.subnet ? -1 : 1))
    .map(({ row }) => row);

/** The order of the free rows of a subnet, which is that of the SQL stores' index. */
const bestFirst = (a: Allocation, b: Allocation): number =>
  byTime(a.refusedAt, b.refusedAt) ||
  byTime(a.restedSince, b.restedSince) ||
  numbersOf(a.ip).spread - numbersOf(b.ip).spread ||
  numbersOf(a.ip).number - numbersOf(b.ip).number;

/** Where the row is in the sorted list, or belongs. */
function placeOf(list: readonly Allocation[], row: Allocation): number {
  return firstWhere(list, other => bestFirst(other, row) >= 0);
}

/** The index of the first for which it holds; it holds for all behind that one. */
function firstWhere(list: readonly Allocation[], holds: (row: Allocation) => boolean): number {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(list[middle] as Allocation)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** The answer to `Store.freeFor`. */
function bestOf(free: readonly Allocation[], query: FreeQuery, now: number): Allocation[] {
  const { eni, range, rest, limit, which } = query;
  const rested: Allocation[] = [];
  const others: Allocation[] = [];
  const everRested = firstWhere(free, row => row.refusedAt !== null || row.restedSince !== null);
  const start = spreadOf(eni);
  const middle = Math.min(
    firstWhere(
      free,
      row => row.refusedAt !== null || row.restedSince !== null || numbersOf(row.ip).spread >= start,
    ),
    everRested,
  );
  const ranges = [
    [middle, everRested],
    [0, middle],
    [everRested, free.length],
  ] as const;
  for (const [from, to] of ranges)
    for (let i = from; i < to && rested.length < limit; i++) {
      const row = free[i] as Allocation;
      if (!isIn(range, row.ip) || isSkipped(row, now) || mayStillLeave(row, eni, rest, now)) continue;
      if (isRested(row, eni, rest, now)) rested.push(row);
      else others.push(row);
    }
  return (which === 'any' ? [...rested, ...others] : rested).slice(0, limit);
}

/** What an address comes to in numbers is worked out once. */
const known = new Map<Ipv4, { readonly number: number; readonly spread: number }>();
function numbersOf(ip: Ipv4) {
  const numbers = known.get(ip) ?? { number: numberOf(ip), spread: spreadOf(ip) };
  known.set(ip, numbers);
  return numbers;
}
