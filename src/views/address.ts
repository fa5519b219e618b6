/** One address: what it is now, who held it, and the EC2 calls that named it. */
import * as v from 'valibot';
import { type Ipv4, isReserved } from '../domain/address.ts';
import { isUsedIdle } from '../domain/sighting.ts';
import type { LedgerSubnet } from '../store/store.ts';
import { callsNaming, Ec2Call, Tenure } from './parts/history-parts.ts';
import { Cell, cellOf, text, time } from './shapes.ts';
import type { Sources } from './views.ts';

export const AddressView = v.object({
  now: time,
  lastEvent: v.string(),
  cell: Cell,
  /** Of its ENI. */
  instance: text,
  /** AWS reserves it. */
  isAws: v.boolean(),
  /** The last release, and the ENI that it was on then. */
  restedSince: v.nullable(time),
  restedFrom: text,
  /** The last time that it left an ENI. */
  leftAt: v.nullable(time),
  leftEni: text,
  /** Occupied, but on no ENI since then. */
  absentSince: v.nullable(time),
  /** What a reading of its host has shown: who uses it though nobody holds it, and since when nobody uses it though it is
   *  held. */
  usedBy: text,
  unseenSince: v.nullable(time),
  /** Newest first. With `--history off` that of now at most. */
  holdings: v.array(Tenure),
  calls: v.array(Ec2Call),
});
export type AddressView = v.InferOutput<typeof AddressView>;

/** Holdings of one address that are read. */
const TENURES_MAX = 1000;

/** Null: the ledger does not have the address. */
export async function readAddress(
  sources: Sources,
  { id: subnet, cidr }: LedgerSubnet,
  ip: Ipv4,
): Promise<AddressView | null> {
  const { store, policy } = sources;
  const lastEvent = sources.lastEvent();
  const {
    now,
    rows: [row],
  } = await store.get(subnet, [ip]);
  if (row === undefined) return null;
  const [sighting] = (await store.sightingsAt(subnet, [ip])).rows;
  const isOfNow = sighting !== undefined && sighting.generation === row.generation;
  const [eni] = row.iface === null ? [] : await store.enisNamed([row.iface]);
  const { rows: tenures } = await store.history(subnet, ip, TENURES_MAX);
  return {
    ...{ now, lastEvent },
    cell: cellOf(row, policy, now, row.status === 'allocated' && isOfNow ? sighting.name : null),
    instance: eni?.instance ?? null,
    isAws: isReserved(cidr, ip),
    restedSince: row.restedSince,
    restedFrom: row.restedFrom,
    leftAt: row.leftAt,
    leftEni: row.leftIface,
    absentSince: row.absentSince,
    usedBy: sighting !== undefined && isUsedIdle(row, sighting) ? sighting.finding : null,
    unseenSince: row.status === 'allocated' && isOfNow ? sighting.unseenSince : null,
    holdings: [...tenures],
    calls: await callsNaming(store, subnet, ip),
  };
}
