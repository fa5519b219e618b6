import type { Allocation } from './allocation.ts';

/** What EC2 says of an ENI that proves the end of its holders, if it goes on saying so. A holder is given up on
 *  nothing less; absence from a list proves nothing. */
export type Ending =
  /** There is no such ENI, and the same client sees its subnet. */
  | { readonly kind: 'gone' }
  /** It is attached to nothing or, where the ledger is one instance's, to another one. */
  | { readonly kind: 'detached' }
  /** It was attached anew: who held an address on it before then held it on another attachment. */
  | { readonly kind: 'attached anew'; readonly attachment: string; readonly attachedAt: number };

/** How long EC2 has to go on saying it, in milliseconds. */
export const STANDS_FOR_MS: Readonly<Record<Ending['kind'], number>> = {
  gone: 600_000,
  detached: 300_000,
  'attached anew': 300_000,
};
/** EC2's clock and the store's may be this far apart, in milliseconds. */
export const CLOCKS_APART_MS = 60_000;

export const sameEnding = (a: Ending, b: Ending): boolean =>
  a.kind === b.kind &&
  (a.kind !== 'attached anew' || b.kind !== 'attached anew' || a.attachment === b.attachment);

/** Whether the row's holder came to an end with it. */
export const endedWith = (row: Allocation, ending: Ending): boolean =>
  ending.kind !== 'attached anew' || row.movedAt < ending.attachedAt - CLOCKS_APART_MS;
