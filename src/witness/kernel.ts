/**
 * Reads from the kernel which network namespaces have which addresses: those of processes, and those that are only
 * mounted. A namespace that is kept by an open file alone is not seen here; the ipvlan probe sees it.
 */
import { realpath } from 'node:fs/promises';
import { type Ipv4, parseIpv4 } from '../domain/address.ts';
import { IpamError } from '../domain/error.ts';
import { cleaned } from '../domain/text.ts';
import type { KernelPlace } from '../domain/witness.ts';
import type { Run } from './commands.ts';
import { addressesIn, inodeIn, linkOf, mountedNetns, namesIn, pidsIn, textOf } from './proc.ts';

/** Scans that meet a namespace whose processes end meanwhile, before the reading fails. */
const SCANS_MAX = 4;
const COMMAND_CHARS_MAX = 200;
const LISTENS = '00010000';

/** An address and the namespace that has it. */
export interface KernelAddress {
  readonly ip: Ipv4;
  readonly place: KernelPlace;
}
export interface KernelView {
  readonly addresses: readonly KernelAddress[];
  /** The interfaces in the namespace of this process. */
  readonly interfaces: readonly Interface[];
}

export interface Interface {
  readonly name: string;
  readonly mac: string;
}

export interface KernelOptions {
  /** Docker's socket: the process that listens on it must be visible. */
  readonly socketPath: string;
  readonly run: Run;
  readonly proc?: string;
}

export interface Kernel {
  /** Reads all namespaces. Throws unavailable when one cannot be read, or when this process does not see what dockerd
   *  sees. */
  read(signal: AbortSignal): Promise<KernelView>;
  bootId(): Promise<string | null>;
}

export function createKernel({ socketPath, run, proc = '/proc' }: KernelOptions): Kernel {
  const fail = (why: string, hint = ''): IpamError =>
    new IpamError('unavailable', `the kernel's view is not complete: ${why}`, { hint });

  /** Returns dockerd's process id. In another pid or network namespace this process would see nothing of its
   *  containers, without an error. */
  async function dockerd(pids: readonly number[]): Promise<number> {
    const inode = await listenerOf();
    for (const pid of inode === null ? [] : pids) {
      if ((await textOf(`${proc}/${pid}/comm`))?.trim() !== 'dockerd') continue;
      for (const fd of (await namesIn(`${proc}/${pid}/fd`)) ?? [])
        if (inodeIn(await linkOf(`${proc}/${pid}/fd/${fd}`)) === inode) return await inOurs(pid);
    }
    throw fail(
      `no dockerd that listens on ${socketPath} is visible`,
      "run the server in the host's pid and network namespaces: without ProtectProc=, PrivateNetwork= and ProcSubset=",
    );
  }

  async function listenerOf(): Promise<string | null> {
    const path = await realpath(socketPath).catch(() => socketPath);
    const aliases = [path, path.replace(/^\/run\//, '/var/run/')];
    for (const line of ((await textOf(`${proc}/self/net/unix`)) ?? '').split('\n')) {
      const [, , , flags, , , inode = '', name = ''] = line.trim().split(/\s+/);
      if (flags === LISTENS && aliases.includes(name)) return inode;
    }
    return null;
  }

  async function inOurs(pid: number): Promise<number> {
    for (const kind of ['pid', 'net']) {
      const [theirs, ours] = [`${proc}/${pid}/ns/${kind}`, `${proc}/self/ns/${kind}`];
      const inode = inodeIn(await linkOf(theirs));
      if (inode === null || inode !== inodeIn(await linkOf(ours)))
        throw fail(`dockerd is in another ${kind} namespace`, "run the server in the host's namespaces");
    }
    return pid;
  }

  /** The addresses of a namespace with processes; null when these have ended. */
  async function byProcess(netns: string, pids: readonly number[], isHost: boolean) {
    for (const pid of pids) {
      const trie = await textOf(`${proc}/${pid}/net/fib_trie`);
      // The id may be another process's by now, or the process has entered another namespace.
      if (trie === null || inodeIn(await linkOf(`${proc}/${pid}/ns/net`)) !== netns) continue;
      return placed(addressesIn(trie), { netns, isHost, pid, ...(await nameOf(pid)), path: null });
    }
    return null;
  }

  async function nameOf(pid: number): Promise<Pick<KernelPlace, 'command' | 'container'>> {
    const command = (await textOf(`${proc}/${pid}/cmdline`)) || (await textOf(`${proc}/${pid}/comm`));
    const cgroup = (await textOf(`${proc}/${pid}/cgroup`)) ?? '';
    return {
      command: command === null ? null : printable(command),
      container: cgroup.match(/(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])/)?.[0] ?? null,
    };
  }

  /** The addresses of a namespace that is only mounted; null when it is mounted no more. */
  async function byMount(netns: string, path: string, signal: AbortSignal, isThere: () => Promise<boolean>) {
    const { code, stdout, stderr } = await run(
      ['nsenter', `--net=${path}`, 'cat', '/proc/self/net/fib_trie'],
      signal,
    );
    const place = { netns, isHost: false, pid: null, command: null, container: null, path };
    if (code === 0) return placed(addressesIn(stdout), place);
    if (!(await isThere())) return null;
    throw fail(`${path} cannot be entered: ${printable(stderr.trim())}`, 'run the server as root');
  }

  const placed = (ips: readonly string[], place: KernelPlace): KernelAddress[] =>
    ips
      .filter(ip => !ip.startsWith('127.'))
      .map(ip => ({ ip: parseIpv4(ip, 'an address of the kernel'), place }));

  /** One scan; null when the processes of a namespace ended before it was read. */
  async function scan(signal: AbortSignal): Promise<KernelAddress[] | null> {
    const pids = await pidsIn(proc);
    const engine = await dockerd(pids);
    const host = inodeIn(await linkOf(`${proc}/${engine}/ns/net`));
    const byNetns = new Map<string, number[]>();
    for (const pid of pids) {
      signal.throwIfAborted();
      const netns = inodeIn(await linkOf(`${proc}/${pid}/ns/net`));
      if (netns !== null) byNetns.set(netns, [...(byNetns.get(netns) ?? []), pid]);
    }
    const found: KernelAddress[] = [];
    for (const [netns, members] of byNetns) {
      signal.throwIfAborted();
      const here = await byProcess(netns, members, netns === host);
      if (here === null) return null;
      found.push(...here);
    }
    // Paths are those of dockerd's mount namespace, which may be another than ours.
    const root = `${proc}/${engine}/root`;
    const mounts = async () => mountedNetns((await textOf(`${proc}/${engine}/mountinfo`)) ?? '');
    for (const { inode, path } of await mounts()) {
      if (byNetns.has(inode)) continue;
      byNetns.set(inode, []);
      const isThere = async () => (await mounts()).some(one => one.inode === inode);
      found.push(...((await byMount(inode, `${root}${path}`, signal, isThere)) ?? []));
    }
    return found;
  }

  return {
    bootId: async () => (await textOf(`${proc}/sys/kernel/random/boot_id`))?.trim() ?? null,
    async read(signal) {
      const links = await run(['ip', '-o', 'link', 'show'], signal);
      if (links.code !== 0) throw fail(`ip link: ${printable(links.stderr.trim())}`, 'install iproute2');
      for (let scans = 0; scans < SCANS_MAX; scans++) {
        const addresses = await scan(signal);
        if (addresses !== null) return { addresses, interfaces: interfacesIn(links.stdout) };
      }
      throw fail('processes end faster than they can be read');
    },
  };
}

/** The interfaces in the output of `ip -o link show`. */
export const interfacesIn = (text: string): Interface[] =>
  [...text.matchAll(/^\d+: ([^:@\s]+).* link\/ether ([0-9a-f:]{17}) /gm)].map(([, name = '', mac = '']) => ({
    ...{ name, mac },
  }));

const printable = (value: string): string => cleaned(value, COMMAND_CHARS_MAX).trim();
