/**
 * A real Docker Engine for tests, in a machine of its own (netns.ts): its data, sockets, containerd, plugin
 * folders and settings are nobody else's, and close() leaves nothing of it. Where the kernel lacks ipvlan, its
 * networks are macvlan on a veth pair; the IPAM traffic of the two is the same.
 */
import { existsSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import {
  execute,
  type Machine,
  machineUnavailable,
  must,
  type Program,
  type Result,
  startMachine,
  until,
} from './netns.ts';

const START_DEADLINE_MS = 90_000; // each stored network whose plugin is away costs a start 15 s
const SHUTDOWN_S = 60; // the engine's own patience with its containers
const STOP_DEADLINE_MS = (SHUTDOWN_S + 30) * 1000; // a plugin that is away costs a stop 17 s
const LOG_SHOWN_MAX = 2000; // characters of its end
const CGROUPS = '/sys/fs/cgroup';
const CGROUP_PREFIX = 'ec2-ipam-test-'; // then the pid of the test and a number
const PID_FILE = '/run/docker.pid';
export const IMAGE = 'busybox:test';

export interface Dockerd extends Machine {
  /** The docker command, against this engine. */
  docker(...args: string[]): Promise<Result>;
  /** The same where it has to succeed: answers the output. */
  must(...args: string[]): Promise<string>;
  /** Makes the image IMAGE out of the host's static busybox. */
  importBusybox(): Promise<void>;
  /** The IPv4 addresses on a container's eth0, as its kernel tells them, with their prefix lengths. */
  addressesOf(container: string): Promise<string[]>;
  /** Starts the engine again after stop() or kill9(), in the same machine; resolves when its API answers. */
  startEngine(): Promise<void>;
  /** SIGTERM, and waits for the end. */
  stop(): Promise<void>;
  /** SIGKILL: the engine and its containerd die, containers live on. */
  kill9(): Promise<void>;
  /** What the engine has logged so far. */
  log(): string;
}

/** What is missing for startDockerd, in words, or null. */
export async function dockerdAvailable(): Promise<string | null> {
  if (process.getuid?.() !== 0) return 'root';
  const missing = [];
  for (const command of ['dockerd', 'docker', 'containerd', 'runc', 'ip', 'unshare', 'nsenter'])
    if ((await execute('bash', ['-c', `command -v ${command}`])).code !== 0) missing.push(command);
  const libraries = await execute('ldd', [busyboxPath() ?? 'busybox'], { LC_ALL: 'C' });
  if (!/not a dynamic executable|statically linked/.test(libraries.stdout + libraries.stderr))
    missing.push('busybox (static: an image has no libraries)');
  return missing.length > 0 ? missing.join(', ') : await machineUnavailable();
}

/** A running engine without networks, images or containers. */
export async function startDockerd(options: { liveRestore?: boolean } = {}): Promise<Dockerd> {
  removeCgroups(/^(\d+)-/, pid => !existsSync(`/proc/${pid}`));
  const machine = await startMachine();
  const cgroup = nextCgroup();
  let engine: { program: Program; status: number | null } | null = null;
  const end = async (signal: 'TERM' | 'KILL'): Promise<void> => {
    await engine?.program.signal(signal);
    await until(`dockerd ends after ${signal}`, STOP_DEADLINE_MS, async () => engine?.status !== null);
  };

  const dockerd: Dockerd = {
    ...machine,
    docker: (...args) => machine.run(['docker', ...args]),
    must: (...args) => must(machine, ['docker', ...args]),
    importBusybox: () => importBusybox(machine),
    async addressesOf(container) {
      const text = await dockerd.must('exec', container, 'ip', '-4', 'addr', 'show', 'dev', 'eth0');
      return [...text.matchAll(/inet (\S+)/g)].map(match => match[1] ?? '');
    },
    async startEngine() {
      await machine.run(['rm', '-f', PID_FILE]); // dockerd refuses to start beside the one of a killed engine
      const args = flags(cgroup, options.liveRestore === true);
      const program = await machine.start(['dockerd', ...args], 'dockerd.log');
      const started = { program, status: null as number | null };
      engine = started;
      void program.ended.then(status => {
        started.status = status;
      });
      await until('dockerd answers', START_DEADLINE_MS, async () => {
        if (started.status !== null)
          throw new Error(`dockerd ended with ${started.status}:\n${dockerd.log().slice(-LOG_SHOWN_MAX)}`);
        return (await dockerd.docker('version')).code === 0;
      });
    },
    stop: () => end('TERM'),
    kill9: () => end('KILL'),
    log: () => readFileSync(join(machine.folder, 'dockerd.log'), 'utf8'),
    async close() {
      await machine.close();
      removeCgroups(new RegExp(`^(${cgroup.slice(CGROUP_PREFIX.length)})$`), () => true);
    },
  };
  try {
    await dockerd.startEngine();
  } catch (error) {
    await dockerd.close();
    throw error;
  }
  return dockerd;
}

const flags = (cgroup: string, liveRestore: boolean): string[] => [
  '--data-root=/run/docker-data',
  '--exec-root=/run/docker',
  '--host=unix:///run/docker.sock',
  `--pidfile=${PID_FILE}`,
  '--iptables=false',
  '--ip6tables=false',
  '--bridge=none',
  `--cgroup-parent=/${cgroup}`,
  `--shutdown-timeout=${SHUTDOWN_S}`,
  `--live-restore=${liveRestore}`,
];

const busyboxPath = (): string | undefined =>
  ['/usr/bin/busybox', '/bin/busybox'].find(path => existsSync(path));

async function importBusybox(machine: Machine): Promise<void> {
  const script = `
    set -e -o pipefail
    mkdir -p /run/image/bin && cd /run/image
    cp "$1" bin/busybox
    for name in $(bin/busybox --list); do [ "$name" = busybox ] || ln -sf busybox "bin/$name"; done
    tar -c . | docker import - ${IMAGE}
  `;
  await must(machine, ['bash', '-c', script, 'import', busyboxPath() ?? '']);
}

let cgroups = 0;
const nextCgroup = (): string => `${CGROUP_PREFIX}${process.pid}-${++cgroups}`;

// Control groups belong to no namespace, so their empty folders outlive the machine: one tree, or one a controller.
function removeCgroups(pattern: RegExp, unwanted: (match: string) => boolean): void {
  const hierarchies = existsSync(join(CGROUPS, 'cgroup.controllers'))
    ? [CGROUPS]
    : readdirSync(CGROUPS).map(name => join(CGROUPS, name));
  for (const hierarchy of hierarchies)
    for (const name of existsSync(hierarchy) ? readdirSync(hierarchy) : []) {
      if (!name.startsWith(CGROUP_PREFIX)) continue;
      const match = name.slice(CGROUP_PREFIX.length).match(pattern)?.[1];
      if (match !== undefined && unwanted(match)) removeTree(join(hierarchy, name));
    }
}

// A control group's files can't be removed, only its folders, innermost first.
function removeTree(folder: string): void {
  for (const entry of readdirSync(folder, { withFileTypes: true }))
    if (entry.isDirectory()) removeTree(join(folder, entry.name));
  try {
    rmdirSync(folder);
  } catch {} // still in use by what the kernel is taking away: the next run removes it
}
