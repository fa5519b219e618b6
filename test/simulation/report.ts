/** Runs many histories, and describes a failure so that it can be repeated. */
import { shrink } from './shrink.ts';
import { type History, planLength, simulate } from './simulate.ts';

/** Lines of the shortest history that are shown. */
const LINES_SHOWN_MAX = 80;

export type Tally = ReturnType<typeof newTally>;
export const newTally = () => ({
  histories: 0,
  steps: 0,
  counts: {} as Record<string, number>,
  failures: [] as History[],
});

export async function runSeeds(from: number, seeds: number, failuresMax = 10): Promise<Tally> {
  const tally = newTally();
  for (let seed = from; seed < from + seeds && tally.failures.length < failuresMax; seed++) {
    const history = await simulate(seed);
    const failures = history.violation === null ? [] : [history];
    addTally(tally, { ...history, histories: 1, counts: Object.fromEntries(history.counts), failures });
  }
  return tally;
}

export function addTally(sum: Tally, more: Tally): void {
  sum.histories += more.histories;
  sum.steps += more.steps;
  sum.failures.push(...more.failures);
  for (const [operation, count] of Object.entries(more.counts))
    sum.counts[operation] = (sum.counts[operation] ?? 0) + count;
}

/** The broken rule, the shortest history found that breaks it, and the command that repeats it. */
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
