/** The shipped program as processes of their own: servers, commands, and the simulator that they ask. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

const BUNDLE = fileURLToPath(new URL('../../../dist/ec2-ipam.mjs', import.meta.url));
const NODE = fileURLToPath(new URL('../../../node_modules/.bin/node', import.meta.url));
const READY_DEADLINE_MS = 30_000;
const STOP_DEADLINE_MS = 20_000;

type Environment = Readonly<Record<string, string>>;

export interface Program {
  readonly pid: number;
  /** All that it has written. */
  output(): string;
  /** Resolves with what it was waited for, once it has written that. */
  says(text: string | RegExp): Promise<void>;
  /** Resolves with its exit status. */
  readonly ended: Promise<number | null>;
  /** SIGTERM; returns the exit status. */
  stop(): Promise<number | null>;
  kill9(): Promise<void>;
}
export type Bundle = Program;

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

export const tempFolder = (): string => mkdtempSync(join(tmpdir(), 'ec2-ipam-test-'));
export const removeFolder = (folder: string): void => rmSync(folder, { recursive: true, force: true });

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise(resolve => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

/** Starts a program with nothing in its environment but PATH and `env`. */
export function startProgram(file: string, args: readonly string[], env: Environment): Program {
  const child = spawn(file, [...args], {
    env: { PATH: process.env.PATH ?? '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', chunk => {
      output += chunk;
    });
  const ended = new Promise<number | null>(resolve =>
    child.once('close', code => {
      running.delete(child);
      resolve(code);
    }),
  );
  const end = async (signal: 'SIGTERM' | 'SIGKILL') => {
    child.kill(signal);
    const late = setTimeout(() => child.kill('SIGKILL'), STOP_DEADLINE_MS);
    const code = await ended;
    clearTimeout(late);
    return code;
  };
  const name = args.join(' ');
  return {
    pid: child.pid ?? 0,
    output: () => output,
    says: text =>
      until(`${name} says ${text}`, () => {
        if (!running.has(child)) throw new Error(`${name} has ended:\n${output}`);
        return typeof text === 'string' ? output.includes(text) : text.test(output);
      }),
    ended,
    stop: () => end('SIGTERM'),
    kill9: async () => void (await end('SIGKILL')),
  };
}

/** Starts the bundle; resolves when it has written `ready`. */
export async function startBundle(
  args: readonly string[],
  env: Environment,
  ready: string | RegExp,
): Promise<Bundle> {
  const bundle = startProgram(NODE, [BUNDLE, ...args], env);
  try {
    await bundle.says(ready);
  } catch (error) {
    await bundle.kill9();
    throw new Error(`${(error as Error).message}\n${bundle.output()}`);
  }
  return bundle;
}

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command of the bundle to its end. */
export function runBundle(args: readonly string[], env: Environment): Promise<Ran> {
  const child = spawn(NODE, [BUNDLE, ...args], {
    env: { PATH: process.env.PATH ?? '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', chunk => {
    stdout += chunk;
  });
  child.stderr.setEncoding('utf8').on('data', chunk => {
    stderr += chunk;
  });
  return new Promise(resolve =>
    child.once('close', code => {
      running.delete(child);
      resolve({ code, stdout, stderr });
    }),
  );
}

/** Looks again and again until it holds; fails when that takes too long. */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  deadlineMs = READY_DEADLINE_MS,
): Promise<void> {
  const deadline = performance.now() + deadlineMs;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`${what}: not within ${deadlineMs} ms`);
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}

export interface Simulator {
  readonly url: string;
  /** What a program needs in its environment to speak to it as to EC2. */
  readonly env: Environment;
  /** The secondary addresses that it shows on the ENI. */
  secondaries(eni: string): Promise<string[]>;
  calls(action: string): Promise<number>;
  /** Changes it through its API. */
  tell(method: 'POST' | 'PUT' | 'DELETE', path: string, body?: unknown): Promise<void>;
  stop(): Promise<unknown>;
}

/** The simulator with the world in a process of its own; also on unix sockets where they are named. */
export async function startSimulator(world: unknown, sockets: readonly string[] = []): Promise<Simulator> {
  const folder = tempFolder();
  const file = join(folder, 'world.json');
  writeFileSync(file, JSON.stringify(world));
  const url = `http://127.0.0.1:${await freePort()}`;
  const listen = [url, ...sockets.map(path => `unix:${path}`)].flatMap(address => ['--listen', address]);
  const bundle = await startBundle(['simulate', ...listen, '--world', file], {}, `at ${url}`);
  const get = async (path: string) => (await fetch(`${url}/simulator/${path}`)).json();
  return {
    url,
    env: {
      AWS_ENDPOINT_URL_EC2: url,
      AWS_EC2_METADATA_SERVICE_ENDPOINT: url,
      AWS_REGION: 'eu-central-1',
      AWS_ACCESS_KEY_ID: 'test',
      AWS_SECRET_ACCESS_KEY: 'test',
    },
    async secondaries(eni) {
      const { enis } = (await get('state')) as { enis: { id: string; secondaries: string[] }[] };
      return enis.find(one => one.id === eni)?.secondaries ?? [];
    },
    calls: async action => ((await get('calls')) as Record<string, number>)[action] ?? 0,
    async tell(method, path, body) {
      const headers = { 'content-type': 'application/json' };
      const answer = await fetch(`${url}/simulator/${path}`, {
        method,
        headers,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      if (!answer.ok) throw new Error(`${method} ${path}: ${await answer.text()}`);
    },
    async stop() {
      await bundle.stop();
      removeFolder(folder);
    },
  };
}
