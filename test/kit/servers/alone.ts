/** The bundle by itself: copied alone into an empty folder, and run there by one of the three runtimes. */
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, type Runtime } from '../../../scripts/tiers.ts';
import { removeFolder, tempFolder } from '../folders.ts';
import { type Program, startProgram } from './process.ts';

const NAME = 'ec2-ipam.mjs';

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

export interface Alone {
  readonly folder: string;
  /** Runs `ec2-ipam ARGS` with nothing in its environment but PATH, HOME and `env`. */
  start(runtime: Runtime, args: readonly string[], env?: Readonly<Record<string, string>>): Program;
  /** Removes the folder, and ends what still runs there. */
  remove(): Promise<void>;
}

export function bundleAlone(): Alone {
  const folder = tempFolder();
  copyFileSync(join(ROOT, 'dist', NAME), join(folder, NAME));
  const started: Program[] = [];
  return {
    folder,
    start: (runtime, args, env = {}) => {
      const flags = runtime === 'deno' ? denoFlags(folder) : [];
      const command = join(ROOT, 'node_modules/.bin', runtime);
      const own = { HOME: folder, ...env };
      const program = startProgram(command, [...flags, NAME, ...args], own, { cwd: folder });
      started.push(program);
      return program;
    },
    remove: async () => {
      await Promise.all(started.map(program => program.kill9()));
      removeFolder(folder);
    },
  };
}
