/** Applies a mutant to a copy of the code, and runs the simulation on it. */
import { execFile } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Mutant } from './mutants.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const HUNT = relative(ROOT, fileURLToPath(new URL('./hunt.ts', import.meta.url)));
const COPIED = ['src', 'test/kit', 'test/simulation', 'package.json', 'tsconfig.json'];
/** The longest that one hunt may take. */
const LIMIT_MS = 600_000;

export interface Found {
  readonly seed: number;
  readonly rule: string;
  readonly detail: string;
}

/** The first of `seeds` histories, from the seed `from` on, that breaks a rule with the mutant applied, or null.
 *  Throws when the mutant's text does not occur in its file exactly once. */
export async function hunt(mutant: Mutant, seeds: number, from = 1): Promise<Found | null> {
  const folder = await mkdtemp(join(tmpdir(), 'ec2-ipam-mutant-'));
  try {
    for (const path of COPIED) await cp(join(ROOT, path), join(folder, path), { recursive: true });
    await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
    const file = join(folder, mutant.file);
    await writeFile(file, mutated(await readFile(file, 'utf8'), mutant));
    const program = join(folder, HUNT);
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [program, `${from}`, `${seeds}`, ...(mutant.focus ?? [])],
      {
        timeout: LIMIT_MS,
        cwd: folder,
      },
    );
    return JSON.parse(stdout);
  } finally {
    await rm(folder, { recursive: true });
  }
}

export function mutated(text: string, { name, file, find, replace }: Mutant): string {
  const times = text.split(find).length - 1;
  if (times !== 1) throw new Error(`"${name}" is stale: its text occurs ${times} times in ${file}`);
  return text.replace(find, () => replace);
}
