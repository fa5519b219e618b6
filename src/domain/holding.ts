/**
 * Tells which holding of an address a release is to end: the one that there was when the release arrived, and none that
 * began later. The ledger keeps no history. What tells is the row that the process remembers, and when the row was last
 * given up, by the store's clock, which each look at the row compares with the process's clocks. Setting the store's clock
 * between the arrival and a look makes that comparison wrong by as much.
 */
import type { Allocation } from './allocation.ts';

/** A time, in milliseconds. One clock passes as fast as real time at most, the other at least. */
export interface Moment {
  readonly least: number;
  readonly most: number;
}

/** A row as the ledger had it, and when that was asked for and heard. */
export interface Look {
  readonly row: Allocation | undefined;
  /** The store's clock. */
  readonly now: number;
  readonly sentAt: Moment;
  readonly heardAt: Moment;
}

/** What is known of the holding that a release is to end. */
export interface Evidence {
  readonly arrivedAt: Moment;
  /** The store's clock when the release arrived, or earlier; null: not known. */
  readonly storeAt: number | null;
  /** The last row that a move was tried on, whether the ledger was read for it, and when the first move was tried. */
  readonly tried: { readonly row: Allocation; readonly isRead: boolean; readonly firstAt: Moment } | null;
  /** Moves that had no answer: they may have been made. */
  readonly unanswered: number;
  readonly looks: number;
  /** The store's clock less ours, as the looks say. */
  readonly aheadMinMs: number;
  readonly aheadMaxMs: number;
}

/** What a look says of the row: it is the holding that was meant; it began later, after the release's own move had
 *  ended the one before (`later`) or somebody else had (`kept`); another look may tell (`again`); none can
 *  (`unsure`). */
export type Judgement = 'meant' | 'later' | 'kept' | 'again' | 'unsure';

/** Looks at a row that may have been given anew: the quicker the answer, the closer it tells when. */
const LOOKS_MAX = 3;
/** A look that is answered so soon after the release arrived, in milliseconds, finds the holding that was meant where
 *  clocks can't tell: nobody gives an address up and gets it anew so quickly. */
const PROMPT_MS = 250;
/** The store's clock may have stepped by as much between a release and a look, in milliseconds. */
const STEP_MS = 5_000;
/** The store's clock is read in whole milliseconds. */
const ROUNDING_MS = 1;

/** Whether the row still is in the holding that `claimed` began: every move that ends a holding lets the address rest
 *  anew. */
export const isSameHolding = (row: Allocation, claimed: Allocation): boolean =>
  row.status === claimed.status && row.iface === claimed.iface && row.restedSince === claimed.restedSince;

export const onArrival = (arrivedAt: Moment, storeAt: number | null): Evidence => ({
  ...{ arrivedAt, storeAt, tried: null, unanswered: 0, looks: 0 },
  aheadMinMs: Number.NEGATIVE_INFINITY,
  aheadMaxMs: Number.POSITIVE_INFINITY,
});

/** A move of the row is about to be sent. */
export const afterTry = (known: Evidence, row: Allocation, isRead: boolean, at: Moment): Evidence => ({
  ...known,
  tried: { row, isRead, firstAt: known.tried?.firstAt ?? at },
  unanswered: known.unanswered + 1,
});

/** The store says that it has not made that move. */
export const afterNo = (known: Evidence): Evidence => ({ ...known, unanswered: known.unanswered - 1 });

export const afterLook = (known: Evidence, { now, sentAt, heardAt }: Look): Evidence => ({
  ...known,
  looks: known.looks + 1,
  aheadMinMs: Math.max(known.aheadMinMs, now - heardAt.most),
  aheadMaxMs: Math.min(known.aheadMaxMs, now + ROUNDING_MS - sentAt.least),
});

/** `known`: with this look. */
export function judge(known: Evidence, look: Look): Judgement {
  const { row } = look;
  const { tried, looks } = known;
  const unsure = looks < LOOKS_MAX ? 'again' : 'unsure';
  if (row === undefined) return 'meant';
  if (tried !== null && isSameHolding(row, tried.row)) return 'meant';
  if (tried?.isRead) return 'later';
  if (row.status !== 'allocated') return 'meant';
  const follows = followsTry(known, row);
  if (follows === 'yes') return unsure === 'unsure' ? 'kept' : unsure;
  const judged = judgeByClock(known, look, row);
  return judged === 'unsure' || (judged === 'meant' && follows === 'maybe') ? unsure : judged;
}

/** No later than that by the store's clock. What we took for its time when the release arrived counts only if it fits
 *  the looks: the clock may have been set back before. */
function earliest({ arrivedAt, storeAt, aheadMinMs, aheadMaxMs }: Evidence, { most }: Moment): number {
  const fits = storeAt !== null && storeAt <= arrivedAt.least + aheadMaxMs;
  return fits ? Math.max(most + aheadMinMs, storeAt) : most + aheadMinMs;
}

/** Whether the row was given anew after the first try, which was made after all, had given it up. What was remembered
 *  may as well have ended before, at another server: then the row was given up before the try was sent. `maybe`: it
 *  was if the store's clock has been set forward between a try without an answer and the look. */
function followsTry(known: Evidence, { restedSince }: Allocation): 'yes' | 'maybe' | 'no' {
  const { arrivedAt, storeAt, tried, unanswered } = known;
  if (tried === null || restedSince === null) return 'no';
  const triedAt = earliest(known, tried.firstAt);
  if (restedSince > triedAt - ROUNDING_MS) return 'yes';
  if (unanswered === 0) return 'no';
  const leastAt = storeAt === null ? triedAt - STEP_MS : storeAt + (tried.firstAt.least - arrivedAt.least);
  return restedSince > leastAt - ROUNDING_MS ? 'maybe' : 'no';
}

function judgeByClock(known: Evidence, { now, heardAt }: Look, row: Allocation): Judgement {
  const { arrivedAt, storeAt, looks, aheadMaxMs } = known;
  const [from, to] = [earliest(known, arrivedAt), arrivedAt.least + aheadMaxMs];
  // Every move that ends a holding writes down when: since the release arrived none was made.
  if (row.restedSince === null || row.restedSince < from - STEP_MS) return 'meant';
  const isPrompt = heardAt.most - arrivedAt.most <= PROMPT_MS;
  // One that is dated after the look began before the store's clock was set back: before the release arrived, if what
  // we took for the store's time then fits the look, or if we had not heard it since we started.
  const isDatedLater = row.movedAt > now && (isPrompt || storeAt === null || storeAt <= to);
  if (isDatedLater) return 'meant';
  if (row.movedAt > to) return 'kept';
  if (isPrompt || row.movedAt <= from) return 'meant';
  // It began while a statement was under way, or our clocks don't agree: we were suspended, or they were set.
  return to - from <= PROMPT_MS && looks >= LOOKS_MAX ? 'meant' : 'unsure';
}
