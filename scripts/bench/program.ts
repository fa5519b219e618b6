/** Programs under test as processes of their own, on any of the three runtimes, and the memory that they take. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import type { Readable, Writable } from 'node:stream';
import { ROOT, type Runtime } from '../tiers.ts';

const SAYS_LIMIT_MS = 30_000;
const STOP_LIMIT_MS = 10_000;
const OUTPUT_CHARS_MAX = 100_000;
const SAMPLE_EVERY_MS = 10;
const BYTES_PER_KB = 1024;

export interface Program {
  readonly pid: number;
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** The last of what it has written. */
  output(): string;
  /** Resolves when it has written that. */
  says(text: string): Promise<void>;
  /** Resolves with its exit status when it has ended. */
  readonly ended: Promise<number | null>;
  kill(): void;
  /** SIGTERM, and SIGKILL when that is not heeded. */
  stop(): Promise<number | null>;
}

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** Runs a script with nothing in its environment but `env`. */
export function start(
  runtime: Runtime,
  script: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Program {
  const flags = runtime === 'deno' ? ['run', '-A', '--no-npm', '--no-remote'] : [];
  const command = join(ROOT, 'node_modules/.bin', runtime);
  const child = spawn(command, [...flags, script, ...args], {
    env: { PATH: process.env.PATH ?? '', ...env },
  });
  running.add(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      output = (output + chunk).slice(-OUTPUT_CHARS_MAX);
    });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', code => {
      running.delete(child);
      resolve(code);
    });
  });
  return {
    pid: child.pid ?? 0,
    stdin: child.stdin,
    stdout: child.stdout,
    output: () => output,
    ended,
    kill: () => void child.kill('SIGKILL'),
    async says(text) {
      const until = performance.now() + SAYS_LIMIT_MS;
      while (!output.includes(text)) {
        if (!running.has(child)) throw new Error(`${script} ${args[0]} has ended: ${output}`);
        if (performance.now() > until)
          throw new Error(`${script} ${args[0]} does not say ${text}: ${output}`);
        await pause(SAMPLE_EVERY_MS);
      }
    },
    async stop() {
      child.kill('SIGTERM');
      const late = setTimeout(() => child.kill('SIGKILL'), STOP_LIMIT_MS);
      const code = await ended;
      clearTimeout(late);
      return code;
    },
  };
}

export const pause = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms));

/** Resident memory of a process in bytes: now, and the most it ever had. 0 when it has ended. */
export const residentBytes = (pid: number): number => statusBytes(pid, 'VmRSS');
export const peakBytes = (pid: number): number => statusBytes(pid, 'VmHWM');

function statusBytes(pid: number, field: string): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) * BYTES_PER_KB;
  } catch {
    return 0;
  }
}

/** The highest of what `sample` says while the work goes on. */
export async function highestDuring<T>(
  sample: () => number,
  work: Promise<T>,
): Promise<{ result: T; highest: number }> {
  let highest = sample();
  const timer = setInterval(() => {
    highest = Math.max(highest, sample());
  }, SAMPLE_EVERY_MS);
  try {
    return { result: await work, highest };
  } finally {
    clearInterval(timer);
  }
}
