import type { Ipv4 } from './address.ts';
import type { EniId, SubnetId } from './ids.ts';

/** What the ledger says of an address. src/README.md draws the moves between them. */
export const STATUSES = [
  'free', // nobody has it; on no ENI
  'ready', // on `iface`, no container has it
  'allocated', // a container on `iface` has it
  'occupied', // in use, not known to be ours: a primary, somebody's secondary, a lost record's container
  'reserved', // never ours to give
  'assigning', // we decided to put it on `iface`; EC2 is being asked
  'unassigning', // we decided to take it off `iface`; EC2 is being asked
] as const;
export type Status = (typeof STATUSES)[number];

/** The longest name of a holder that is kept; Docker's are shorter, but nothing promises that. */
export const HOLDER_CHARS_MAX = 255;

/** Names a row and the state it was read in; a move applies only while all five still stand. */
export interface RowState {
  readonly subnet: SubnetId;
  readonly ip: Ipv4;
  readonly status: Status;
  readonly iface: EniId | null;
  /** Grows by one with each move. */
  readonly generation: number;
}

/** One row of the ledger: one address. Times are milliseconds of the store's clock. */
export interface Allocation extends RowState {
  /** The address is an ENI's primary one and can never be a container's. */
  readonly primary: boolean;
  /** When the row came to what it says: for an intent, when it was written; for a holding, when it was claimed. */
  readonly movedAt: number;
  /** When it was last given up; null: long ago. Cooldown and quarantine count from here. */
  readonly restedSince: number | null;
  /** The ENI it was given up on. */
  readonly restedFrom: EniId | null;
  /** The ENI that an Unassign last took it off, and when that was known. */
  readonly leftIface: EniId | null;
  readonly leftAt: number | null;
  /** A call that took it off before had no answer, so that one may still be under way. */
  readonly leftUnsure: boolean;
  /** When a move put it on `iface`; null: before this was noted, or somebody else did. */
  readonly placedAt: number | null;
  /** Allocated, but seen missing from its ENI since. */
  readonly missingSince: number | null;
  /** Occupied, but seen on no ENI since. */
  readonly absentSince: number | null;
  /** Known to be taken only because EC2 refused it then; no read has shown who has it. */
  readonly refusedAt: number | null;
  /** The container's name, where the engine told it (29 and later). */
  readonly holder: string | null;
  /** Stamped on all rows of one batch, so that what it did can be read back. */
  readonly token: string | null;
}

/** What a move does to the columns beside status, generation, movedAt and token. Absent: left alone. */
interface Effects {
  /** `give`: the change names it (null is a name too); `clear`: null. */
  readonly iface?: 'give' | 'clear';
  readonly primary?: 'give' | 'clear';
  readonly holder?: 'give' | 'clear';
  /** The address is given up now: it rests, and where. */
  readonly rests?: true;
  /** It came off its ENI now, and whether a call for that may still be under way: the change says so. */
  readonly leaves?: true;
  /** The holding goes on: `movedAt` stays. */
  readonly goesOn?: true;
  /** It came onto its ENI now. */
  readonly places?: true;
  /** `mark`: now, unless marked already; `clear`: null. */
  readonly missing?: 'mark' | 'clear';
  readonly absent?: 'mark' | 'clear';
  /** `give`: now if the change says so, else null. */
  readonly refused?: 'give' | 'clear';
}
interface MoveRule extends Effects {
  readonly from: Status;
  readonly to: Status;
}

/** Every way in which a row may change. Imperatives are what we decide; participles are what EC2, the
 *  holder or the clock told us. Nothing else writes `status`. */
export const MOVES = {
  // Putting an address on an ENI. The intent is written before EC2 is asked.
  assign: { from: 'free', to: 'assigning', iface: 'give' },
  assigned: { from: 'assigning', to: 'ready', refused: 'clear', places: true },
  refused: { from: 'assigning', to: 'free', iface: 'clear' },
  skipped: { from: 'assigning', to: 'free', iface: 'clear', refused: 'give' },
  taken: { from: 'assigning', to: 'occupied', iface: 'give', refused: 'give' },
  'take over': { from: 'assigning', to: 'unassigning' },

  // A container's life.
  claim: { from: 'ready', to: 'allocated', holder: 'give' },
  release: { from: 'allocated', to: 'ready', holder: 'clear', rests: true },
  surrender: { from: 'occupied', to: 'ready', rests: true, absent: 'clear', refused: 'clear' },
  retire: { from: 'allocated', to: 'unassigning', holder: 'clear', rests: true, missing: 'clear' },
  missed: { from: 'allocated', to: 'allocated', missing: 'mark', goesOn: true },
  found: { from: 'allocated', to: 'allocated', missing: 'clear', places: true, goesOn: true },

  // Taking an address off an ENI. The intent is written before EC2 is asked.
  unassign: { from: 'ready', to: 'unassigning' },
  'unassign again': { from: 'unassigning', to: 'unassigning' },
  unassigned: { from: 'unassigning', to: 'free', iface: 'clear', leaves: true },
  kept: { from: 'unassigning', to: 'ready' },
  reclaim: { from: 'free', to: 'unassigning', iface: 'give' },

  // What others do.
  foreign: { from: 'free', to: 'occupied', iface: 'give', primary: 'give' },
  usurped: { from: 'ready', to: 'occupied', iface: 'give', primary: 'give' },
  // The ENI has left the instance whose ledger this is: what is on it is not ours to change any more.
  stranded: { from: 'ready', to: 'occupied', iface: 'give', primary: 'give' },
  abandoned: { from: 'unassigning', to: 'occupied', iface: 'give', primary: 'give' },
  seen: {
    from: 'occupied',
    to: 'occupied',
    iface: 'give',
    primary: 'give',
    absent: 'clear',
    refused: 'clear',
  },
  unseen: { from: 'occupied', to: 'occupied', absent: 'mark' },
  vacated: { from: 'occupied', to: 'free', iface: 'clear', primary: 'clear', absent: 'clear', rests: true },
  reserve: { from: 'free', to: 'reserved' },
} as const satisfies Record<string, MoveRule>;
export type MoveName = keyof typeof MOVES;

/** One move of one row. Applied only if the row still is as `row` says. */
export interface Change {
  readonly row: RowState;
  readonly move: MoveName;
  readonly iface?: EniId | null;
  readonly primary?: boolean;
  readonly holder?: string | null;
  readonly refused?: boolean;
  /** Of a move that `leaves`: an earlier call for it had no answer. */
  readonly unsure?: boolean;
}

export const ruleOf = (move: MoveName): MoveRule => MOVES[move];

/** Whether `row`, as it is now, is still what `state` says. */
const isStill = (row: RowState, state: RowState): boolean =>
  row.subnet === state.subnet &&
  row.ip === state.ip &&
  row.status === state.status &&
  row.iface === state.iface &&
  row.generation === state.generation;

/** The row after the change, whose `row` must be the row's present state and start the move. This is
 *  what the SQL of every store must do; null when the move does not start here. */
export function moved(row: Allocation, change: Change, now: number, token: string): Allocation | null {
  const rule = ruleOf(change.move);
  if (!isStill(row, change.row) || row.status !== rule.from) return null;
  return {
    ...row,
    status: rule.to,
    generation: row.generation + 1,
    movedAt: rule.goesOn ? row.movedAt : now,
    token,
    iface: rule.iface === 'give' ? (change.iface ?? null) : rule.iface === 'clear' ? null : row.iface,
    primary:
      rule.primary === 'give' ? (change.primary ?? false) : rule.primary === 'clear' ? false : row.primary,
    holder: rule.holder === 'give' ? (change.holder ?? null) : rule.holder === 'clear' ? null : row.holder,
    restedSince: rule.rests ? now : row.restedSince,
    restedFrom: rule.rests ? row.iface : row.restedFrom,
    leftIface: rule.leaves ? row.iface : row.leftIface,
    leftAt: rule.leaves ? now : row.leftAt,
    leftUnsure: rule.leaves ? (change.unsure ?? false) : row.leftUnsure,
    placedAt: rule.places ? now : row.placedAt,
    missingSince: mark(rule.missing, row.missingSince, now),
    absentSince: mark(rule.absent, row.absentSince, now),
    refusedAt:
      rule.refused === 'give'
        ? change.refused
          ? now
          : null
        : rule.refused === 'clear'
          ? null
          : row.refusedAt,
  };
}

function mark(effect: 'mark' | 'clear' | undefined, before: number | null, now: number): number | null {
  if (effect === undefined) return before;
  return effect === 'clear' ? null : (before ?? now);
}

/** Protocol times, in milliseconds. Defaults are DESIGN's; tests and operators may change them within bounds. */
export interface Rest {
  /** Before an address is given again on the ENI that it was given up on. */
  readonly cooldownMs: number;
  /** Before it is given on another ENI. */
  readonly quarantineMs: number;
  /** After it no call of ours that had no answer can apply any more. */
  readonly graceMs: number;
}

/** Whether the address has rested long enough to be given on `eni`. */
export const isRested = (row: Allocation, eni: EniId, rest: Rest, now: number): boolean =>
  restsForMs(row, eni, rest, now) <= 0;

/** How long it has yet to rest, in milliseconds; 0 or less: it has rested. */
export function restsForMs(row: Allocation, eni: EniId, rest: Rest, now: number): number {
  if (row.restedSince === null) return 0;
  return row.restedSince + (row.restedFrom === eni ? rest.cooldownMs : rest.quarantineMs) - now;
}

/** How late a read may be, in milliseconds: EC2 is eventually consistent, and its developer guide ("Eventual consistency
 *  in the Amazon EC2 API") would have who waits for a change to show go on for five minutes. */
export const LATE_READS_MS = 300_000;

/** For how long from `now` on the free address may not return to `eni`, in milliseconds; 0: it may. It left by an
 *  Unassign: while a read may be late nobody can tell what EC2 shows there from what was there before, and while a call
 *  without an answer may be under way it could be taken off again. */
export function staysAwayMs(row: Allocation, eni: EniId, rest: Rest, now: number): number {
  if (row.leftIface !== eni || row.leftAt === null) return 0;
  return Math.max(row.leftAt + awayMs(row.leftUnsure, rest) - now, 0);
}

/** How long an address that left an ENI stays off it. Tests may set a grace that is shorter than late reads. */
export const awayMs = (unsure: boolean, { graceMs }: Rest): number =>
  unsure ? graceMs : Math.min(graceMs, LATE_READS_MS);

/** Whether an Unassign of ours that left this address free could still be under way on `eni`, or show there. */
export const mayStillLeave = (row: Allocation, eni: EniId, rest: Rest, now: number): boolean =>
  staysAwayMs(row, eni, rest, now) > 0;

/** Whether a read that shows the address on `eni` may be of the time before it last left that ENI. Of the ENIs that it
 *  left only the last one is noted; if it was placed there long ago, it left any other even earlier. */
export function mayShowPast(row: Allocation, eni: EniId, now: number): boolean {
  const isRecent = (at: number | null) => at === null || now - at < LATE_READS_MS;
  return row.leftAt !== null && isRecent(row.leftAt) && (row.leftIface === eni || isRecent(row.placedAt));
}

/** A free address that EC2 refused for a reason we don't know is not tried again for this long, in milliseconds. */
export const SKIPPED_FOR_MS = 600_000;

/** Whether EC2 has refused this free address of late. */
export const isSkipped = (row: Allocation, now: number): boolean =>
  row.refusedAt !== null && now - row.refusedAt < SKIPPED_FOR_MS;

/** The move by which whoever has the address gives it up: its container, or an operator for it. Null: nobody that
 *  we know of has it. One that EC2 does not show where the ledger has it is not given to anybody at once. */
export function moveToGiveUp(row: Allocation): 'release' | 'retire' | 'surrender' | 'vacated' | null {
  if (row.primary || row.iface === null) return null;
  if (row.status === 'allocated') return row.missingSince === null ? 'release' : 'retire';
  if (row.status === 'occupied') return row.absentSince === null ? 'surrender' : 'vacated';
  return null;
}
