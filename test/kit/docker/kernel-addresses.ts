/** What the kernel of a machine has, read by means of its own: for tests that compare the ledger with it. */
import type { Machine } from './netns.ts';
import { must } from './netns.ts';

/** Prints a line for each address of each network namespace, with a process in it, or with where it is mounted. */
const SCRIPT = `
  stat -L -c 'net:[%i] %n' /proc/[0-9]*/ns/net 2>/dev/null | sort -u -k1,1 |
    while IFS='/ ' read -r n _ p _; do
      nsenter --net="/proc/$p/ns/net" ip -o -4 address show 2>/dev/null | sed "s|^|$n $p |"
    done
  for f in /run/docker/netns/*; do
    nsenter --net="$f" ip -o -4 address show 2>/dev/null | sed "s|^|net:[$(stat -L -c %i "$f")] $f |"
  done
  true
`;

export interface KernelAddress {
  readonly ip: string;
  readonly netns: string;
  /** A process in the namespace; null: it is only mounted. */
  readonly pid: number | null;
  readonly path: string | null;
}

/** The addresses that begin with the prefix, one for each namespace that has one. */
export async function kernelAddresses(machine: Machine, prefix: string): Promise<KernelAddress[]> {
  const found = new Map<string, KernelAddress>();
  for (const line of (await must(machine, ['bash', '-c', SCRIPT])).split('\n')) {
    const [, netns = '', who = '', ip = ''] = line.match(/^(\S+) (\S+) .* inet ([0-9.]+)\//) ?? [];
    if (!ip.startsWith(prefix) || found.has(`${netns} ${ip}`)) continue;
    const pid = /^\d+$/.test(who) ? Number(who) : null;
    found.set(`${netns} ${ip}`, { ip, netns, pid, path: pid === null ? who : null });
  }
  return [...found.values()];
}
