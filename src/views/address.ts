/** One address: what it is now, who held it, and the EC2 calls that named it. */
import * as v from 'valibot';
import { type Ipv4, isReserved } from '../domain/address.ts';
import { isUsedIdle } from '../domain/sighting.ts';
import { nextTurn } from '../store/next-turn.ts';
import type { LedgerSubnet } from '../store/store.ts';
import { callsNaming, Ec2Call, Tenure } from './parts/history-parts.ts';
import { boolean, Cell, cellOf, described, LAST_EVENT, NOW, stringOrNull, timeOrNull } from './shapes.ts';
import type { Sources } from './views.ts';

export const AddressView = v.object({
  now: NOW,
  lastEvent: LAST_EVENT,
  cell: described(Cell, 'What the address is now.'),
  instance: stringOrNull('The id of the instance that has its ENI; null: none, or not known.'),
  isAws: boolean('Whether AWS reserves it: the first four addresses of a subnet, and the last.'),
  restedSince: timeOrNull('Its last release; null: it was never given, or that is not known.'),
  restedFrom: stringOrNull('The id of the ENI that it was on at its last release; null: not known.'),
  leftAt: timeOrNull('When it last left an ENI; null: never.'),
  leftEni: stringOrNull('The id of the ENI that it left last; null: none.'),
  absentSince: timeOrNull('Occupied, but on no ENI since then; null: it is not absent.'),
  usedBy: stringOrNull(
    'Who uses it though nobody holds it, as a reading of its host has shown; null: nobody was seen.',
  ),
  unseenSince: timeOrNull(
    'Held, but nothing on its host uses it since then, as readings have shown; null: it was seen in use, or not read.',
  ),
  holdings: described(
    v.array(Tenure),
    'Who held it, newest first. With `--history off` the holding of now at most.',
  ),
  calls: described(
    v.array(Ec2Call),
    "The latest 50 EC2 calls that named it, of the ledger's latest 2,000 and of the last day, newest first.",
  ),
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
  await nextTurn();
  const { rows: tenures } = await store.history(subnet, ip, TENURES_MAX);
  await nextTurn();
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
