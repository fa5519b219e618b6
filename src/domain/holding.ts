/**
 * Decides whether a release may end the present holding of an address: only one that existed when the release arrived.
 *
 * The history may be off. So the decision rests on the row: on the id and the time of its last release, by the store's
 * clock, and on the row that the process remembers. Each read of the row (a look) compares that clock with the clocks of
 * the process, and is wrong by as much as the store's clock was set between the arrival and the look.
 */
import type { Allocation } from './allocation.ts';

/** A time by two clocks, in milliseconds: one is never faster than real time, the other never slower. */
export interface Moment {
  readonly least: number;
  readonly most: number;
}

/** A read of the row. */
export interface Look {
  readonly row: Allocation | undefined;
  /** The store's clock. */
  readonly now: number;
  readonly sentAt: Moment;
  readonly heardAt: Moment;
}

/** What is known of the holding that a release is to end. */
export interface Evidence {
  /** The id of the release. */
  readonly id: string;
  /** The id of the request whose holding it is to end; null: not known. */
  readonly givenTo: string | null;
  readonly arrivedAt: Moment;
  /** The latest time of its arrival, by the clock that is never faster than real time. */
  readonly arrivedBy: number;
  /** The store's clock when the release arrived, or earlier; null: not known. */
  readonly storeAt: number | null;
  /** The row of the last move that was tried, and whether it was read from the ledger. */
  readonly tried: { readonly row: Allocation; readonly isRead: boolean } | null;
  /** The number of moves without an answer. They may have been made. */
  readonly unanswered: number;
  readonly looks: number;
  /** The store's clock minus ours, by the looks. */
  readonly aheadMinMs: number;
  readonly aheadMaxMs: number;
}

/** `meant`: it is the holding that the release is to end. `made`: the release has ended it, though its move may have had
 *  no answer. `later`: a new one, since the old one ended after this process had read it. `kept`: a new one, by its time.
 *  `again`: another look may decide it. `unsure`: no look can. */
export type Judgement = 'meant' | 'made' | 'later' | 'kept' | 'again' | 'unsure';

/** The most looks at a row that may have been claimed again. A faster answer tells the time more exactly. */
const LOOKS_MAX = 3;
/** A look that is answered so soon after the arrival, in milliseconds, shows the holding that was meant when the clocks
 *  cannot decide: no address is released and claimed again so quickly. */
const PROMPT_MS = 250;
/** The largest step of the store's clock between a release and a look, in milliseconds. */
const STEP_MS = 5_000;
/** The store's clock is read in whole milliseconds. */
const ROUNDING_MS = 1;

/** Whether the row is still in the holding of `claimed`. Every move that ends a holding sets `restedSince`. */
export const isSameHolding = (row: Allocation, claimed: Allocation): boolean =>
  row.status === claimed.status && row.iface === claimed.iface && row.restedSince === claimed.restedSince;

/** Whether this release was the last one that ended a holding of the row. The row keeps the id when it is claimed anew. */
export const isMade = (row: Allocation, id: string): boolean => row.releaseId === id;

interface Arrival {
  readonly agoMs?: number;
  readonly atMost?: boolean;
  readonly givenTo?: string | null;
}

/** Whether the held row was given to that request; null: not known. */
export const isGivenTo = ({ requestId }: Allocation, request: string | null): boolean | null =>
  request === null || requestId === null ? null : requestId === request;

/** `agoMs`: the release was sent so long before it arrived, or so long `atMost`. Then "arrived" means "was sent" in what
 *  follows. */
export const onArrival = (
  id: string,
  arrivedAt: Moment,
  storeAt: number | null,
  { agoMs = 0, atMost = false, givenTo = null }: Arrival = {},
): Evidence => ({
  id,
  givenTo,
  arrivedAt: agoMs === 0 ? arrivedAt : { least: arrivedAt.least - agoMs, most: arrivedAt.most - agoMs },
  arrivedBy: atMost ? arrivedAt.least : arrivedAt.least - agoMs,
  storeAt: storeAt === null ? null : storeAt - agoMs,
  ...{ tried: null, unanswered: 0, looks: 0 },
  aheadMinMs: Number.NEGATIVE_INFINITY,
  aheadMaxMs: Number.POSITIVE_INFINITY,
});

/** Before a move of the row is sent. */
export const afterTry = (known: Evidence, row: Allocation, isRead: boolean): Evidence => ({
  ...known,
  tried: { row, isRead },
  unanswered: known.unanswered + 1,
});

/** After the store answered that it did not make the move. */
export const afterNo = (known: Evidence): Evidence => ({ ...known, unanswered: known.unanswered - 1 });

export const afterLook = (known: Evidence, { now, sentAt, heardAt }: Look): Evidence => ({
  ...known,
  looks: known.looks + 1,
  aheadMinMs: Math.max(known.aheadMinMs, now - heardAt.most),
  aheadMaxMs: Math.min(known.aheadMaxMs, now + ROUNDING_MS - sentAt.least),
});

/** `known` includes the look. */
export function judge(known: Evidence, look: Look): Judgement {
  const { row } = look;
  const { id, givenTo, tried, looks } = known;
  if (row === undefined) return 'meant';
  if (isMade(row, id)) return 'made';
  const isGiven = row.status === 'allocated' ? isGivenTo(row, givenTo) : null;
  if (isGiven !== null) return isGiven ? 'meant' : 'later';
  if (tried !== null && isSameHolding(row, tried.row)) return 'meant';
  if (tried?.isRead) return 'later';
  if (row.status !== 'allocated') return 'meant';
  const judged = judgeByClock(known, look, row);
  const isDoubted = judged === 'unsure' || (judged === 'meant' && mayFollow(known, row));
  return !isDoubted ? judged : looks < LOOKS_MAX ? 'again' : 'unsure';
}

/** Whether a move of this release, which had no answer, may have ended the old holding, and another release a later one:
 *  then the row has the id of that one. By the store's clock at the arrival the row was released since; by the looks it was
 *  before, if the clock was set forward meanwhile. */
const mayFollow = ({ unanswered, storeAt }: Evidence, { restedSince }: Allocation): boolean =>
  unanswered > 0 && storeAt !== null && restedSince !== null && restedSince > storeAt - ROUNDING_MS;

/** Returns a lower bound of the moment by the store's clock. `storeAt` counts only if it agrees with the looks, since
 *  the clock may have been set back before. */
function earliest({ arrivedAt, storeAt, aheadMinMs, aheadMaxMs }: Evidence, { most }: Moment): number {
  const fits = storeAt !== null && storeAt <= arrivedAt.least + aheadMaxMs;
  return fits ? Math.max(most + aheadMinMs, storeAt) : most + aheadMinMs;
}

/** Whether the holding may have begun while the process was suspended, after it had read the release. The clock that is never
 *  faster than real time stopped then, so it does not tell that the holding is later. */
function mayBeLater(known: Evidence, heardAt: Moment, { movedAt }: Allocation): boolean {
  const { least, most } = known.arrivedAt;
  const readAt = { least: known.arrivedBy, most: most + known.arrivedBy - least };
  const suspendedMs = heardAt.most - readAt.most - (heardAt.least - readAt.least);
  return suspendedMs > PROMPT_MS && movedAt > earliest(known, readAt);
}

function judgeByClock(known: Evidence, { now, heardAt }: Look, row: Allocation): Judgement {
  const { arrivedAt, arrivedBy, storeAt, aheadMaxMs } = known;
  const [from, to] = [earliest(known, arrivedAt), arrivedAt.least + aheadMaxMs];
  const isLater = row.movedAt > arrivedBy + aheadMaxMs;
  // Every move that ends a holding notes its time, so none was made since the release arrived. But if the address had no
  // holder then, this one is new; or it is older, and the store's clock was set back before the release arrived.
  const isUnended = row.restedSince === null || row.restedSince < from - STEP_MS;
  const isNew = row.movedAt <= now && (storeAt === null || row.movedAt > storeAt);
  if (isUnended) return isNew && (isLater || mayBeLater(known, heardAt, row)) ? 'unsure' : 'meant';
  const isPrompt = heardAt.most - arrivedAt.most <= PROMPT_MS;
  // A holding with a time after the look began before the store's clock was set back. That was before the release
  // arrived if `storeAt` agrees with the look, or is not known.
  const isDatedLater = row.movedAt > now && (isPrompt || storeAt === null || storeAt <= to);
  if (isDatedLater) return 'meant';
  // If the store's clock was set back meanwhile, the holding may have begun before that.
  if (isLater && storeAt !== null && storeAt > to && row.movedAt <= storeAt) return 'unsure';
  if (isLater) return 'kept';
  if (isPrompt || row.movedAt <= from) return 'meant';
  // It began while a statement was under way, or while the release waited for this process; or our clocks disagree, since the
  // process was suspended or they were set.
  return 'unsure';
}
