/** One row of the ledger: its statuses, the table of its moves, and how long an address rests. */
import type { Ipv4 } from './address.ts';
import type { EniId, InstanceId, SubnetId } from './ids.ts';

/** The status of an address in the ledger. src/README.md has a diagram of the moves. */
export const STATUSES = [
  'free', // on no ENI
  'ready', // on `iface`, with no container
  'allocated', // a container on `iface` has it
  'occupied', // in use by others: a primary, a foreign secondary, a container whose record was lost
  'reserved', // never given: reserved by AWS, a CIDR reservation or an operator
  'assigning', // an intent: EC2 is asked to assign it to `iface`
  'unassigning', // an intent: EC2 is asked to unassign it from `iface`
] as const;
export type Status = (typeof STATUSES)[number];

/** The statuses of an intent: it is written before its EC2 call is sent, and stands until the outcome is known. */
export const INTENTS = ['assigning', 'unassigning'] as const satisfies readonly Status[];

/** Whether the row is an intent. */
export const isIntent = ({ status }: { readonly status: Status }): boolean =>
  status === 'assigning' || status === 'unassigning';

/** Longer names of holders are cut. Docker's are shorter, but Docker sets no limit. */
export const HOLDER_CHARS_MAX = 255;
/** Longer reasons of operators are refused. */
export const REASON_CHARS_MAX = 255;

/** A row and the state it was read in. A move applies only while all five fields are unchanged. */
export interface RowState {
  readonly subnet: SubnetId;
  readonly ip: Ipv4;
  readonly status: Status;
  readonly iface: EniId | null;
  /** Each move adds one. */
  readonly generation: number;
}

/** One row of the ledger: one address. Times are milliseconds of the store's clock. */
export interface Allocation extends RowState {
  /** It is the primary address of an ENI. No container ever gets it. */
  readonly primary: boolean;
  /** The time of the last move; of a held address, the time of its claim. */
  readonly movedAt: number;
  /** The time of the last release; null: long ago. Cooldown and quarantine begin here. */
  readonly restedSince: number | null;
  /** The ENI that it was on at the last release. */
  readonly restedFrom: EniId | null;
  /** The ENI of the last unassign, and when its result was known. */
  readonly leftIface: EniId | null;
  readonly leftAt: number | null;
  /** An earlier unassign call had no answer, and may still be applied. */
  readonly leftUnsure: boolean;
  /** When a move put it on `iface`; null: not known, or it was not a move of this ledger. */
  readonly placedAt: number | null;
  /** Allocated, but absent from its ENI since then. */
  readonly missingSince: number | null;
  /** When its last repair was sent, while one of its repairs has no answer and may still be applied; null: none. A repair
   *  is sent again while an earlier one has no answer, so its presence does not settle it. */
  readonly repairUnsureAt: number | null;
  /** Occupied, but on no ENI since then. */
  readonly absentSince: number | null;
  /** When EC2 refused it. No read has shown an ENI that has it. */
  readonly refusedAt: number | null;
  /** The container's name, from Docker Engine 29 and later. */
  readonly holder: string | null;
  /** The id of the container, as a reading of its host has shown it for the holding that began at `containerSince`;
   *  null: none has. A claim does not write them. */
  readonly containerId: string | null;
  readonly containerSince: number | null;
  /** The instance that the address was given to; null: not held, or the request did not prove its instance. */
  readonly instance: InstanceId | null;
  /** The id of the last request that was given the address, from an agent; it stays after the release. */
  readonly requestId: string | null;
  /** The id of the last release by a request, from an agent or of the server. It stays after the next claim. */
  readonly releaseId: string | null;
  /** The time of the claim that `instance` and `requestId` are of; null: it was before this was noted. */
  readonly claimedAt: number | null;
  /** When the request of that claim was repeated last; null: it was not. */
  readonly repeatedAt: number | null;
  /** Why an operator has reserved it; null: no operator has. */
  readonly reservedFor: string | null;
  /** The same in all rows of one batch, so that its result can be read back. */
  readonly token: string | null;
}

/** What a move does to columns other than status, generation, movedAt and token. Absent: unchanged. */
interface Effects {
  /** `give`: the value in the change, which may be null. `clear`: null. */
  readonly iface?: 'give' | 'clear';
  readonly primary?: 'give' | 'clear';
  /** The holder's name, its instance and the id of its request. `give` is a claim: sets claimedAt. `clear` clears the id of
   *  the container too. */
  readonly holder?: 'give' | 'clear';
  /** `clear`: the id of the request is forgotten, so that its repeat is served as a new one. */
  readonly request?: 'clear';
  /** Its client is answered anew: sets repeatedAt. */
  readonly repeats?: true;
  /** The holder gives it up: sets restedSince, restedFrom and, to the value in the change if there is one, releaseId. */
  readonly rests?: true;
  /** It left its ENI: sets leftAt, leftIface and leftUnsure. */
  readonly leaves?: true;
  /** The holder keeps it: `movedAt` is unchanged. */
  readonly goesOn?: true;
  /** It is on its ENI now: sets placedAt. */
  readonly places?: true;
  /** `mark`: now, unless it is set. `clear`: null. */
  readonly missing?: 'mark' | 'clear';
  readonly absent?: 'mark' | 'clear';
  /** `send`: sets repairUnsureAt. `clear`: null. */
  readonly repair?: 'send' | 'clear';
  /** `give`: now if the change says `refused`, else null. */
  readonly refused?: 'give' | 'clear';
  /** The operator's reason. */
  readonly reason?: 'give' | 'clear';
}
interface MoveRule extends Effects {
  readonly from: Status;
  readonly to: Status;
}

/** All moves of a row. An imperative is a decision of ours; a participle is news from EC2, the holder or the clock.
 *  Nothing else writes `status`. */
export const MOVES = {
  // Assign. The intent is written before EC2 is called.
  assign: { from: 'free', to: 'assigning', iface: 'give' },
  assigned: { from: 'assigning', to: 'ready', refused: 'clear', places: true },
  refused: { from: 'assigning', to: 'free', iface: 'clear' },
  skipped: { from: 'assigning', to: 'free', iface: 'clear', refused: 'give' },
  taken: { from: 'assigning', to: 'occupied', iface: 'give', refused: 'give' },
  'take over': { from: 'assigning', to: 'unassigning' },

  // Holders.
  claim: { from: 'ready', to: 'allocated', holder: 'give' },
  // The request is repeated, and answered with the address that it was given. A rollback of the first answer is a no.
  repeat: { from: 'allocated', to: 'allocated', goesOn: true, repeats: true },
  release: { from: 'allocated', to: 'ready', holder: 'clear', rests: true },
  // The claim is rolled back: nobody received its answer. The second: as `retire`.
  undo: { from: 'allocated', to: 'ready', holder: 'clear', request: 'clear', rests: true },
  'undo missing': {
    from: 'allocated',
    to: 'unassigning',
    holder: 'clear',
    request: 'clear',
    rests: true,
    missing: 'clear',
    repair: 'clear',
  },
  surrender: { from: 'occupied', to: 'ready', rests: true, absent: 'clear', refused: 'clear' },
  retire: {
    from: 'allocated',
    to: 'unassigning',
    holder: 'clear',
    rests: true,
    missing: 'clear',
    repair: 'clear',
  },
  missed: { from: 'allocated', to: 'allocated', missing: 'mark', goesOn: true },
  found: { from: 'allocated', to: 'allocated', missing: 'clear', places: true, goesOn: true },
  // Its holder keeps it while EC2 is asked to assign it again. The second and third: no repair of it may still be applied.
  repair: { from: 'allocated', to: 'allocated', missing: 'mark', repair: 'send', goesOn: true },
  repaired: {
    from: 'allocated',
    to: 'allocated',
    missing: 'clear',
    repair: 'clear',
    places: true,
    goesOn: true,
  },
  'repair refused': { from: 'allocated', to: 'allocated', repair: 'clear', goesOn: true },

  // Unassign. The intent is written before EC2 is called.
  unassign: { from: 'ready', to: 'unassigning' },
  'unassign again': { from: 'unassigning', to: 'unassigning' },
  unassigned: { from: 'unassigning', to: 'free', iface: 'clear', leaves: true, repair: 'clear' },
  kept: { from: 'unassigning', to: 'ready' },

  // Changes by others.
  foreign: { from: 'free', to: 'occupied', iface: 'give', primary: 'give' },
  usurped: { from: 'ready', to: 'occupied', iface: 'give', primary: 'give' },
  // The ENI left the instance of an embedded ledger, which may not change it any more.
  stranded: { from: 'ready', to: 'occupied', iface: 'give', primary: 'give' },
  // A process of the host uses it, though no container holds it; and when that has ended.
  strayed: { from: 'ready', to: 'occupied' },
  cleared: { from: 'occupied', to: 'ready', rests: true, absent: 'clear', refused: 'clear' },
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

  // Orders of operators. Only rows with a reason are unheld: the others are reserved by AWS.
  hold: { from: 'free', to: 'reserved', reason: 'give' },
  unhold: { from: 'reserved', to: 'free', reason: 'clear' },
} as const satisfies Record<string, MoveRule>;
export type MoveName = keyof typeof MOVES;

/** What made a move that begins or ends a holding. */
const CAUSES = [
  'request', // Docker's RequestAddress
  'rollback', // nobody received its answer
  'release', // Docker's ReleaseAddress
  'reconcile', // its ENI is gone, or its host was rebooted
  'operator', // the command `release`
  'evidence', // nothing on its host uses the address
] as const;
export type Cause = (typeof CAUSES)[number];

/** One move of one row. It applies only if the row is still as in `row`. */
export interface Change {
  readonly row: RowState;
  readonly move: MoveName;
  readonly iface?: EniId | null;
  readonly primary?: boolean;
  readonly holder?: string | null;
  readonly instance?: InstanceId | null;
  readonly requestId?: string | null;
  /** For a move that `rests`: the id of the release. Without one, since no client asked, the row keeps that of the last
   *  release, so that a late copy of it ends nothing. */
  readonly releaseId?: string | null;
  readonly refused?: boolean;
  readonly reservedFor?: string;
  /** For the history: what made the move, if not the usual for it, and the id of the call that did. */
  readonly cause?: Cause;
  readonly call?: string | null;
  /** For the history: the EC2 call that the change begins; with a result, the one that has ended. */
  readonly ec2?: { readonly id: string; readonly result?: string };
  /** For a move that `leaves`: an earlier unassign call had no answer. */
  readonly unsure?: boolean;
}

export const ruleOf = (move: MoveName): MoveRule => MOVES[move];

/** Whether `row` still has the state in which it was read. */
const isStill = (row: RowState, state: RowState): boolean =>
  row.subnet === state.subnet &&
  row.ip === state.ip &&
  row.status === state.status &&
  row.iface === state.iface &&
  row.generation === state.generation;

/** Returns the row after the change; null when the row has another state, or the move does not start at its status.
 *  The SQL of every store does the same. */
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
    containerId: rule.holder === 'clear' ? null : row.containerId,
    containerSince: rule.holder === 'clear' ? null : row.containerSince,
    instance:
      rule.holder === 'give' ? (change.instance ?? null) : rule.holder === 'clear' ? null : row.instance,
    requestId:
      rule.holder === 'give' ? (change.requestId ?? null) : rule.request === 'clear' ? null : row.requestId,
    releaseId: rule.rests ? (change.releaseId ?? row.releaseId) : row.releaseId,
    claimedAt: rule.holder === 'give' ? now : row.claimedAt,
    repeatedAt: rule.holder === 'give' ? null : rule.repeats ? now : row.repeatedAt,
    reservedFor:
      rule.reason === 'give'
        ? (change.reservedFor ?? null)
        : rule.reason === 'clear'
          ? null
          : row.reservedFor,
    restedSince: rule.rests ? now : row.restedSince,
    restedFrom: rule.rests ? row.iface : row.restedFrom,
    leftIface: rule.leaves ? row.iface : row.leftIface,
    leftAt: rule.leaves ? now : row.leftAt,
    leftUnsure: rule.leaves ? (change.unsure ?? false) : row.leftUnsure,
    placedAt: rule.places ? now : row.placedAt,
    missingSince: mark(rule.missing, row.missingSince, now),
    repairUnsureAt: rule.repair === 'send' ? now : rule.repair === 'clear' ? null : row.repairUnsureAt,
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

/** Times before an address may be given again, in milliseconds. */
export interface Rest {
  /** On the ENI where it was released. */
  readonly cooldownMs: number;
  /** On another ENI. */
  readonly quarantineMs: number;
  /** After it, an EC2 call without an answer can no longer be applied. */
  readonly graceMs: number;
}

/** Whether cooldown or quarantine is over for `eni`. */
export const isRested = (row: Allocation, eni: EniId, rest: Rest, now: number): boolean =>
  restsForMs(row, eni, rest, now) <= 0;

/** How long cooldown or quarantine still lasts for `eni`, in milliseconds; 0 or less: it is over. */
export function restsForMs(row: Allocation, eni: EniId, rest: Rest, now: number): number {
  if (row.restedSince === null) return 0;
  return row.restedSince + (row.restedFrom === eni ? rest.cooldownMs : rest.quarantineMs) - now;
}

/** Returns the held row with the id of its container, if it still has the state in which it was read; else null. It is no
 *  move: the generation stays. */
export const withContainer = (row: Allocation, state: RowState, containerId: string): Allocation | null =>
  isStill(row, state) && row.status === 'allocated'
    ? { ...row, containerId, containerSince: row.movedAt }
    : null;

/** The id of the container that holds the row. A server of the previous release ends a holding and leaves the id. */
export const containerIdOf = (row: Allocation): string | null =>
  row.status === 'allocated' && row.containerSince === row.movedAt ? row.containerId : null;

/** Returns the row without what it has of an earlier holder: a server of the previous release claims an address without
 *  writing its instance and request. */
export function ofItsClaim(row: Allocation): Allocation {
  const isOfClaim = row.status !== 'allocated' || row.claimedAt === null || row.claimedAt === row.movedAt;
  if (isOfClaim && row.containerSince === null) return row;
  const containerId = containerIdOf(row);
  return {
    ...row,
    ...(isOfClaim ? {} : { instance: null, requestId: null }),
    ...{ containerId, containerSince: containerId === null ? null : row.containerSince },
  };
}

/** The largest age of what a read of EC2 shows, in milliseconds. EC2 is eventually consistent; its developer guide
 *  ("Eventual consistency in the Amazon EC2 API") advises to wait up to five minutes for a change to show. */
export const LATE_READS_MS = 300_000;

/** For how long the free address must not return to `eni`, in milliseconds; 0: it may return now. After an unassign, a
 *  late read may still show it there, and an unassign call without an answer may still take it off. */
export function staysAwayMs(row: Allocation, eni: EniId, rest: Rest, now: number): number {
  if (row.leftIface !== eni || row.leftAt === null) return 0;
  return Math.max(row.leftAt + awayMs(row.leftUnsure, rest) - now, 0);
}

/** For how long an unassigned address must not return to its ENI, in milliseconds. Tests may set a grace that is
 *  shorter than LATE_READS_MS. */
export const awayMs = (unsure: boolean, { graceMs }: Rest): number =>
  unsure ? graceMs : Math.min(graceMs, LATE_READS_MS);

/** Whether an unassign from `eni` may still be applied, or a read may still show the address there. */
export const mayStillLeave = (row: Allocation, eni: EniId, rest: Rest, now: number): boolean =>
  staysAwayMs(row, eni, rest, now) > 0;

/** Whether a read that shows the address on `eni` may date from before it left that ENI. Only the last ENI that it
 *  left is noted. If it was placed there long ago, it left all others even earlier. */
export const mayShowPast = (row: Allocation, eni: EniId, now: number): boolean =>
  now < mayShowPastUntil(row, eni);

/** From when on a read that shows the address on `eni` dates from after it left that ENI, by the store's clock. */
export function mayShowPastUntil({ leftAt, leftIface, placedAt }: Allocation, eni: EniId): number {
  if (leftAt === null) return Number.NEGATIVE_INFINITY;
  const isPlaced = leftIface !== eni && placedAt !== null;
  return (isPlaced ? Math.min(leftAt, placedAt) : leftAt) + LATE_READS_MS;
}

/** For how long an address that EC2 refused for an unknown reason is not tried again, in milliseconds. */
export const SKIPPED_FOR_MS = 600_000;

/** Whether EC2 refused this free address within SKIPPED_FOR_MS. */
export const isSkipped = (row: Allocation, now: number): boolean =>
  row.refusedAt !== null && now - row.refusedAt < SKIPPED_FOR_MS;

/** Whether the held address is on its ENI. Else a repair may be under way, and the end of its holding leads to
 *  `unassigning`, where the grace is waited for. */
const isInPlace = (row: Allocation): boolean => row.missingSince === null;
/** Whether a repair without an answer may still put the address on its ENI. Until it can't, the address is not taken off. */
export const mayComeBack = ({ repairUnsureAt }: Allocation, { graceMs }: Rest, now: number): boolean =>
  repairUnsureAt !== null && now - repairUnsureAt < graceMs;

/** Returns the move that ends the holding of an allocated row. */
export const moveToEnd = (row: Allocation): 'release' | 'retire' => (isInPlace(row) ? 'release' : 'retire');
/** The same, for a claim whose answer nobody received. */
export const moveToUndo = (row: Allocation): 'undo' | 'undo missing' =>
  isInPlace(row) ? 'undo' : 'undo missing';

/** Returns the move of a release by the holder or by an operator; null when no holder is known. */
export function moveToGiveUp(row: Allocation): 'release' | 'retire' | 'surrender' | 'vacated' | null {
  if (row.primary || row.iface === null) return null;
  if (row.status === 'allocated') return moveToEnd(row);
  if (row.status === 'occupied') return row.absentSince === null ? 'surrender' : 'vacated';
  return null;
}
