/** An EC2 instance: namespaces of its own on this machine's kernel, ENIs on the fabric, and a disk that survives. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { execute, firstLine, type Program, type Result, startInside, until } from '../kit/docker/netns.ts';
import type { Fabric } from './fabric.ts';
import { HOSTS_FILE, type InstanceSite, SUBNETS } from './site.ts';

/** A command as words, or as a line, which is split as systemd does it: at spaces, where these are not in '…'. */
export type Command = string | readonly string[];
export const wordsOf = (command: Command): readonly string[] =>
  typeof command === 'string'
    ? [...command.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '')
    : command;

const OUT = '/out';
const DISKS = '/disks';
/** The parts of the file system that are the instance's own; the rest is the machine's. */
const DISK_FOLDERS = ['etc', 'opt', 'root', 'usr/local', 'var/lib'];
const NAMESPACES = '--mount --net --pid --uts --ipc';
const DOCKER_STARTS_MAX = 3;
const DOCKER_START_MS = 120_000;

// Process 1 of the instance: all others end with it. It prints its process id as seen from outside, and waits.
const INIT = `
  set -e
  read -r pid _ </proc/self/stat
  mount -t proc proc /proc
  mount -t tmpfs run /run
  for path in ${DISK_FOLDERS.join(' ')}; do mount --bind "$1/$path" "/$path"; done
  mount --bind "$1/boot_id" /proc/sys/kernel/random/boot_id
  mkdir -p /run/lock
  hostname "$2"
  ip link set dev lo up
  echo "$pid"
  read -r _ || true
`;

export class Instance {
  readonly site: InstanceSite;
  readonly #fabric: Fabric;
  readonly #disk: string;
  #init: ChildProcess | null = null;
  #enter: string[] = [];
  #dockerd: Program | null = null;

  constructor(site: InstanceSite, fabric: Fabric) {
    this.site = site;
    this.#fabric = fabric;
    this.#disk = join(DISKS, site.name);
    for (const folder of DISK_FOLDERS) mkdirSync(join(this.#disk, folder), { recursive: true });
    mkdirSync(join(this.#disk, 'usr/local/bin'));
    cpSync('/etc', join(this.#disk, 'etc'), { recursive: true });
    this.write('/etc/hosts', HOSTS_FILE);
    // The engine as a distribution would install it, but for rules that ipvlan has no use for: they cost 4 s a start.
    this.write('/etc/docker/daemon.json', '{ "iptables": false, "ip6tables": false, "bridge": "none" }\n');
  }

  get name(): string {
    return this.site.name;
  }

  get instance(): string {
    return this.site.id;
  }

  /** Of its primary ENI. */
  get ip(): string {
    return this.site.enis[0]?.primary ?? '';
  }

  write(path: string, text: string, mode = 0o644): void {
    const target = join(this.#disk, path);
    mkdirSync(join(target, '..'), { recursive: true });
    writeFileSync(target, text, { mode });
  }

  /** Where a path of its disk is, for this process. */
  pathOf = (path: string): string => join(this.#disk, path);

  /** Powers it on. Only its primary ENI is configured, as by DHCP; `lateMs` delays others, by interface. */
  async boot(lateMs: Readonly<Record<string, number>> = {}): Promise<void> {
    writeFileSync(join(this.#disk, 'boot_id'), `${randomUUID()}\n`);
    const flags = `${NAMESPACES} --fork --kill-child --propagation private`.split(' ');
    const init = spawn('unshare', [...flags, 'bash', '-c', INIT, 'init', this.#disk, this.name], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#init = init;
    const pid = Number(await firstLine(init));
    this.#enter = ['--target', `${pid}`, ...NAMESPACES.split(' ')];
    for (const eni of this.site.enis) {
      const plug = () => this.#fabric.plug(eni.id, eni.interface, pid);
      const late = lateMs[eni.interface] ?? 0;
      if (late === 0) plug();
      else setTimeout(() => this.#init === init && plug(), late);
    }
    const [{ interface: name = '', primary = '', subnet = 'hosts' } = {}] = this.site.enis;
    await this.sh(`ip link set dev ${name} mtu 9001 up
      ip address add ${primary}/24 dev ${name}
      ip route add default via ${SUBNETS[subnet].router}`);
  }

  /** Cuts the power. */
  async powerOff(): Promise<void> {
    const init = this.#init;
    if (init === null) return;
    this.#init = null;
    const gone = once(init, 'exit');
    init.kill('SIGKILL'); // unshare, and with it process 1 of the instance
    await gone;
    for (const { id } of this.site.enis) this.#fabric.unplug(id);
    await this.#dockerd?.ended;
    this.#dockerd = null;
  }

  run(command: Command, env?: Record<string, string>): Promise<Result> {
    return execute('nsenter', [...this.#enter, '--', ...wordsOf(command)], env);
  }

  /** Runs a command that has to succeed; returns its output. */
  async must(command: Command, env?: Record<string, string>): Promise<string> {
    const { code, stdout, stderr } = await this.run(command, env);
    if (code !== 0)
      throw new Error(
        `${this.name}: ${wordsOf(command).join(' ')} ended with ${code}: ${(stderr || stdout).trim()}`,
      );
    return stdout.trim();
  }

  /** Runs a shell's script that has to succeed. */
  sh = (script: string): Promise<string> => this.must(['bash', '-e', '-o', 'pipefail', '-c', script]);
  docker = (line: string): Promise<string> => this.must(`docker ${line}`);

  /** The root of its file system and processes, for this process. */
  get #root(): string {
    return join('/proc', this.#enter[1] ?? '', 'root');
  }

  /** Docker's API, without the command: under emulation a process takes most of the time. */
  async api(method: 'GET' | 'POST', path: string, body?: object): Promise<{ status: number; text: string }> {
    const headers = { 'content-type': 'application/json' };
    const asked = request({ socketPath: join(this.#root, 'run/docker.sock'), method, path, headers });
    asked.on('error', () => {}); // `once` hears it before the response, and the response after
    asked.end(body === undefined ? undefined : JSON.stringify(body));
    const [answer] = (await once(asked, 'response')) as [IncomingMessage];
    return { status: answer.statusCode ?? 0, text: await text(answer) };
  }

  /** The addresses in the network of one of its processes, as the kernel tells them. */
  addressesOf(pid: string | number): string[] {
    const addresses = readFileSync(join(this.#root, 'proc', `${pid}`, 'net/fib_trie'), 'utf8');
    return [...addresses.matchAll(/\|-- ([\d.]+)\n\s+\/32 host LOCAL/g)].map(([, ip = '']) => ip);
  }

  /** Starts a program; its output goes to a log among the results. */
  start(command: Command, log: string, env: Record<string, string> = {}): Promise<Program> {
    return startInside(this.#enter, wordsOf(command), join(OUT, `${this.name}-${log}.log`), env);
  }

  /** Starts the engine; resolves when it answers. It is started again when it ends, as by systemd: dockerd gives up after
   *  15 s when its containerd is slow to start. */
  async startDocker(): Promise<void> {
    for (let starts = 1; starts <= DOCKER_STARTS_MAX; starts++) if (await this.#startDockerOnce()) return;
    throw new Error(`dockerd of ${this.name} ended; see ${this.name}-dockerd.log`);
  }

  /** False: it has ended. */
  async #startDockerOnce(): Promise<boolean> {
    await this.run('rm -f /var/run/docker.pid'); // of one that was killed
    const dockerd = await this.start('dockerd', 'dockerd');
    this.#dockerd = dockerd;
    let hasEnded = false;
    void dockerd.ended.then(() => {
      hasEnded = true;
    });
    const answers = async () =>
      existsSync(join(this.#root, 'run/docker.sock')) && (await this.run('docker version')).code === 0;
    await until(
      `dockerd of ${this.name} answers`,
      DOCKER_START_MS,
      async () => hasEnded || (await answers()),
    );
    return !hasEnded;
  }

  async stopDocker(signal: 'TERM' | 'KILL' = 'TERM'): Promise<void> {
    await this.#dockerd?.signal(signal);
    await this.#dockerd?.ended;
    this.#dockerd = null;
  }
}
