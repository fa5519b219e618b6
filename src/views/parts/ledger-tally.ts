/** What metrics and pages say of the whole ledger, read with few statements that list no addresses but intents. */
import { INTENTS } from '../../domain/allocation.ts';
import type { Store, Tally } from '../../store/store.ts';

/** The oldest intents that are read. In good order there are a few. */
const INTENTS_MAX = 1000;

/** An intent is `sent` while its call may be under way, `in_doubt` after that, and `overdue` when it should have been
 *  taken over. */
export const INTENT_AGES = ['sent', 'in_doubt', 'overdue'] as const;
export type IntentAge = (typeof INTENT_AGES)[number];

export interface LedgerView {
  readonly tally: readonly Tally[];
  readonly intents: Readonly<Record<IntentAge, number>>;
  /** In milliseconds; 0 without intents. */
  readonly oldestIntentMs: number;
  /** Addresses that are in use on a host, and that nobody holds. */
  readonly withheld: number;
}

/** In milliseconds. */
export interface IntentTimes {
  readonly callDeadlineMs: number;
  readonly intentGraceMs: number;
}

/** What the ledger says of its intents. */
export async function intentsIn(
  store: Pick<Store, 'intents'>,
  { callDeadlineMs, intentGraceMs }: IntentTimes,
): Promise<Pick<LedgerView, 'intents' | 'oldestIntentMs'>> {
  const { rows, now } = await store.intents(0, INTENTS_MAX);
  const intents = { ...NO_INTENTS };
  for (const { movedAt } of rows) {
    const ageMs = now - movedAt;
    intents[ageMs < callDeadlineMs ? 'sent' : ageMs < intentGraceMs ? 'in_doubt' : 'overdue']++;
  }
  return { intents, oldestIntentMs: Math.max(0, ...rows.map(({ movedAt }) => now - movedAt)) };
}
const NO_INTENTS = { sent: 0, in_doubt: 0, overdue: 0 };

export async function viewOf(
  store: Pick<Store, 'tally' | 'intents' | 'usedSightings'>,
  times: IntentTimes,
): Promise<LedgerView> {
  const tally = await store.tally();
  const hasIntents = tally.some(({ status }) => INTENTS.some(intent => intent === status));
  const said = hasIntents ? await intentsIn(store, times) : { intents: NO_INTENTS, oldestIntentMs: 0 };
  return { tally, ...said, withheld: (await store.usedSightings()).rows.length };
}
