/** Ranges of addresses that operators have reserved. */
import { type AddressRange, numberOf } from '../../domain/address.ts';
import type { Allocation } from '../../domain/allocation.ts';
import type { SubnetId } from '../../domain/ids.ts';

/** Addresses in a row that operators have reserved for one reason. */
export interface ReservedRange extends AddressRange {
  readonly subnet: SubnetId;
  readonly why: string;
  /** When the first of them was reserved, in milliseconds. */
  readonly since: number;
}

/** The addresses that operators have reserved, as ranges. The rows are in the order of their addresses. */
export function reservedRanges(rows: readonly Allocation[]): ReservedRange[] {
  const ranges: ReservedRange[] = [];
  for (const { subnet, ip, reservedFor: why, movedAt } of rows) {
    if (why === null) continue;
    const number = numberOf(ip);
    const before = ranges.at(-1);
    const isNext = before?.subnet === subnet && before.last + 1 === number && before.why === why;
    if (before !== undefined && isNext)
      ranges[ranges.length - 1] = { ...before, last: number, since: Math.min(before.since, movedAt) };
    else ranges.push({ subnet, first: number, last: number, why, since: movedAt });
  }
  return ranges;
}
