/**
 * How a day goes: the rate at which containers start swings between 0.4 and 1.6 times its mean as a sinusoid,
 * least at one in the night and most at lunch time. That aggregate rates have such a daily period is what
 * https://arxiv.org/abs/2312.10127 shows of production traces. How long they live is as the Sysdig container
 * usage report of 2019 counted it, up to six hours
 * (https://sysdig.com/blog/sysdig-2019-container-usage-report/), evenly on a logarithmic scale within each
 * class; what lives longer is a resident here.
 */
import type { Random } from '../../test/simulation/random.ts';

export const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const PEAK_MS = 13 * HOUR_MS;
const SWING = 0.6;
/** The highest rate, of the mean. */
export const RATE_MAX = 1 + SWING;

/** Containers of each hundred that live so long, in milliseconds. */
const LIFETIMES = [
  { part: 22, fromMs: 1_000, toMs: 10_000 },
  { part: 17, fromMs: 10_000, toMs: 60_000 },
  { part: 15, fromMs: 60_000, toMs: 300_000 },
  { part: 9, fromMs: 300_000, toMs: 600_000 },
  { part: 10, fromMs: 600_000, toMs: 1_800_000 },
  { part: 4, fromMs: 1_800_000, toMs: HOUR_MS },
  { part: 6, fromMs: HOUR_MS, toMs: 6 * HOUR_MS },
];

/** The rate at that moment, of the mean. */
export const rateAt = (at: number): number =>
  1 + SWING * Math.cos((2 * Math.PI * ((at - PEAK_MS) % DAY_MS)) / DAY_MS);

export function lifetimeMs(random: Random): number {
  let left = random.next() * LIFETIMES.reduce((sum, { part }) => sum + part, 0);
  for (const { part, fromMs, toMs } of LIFETIMES) {
    if (left < part) return fromMs * (toMs / fromMs) ** random.next();
    left -= part;
  }
  return HOUR_MS;
}
