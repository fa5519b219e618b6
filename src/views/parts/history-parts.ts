/** What views show of the history. */
import * as v from 'valibot';
import type { Ipv4 } from '../../domain/address.ts';
import type { Ec2CallRecord } from '../../domain/history.ts';
import type { EniId, SubnetId } from '../../domain/ids.ts';
import type { Store } from '../../store/store.ts';
import { boolean, described, numberOrNull, string, stringOrNull, time, timeOrNull } from '../shapes.ts';

/** One time for which an address was held, as `ec2-ipam history` shows it. */
export const Tenure = v.object({
  since: timeOrNull('When it was given; null: its record was lost.'),
  until: timeOrNull('When that ended; null: it is held.'),
  isHeld: boolean('Whether it is held now.'),
  eni: stringOrNull('The id of the ENI that it was on; null: not known.'),
  instance: stringOrNull('The id of the instance that it was given to; null: its request proved none.'),
  container: stringOrNull('The name of the container, as Docker named it; null: Docker did not.'),
  containerId: stringOrNull(
    'The id of the container, 64 digits in hexadecimal; null: no reading of its host has shown it.',
  ),
  request: stringOrNull('The id of the call that was answered with it; null: not known.'),
  server: stringOrNull('The id of the server that answered; null: not known.'),
  endedBy: stringOrNull(
    'What ended it: `release` (Docker), `rollback` (nobody received the answer), `reconcile` (the ENI is gone, or the ' +
      'host was rebooted), `operator` (`ec2-ipam release`), `evidence` (nothing on the host used it); null: it is held.',
  ),
  endRequest: stringOrNull('The id of the call that ended it; null: no call did, or it is not known.'),
  endServer: stringOrNull('The id of the server that ended it; null: not known.'),
});

/** A call that was to change EC2. Without a result it had no answer. */
export const Ec2Call = v.object({
  id: string('The id of the call in the ledger.'),
  at: time('When its intents were written, before it was sent.'),
  action: string('`assign` or `unassign`.'),
  eni: string('The id of the ENI.'),
  addresses: described(v.array(v.string()), 'The addresses that it named.'),
  server: string('The id of the server that sent it.'),
  tookMs: numberOrNull('Until its result was noted, in milliseconds; null: no result is noted.'),
  result: stringOrNull(
    '`done`, or the refusal of EC2; null: none is noted, since EC2 has not answered or the server has ended.',
  ),
});
export type Ec2Call = v.InferOutput<typeof Ec2Call>;

const callOf = ({ id, at, action, iface: eni, ips, server, endedAt, result }: Ec2CallRecord): Ec2Call => ({
  ...{ id, at, action, eni, addresses: [...ips], server, result },
  tookMs: endedAt === null ? null : endedAt - at,
});

/** How far back calls are read, in milliseconds, and how many at most. */
const CALLS_MS = 24 * 3_600_000;
const CALLS_MAX = 2000;
/** Calls of one ENI or address that are shown. */
const SHOWN_MAX = 50;

const readDay = async (store: Pick<Store, 'ec2Calls'>): Promise<readonly Ec2CallRecord[]> =>
  (await store.ec2Calls(CALLS_MS, CALLS_MAX)).rows;
const shown = (calls: readonly Ec2CallRecord[]): Ec2Call[] => calls.slice(0, SHOWN_MAX).map(callOf);

/** The latest of the last day for the ENI, newest first. */
export const callsForEni = async (store: Pick<Store, 'ec2Calls'>, eni: EniId): Promise<Ec2Call[]> =>
  shown((await readDay(store)).filter(({ iface }) => iface === eni));

/** The latest of the last day that named the address, newest first. Another subnet may have the same addresses: a call has
 *  the subnet of its ENI. When the ledger does not know that any more, it may have been this one. */
export async function callsNaming(
  store: Pick<Store, 'ec2Calls' | 'enisNamed'>,
  subnet: SubnetId,
  ip: Ipv4,
): Promise<Ec2Call[]> {
  const calls = (await readDay(store)).filter(({ ips }) => ips.includes(ip));
  const enis = await store.enisNamed([...new Set(calls.map(({ iface }) => iface))]);
  const elsewhere = new Set(enis.filter(eni => eni.subnet !== subnet).map(({ id }) => id));
  return shown(calls.filter(({ iface }) => !elsewhere.has(iface)));
}
