/** The bundle by itself: copied alone into an empty folder, and run there by one of the three runtimes. */
import { spawn } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { ROOT, type Runtime } from '../../../scripts/tiers.ts';

const NAME = 'ec2-ipam.mjs';
const START_LIMIT_MS = 30_000;
const STOP_LIMIT_MS = 30_000;

/** The least that Deno has to allow on a host: no module from anywhere else, and this one folder. */
const denoFlags = (folder: string): string[] => [
  'run',
  '--no-npm',
  '--no-remote',
  '--no-prompt',
  '--allow-env',
  '--allow-net',
  '--allow-sys',
  `--allow-read=${folder}`,
  `--allow-write=${folder}`,
];

export interface Running {
  /** Resolves with the first match of `pattern` in what the program says. */
  says(pattern: RegExp): Promise<RegExpMatchArray>;
  /** SIGTERM; returns the exit status. */
  stop(): Promise<number | null>;
  /** Ends it at once, if it still runs. */
  kill(): void;
}

export interface Alone {
  readonly folder: string;
  /** Runs `ec2-ipam ARGS` with nothing in its environment but `env`. */
  start(runtime: Runtime, args: readonly string[], env?: Readonly<Record<string, string>>): Running;
  /** Removes the folder, and ends what still runs there. */
  remove(): void;
}

export function bundleAlone(): Alone {
  const folder = mkdtempSync(join(tmpdir(), 'ec2-ipam-bundle-'));
  copyFileSync(join(ROOT, 'dist', NAME), join(folder, NAME));
  const started: Running[] = [];
  return {
    folder,
    start: (runtime, args, env = {}) => {
      const flags = runtime === 'deno' ? denoFlags(folder) : [];
      const command = join(ROOT, 'node_modules/.bin', runtime);
      const program = run(command, [...flags, NAME, ...args], folder, { HOME: folder, ...env });
      started.push(program);
      return program;
    },
    remove: () => {
      for (const program of started) program.kill();
      rmSync(folder, { recursive: true, maxRetries: 5 });
    },
  };
}

function run(command: string, args: string[], cwd: string, env: Record<string, string>): Running {
  const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
  const kill = () => void child.kill('SIGKILL');
  process.once('exit', kill);
  let said = '';
  const listeners = new Set<() => void>();
  const changed = () => {
    for (const listener of listeners) listener();
  };
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', chunk => {
      said += chunk;
      changed();
    });
  const ended = new Promise<number | null>(resolve => child.once('close', resolve));
  void ended.then(() => {
    process.off('exit', kill);
    changed();
  });

  return {
    kill,
    says: pattern =>
      new Promise((resolve, reject) => {
        const settle = (work: () => void) => {
          clearTimeout(limit);
          listeners.delete(look);
          work();
        };
        const fail = (why: string) =>
          settle(() => reject(new Error(`${why} before it said ${pattern}: ${said}`)));
        const look = () => {
          const match = said.match(pattern);
          if (match !== null) settle(() => resolve(match));
          else if (child.exitCode !== null) fail(`${command} ended with ${child.exitCode}`);
        };
        const limit = setTimeout(() => fail(`${START_LIMIT_MS} ms passed`), START_LIMIT_MS);
        listeners.add(look);
        look();
      }),
    async stop() {
      const limit = setTimeout(kill, STOP_LIMIT_MS);
      if (child.pid !== undefined) process.kill(child.pid); // Deno's child.kill forgets the exit status
      const status = await ended;
      clearTimeout(limit);
      return status;
    },
  };
}
