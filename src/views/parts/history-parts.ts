/** What views show of the history. */
import * as v from 'valibot';
import type { Ipv4 } from '../../domain/address.ts';
import type { Ec2CallRecord } from '../../domain/history.ts';
import type { EniId, SubnetId } from '../../domain/ids.ts';
import type { Store } from '../../store/store.ts';
import { text, time } from '../shapes.ts';

/** One time for which an address was held, as `ec2-ipam history` shows it. */
export const Tenure = v.object({
  since: v.nullable(time),
  until: v.nullable(time),
  isHeld: v.boolean(),
  eni: text,
  instance: text,
  container: text,
  request: text,
  server: text,
  endedBy: text,
  endRequest: text,
  endServer: text,
});

/** A call that was to change EC2. Without a result it had no answer. */
export const Ec2Call = v.object({
  id: v.string(),
  at: time,
  action: v.string(),
  eni: v.string(),
  addresses: v.array(v.string()),
  server: v.string(),
  tookMs: v.nullable(v.number()),
  result: text,
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
