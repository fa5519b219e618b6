/** Differences between the ledger and EC2, and the move that closes each. */
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

/** The ENI on which EC2 shows an address. */
export interface Sighting {
  readonly eni: EniId;
  readonly primary: boolean;
}

/** In milliseconds. */
export const ABSENT_FOR_MS = 60_000; // at least, between the two reads that show an occupied address on no ENI
export const REFUSED_FOR_MS = 3_600_000; // before an address known only from a refusal becomes free

/** Whether the address was placed on its ENI before the oldest state that a read can show. Claims and releases since
 *  then do not matter. */
export const isSettled = (row: Allocation, now: number): boolean =>
  row.placedAt === null || now - row.placedAt >= LATE_READS_MS;

/** What a read of EC2 covered. */
export interface Scene {
  /** The ENI belongs to this ledger, and the read showed it. */
  ours(eni: EniId): boolean;
  /** It is proven that the ENI left the instance of this embedded ledger. */
  hasLeft(eni: EniId): boolean;
  /** All ENIs of the subnet were read. Otherwise an address may be on an ENI that was not read. */
  readonly isWhole: boolean;
}

export type DriftKind =
  | 'foreign' // free in the ledger, but on an ENI
  | 'usurped' // ready in the ledger, but on another ENI, or a primary
  | 'astray' // ready, but not on its ENI
  | 'stranded' // ready or an intent, on an ENI that left the instance
  | 'missing' // held, but not on its ENI
  | 'elsewhere' // held, but on another ENI
  | 'found' // held, was missing, and is back on its ENI
  | 'arrived' // assigning without an answer, and on its ENI
  | 'seen' // occupied, with news about its ENI
  | 'unseen' // occupied, and on no ENI for the first time
  | 'vacated'; // occupied, and on no ENI for long enough

/** One difference between ledger and EC2, and the move that closes it. */
export interface Drift {
  readonly kind: DriftKind;
  readonly row: Allocation;
  readonly seenOn: EniId | null;
  /** Null when EC2 must be called first (astray: unassign, missing: assign), or when it is only reported. */
  readonly change: Change | null;
}

/** Compares `row` with what EC2 showed after the row was read. Returns null when they agree, or when the read is too
 *  early or does not cover enough to tell. */
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
      return found('foreign', { move: 'foreign', iface: at.eni, primary: at.primary });
    case 'ready':
      // EC2 shows a deleted ENI for a while, and its primary address may be ours by then.
      if (at !== null && (at.eni === row.iface ? at.primary : settled))
        return found('usurped', { move: 'usurped', iface: at.eni, primary: at.primary });
      return at === null && settled && row.iface !== null && ours(row.iface) ? found('astray', null) : null;
    case 'allocated':
      if (at?.eni === row.iface) return backDrift(row, rest, now, found);
      if (!settled && row.missingSince === null) return null;
      if (at === null) return row.iface !== null && ours(row.iface) ? found('missing', null) : null;
      return row.missingSince === null ? found('elsewhere', { move: 'missed' }) : null;
    case 'occupied':
      return at === null && !isWhole ? null : occupiedDrift(row, at, now, found);
    default:
      return null;
  }
}

/** The move of a row whose ENI has left the instance; null: none, or not yet. An intent waits for the grace, since its
 *  call may still be applied. */
function moveOfStranded({ status, movedAt }: Allocation, { graceMs }: Rest, now: number) {
  if (status === 'ready') return 'stranded';
  if (now - movedAt < graceMs) return null;
  return status === 'assigning' ? 'taken' : status === 'unassigning' ? 'abandoned' : null;
}

/** A repair without an answer is forgotten when it can no longer be applied. */
function backDrift(
  { missingSince, repairUnsureAt }: Allocation,
  { graceMs }: Rest,
  now: number,
  found: (kind: DriftKind, change: Omit<Change, 'row'> | null) => Drift,
): Drift | null {
  if (repairUnsureAt !== null && now - repairUnsureAt >= graceMs) return found('found', { move: 'repaired' });
  return missingSince === null ? null : found('found', { move: 'found' });
}

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

/** The difference as text for people. */
export function describe({ kind, row, seenOn }: Drift): string {
  const holder = row.holder ?? 'a container';
  const texts: Record<DriftKind, string> = {
    foreign: `free in the ledger, but on ${seenOn}`,
    usurped: `ready on ${row.iface} in the ledger, but on ${seenOn}`,
    astray: `ready on ${row.iface} in the ledger, but not there`,
    stranded: `${row.status} on ${row.iface} in the ledger, which has left`,
    missing: `held by ${holder} on ${row.iface}, but not there`,
    elsewhere: `held by ${holder} on ${row.iface}, but on ${seenOn}`,
    found:
      row.missingSince === null
        ? `held by ${holder} on ${row.iface}, and no repair may be applied any more`
        : `held by ${holder}, and back on ${row.iface}`,
    arrived: `being assigned, and on ${seenOn}`,
    seen: `occupied, now seen on ${seenOn}`,
    unseen: 'occupied in the ledger, but on no ENI',
    vacated: 'occupied in the ledger, but on no ENI for long',
  };
  return `${row.ip satisfies Ipv4} ${texts[kind]}`;
}

/** What closes the difference, as text for people. */
export function planFor({ kind, change }: Drift): string {
  if (kind === 'missing') return 'assign it again';
  if (kind === 'astray') return 'take it off';
  return change === null || kind === 'elsewhere' ? 'only reported' : `becomes ${ruleOf(change.move).to}`;
}
