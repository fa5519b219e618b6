import type { Ipv4 } from './address.ts';
import {
  type Allocation,
  type Change,
  LATE_READS_MS,
  mayStillLeave,
  type Rest,
  ruleOf,
} from './allocation.ts';
import type { EniId } from './ids.ts';

/** Where EC2 showed an address. */
export interface Sighting {
  readonly eni: EniId;
  readonly primary: boolean;
}

/** Times of the reconciler, in milliseconds. */
export const ABSENT_FOR_MS = 60_000; // between the two reads that must not show an occupied address
export const LINGERS_FOR_MS = 3_600_000; // after an Unassign that a late call of ours may have reverted
export const REFUSED_FOR_MS = 3_600_000; // before an address known only from a refusal is tried again

/** Whether the row's address came onto its ENI so long ago that a read, late as it may be, shows it there if it still is.
 *  Claims and releases since then change nothing of that. */
export const isSettled = (row: Allocation, now: number): boolean =>
  row.placedAt === null || now - row.placedAt >= LATE_READS_MS;

/** What was read of EC2. */
export interface Scene {
  /** The ENI belongs to this ledger, and the read has shown it. */
  ours(eni: EniId): boolean;
  /** The ENI was this ledger's and has left the ledger's instance, as is proven. */
  hasLeft(eni: EniId): boolean;
  /** All ENIs of the subnet were read. If not, an address that is on none of those that were may be on another. */
  readonly isWhole: boolean;
}

export type DriftKind =
  | 'foreign' // EC2 shows a free address on an ENI
  | 'lingering' // and it is the ENI of ours that an Unassign took it off within the hour
  | 'usurped' // a ready one is on another ENI, or is a primary
  | 'astray' // a ready one of ours is not on its ENI
  | 'stranded' // a ready one, or an unfinished intent, is on an ENI that has left
  | 'missing' // a held one is not on its ENI
  | 'elsewhere' // a held one is on another ENI
  | 'found' // a held one that was missing is back
  | 'arrived' // one being assigned is on its ENI, though its call had no answer
  | 'seen' // an occupied one is where the ledger did not know it
  | 'unseen' // an occupied one is on no ENI, for the first time
  | 'vacated'; // and has been for long enough

/** One difference between ledger and EC2, and what closes it. */
export interface Drift {
  readonly kind: DriftKind;
  readonly row: Allocation;
  readonly seenOn: EniId | null;
  /** The move to make, or null where EC2 has to be asked first (astray: Unassign, missing: Assign) or where
   *  nothing may be done but report. */
  readonly change: Change | null;
}

/** How `row`, read before EC2 was, differs from what EC2 then showed; null: it does not, or it is too early to
 *  say, or too little was read. */
export function driftOf(
  row: Allocation,
  at: Sighting | null,
  { ours, hasLeft, isWhole }: Scene,
  rest: Rest,
  now: number,
): Drift | null {
  const found = (kind: DriftKind, change: Omit<Change, 'row'> | null): Drift => ({
    kind,
    row,
    seenOn: at?.eni ?? null,
    change: change === null ? null : { row, ...change },
  });
  if (row.iface !== null && hasLeft(row.iface)) {
    const move = moveOfStranded(row, rest, now);
    if (move !== null)
      return found('stranded', { move, iface: at?.eni ?? row.iface, primary: at?.primary ?? false });
  }
  const settled = isSettled(row, now);
  switch (row.status) {
    case 'free':
      if (at === null || mayStillLeave(row, at.eni, rest, now)) return null;
      if (ours(at.eni) && !at.primary && mayBeBack(row, at.eni, now))
        return found('lingering', { move: 'reclaim', iface: at.eni });
      return found('foreign', { move: 'foreign', iface: at.eni, primary: at.primary });
    case 'ready':
      // An ENI that is gone is shown for a while, and its primary address may have been given to us since.
      if (at !== null && (at.eni === row.iface ? at.primary : settled))
        return found('usurped', { move: 'usurped', iface: at.eni, primary: at.primary });
      return at === null && settled && row.iface !== null && ours(row.iface) ? found('astray', null) : null;
    case 'allocated':
      if (at?.eni === row.iface) return row.missingSince === null ? null : found('found', { move: 'found' });
      if (!settled && row.missingSince === null) return null;
      if (at === null) return row.iface !== null && ours(row.iface) ? found('missing', null) : null;
      return row.missingSince === null ? found('elsewhere', { move: 'missed' }) : null;
    case 'occupied':
      return at === null && !isWhole ? null : occupiedDrift(row, at, now, found);
    default:
      return null;
  }
}

/** By which move a row goes on whose ENI has left; null: by none, or not yet. An intent waits for the grace: its call may
 *  still apply. From then on what EC2 shows decides, as of any occupied address. */
function moveOfStranded({ status, movedAt }: Allocation, { graceMs }: Rest, now: number) {
  if (status === 'ready') return 'stranded';
  if (now - movedAt < graceMs) return null;
  return status === 'assigning' ? 'taken' : status === 'unassigning' ? 'abandoned' : null;
}

/** Whether a late call of ours may have put it back. What EC2 took off with no call of ours unanswered is somebody else's
 *  when it is shown there again. */
const mayBeBack = ({ leftIface, leftAt, leftUnsure }: Allocation, eni: EniId, now: number): boolean =>
  leftIface === eni && leftUnsure && leftAt !== null && now - leftAt < LINGERS_FOR_MS;

function occupiedDrift(
  row: Allocation,
  at: Sighting | null,
  now: number,
  found: (kind: DriftKind, change: Omit<Change, 'row'> | null) => Drift,
): Drift | null {
  if (at !== null) {
    const known =
      row.iface === at.eni &&
      row.primary === at.primary &&
      row.absentSince === null &&
      row.refusedAt === null;
    return known ? null : found('seen', { move: 'seen', iface: at.eni, primary: at.primary });
  }
  if (row.absentSince === null) return found('unseen', { move: 'unseen' });
  const longEnough =
    now - row.absentSince >= ABSENT_FOR_MS &&
    (row.refusedAt === null || now - row.refusedAt >= REFUSED_FOR_MS);
  return longEnough ? found('vacated', { move: 'vacated' }) : null;
}

/** Drift in the words of a person. */
export function describe({ kind, row, seenOn }: Drift): string {
  const holder = row.holder ?? 'a container';
  const texts: Record<DriftKind, string> = {
    foreign: `free in the ledger, but on ${seenOn}`,
    lingering: `free in the ledger, but still on ${seenOn}, which it was taken off`,
    usurped: `ready on ${row.iface} in the ledger, but on ${seenOn}`,
    astray: `ready on ${row.iface} in the ledger, but not there`,
    stranded: `${row.status} on ${row.iface} in the ledger, which has left`,
    missing: `held by ${holder} on ${row.iface}, but not there`,
    elsewhere: `held by ${holder} on ${row.iface}, but on ${seenOn}`,
    found: `held by ${holder}, and back on ${row.iface}`,
    arrived: `being assigned, and on ${seenOn}`,
    seen: `occupied, now seen on ${seenOn}`,
    unseen: 'occupied in the ledger, but on no ENI',
    vacated: 'occupied in the ledger, but on no ENI for long',
  };
  return `${row.ip satisfies Ipv4} ${texts[kind]}`;
}

/** What closes it, in the words of a person. */
export function planFor({ kind, change }: Drift): string {
  if (kind === 'missing') return 'assign it again';
  if (kind === 'astray' || kind === 'lingering') return 'take it off';
  return change === null || kind === 'elsewhere' ? 'only reported' : `becomes ${ruleOf(change.move).to}`;
}
