// Runs the tests: `node scripts/test.ts [TIER…] [RUNTIME…] [FILE…]`, by default everything. A tier is what the
// tests in `test/**/<name>.<tier>.test.ts` need; `<name>.test.ts` needs nothing and is of the tier `fast`.
// Says in its last lines which tiers could not run; the very last is `N passed, N failed, N skipped`.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import process from 'node:process';
import { stripVTControlCharacters } from 'node:util';
import { MINUTE_MS, missing, PATH, ROOT, RUNTIMES, type Runtime, TIERS, type Tier } from './tiers.ts';

const PROVISION = './scripts/provision/install';
const PROVISION_LIMIT_MS = 15 * MINUTE_MS;
// One case may wait for a database or an engine; the tier's own limit is what bounds a run.
const BUN_CASE_LIMIT_MS = 5 * MINUTE_MS;

interface Count {
  passed: number;
  failed: number;
  skipped: number;
}

process.chdir(ROOT);
process.exitCode = await main(process.argv.slice(2));

async function main(words: readonly string[]): Promise<number> {
  const wanted = select(words);
  if (typeof wanted === 'string') {
    console.error(wanted);
    return 2;
  }
  const tiers = TIERS.filter(({ name }) => (wanted.files.get(name) ?? []).length > 0);
  if (tiers.some(tier => missing(tier).length > 0)) provision();
  const total: Count = { passed: 0, failed: 0, skipped: 0 };
  const notes: string[] = [];
  for (const tier of tiers) {
    const lacking = missing(tier);
    if (lacking.length > 0) notes.push(`tier ${tier.name} could not run: no ${lacking.join(', no ')}`);
    else
      for (const runtime of tier.runtimes.filter(name => wanted.runtimes.includes(name)))
        add(total, await runTier(tier, runtime, wanted.files.get(tier.name) ?? [], notes));
  }
  return report(total, notes);
}

function report(total: Count, notes: readonly string[]): number {
  const incomplete = notes.some(note => note.includes('could not run'));
  for (const note of notes) console.log(note);
  if (total.passed + total.failed === 0) console.log('no test ran');
  console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
  const mustBeWhole = process.env.CI === 'true' && (incomplete || total.skipped > 0);
  return total.failed > 0 || total.passed === 0 || mustBeWhole ? 1 : 0;
}

interface Selection {
  readonly runtimes: readonly string[];
  /** By tier. */
  readonly files: ReadonlyMap<string, readonly string[]>;
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
  return { runtimes: runtimes.length > 0 ? runtimes : RUNTIMES, files };
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

async function runTier(
  tier: Tier,
  runtime: Runtime,
  files: readonly string[],
  notes: string[],
): Promise<Count> {
  const name = `tier ${tier.name} on ${runtime}`;
  console.log(`\n== ${name}: ${files.length} ${files.length === 1 ? 'file' : 'files'}`);
  const startedAt = performance.now();
  const { output, status } = await run(commandFor(runtime, files), tier.limitMs);
  const count = runtime === 'bun' ? countBun(output) : countUvu(output);
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  if (status === 'killed')
    notes.push(`${name} was killed: it took more than ${tier.limitMs / MINUTE_MS} min`);
  else if (status !== 0) notes.push(`${name} failed`);
  else notes.push(`${name}: ${count.passed} passed in ${seconds} s`);
  if (status !== 0 && count.failed === 0) count.failed = 1;
  if (status === 0 && count.passed === 0) {
    notes.push(`${name} ran no test`);
    count.failed = 1;
  }
  return count;
}

function commandFor(runtime: Runtime, files: readonly string[]): string[] {
  // Bun's runner takes a bare name for a filter on all paths.
  if (runtime === 'bun')
    return ['bun', 'test', '--timeout', `${BUN_CASE_LIMIT_MS}`, ...files.map(f => `./${f}`)];
  const runner = ['scripts/run-tests.ts', ...files];
  return runtime === 'deno' ? ['deno', 'run', '-A', '--no-check', ...runner] : ['node', ...runner];
}

/** Shows and keeps what the command writes. It leads a process group of its own, so that all it started can
 *  be ended with it. */
function run(
  [command = '', ...args]: string[],
  limitMs: number,
): Promise<{ output: string; status: number | 'killed' }> {
  const child = spawn(command, args, {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, PATH },
  });
  const output: string[] = [];
  const show = (to: NodeJS.WriteStream) => (chunk: Buffer) => {
    output.push(chunk.toString());
    to.write(chunk);
  };
  child.stdout.on('data', show(process.stdout));
  child.stderr.on('data', show(process.stderr));
  return new Promise((done, failed) => {
    let killed = false;
    const timer = setTimeout(() => {
      killed = true;
      endGroup(child);
    }, limitMs);
    const interrupted = () => {
      endGroup(child);
      process.exit(130);
    };
    process.once('SIGINT', interrupted).once('SIGTERM', interrupted);
    child.once('error', failed);
    child.once('exit', () => {
      clearTimeout(timer);
      process.off('SIGINT', interrupted).off('SIGTERM', interrupted);
      endGroup(child); // what outlived the tests would hold the pipes open
    });
    child.once('close', code =>
      done({ output: stripVTControlCharacters(output.join('')), status: killed ? 'killed' : (code ?? 1) }),
    );
  });
}

function endGroup({ pid }: ChildProcess): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  } catch {
    // all of it has ended already
  }
}

function countUvu(output: string): Count {
  const [, passed = 0, failed = 0, skipped = 0] =
    [...output.matchAll(/^(\d+) passed, (\d+) failed, (\d+) skipped$/gm)].at(-1) ?? [];
  return { passed: Number(passed), failed: Number(failed), skipped: Number(skipped) };
}

function countBun(output: string): Count {
  const last = (label: string) =>
    Number([...output.matchAll(new RegExp(`^\\s*(\\d+) ${label}$`, 'gm'))].at(-1)?.[1] ?? 0);
  return { passed: last('pass'), failed: last('fail'), skipped: last('skip') };
}

function add(total: Count, more: Count): void {
  total.passed += more.passed;
  total.failed += more.failed;
  total.skipped += more.skipped;
}
