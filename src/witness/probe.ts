/**
 * Asks the kernel whether any ipvlan slave of an interface has an address, whatever namespace the slave is in: it
 * refuses the address on another slave then. The slave of the probe is down and in a namespace of its own, which ends
 * with the process that keeps it.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Ipv4 } from '../domain/address.ts';
import { IpamError } from '../domain/error.ts';
import type { Run } from './commands.ts';
import type { DockerNetwork } from './docker-client.ts';

/** `not ipvlan`: no slave of the interface can be asked. `free`: those that no slave has. */
export type Probed =
  | { readonly kind: 'not ipvlan' }
  | { readonly kind: 'probed'; readonly free: readonly Ipv4[] };

export interface ProbeOptions {
  readonly run: Run;
  /** Docker's networks on interfaces of this host. */
  readonly networks: readonly DockerNetwork[];
  /** Runs `work` with the id of a process in a new network namespace. */
  readonly inNamespace?: <T>(work: (pid: number) => Promise<T>) => Promise<T>;
}

/** The interface of the probe, in its own namespace. */
const DEVICE = 'ec2ipamprobe0';
const TAKEN = /already assigned to an ipvlan device|RTNETLINK answers: Address already in use/i;

/** Probes the addresses on the interface with this MAC address. Throws unavailable when it cannot be done. */
export async function probeIpvlan(
  { run, networks, inNamespace = inNewNamespace }: ProbeOptions,
  mac: string,
  ips: readonly Ipv4[],
  signal: AbortSignal,
): Promise<Probed> {
  const { code, stdout, stderr } = await run(['ip', '-o', 'link', 'show'], signal);
  if (code !== 0) throw failed(`ip link: ${stderr.trim()}`);
  const interfaces = interfacesWith(stdout, mac);
  const here = networks.filter(({ parent }) => interfaces.includes(parent));
  const [network] = here.filter(({ driver }) => driver === 'ipvlan');
  if (network === undefined) {
    if (here.length > 0) return { kind: 'not ipvlan' };
    throw failed(`Docker has no network on ${interfaces.join(', ') || `an interface with ${mac}`}`);
  }
  // A slave that is made with another mode or flag, or without one, changes those of all slaves of the interface.
  const kind = kindOf(network);
  if (here.some(one => one.driver === 'ipvlan' && kindOf(one) !== kind))
    throw failed(`the networks on ${network.parent} have different modes`);
  return await inNamespace(async pid => {
    const link = ['ip', 'link', 'add', 'link', network.parent, 'name', DEVICE, 'netns', String(pid)];
    await must(run, [...link, 'type', 'ipvlan', 'mode', ...kind.split(' ')], signal);
    const free: Ipv4[] = [];
    for (const ip of ips) if (await isFree(run, pid, ip, signal)) free.push(ip);
    return { kind: 'probed', free };
  });
}

/** The mode and the flag of the network's slaves; without them Docker takes these. */
const kindOf = ({ mode, flag }: DockerNetwork): string => `${mode ?? 'l2'} ${flag ?? 'bridge'}`;

/** Returns whether no slave has the address. It is taken off again at once. */
async function isFree(run: Run, pid: number, ip: Ipv4, signal: AbortSignal): Promise<boolean> {
  const address = (verb: 'add' | 'del') => [
    ...['nsenter', `--net=/proc/${pid}/ns/net`, 'ip', 'address', verb, `${ip}/32`, 'dev', DEVICE],
  ];
  const { code, stderr } = await run(address('add'), signal);
  if (code !== 0) {
    if (TAKEN.test(stderr)) return false;
    throw failed(`${ip}: ${stderr.trim()}`);
  }
  await must(run, address('del'), signal);
  return true;
}

async function must(run: Run, command: readonly string[], signal: AbortSignal): Promise<void> {
  const { code, stderr } = await run(command, signal);
  if (code !== 0) throw failed(`${command.slice(0, 3).join(' ')}: ${stderr.trim()}`);
}

/** The process ends with this one too, since its input does. */
async function inNewNamespace<T>(work: (pid: number) => Promise<T>): Promise<T> {
  const keeper = spawn('unshare', ['--net', 'sh', '-c', 'echo; exec cat'], {
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  try {
    // The line says that the namespace is made.
    await Promise.race([
      once(keeper.stdout, 'data'),
      once(keeper, 'exit').then(() => {
        throw failed('no network namespace can be made');
      }),
    ]);
    if (keeper.pid === undefined) throw failed('unshare cannot be run');
    return await work(keeper.pid);
  } catch (error) {
    throw error instanceof IpamError ? error : failed(String(error));
  } finally {
    keeper.stdin.end();
    keeper.kill('SIGKILL');
  }
}

const failed = (why: string): IpamError =>
  new IpamError('unavailable', `the ipvlan probe failed: ${why}`, {
    hint: 'run the server with CAP_NET_ADMIN and CAP_SYS_ADMIN',
  });

/** The names of the interfaces with this MAC address in the output of `ip -o link show`. */
const interfacesWith = (text: string, mac: string): string[] =>
  text
    .split('\n')
    .filter(line => line.includes(` link/ether ${mac} `))
    .map(line => line.match(/^\d+: ([^:@]+)/)?.[1] ?? '');
