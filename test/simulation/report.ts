/** Runs many histories, and tells of a failure so that anybody can see it again. */
import { shrink } from './shrink.ts';
import { type History, planLength, simulate } from './simulate.ts';

export interface Tally {
  histories: number;
  steps: number;
  counts: Record<string, number>;
  failures: History[];
}

/** Lines of the shortest history that are shown. */
const LINES_SHOWN_MAX = 80;

export async function runSeeds(from: number, seeds: number, failuresMax = 10): Promise<Tally> {
  const tally: Tally = { histories: 0, steps: 0, counts: {}, failures: [] };
  for (let seed = from; seed < from + seeds && tally.failures.length < failuresMax; seed++) {
    const history = await simulate(seed);
    tally.histories++;
    tally.steps += history.steps;
    if (history.violation !== null) tally.failures.push(history);
    addCounts(tally.counts, history.counts);
  }
  return tally;
}

export function addTally(sum: Tally, more: Tally): void {
  sum.histories += more.histories;
  sum.steps += more.steps;
  sum.failures.push(...more.failures);
  addCounts(sum.counts, Object.entries(more.counts));
}

function addCounts(sum: Tally['counts'], more: Iterable<readonly [string, number]>): void {
  for (const [operation, count] of more) sum[operation] = (sum[operation] ?? 0) + count;
}

/** What broke, the shortest history found that breaks it, and the command that shows it again. */
export async function explain(seed: number): Promise<string> {
  const whole = await simulate(seed);
  if (whole.violation === null) return `seed ${seed} breaks no rule`;
  const { rule } = whole.violation;
  const kept = await shrink(
    planLength(seed),
    async some => (await simulate(seed, some)).violation?.rule === rule,
  );
  const { violation, lines, ops } = await simulate(seed, kept, true);
  return [
    ...lines.slice(-LINES_SHOWN_MAX),
    `seed ${seed}: ${rule}: ${violation?.detail}`,
    `shown are the last lines of the shortest history found, with ${ops} of ${whole.ops} operations; see it again:`,
    `npm run simulate-faults -- --seed ${seed} --keep ${kept.join(',') || 'none'}`,
  ].join('\n');
}
