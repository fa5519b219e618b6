/** What EC2 must show of an ENI, and for how long, before its holders are given up. */
import { type Allocation, LATE_READS_MS } from './allocation.ts';

/** A state of an ENI that ends its holders when EC2 shows it for STANDS_FOR_MS. Absence from a list of ENIs ends
 *  none. */
export type Ending =
  /** EC2 has no such ENI, and shows the same client another ENI of its owner. */
  | { readonly kind: 'gone' }
  /** It is not attached. */
  | { readonly kind: 'detached' }
  /** It has a new attachment. Addresses claimed before `claimsEndBefore` were held on the old one. */
  | {
      readonly kind: 'attached anew';
      readonly attachment: string;
      /** By EC2's clock, for people. */
      readonly attachedAt: number | null;
      readonly claimsEndBefore: number;
    };

/** For how long EC2 must show it, in milliseconds. */
export const STANDS_FOR_MS: Readonly<Record<Ending['kind'], number>> = {
  gone: 600_000,
  detached: 300_000,
  'attached anew': 300_000,
};

/** The largest step back of the store's clock between two readings, in milliseconds. */
export const CLOCK_STEPS_BACK_MS_MAX = 300_000;
/** How much older a claim must be than the last read of the old attachment, in milliseconds, when EC2 does not tell the
 *  time of the new attachment. */
export const CLAIMS_MARGIN_MS = LATE_READS_MS + CLOCK_STEPS_BACK_MS_MAX;
/** The error of EC2's attach times, in milliseconds: they are whole seconds, from servers whose clocks differ. */
const ATTACHED_MARGIN_MS = 5_000;

export const sameEnding = (a: Ending, b: Ending): boolean =>
  a.kind === b.kind &&
  (a.kind !== 'attached anew' || b.kind !== 'attached anew' || a.attachment === b.attachment);

/** Whether it ends the holder of the row. Both times are by the store's clock, since EC2's may differ. */
export const endedWith = (row: Allocation, ending: Ending): boolean =>
  ending.kind !== 'attached anew' || row.movedAt < ending.claimsEndBefore;

/** The attachments of an ENI in the ledger. Times are by the store's clock. */
export interface Attachments {
  readonly attachment: string | null;
  /** Start of the last read that showed `attachment`. */
  readonly attachmentSeenAt: number | null;
  /** The previous attachment, and the start of the last read that showed it. */
  readonly earlierAttachment: string | null;
  readonly claimsEndBefore: number | null;
}

/** The attachment of an ENI as EC2 shows it. */
export interface Shown {
  readonly attachment: string | null;
  /** For how long it has been attached, in milliseconds, by EC2's clock; null: not known. */
  readonly attachedForMs: number | null;
}
export const DETACHED: Shown = { attachment: null, attachedForMs: null };

/** Returns the time before which each claim was made on the old attachment; null: not known. Such a claim is older
 *  than the last read of the old attachment and older than the new attachment. CLOCK_STEPS_BACK_MS_MAX is subtracted,
 *  since a claim looks older than it is after the store's clock was set back. */
function claimsBefore(seenAt: number | null, readAt: number, { attachedForMs }: Shown): number | null {
  if (seenAt === null) return null;
  if (attachedForMs === null) return seenAt - CLAIMS_MARGIN_MS;
  return Math.min(seenAt, readAt - attachedForMs - ATTACHED_MARGIN_MS) - CLOCK_STEPS_BACK_MS_MAX;
}

/** Returns the attachments after a read that began at `readAt`; null when the read shows an old state: EC2 never uses
 *  an attachment id twice. */
export function attachmentsAfter(known: Attachments, shown: Shown, readAt: number): Attachments | null {
  const { attachment, attachmentSeenAt, earlierAttachment, claimsEndBefore } = known;
  const now = { attachment: shown.attachment, attachmentSeenAt: readAt };
  if (shown.attachment === attachment) return { ...now, earlierAttachment, claimsEndBefore };
  if (shown.attachment !== null && shown.attachment === earlierAttachment) {
    // What EC2 has shown for longer than LATE_READS_MS is not an old state.
    const isLate = attachmentSeenAt === null || readAt - attachmentSeenAt < LATE_READS_MS;
    if (attachment !== null && isLate) return null;
    // It was seen as detached, but only in an old state.
    if (attachment === null) return { ...now, earlierAttachment: null, claimsEndBefore: null };
  }
  const before = (seenAt: number | null) =>
    shown.attachment === null ? seenAt : claimsBefore(seenAt, readAt, shown);
  // Nobody claims on a detached ENI, so the claims were made on the attachment before.
  if (attachment === null) return { ...now, earlierAttachment, claimsEndBefore: before(claimsEndBefore) };
  return { ...now, earlierAttachment: attachment, claimsEndBefore: before(attachmentSeenAt) };
}
