/** What views show of the history. */
import * as v from 'valibot';
import type { Ec2CallRecord } from '../domain/history.ts';
import type { Store } from '../store/store.ts';
import { text, time } from './shapes.ts';

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

/** The latest of the last day that `is` picks, newest first. */
export async function readCalls(
  store: Pick<Store, 'ec2Calls'>,
  is: (call: Ec2CallRecord) => boolean,
): Promise<Ec2Call[]> {
  const { rows } = await store.ec2Calls(CALLS_MS, CALLS_MAX);
  return rows.filter(is).slice(0, SHOWN_MAX).map(callOf);
}
