/**
 * The last resort when EC2 refuses our addresses without saying which it minds: EC2 chooses. Such a call cannot
 * be told from its repetition, so its intent is written on the ENI, and it is settled by its answer or, after
 * the grace, by reading the ENI.
 */
import type { Ipv4 } from '../domain/address.ts';
import type { Allocation, Change } from '../domain/allocation.ts';
import { IpamError, isRefusal } from '../domain/error.ts';
import type { EniId } from '../domain/ids.ts';
import { oursIn } from './enis.ts';
import type { Machine } from './machine.ts';
import { noteObserved } from './observe.ts';

/** Answers how many addresses became ready. */
export async function assignByCount(machine: Machine, id: EniId, count: number): Promise<number> {
  const { store, cloud, log } = machine;
  await cloud.turn('assign');
  const before = await cloud.eni(id);
  await noteObserved(machine, [before]);
  const sendBefore = machine.clock() + machine.policy.callDeadlineMs;
  if (!(await store.setCountIntent(id, null, 'now'))) return 0; // somebody's call is under way
  const intent = (await store.eni(id))?.countIntentAt ?? null;
  let given: Ipv4[];
  try {
    given = await cloud.assignCount(id, count, sendBefore);
  } catch (error) {
    if (error instanceof IpamError) log('warn', 'assign by count', { eni: id, count, error: error.line });
    if (isRefusal(error)) await store.setCountIntent(id, intent, null);
    throw error;
  }
  const known = new Set<Ipv4>([before.primary, ...before.secondaries]);
  const news = given.filter(ip => !known.has(ip));
  log('info', 'assign by count', { eni: id, count, ips: news });
  const ready = await take(machine, id, before.subnet, news);
  await store.setCountIntent(id, intent, null);
  return ready;
}

/** Makes ready what EC2 gave. Where the ledger thought an address to be somebody's, EC2 knows better. */
async function take(
  machine: Machine,
  id: EniId,
  subnet: Allocation['subnet'],
  ips: readonly Ipv4[],
): Promise<number> {
  const { store } = machine;
  await store.add(ips.map(ip => ({ subnet, ip, status: 'occupied', iface: id, primary: false })));
  const { rows } = await store.get(subnet, ips);
  const seen = await store.move(
    rows.flatMap((row): Change[] => {
      if (row.status === 'free') return [{ row, move: 'granted', iface: id }];
      if (row.status === 'occupied') return [{ row, move: 'seen', iface: id, primary: false }];
      return [];
    }),
  );
  const occupied = seen.filter(row => row.status === 'occupied');
  const ours = await store.move(occupied.map(row => ({ row, move: 'surrender' })));
  return seen.length - occupied.length + ours.length;
}

/** Closes the count intents whose call can no longer be under way. What the ENI holds beyond the ledger may be
 *  ours or a stranger's, which nobody can tell: it is written as occupied, and never given or unassigned. */
export async function closeCounts(machine: Machine): Promise<void> {
  const { store, cloud, policy, log } = machine;
  const { now } = await store.servers();
  for (const { id, countIntentAt } of oursIn(await store.enis(), machine.instance)) {
    if (countIntentAt === null || now - countIntentAt < policy.graceMs) continue;
    try {
      await noteObserved(machine, [await cloud.eni(id)]);
    } catch (error) {
      if (!(error instanceof IpamError)) throw error;
      log('warn', 'a call by count cannot be settled yet', { eni: id, error: error.line });
      if (error.code !== 'ec2-not-found') continue; // on an ENI that is gone there is nothing to settle
    }
    await store.setCountIntent(id, countIntentAt, null);
  }
}
