// Runs the tests: `node scripts/test.ts [TIER…] [RUNTIME…] [FILE…]`, by default everything. A tier is what the
// tests in `test/**/<name>.<tier>.test.ts` need; `<name>.test.ts` needs nothing and is of the tier `fast`.
// Without a tier or a file, and where CI is not `true`, the run is short: see test/kit/length.ts. Its last lines repeat
// what failed and say what it left out and which tiers could not run; the very last is `N passed, N failed, N skipped`.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import process from 'node:process';
import { type Count, createOutputs, endJobs, type Job, jobsOf, type Outcome, runTier } from './run-tier.ts';
import { MINUTE_MS, missing, PATH, ROOT, RUNTIMES, TIERS } from './tiers.ts';

const PROVISION = './scripts/provision/install';
const PROVISION_LIMIT_MS = 15 * MINUTE_MS;
/** How many tiers run side by side. Most of the time they wait: five use about two processors. */
const AT_A_TIME = { short: 5, full: 2 };
const isCi = process.env.CI === 'true';

process.chdir(ROOT);
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => {
    endJobs();
    process.exit(130);
  });
process.exitCode = await main(process.argv.slice(2));

async function main(words: readonly string[]): Promise<number> {
  const wanted = select(words);
  if (typeof wanted === 'string') {
    console.error(wanted);
    return 2;
  }
  const startedAt = performance.now();
  const tiers = TIERS.filter(({ name }) => (wanted.files.get(name) ?? []).length > 0);
  if (tiers.some(tier => missing(tier).length > 0)) provision();
  const lacking = tiers.filter(tier => missing(tier).length > 0);
  const jobs = tiers
    .filter(tier => !lacking.includes(tier))
    .flatMap(tier => jobsOf(tier, wanted.files.get(tier.name) ?? [], wanted));
  const outcomes = await runJobs(jobs);
  repeatFailures(outcomes);
  console.log();
  for (const job of jobs) console.log(outcomes.get(job)?.note);
  for (const tier of lacking)
    console.log(`tier ${tier.name} could not run: no ${missing(tier).join(', no ')}`);
  if (wanted.isShort) sayLeftOut(outcomes);
  console.log(`${((performance.now() - startedAt) / MINUTE_MS).toFixed(1)} min in all`);
  return report([...outcomes.values()], lacking.length > 0);
}

/** At the end, since the output of a long run is often cut to its last lines. */
function repeatFailures(outcomes: ReadonlyMap<Job, Outcome>): void {
  for (const [{ tier, runtime }, { failures }] of outcomes)
    for (const failure of failures)
      console.log(`\n== failed in tier ${tier.name} on ${runtime}:\n${failure}`);
}

function report(outcomes: readonly Count[], isIncomplete: boolean): number {
  const sum = (what: keyof Count) => outcomes.reduce((total, count) => total + count[what], 0);
  const [passed, failed, skipped] = [sum('passed'), sum('failed'), sum('skipped')];
  if (passed + failed === 0) console.log('no test ran');
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
  return failed > 0 || passed === 0 || (isCi && (isIncomplete || skipped > 0)) ? 1 : 0;
}

/** What the short forms of the tests left out, by tier. */
function sayLeftOut(outcomes: ReadonlyMap<Job, Outcome>): void {
  console.log(
    'this run was short; `npm test TIER` runs a tier at full length, `CI=true npm test` all. Left out:',
  );
  for (const { name } of TIERS) {
    const own = [...outcomes].filter(([{ tier }]) => tier.name === name);
    const leftOut = new Set(own.flatMap(([, outcome]) => outcome.leftOut));
    if (leftOut.size > 0) console.log(`  ${name}: ${[...leftOut].join('; ')}`);
  }
}

interface Selection {
  readonly runtimes: readonly string[];
  /** By tier. */
  readonly files: ReadonlyMap<string, readonly string[]>;
  readonly isShort: boolean;
}

/** What the command line asks for, or what is wrong with it. */
function select(words: readonly string[]): Selection | string {
  const isTier = (word: string) => TIERS.some(({ name }) => name === word);
  const isRuntime = (word: string) => RUNTIMES.some(name => name === word);
  const named = words.filter(word => !isTier(word) && !isRuntime(word));
  const unknown = named.find(word => !existsSync(word) || !word.endsWith('.test.ts'));
  if (unknown !== undefined)
    return `${unknown} is no tier (${TIERS.map(({ name }) => name).join(', ')}), no runtime (${RUNTIMES.join(', ')}) and no test file`;
  const runtimes = words.filter(isRuntime);
  const tiers = words.filter(isTier);
  const all = named.length > 0 ? named : testFiles();
  const files = new Map<string, string[]>();
  for (const file of all.filter(name => name.endsWith('.test.ts')).sort())
    files.set(tierOf(file), [...(files.get(tierOf(file)) ?? []), relative('.', file)]);
  for (const [tier, [first]] of files) {
    if (!isTier(tier)) return `${first}: there is no tier ${tier}`;
    if (tiers.length > 0 && !tiers.includes(tier)) files.delete(tier);
  }
  // TEST_LENGTH is for who tries a tier in its short form.
  const length = process.env.TEST_LENGTH ?? (tiers.length + named.length > 0 ? 'full' : 'short');
  return { runtimes: runtimes.length > 0 ? runtimes : RUNTIMES, files, isShort: !isCi && length === 'short' };
}

function testFiles(): string[] {
  return readdirSync('test', { recursive: true, encoding: 'utf8' }).map(file => join('test', file));
}

function tierOf(file: string): string {
  return file.match(/\.(\w+)\.test\.ts$/)?.[1] ?? 'fast';
}

/** Installs what tiers need, where that is possible: as root on Debian and what is made from it. */
function provision(): void {
  if (process.getuid?.() !== 0 || !existsSync('/etc/debian_version') || !existsSync(PROVISION)) return;
  console.log(`running ${PROVISION}, since some tiers lack what they need`);
  spawnSync(PROVISION, {
    stdio: 'inherit',
    timeout: PROVISION_LIMIT_MS,
    env: { ...process.env, PATH },
  });
}

/** What is longer has a larger one. */
function lengthOf({ tier, runtime, isShort }: Job): number {
  if (!isShort) return tier.limitMs;
  return runtime === 'node' ? tier.shortS : tier.shortS / 2;
}

/** Runs jobs side by side, then those that must be alone. What is long goes first, so that all come to their ends at
 *  about the same time. */
async function runJobs(jobs: readonly Job[]): Promise<ReadonlyMap<Job, Outcome>> {
  const outcomes = new Map<Job, Outcome>();
  const openOutput = createOutputs();
  const mustBeAlone = ({ tier, isShort }: Job) =>
    tier.alone === 'always' || (tier.alone === 'at full length' && !isShort);
  const waiting = jobs.filter(job => !mustBeAlone(job)).sort((one, other) => lengthOf(other) - lengthOf(one));
  const runInTurn = async (next: () => Job | undefined) => {
    for (let job = next(); job !== undefined; job = next())
      outcomes.set(job, await runTier(job, openOutput()));
  };
  const lanes = Array.from({ length: jobs.some(job => job.isShort) ? AT_A_TIME.short : AT_A_TIME.full });
  await Promise.all(lanes.map(() => runInTurn(() => waiting.shift())));
  const alone = jobs.filter(mustBeAlone);
  await runInTurn(() => alone.shift());
  return outcomes;
}
