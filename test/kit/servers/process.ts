/** Programs in processes of their own. None outlives the test. */
import { type ChildProcess, execFile, type SpawnOptions, spawn } from 'node:child_process';
import { createServer } from 'node:net';
import process from 'node:process';
import { until } from '../wait.ts';

const STOP_MS = 30_000;
const OUTPUT_BYTES_MAX = 16 * 1024 * 1024;
/** Below those that the kernel gives to outgoing connections: one of these may have it when the program starts, or
 *  starts again. */
const PORTS = { first: 10_000, count: 20_000 };
const given = new Set<number>();

export type Environment = Readonly<Record<string, string>>;
const withPath = (env: Environment) => ({ PATH: process.env.PATH ?? '', ...env });

export interface Program {
  readonly pid: number;
  /** Resolves with its exit status. */
  readonly ended: Promise<number | null>;
  /** All that it has written. */
  output(): string;
  /** Resolves with what it was waited for, once it has written that; fails when it ends before. */
  says(text: string | RegExp, deadlineMs?: number): Promise<readonly string[]>;
  hasEnded(): boolean;
  /** Writes to its stdin, where `options` gave it one. */
  type(text: string): void;
  /** SIGTERM; returns the exit status. */
  stop(): Promise<number | null>;
  /** SIGKILL, if it still runs. */
  kill9(): Promise<void>;
}

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

function track(child: ChildProcess): ChildProcess {
  running.add(child);
  return child.once('close', () => running.delete(child));
}

/** Starts a program with nothing in its environment but PATH and `env`. */
export function startProgram(
  command: string,
  args: readonly string[],
  env: Environment = {},
  options: SpawnOptions = {},
): Program {
  const child = track(
    spawn(command, args, { env: withPath(env), stdio: ['ignore', 'pipe', 'pipe'], ...options }),
  );
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding('utf8').on('data', chunk => {
      output += chunk;
    });
  const ended = new Promise<number | null>(resolve => child.once('close', resolve));
  const kill9 = async () => {
    if (running.has(child)) child.kill('SIGKILL');
    await ended;
  };
  const look = (text: string | RegExp) =>
    typeof text === 'string' ? (output.includes(text) ? [text] : null) : output.match(text);
  return {
    pid: child.pid ?? 0,
    ended,
    output: () => output,
    hasEnded: () => !running.has(child),
    type: text => void child.stdin?.write(text),
    async says(text, deadlineMs) {
      const what = `${command} ${args.join(' ')} says ${text}`;
      await until(
        what,
        () => {
          if (look(text) === null && !running.has(child))
            throw new Error(`${what}: it has ended:\n${output}`);
          return look(text) !== null;
        },
        deadlineMs,
      );
      return look(text) ?? [];
    },
    async stop() {
      const late = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
      // Deno's child.kill forgets the exit status.
      if (child.pid !== undefined && running.has(child)) process.kill(child.pid);
      const status = await ended;
      clearTimeout(late);
      return status;
    },
    kill9,
  };
}

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}
/** Runs a program to its end, with nothing in its environment but PATH and `env`. */
export function runProgram(
  command: string,
  args: readonly string[],
  { env = {}, cwd = '.' }: { env?: Environment; cwd?: string } = {},
): Promise<Ran> {
  return new Promise(resolve => {
    const options = { env: withPath(env), cwd, maxBuffer: OUTPUT_BYTES_MAX };
    const child = execFile(command, args, options, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : null;
      resolve({ code, stdout, stderr });
    });
    track(child);
  });
}

/** Returns a port of loopback on which nobody listens, another one each time. */
export async function freePort(): Promise<number> {
  const port = PORTS.first + Math.floor(Math.random() * PORTS.count);
  if (given.has(port) || !(await isFree(port))) return freePort();
  given.add(port);
  return port;
}

const isFree = (port: number): Promise<boolean> =>
  new Promise(resolve => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
