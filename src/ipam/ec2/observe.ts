/** What EC2 shows, and how the ledger comes to say it. */
import type { CloudEni } from '../../cloud/cloud.ts';
import { fromNumber, type Ipv4 } from '../../domain/address.ts';
import { type Allocation, type Change, mayShowPast, mayStillLeave } from '../../domain/allocation.ts';
import { isSettled, type Sighting } from '../../domain/drift.ts';
import { attachmentsAfter } from '../../domain/evidence.ts';
import { CHANGES_MAX, type LedgerEni } from '../../store/store.ts';
import type { Machine } from '../context.ts';

export const toLedger = (observed: CloudEni, addressLimit: number | null): LedgerEni => ({
  id: observed.id,
  subnet: observed.subnet,
  primary: observed.primary,
  instance: observed.instance,
  attachment: observed.attachment,
  attachmentSeenAt: null,
  earlierAttachment: null,
  claimsEndBefore: null,
  addressLimit,
  prefixes: observed.prefixes.length,
  ours: false,
  releasedAt: null,
});

/** The ENI as a read shows it that was begun at `readAt` by the store's clock. A late read of an attachment that is over
 *  changes nothing. `addressLimit`: of the instance that it is attached to. */
export function refreshed(
  known: LedgerEni | null,
  seen: CloudEni,
  addressLimit: number | null,
  readAt: number,
): LedgerEni {
  const fresh = toLedger(seen, addressLimit);
  if (known === null) return { ...fresh, attachmentSeenAt: readAt };
  const attachments = attachmentsAfter(known, seen, readAt);
  if (attachments === null) return known;
  const { ours, releasedAt } = known;
  return { ...fresh, ours, releasedAt, ...attachments };
}

/** Every address that EC2 shows on the ENI, those inside its prefixes included. */
export function sightingsOn(eni: CloudEni): [Ipv4, Sighting][] {
  const inPrefixes = eni.prefixes.flatMap(({ first, last }) =>
    Array.from({ length: last - first + 1 }, (_, i) => fromNumber(first + i)),
  );
  const seconds = [...inPrefixes, ...eni.secondaries];
  return [
    ...seconds.map((ip): [Ipv4, Sighting] => [ip, { eni: eni.id, primary: false }]),
    [eni.primary, { eni: eni.id, primary: true }],
  ];
}

/** Of the rows, all read before EC2 was, those that are being assigned to the ENI and have come to it: a call is sent once
 *  and can't be applied twice. It is applied as a whole, so what shows a part of a batch shows somebody else's addresses,
 *  which the ledger has not noted yet. Nor where the read may be older than the call. */
export function arrivedOn(
  eni: CloudEni,
  rows: readonly Allocation[],
  now: number,
): (Change & { row: Allocation })[] {
  const isThere = (row: Allocation) => eni.secondaries.includes(row.ip) && !mayShowPast(row, eni.id, now);
  const asked = rows.filter(row => row.status === 'assigning' && row.iface === eni.id);
  const batches = [...Map.groupBy(asked, row => row.token).values()];
  return batches
    .filter(batch => batch.every(isThere))
    .flat()
    .map(row => ({ row, move: 'assigned' }));
}

/** Writes what EC2 shows on ENIs of one subnet, and the ledger did not put there, down as occupied; answers
 *  the rows that changed. The ledger is read after EC2, and a row that an Unassign of ours has just freed is
 *  let be: what EC2 showed may be older than that. */
export async function noteObserved(machine: Machine, enis: readonly CloudEni[]): Promise<Allocation[]> {
  const sightings = new Map<Ipv4, Sighting>(enis.flatMap(sightingsOn));
  const ips = [...sightings.keys()];
  const [subnet] = enis.map(eni => eni.subnet);
  const noted: Allocation[] = [];
  for (let from = 0; subnet !== undefined && from < ips.length; from += CHANGES_MAX) {
    const { rows, now } = await machine.store.get(subnet, ips.slice(from, from + CHANGES_MAX));
    const changes = rows.flatMap(row => {
      const at = sightings.get(row.ip);
      return at === undefined || mayStillLeave(row, at.eni, machine.policy, now) ? [] : noteOf(row, at, now);
    });
    if (changes.length > 0) noted.push(...(await machine.store.move(changes)));
  }
  return noted;
}

/** The change by which a row comes to say what EC2 shows; none when it is ours there, when a container holds it
 *  (a holder is never given up on a read), or when it is said already. */
function noteOf(row: Allocation, { eni, primary }: Sighting, now: number): Change[] {
  if (row.status === 'free') return [{ row, move: 'foreign', iface: eni, primary }];
  if (row.status === 'ready' && primary && (row.iface === eni || isSettled(row, now)))
    return [{ row, move: 'usurped', iface: eni, primary }];
  const said =
    row.iface === eni && row.primary === primary && row.absentSince === null && row.refusedAt === null;
  if (row.status === 'occupied' && !said) return [{ row, move: 'seen', iface: eni, primary }];
  return [];
}
