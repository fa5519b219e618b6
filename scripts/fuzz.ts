// Sends hostile inputs to the driver, the agent, enrolment, certificates, the witness and the listeners:
// `npm run fuzz -- --help`. Prints what was answered, how the heap has grown and
// the first broken rule, with the command that shows it again. Exit status 1: a rule was broken.
import process from 'node:process';
import { parseArgs } from 'node:util';
import { attack, PARTS } from '../test/fuzz/attack.ts';
import type { Outcome } from '../test/fuzz/part.ts';
import { runScript, WrongUsage } from './usage.ts';

const USAGE = `npm run fuzz -- [--inputs N] [--seed S] [--part NAME] [--jobs J]
  --inputs   default 1000000
  --seed     decides the inputs; default 1
  --part     one of ${PARTS.map(({ name }) => name).join(', ')}; default all
  --jobs     processes, 0: this one only; default 2`;

process.exitCode = await runScript(USAGE, main);

async function main(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      inputs: { type: 'string', default: '1000000' },
      seed: { type: 'string', default: '1' },
      jobs: { type: 'string', default: '2' },
      part: { type: 'string' },
    },
  });
  const [inputs, seed, jobs] = [Number(values.inputs), Number(values.seed), Number(values.jobs)];
  if (![inputs, seed, jobs].every(Number.isSafeInteger) || inputs < 1 || jobs < 0)
    throw new WrongUsage('--inputs, --seed and --jobs are whole numbers');
  if (values.part !== undefined && !PARTS.some(({ name }) => name === values.part))
    throw new WrongUsage(`there is no part ${values.part}`);
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
