// Runs histories of the whole program from seeds: `npm run simulate-faults -- --help`. Prints how many histories and
// steps were run, how often each operation was carried out, and each failure with its shortest history. Exit status 1: a
// rule was broken.
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { addTally, explain, newTally, runSeeds, type Tally } from '../test/simulation/report.ts';
import { simulate } from '../test/simulation/simulate.ts';
import { runScript, WrongUsage } from './usage.ts';

const USAGE = `npm run simulate-faults -- [--seeds N] [--from S] [--jobs J]
npm run simulate-faults -- --seed S [--keep 1,2,3]
  --seeds    how many histories; default 10000
  --from     the first seed; default 1
  --jobs     processes; default 2
  --seed     shows this history
  --keep     only these of its operations`;

/** Histories that a worker runs between two reports. */
const CHUNK = 500;
const FAILURES_SHOWN_MAX = 3;

if (isMainThread) process.exitCode = await runScript(USAGE, main);
else work();

async function main(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      seeds: { type: 'string', default: '10000' },
      from: { type: 'string', default: '1' },
      jobs: { type: 'string', default: '2' },
      seed: { type: 'string' },
      keep: { type: 'string' },
    },
  });
  if (values.seed !== undefined) return await show(wholeNumber('--seed', values.seed), values.keep);
  const seeds = wholeNumber('--seeds', values.seeds, 1);
  const jobs = wholeNumber('--jobs', values.jobs, 1);
  return await attack(seeds, wholeNumber('--from', values.from), jobs);
}

function wholeNumber(flag: string, given: string, least = 0): number {
  const number = Number(given);
  if (/^\d+$/.test(given) && Number.isSafeInteger(number) && number >= least) return number;
  throw new WrongUsage(`${flag} ${given}: it is a whole number from ${least}`);
}

async function show(seed: number, keep: string | undefined): Promise<number> {
  const numbers = keep?.split(',').map(text => wholeNumber('--keep', text));
  const { lines, violation } = await simulate(seed, numbers ?? null, true);
  console.log(lines.join('\n'));
  console.log(violation === null ? 'no rule was broken' : `${violation.rule}: ${violation.detail}`);
  return violation === null ? 0 : 1;
}

async function attack(seeds: number, from: number, jobs: number): Promise<number> {
  const startedAt = performance.now();
  const sum = newTally();
  const seconds = () => ((performance.now() - startedAt) / 1000).toFixed(1);
  let next = from;
  const take = () => {
    const chunk = { from: next, seeds: Math.min(CHUNK, from + seeds - next) };
    next += chunk.seeds;
    return chunk.seeds > 0 && sum.failures.length < FAILURES_SHOWN_MAX ? chunk : null;
  };
  const told = (tally: Tally) => {
    addTally(sum, tally);
    for (const { seed, violation } of tally.failures)
      process.stderr.write(`seed ${seed}: ${violation?.rule}\n`);
    process.stderr.write(`${sum.histories} histories, ${seconds()} s\n`);
  };
  await Promise.all(Array.from({ length: jobs }, () => drive(take, told)));
  for (const { seed } of sum.failures.slice(0, FAILURES_SHOWN_MAX)) console.log(`\n${await explain(seed)}`);
  console.log(`\n${sum.histories} histories, ${sum.steps} steps, ${seconds()} s`);
  for (const [operation, count] of Object.entries(sum.counts).sort())
    console.log(`${String(count).padStart(9)}  ${operation}`);
  console.log(`${sum.failures.length} failures`);
  return sum.failures.length > 0 ? 1 : 0;
}

/** Runs one worker until there is nothing more to do. */
function drive(take: () => object | null, told: (tally: Tally) => void): Promise<void> {
  // Much of what a history makes is garbage at once: a larger young generation makes it a fifth faster.
  const worker = new Worker(fileURLToPath(import.meta.url), {
    resourceLimits: { maxYoungGenerationSizeMb: 192 },
  });
  return new Promise((resolve, reject) => {
    const give = () => {
      const chunk = take();
      if (chunk !== null) worker.postMessage(chunk);
      else void worker.terminate().then(() => resolve());
    };
    worker.on('error', reject);
    worker.on('message', (tally: Tally) => {
      told(tally);
      give();
    });
    give();
  });
}

function work(): void {
  Error.stackTraceLimit = 0; // most of the faults end in an error, and a stack is what makes one slow
  parentPort?.on('message', async ({ from, seeds }: { from: number; seeds: number }) => {
    parentPort?.postMessage(await runSeeds(from, seeds));
  });
}
