/** Waits for room on an ENI that EC2 has said to be full. */
import { type Allocation, isIntent } from '../../domain/allocation.ts';
import type { IpamContext } from '../context.ts';
import { removable } from '../ec2/unassign.ts';
import type { Asked } from './request.ts';

/** The pause between two reads of the rows of the ENI, in milliseconds. */
const LOOK_AGAIN_MS = 100;
/** How long an unassign is waited for until EC2 is asked again, in milliseconds: it may have been made without an
 *  answer. */
const ASK_AGAIN_MS = 4_000;

/** Waits while calls or releases are under way on the ENI. Returns true, so that EC2 is asked again, as soon as one of
 *  them has ended since `before` was read, or an address there is idle that helps the request, and every ASK_AGAIN_MS
 *  while one is being unassigned; false if there is nothing to wait for, or at the deadline. `before`: the rows of the ENI
 *  before EC2 was asked. */
export async function untilRoom(
  context: IpamContext,
  asked: Asked,
  before: readonly Allocation[],
  helps: (idle: Allocation) => boolean = () => true,
): Promise<boolean> {
  const { store, policy, clock, wait } = context;
  const { eni } = asked.home;
  const askAgainAt = clock() + ASK_AGAIN_MS;
  for (let last = before; ; ) {
    const isReleasing = asked.releasesHere().length > 0; // before the rows are read: it may end during the read
    const { rows, now } = await store.onEni(eni.id);
    const generations = new Map(rows.map(row => [row.ip, row.generation]));
    const hasEnded = (row: Allocation) => isIntent(row) && generations.get(row.ip) !== row.generation;
    if (rows.length < last.length || last.some(hasEnded)) return true;
    const idle = rows.filter(row => row.status === 'ready' && !row.primary && helps(row));
    if ((await removable(context, idle)).length > 0) return true;
    const isUnderWay = (row: Allocation) => isIntent(row) && now - row.movedAt < policy.callDeadlineMs;
    if ((!isReleasing && !rows.some(isUnderWay)) || asked.isTimeUp()) return false;
    if (clock() >= askAgainAt && rows.some(({ status }) => status === 'unassigning')) return true;
    last = rows;
    await wait(LOOK_AGAIN_MS, asked.signal);
  }
}
