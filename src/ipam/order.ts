import type { Allocation } from '../domain/allocation.ts';

/** What an operator's order to give up the address comes to: a move, or why there is none. */
export function order(row: Allocation): { move: 'release' | 'retire' | 'surrender' | null; refusal: string } {
  const no = (refusal: string) => ({ move: null, refusal });
  if (row.primary) return no(`${row.ip} is the primary address of ${row.iface}, which is never given up`);
  if (row.status === 'allocated')
    return { move: row.missingSince === null ? 'release' : 'retire', refusal: '' };
  if (row.status !== 'occupied') return no(`${row.ip} is ${row.status}: nobody holds it`);
  if (row.iface === null)
    return no(`${row.ip} is not known to be on an ENI; it is free once EC2 shows it on none for long enough`);
  return { move: 'surrender', refusal: '' };
}
