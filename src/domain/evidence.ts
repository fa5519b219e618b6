import { type Allocation, LATE_READS_MS } from './allocation.ts';

/** What EC2 says of an ENI that proves the end of its holders, if it goes on saying so. A holder is given up on
 *  nothing less; absence from a list proves nothing. */
export type Ending =
  /** There is no such ENI, and the same client is shown another one of its owner. */
  | { readonly kind: 'gone' }
  /** It is attached to nothing. */
  | { readonly kind: 'detached' }
  /** It was attached anew: who held an address on it before `claimsEndBefore` held it on another attachment. */
  | {
      readonly kind: 'attached anew';
      readonly attachment: string;
      /** By EC2's clock, for people. */
      readonly attachedAt: number | null;
      readonly claimsEndBefore: number;
    };

/** How long EC2 has to go on saying it, in milliseconds. */
export const STANDS_FOR_MS: Readonly<Record<Ending['kind'], number>> = {
  gone: 600_000,
  detached: 300_000,
  'attached anew': 300_000,
};

/** How far the store's clock may step back between two readings, in milliseconds. */
export const CLOCK_STEPS_BACK_MS_MAX = 300_000;
/** Where EC2 does not say for how long an ENI has been attached: a claim must be so much older than the last read that
 *  showed the attachment before, in milliseconds. */
export const CLAIMS_MARGIN_MS = LATE_READS_MS + CLOCK_STEPS_BACK_MS_MAX;
/** EC2 tells times in whole seconds, and not all of its machines have the same; in milliseconds. */
const ATTACHED_MARGIN_MS = 5_000;

export const sameEnding = (a: Ending, b: Ending): boolean =>
  a.kind === b.kind &&
  (a.kind !== 'attached anew' || b.kind !== 'attached anew' || a.attachment === b.attachment);

/** Whether the row's holder came to an end with it. Both times are the store's: EC2's clock may be another. */
export const endedWith = (row: Allocation, ending: Ending): boolean =>
  ending.kind !== 'attached anew' || row.movedAt < ending.claimsEndBefore;

/** How the ledger has the attachments of an ENI; times are the store's. */
export interface Attachments {
  readonly attachment: string | null;
  /** Start of the last read that showed `attachment`. */
  readonly attachmentSeenAt: number | null;
  /** The one before, and the start of the last read that showed it. */
  readonly earlierAttachment: string | null;
  readonly claimsEndBefore: number | null;
}

/** How EC2 shows an ENI. */
export interface Shown {
  readonly attachment: string | null;
  /** For how long it has been attached, in milliseconds, by one clock; null: that is not known. */
  readonly attachedForMs: number | null;
}
export const DETACHED: Shown = { attachment: null, attachedForMs: null };

/** What was claimed before then was claimed on the attachment before: it is older than the last read of that one, which may
 *  have been late, and older than the new one. By so much more as the store's clock may have been set back before or since:
 *  what is claimed after that looks older than it is. */
function claimsBefore(seenAt: number | null, readAt: number, { attachedForMs }: Shown): number | null {
  if (seenAt === null) return null;
  if (attachedForMs === null) return seenAt - CLAIMS_MARGIN_MS;
  return Math.min(seenAt, readAt - attachedForMs - ATTACHED_MARGIN_MS) - CLOCK_STEPS_BACK_MS_MAX;
}

/** The attachments after a read that was begun at `readAt`; null: the read is late, since EC2 uses no attachment id twice,
 *  and says nothing of how the ENI is now. */
export function attachmentsAfter(known: Attachments, shown: Shown, readAt: number): Attachments | null {
  const { attachment, attachmentSeenAt, earlierAttachment, claimsEndBefore } = known;
  const now = { attachment: shown.attachment, attachmentSeenAt: readAt };
  if (shown.attachment === attachment) return { ...now, earlierAttachment, claimsEndBefore };
  if (shown.attachment !== null && shown.attachment === earlierAttachment) {
    // Nothing shown before may be older still: what is shown for longer than reads are late is so.
    const isLate = attachmentSeenAt === null || readAt - attachmentSeenAt < LATE_READS_MS;
    if (attachment !== null && isLate) return null;
    // It was taken for detached on a read from before it was attached, or is so again in a late one.
    if (attachment === null) return { ...now, earlierAttachment: null, claimsEndBefore: null };
  }
  const before = (seenAt: number | null) =>
    shown.attachment === null ? seenAt : claimsBefore(seenAt, readAt, shown);
  // Of a detached ENI nobody claims: the attachment before that is the one that claims were made on.
  if (attachment === null) return { ...now, earlierAttachment, claimsEndBefore: before(claimsEndBefore) };
  return { ...now, earlierAttachment: attachment, claimsEndBefore: before(attachmentSeenAt) };
}
