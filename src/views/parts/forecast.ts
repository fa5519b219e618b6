/** When a subnet is full, if it goes on as lately. */
import { LATELY_MS, type RecentEnd } from '../../store/looks.ts';
import type { Reading, Store } from '../../store/store.ts';
import { kept } from './kept.ts';

/** Samples are taken when somebody looks, at most so often, and are kept for an hour. */
const SAMPLE_EVERY_MS = 60_000;
const SAMPLES_MAX = 60;
/** What was seen for less time says nothing of the hours to come. */
const SPAN_MS_MIN = 10 * 60_000;
/** The records of the history that are read. When there are more in the last hour, only what this process saw counts. */
const HISTORY_MAX = 2000;
const HISTORY_KEPT_MS = 30_000;
/** A longer time is not told: until then it changes. */
const TOLD_MS_MAX = 30 * 24 * 3_600_000;

interface Sample {
  readonly at: number;
  readonly available: number;
}

/** Addresses that become unavailable in a millisecond; null: it is not known. */
type Rate = number | null;

export interface Forecast {
  /** Notes how many addresses of the subnet are available now, and returns in how many milliseconds none is; null: that is
   *  not known, or there is no such time. `begun`: how many are held since less than LATELY_MS ago. */
  fullInMs(subnet: string, available: number, begun: number): Promise<number | null>;
}

/** It counts on what this process saw for ten minutes or more, else on the history of the last hour, or of the time since
 *  the first server of the ledger started, if that is less. */
export function createForecast(
  store: Pick<Store, 'recentHistory' | 'servers'>,
  clock: () => number,
): Forecast {
  const samplesOf = new Map<string, Sample[]>();
  const history = kept(() => readHistory(store), HISTORY_KEPT_MS, clock);

  function note(subnet: string, available: number): Rate {
    const samples = samplesOf.get(subnet) ?? [];
    const now = clock();
    const before = samples.filter(({ at }) => now - at < SAMPLES_MAX * SAMPLE_EVERY_MS);
    const last = before.at(-1);
    if (last === undefined || now - last.at >= SAMPLE_EVERY_MS) before.push({ at: now, available });
    samplesOf.set(subnet, before);
    const [first] = before;
    if (first === undefined || now - first.at < SPAN_MS_MIN) return null;
    return (first.available - available) / (now - first.at);
  }

  return {
    async fullInMs(subnet, available, begun) {
      const seen = note(subnet, available);
      const rate = seen ?? rateIn(await history(), subnet, begun);
      if (rate === null || rate <= 0) return null;
      const ms = available / rate;
      return ms <= TOLD_MS_MAX ? Math.round(ms) : null;
    },
  };
}

interface History extends Reading<RecentEnd> {
  /** Of the last LATELY_MS, what the ledger has seen, in milliseconds. */
  readonly seenMs: number;
}

/** A server stays in the ledger for days after its end. */
async function readHistory(store: Pick<Store, 'recentHistory' | 'servers'>): Promise<History> {
  const { now, rows: servers } = await store.servers();
  const begunAt = Math.min(now, ...servers.map(({ startedAt }) => startedAt));
  const ends = await store.recentHistory(LATELY_MS, HISTORY_MAX);
  return { ...ends, seenMs: Math.min(ends.now - begunAt, LATELY_MS) };
}

/** By what was given and is held still, less what was held before and was given up. Who came and went in between does not
 *  count. */
function rateIn({ now, rows, seenMs }: History, subnet: string, begun: number): Rate {
  if (seenMs < SPAN_MS_MIN) return null;
  const own = rows.filter(one => one.subnet === subnet);
  if (own.length === 0 || rows.length === HISTORY_MAX) return null;
  const givenUp = own.filter(({ since }) => (since ?? 0) <= now - LATELY_MS).length;
  return (begun - givenUp) / seenMs;
}
