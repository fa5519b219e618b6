import { type Allocation, moveToGiveUp } from '../../domain/allocation.ts';

/** What an operator's order to give up the address comes to: a move, or why there is none. `ours`: its ENI belongs
 *  to this ledger. */
export function order(
  row: Allocation,
  ours: boolean,
): { move: ReturnType<typeof moveToGiveUp>; refusal: string } {
  const no = (refusal: string) => ({ move: null, refusal });
  const move = moveToGiveUp(row);
  if (row.primary) return no(`${row.ip} is the primary address of ${row.iface}, which is never given up`);
  if (row.status === 'occupied' && row.iface === null)
    return no(
      `${row.ip} is on no ENI that is known; it is free once EC2 has shown it on none for long enough`,
    );
  if (move === null) return no(`${row.ip} is ${row.status}: nobody holds it`);
  if (!ours)
    return no(
      `${row.iface} is not an ENI of this ledger: what it carries is somebody else's. If it is yours, run \`ec2-ipam adopt ${row.iface}\` first`,
    );
  return { move, refusal: '' };
}
