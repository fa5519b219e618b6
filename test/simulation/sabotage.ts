/** Lets a saboteur into a copy of the code, and the simulation loose on it. */
import { execFile } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Saboteur } from './saboteurs.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const HUNT = relative(ROOT, fileURLToPath(new URL('./hunt.ts', import.meta.url)));
const COPIED = ['src', 'test/simulation', 'package.json', 'tsconfig.json'];
/** Of one hunt. */
const LIMIT_MS = 120_000;

export interface Found {
  readonly seed: number;
  readonly rule: string;
  readonly detail: string;
}

/** The first of `seeds` histories, those from `from` on, that breaks a rule with the saboteur at work, or null. Throws when its text
 *  does not occur in its file exactly once. */
export async function hunt(saboteur: Saboteur, seeds: number, from = 1): Promise<Found | null> {
  const folder = await mkdtemp(join(tmpdir(), 'ec2-ipam-saboteur-'));
  try {
    for (const path of COPIED) await cp(join(ROOT, path), join(folder, path), { recursive: true });
    await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
    const file = join(folder, saboteur.file);
    await writeFile(file, sabotaged(await readFile(file, 'utf8'), saboteur));
    const program = join(folder, HUNT);
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [program, `${from}`, `${seeds}`, ...(saboteur.focus ?? [])],
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

export function sabotaged(text: string, { name, file, find, replace }: Saboteur): string {
  const times = text.split(find).length - 1;
  if (times !== 1) throw new Error(`"${name}" is stale: its text occurs ${times} times in ${file}`);
  return text.replace(find, () => replace);
}
