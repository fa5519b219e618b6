/** For requests that wait: idle addresses are taken off where they are in the way. */
import { type Cidr, contains } from '../domain/address.ts';
import { type Allocation, isRested } from '../domain/allocation.ts';
import { type Enis, type Home, oursIn } from './enis.ts';
import { since } from './hints.ts';
import { unassign } from './intents.ts';
import type { Machine } from './machine.ts';

export interface TakeBack {
  readonly range: Cidr | null;
  readonly count: number;
  /** `rested`: only those past the quarantine; `any`: then those that have rested longest. */
  readonly which: 'rested' | 'any';
}

/** The subnet has run dry: takes up to `count` ready addresses off our other ENIs, from those that have most of them first;
 *  answers those that are free now. */
export async function takeBack(
  machine: Machine,
  enis: Enis,
  { eni, subnet }: Home,
  { range, count, which }: TakeBack,
): Promise<Allocation[]> {
  const ours = new Set(oursIn(await enis.readAll(), machine.instance).map(one => one.id));
  const { rows, now } = await machine.store.withStatus(subnet.id, ['ready']);
  const elsewhere = rows.filter(
    row =>
      row.iface !== null &&
      row.iface !== eni.id &&
      ours.has(row.iface) &&
      !row.primary &&
      (range === null || contains(range, row.ip)),
  );
  const rested = elsewhere.filter(row => isRested(row, eni.id, machine.policy, now));
  const chosen = evenly(rested).slice(0, count);
  if (which === 'any' && chosen.length < count) {
    const resting = elsewhere.filter(row => !rested.includes(row)).sort((a, b) => since(a) - since(b));
    chosen.push(...resting.slice(0, count - chosen.length));
  }
  if (chosen.length === 0) return [];
  const freed = await unassign(machine, chosen);
  if (freed.length > 0)
    machine.log('info', 'taken back: the subnet has run dry', {
      subnet: subnet.id,
      for: eni.id,
      ips: freed.map(row => row.ip),
    });
  return freed;
}

/** The ENI may hold no more: takes up to `count` of its ready addresses off that are of no use to the request; answers how
 *  many. Those that would be given last go first. */
export async function makeRoom(
  machine: Machine,
  { eni }: Home,
  isOfUse: (row: Allocation) => boolean,
  count: number,
): Promise<number> {
  const { rows } = await machine.store.onEni(eni.id);
  const idle = rows.filter(row => row.status === 'ready' && !row.primary && !isOfUse(row));
  return (await unassign(machine, idle.sort((a, b) => since(b) - since(a)).slice(0, count))).length;
}

/** The rows in an order in which those come first that leave their ENI with the most. */
function evenly(rows: readonly Allocation[]): Allocation[] {
  const left = new Map<Allocation['iface'], number>();
  const ranked = rows
    .toSorted((a, b) => since(b) - since(a))
    .map(row => {
      const others = left.get(row.iface) ?? 0;
      left.set(row.iface, others + 1);
      return { row, others };
    });
  return ranked.sort((a, b) => b.others - a.others).map(({ row }) => row);
}
