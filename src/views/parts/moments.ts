/** When readings were begun, so that who sees a view made of several goes on after the live event before the earliest. */

/** When a reading was begun, in the order of this process, and the last live event before that. */
export interface Moment {
  readonly order: number;
  readonly lastEvent: string;
}

export function createMoments(lastEvent: () => string): () => Moment {
  let order = 0;
  return () => ({ order: order++, lastEvent: lastEvent() });
}

/** The last live event before the earliest of them. */
export const lastEventBefore = (...[first, ...others]: readonly [Moment, ...Moment[]]): string =>
  others.reduce((earliest, one) => (one.order < earliest.order ? one : earliest), first).lastEvent;
