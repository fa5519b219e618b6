/** The version of the program, and the runtime that it needs. */
import { readFileSync } from 'node:fs';

type Versions = Readonly<Record<string, string | undefined>>;

/** Older versions have no node:sqlite, or one without what the embedded store needs. */
const NODE_MIN = [22, 18] as const;

/** The runtime with its version, as `node 24.1.0`. */
export function runtimeName(versions: Versions): string {
  for (const name of ['bun', 'deno']) if (versions[name] !== undefined) return `${name} ${versions[name]}`;
  return `node ${versions.node}`;
}

/** Returns why the runtime is not supported; null when it is. Bun and Deno have `versions.node` too. */
export function unsupportedRuntime(versions: Versions): string | null {
  if (versions.bun !== undefined || versions.deno !== undefined) return null;
  const [major = 0, minor = 0] = (versions.node ?? '').split('.').map(Number);
  if (major > NODE_MIN[0] || (major === NODE_MIN[0] && minor >= NODE_MIN[1])) return null;
  return `ec2-ipam: this is ${runtimeName(versions)}; use Node ${NODE_MIN.join('.')} or later, Bun or Deno`;
}

// scripts/build.ts defines it in the bundle. In a checkout the version is read from package.json.
declare const EC2_IPAM_VERSION: string;

export const version = (): string =>
  typeof EC2_IPAM_VERSION === 'string'
    ? EC2_IPAM_VERSION
    : JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version;
