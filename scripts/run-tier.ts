// Runs the files of one tier under one runtime, in a process of its own, and counts what came of them.
import { type ChildProcess, spawn } from 'node:child_process';
import process from 'node:process';
import { stripVTControlCharacters } from 'node:util';
import { MINUTE_MS, PATH, type Runtime, type Tier } from './tiers.ts';

// One case may wait for a database or an engine; the tier's own limit is what bounds a run.
const BUN_CASE_LIMIT_MS = 5 * MINUTE_MS;
/** As many lines of a failure are repeated at the end. */
const FAILURE_LINES = 25;

export interface Job {
  readonly tier: Tier;
  readonly runtime: Runtime;
  readonly files: readonly string[];
  readonly isShort: boolean;
  /** What it leaves out because of its files, in words. */
  readonly leftOut: string | null;
}

/** Returns a job for each runtime that is wanted and has a file: without one, `bun test` would run all there are. */
export function jobsOf(
  tier: Tier,
  files: readonly string[],
  { runtimes, isShort }: { readonly runtimes: readonly string[]; readonly isShort: boolean },
): Job[] {
  const jobs = tier.runtimes.map(runtime => {
    const only = isShort && runtime !== 'node' ? tier.shortElsewhere : undefined;
    const own = files.filter(file => only === undefined || only.files.test(file));
    return { tier, runtime, files: own, isShort, leftOut: only?.leftOut ?? null };
  });
  return jobs.filter(job => runtimes.includes(job.runtime) && job.files.length > 0);
}

export interface Count {
  passed: number;
  failed: number;
  skipped: number;
}

export interface Outcome extends Count {
  /** One line on how it went. */
  readonly note: string;
  /** What it wrote of each test that failed. */
  readonly failures: readonly string[];
  /** What it left out because it is short, in words. */
  readonly leftOut: readonly string[];
}

type Stream = Pick<NodeJS.WriteStream, 'write'>;

/** Where a job's output goes. */
export interface Output {
  write(to: Stream, text: string | Buffer): void;
  end(): void;
}

/** Makes outputs that are shown one after another, in the order in which they are opened: the first as it comes, what
 *  runs beside it when the first has ended. */
export function createOutputs(): () => Output {
  interface Waiting {
    readonly held: [Stream, string | Buffer][];
    hasEnded: boolean;
  }
  const open: Waiting[] = [];
  const show = ({ held }: Waiting) => {
    for (const [to, text] of held.splice(0)) to.write(text);
  };
  return () => {
    const own: Waiting = { held: [], hasEnded: false };
    open.push(own);
    return {
      write(to, text) {
        own.held.push([to, text]);
        if (open[0] === own) show(own);
      },
      end() {
        own.hasEnded = true;
        for (let first = open[0]; first !== undefined; first = open[0]) {
          show(first);
          if (!first.hasEnded) return;
          open.shift();
        }
      },
    };
  };
}

export async function runTier(job: Job, output: Output): Promise<Outcome> {
  const { tier, runtime, files } = job;
  const name = `tier ${tier.name} on ${runtime}`;
  output.write(process.stdout, `\n== ${name}: ${files.length} ${files.length === 1 ? 'file' : 'files'}\n`);
  const startedAt = performance.now();
  const { said, status } = await run(job, output);
  output.end();
  const count = runtime === 'bun' ? countBun(said) : countUvu(said);
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  let note = `${name}: ${count.passed} passed in ${seconds} s`;
  if (status === 'killed') note = `${name} was killed: it took more than ${tier.limitMs / MINUTE_MS} min`;
  else if (status !== 0) note = `${name} failed`;
  else if (count.passed === 0) note = `${name} ran no test`;
  if ((status !== 0 || count.passed === 0) && count.failed === 0) count.failed = 1;
  const leftOut = [...said.matchAll(/^left out: (.*)$/gm)].map(([, words = '']) => words);
  return {
    ...count,
    note,
    failures: count.failed > 0 ? failuresIn(said) : [],
    leftOut: job.leftOut === null ? leftOut : [...leftOut, job.leftOut],
  };
}

function commandFor({ runtime, files }: Job): string[] {
  // Bun's runner takes a bare name for a filter on all paths.
  if (runtime === 'bun')
    return ['bun', 'test', '--timeout', `${BUN_CASE_LIMIT_MS}`, ...files.map(f => `./${f}`)];
  const runner = ['scripts/run-tests.ts', ...files];
  return runtime === 'deno' ? ['deno', 'run', '-A', '--no-check', ...runner] : ['node', ...runner];
}

const running = new Set<ChildProcess>();

/** Ends all jobs that run, with what they started. */
export function endJobs(): void {
  for (const child of running) endGroup(child);
}

/** Shows and keeps what the command writes. It leads a process group of its own, so that all it started can
 *  be ended with it. */
function run(job: Job, output: Output): Promise<{ said: string; status: number | 'killed' }> {
  const [command = '', ...args] = commandFor(job);
  const child = spawn(command, args, {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, PATH, TEST_LENGTH: job.isShort ? 'short' : 'full' },
  });
  running.add(child);
  const said: string[] = [];
  const show = (to: Stream) => (chunk: Buffer) => {
    said.push(chunk.toString());
    output.write(to, chunk);
  };
  child.stdout.on('data', show(process.stdout));
  child.stderr.on('data', show(process.stderr));
  return new Promise((done, failed) => {
    let killed = false;
    const timer = setTimeout(() => {
      killed = true;
      endGroup(child);
    }, job.tier.limitMs);
    child.once('error', failed);
    child.once('exit', () => {
      clearTimeout(timer);
      endGroup(child); // what outlived the tests would hold the pipes open
      running.delete(child);
    });
    child.once('close', code =>
      done({ said: stripVTControlCharacters(said.join('')), status: killed ? 'killed' : (code ?? 1) }),
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

/** What was written of each test that failed, at most some lines each: uvu writes them below the name of the test, Bun
 *  above it. Where no test is named, the last lines. */
export function failuresIn(said: string): string[] {
  const lines = said.trimEnd().split('\n');
  const isName = (line: string) => /^ {3}FAIL /.test(line);
  const isNameOfBun = (line: string) => line.startsWith('(fail) ');
  const isResultOfBun = (line = '') => /^\((pass|fail|skip)\) /.test(line);
  const failures = lines.flatMap((line, i): string[] => {
    if (isName(line)) {
      const rest = lines.slice(i + 1, i + FAILURE_LINES);
      const end = rest.findIndex(one => isName(one) || /^ {2}Total: /.test(one));
      return [[line, ...(end < 0 ? rest : rest.slice(0, end))].join('\n').trimEnd()];
    }
    if (!isNameOfBun(line)) return [];
    let first = i;
    while (first > 0 && i - first < FAILURE_LINES - 1 && !isResultOfBun(lines[first - 1])) first--;
    return [lines.slice(first, i + 1).join('\n')];
  });
  return failures.length > 0 ? failures : [lines.slice(-FAILURE_LINES).join('\n')];
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
