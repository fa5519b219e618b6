type Versions = Readonly<Record<string, string | undefined>>;

/** The oldest Node that has node:sqlite as the embedded store needs it. */
const NODE_MIN = [22, 18] as const;

/** The runtime of this process, for people: `node 24.1.0`. */
export function runtimeName(versions: Versions): string {
  for (const name of ['bun', 'deno']) if (versions[name] !== undefined) return `${name} ${versions[name]}`;
  return `node ${versions.node}`;
}

/** Why this program does not run on this runtime, or null. Bun and Deno name a version of Node too. */
export function unsupportedRuntime(versions: Versions): string | null {
  if (versions.bun !== undefined || versions.deno !== undefined) return null;
  const [major = 0, minor = 0] = (versions.node ?? '').split('.').map(Number);
  if (major > NODE_MIN[0] || (major === NODE_MIN[0] && minor >= NODE_MIN[1])) return null;
  return `ec2-ipam: this is ${runtimeName(versions)}; use Node ${NODE_MIN.join('.')} or later, Bun or Deno`;
}
