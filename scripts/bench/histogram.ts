/** How long things took, in bounded memory: counts of latencies in buckets of which each is 1 % wider than the one
 *  before. Histograms of several windows add up. */

const BUCKET_GROWTH = 1.01;
const MS_MIN = 0.001;
/** The last bucket begins at about 18 minutes; what is longer counts there. */
const BUCKETS = 2_090;

export interface Histogram {
  count: number;
  /** Exact, in milliseconds. */
  max: number;
  readonly buckets: number[];
}

export const newHistogram = (): Histogram => ({ count: 0, max: 0, buckets: Array(BUCKETS).fill(0) });

export function record(histogram: Histogram, ms: number): void {
  const exponent = Math.ceil(Math.log(Math.max(ms, MS_MIN) / MS_MIN) / Math.log(BUCKET_GROWTH));
  const bucket = Math.min(exponent, BUCKETS - 1);
  histogram.buckets[bucket] = (histogram.buckets[bucket] ?? 0) + 1;
  histogram.count++;
  histogram.max = Math.max(histogram.max, ms);
}

export function merge(into: Histogram, more: Histogram): void {
  for (const [bucket, count] of more.buckets.entries())
    into.buckets[bucket] = (into.buckets[bucket] ?? 0) + count;
  into.count += more.count;
  into.max = Math.max(into.max, more.max);
}

/** The latency in milliseconds that the part `q` (0 to 1) did not exceed, at most 1 % too high; NaN of nothing. */
export function quantile({ count, max, buckets }: Histogram, q: number): number {
  if (count === 0) return Number.NaN;
  let left = Math.max(Math.ceil(count * q), 1);
  for (const [bucket, inIt] of buckets.entries()) {
    left -= inIt;
    if (left <= 0) return Math.min(MS_MIN * BUCKET_GROWTH ** bucket, max);
  }
  return max;
}
