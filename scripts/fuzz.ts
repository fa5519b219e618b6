// Sends hostile inputs to the driver, the agent, enrolment, certificates, the witness and the listeners:
// `npm run fuzz -- [--inputs N] [--seed S] [--part NAME] [--jobs J]`. Prints what was answered, how the heap has grown and
// the first broken rule, with the command that shows it again. Exit status 1: a rule was broken.
import process from 'node:process';
import { parseArgs } from 'node:util';
import { attack, PARTS } from '../test/fuzz/attack.ts';
import type { Outcome } from '../test/fuzz/part.ts';

process.exitCode = await main();

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      inputs: { type: 'string', default: '1000000' },
      seed: { type: 'string', default: '1' },
      jobs: { type: 'string', default: '2' },
      part: { type: 'string' },
    },
  });
  const [inputs, seed, jobs] = [Number(values.inputs), Number(values.seed), Number(values.jobs)];
  if (![inputs, seed, jobs].every(Number.isSafeInteger) || inputs < 1 || jobs < 0) {
    console.error('--inputs, --seed and --jobs are whole numbers');
    return 2;
  }
  if (values.part !== undefined && !PARTS.some(({ name }) => name === values.part)) {
    console.error(`--part is one of ${PARTS.map(({ name }) => name).join(', ')}`);
    return 2;
  }
  return await run(inputs, seed, jobs, values.part ?? null);
}

async function run(inputs: number, seed: number, jobs: number, only: string | null): Promise<number> {
  const startedAt = performance.now();
  const outcomes: Outcome[] = [];
  const told = (outcome: Outcome) => {
    outcomes.push(outcome);
    const { part, seed: own, inputs: sent, seconds, grownMb } = outcome;
    const grown = grownMb === null ? '' : `, heap ${grownMb.toFixed(1)} MB`;
    process.stderr.write(`${part}, seed ${own}: ${sent} inputs in ${seconds.toFixed(1)} s${grown}\n`);
  };
  await attack({ seed, inputs, only, jobs, told });
  for (const { name } of PARTS) console.log(summaryOf(name, outcomes));
  const sum = outcomes.reduce((total, { inputs: sent }) => total + sent, 0);
  console.log(`${sum} inputs in ${((performance.now() - startedAt) / 1000).toFixed(0)} s`);
  const failures = outcomes.filter(({ failure }) => failure !== null);
  for (const { part, seed: own, planned, failure } of failures)
    console.log(
      `\n${failure}\n  npm run fuzz -- --part '${part}' --seed ${own} --inputs ${planned} --jobs 0`,
    );
  return failures.length > 0 ? 1 : 0;
}

/** The kinds of answers of a part, the most frequent first. */
function summaryOf(name: string, outcomes: readonly Outcome[]): string {
  const kinds = new Map<string, number>();
  for (const outcome of outcomes.filter(({ part }) => part === name))
    for (const [kind, count] of Object.entries(outcome.kinds))
      kinds.set(kind, (kinds.get(kind) ?? 0) + count);
  const lines = [...kinds]
    .sort(([, a], [, b]) => b - a)
    .map(([kind, count]) => `  ${String(count).padStart(8)}  ${kind}`);
  return [name, ...lines.slice(0, 12)].join('\n');
}
