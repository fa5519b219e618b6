/**
 * A machine of its own on this machine, made of namespaces: its own network, processes, mounts, /run and /etc.
 * Tests put interfaces, a dockerd and drivers in it, and nothing of that shows outside. It lives as long as
 * the pipe that this process holds: however the test ends, kill -9 included, the kernel takes it all away.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { suite } from '../uvu.ts';

export const MKNET = fileURLToPath(new URL('../../../mknet.sh', import.meta.url));
export const linesOf = (text: string): string[] => text.split('\n').filter(Boolean);

const FOLDER_PREFIX = 'ec2-ipam-test-'; // then the pid of the test and something random
const RUN_DEADLINE_MS = 180_000;
const START_DEADLINE_MS = 10_000;
const OUTPUT_BYTES_MAX = 16 * 1024 * 1024;
/** Most looks start a process. */
const POLL_MS = 100;

// Process 1 of the machine. /etc is an overlay: what is written there stays there, and the host's Docker
// settings don't count. /proc is still the host's in the first line, so the pid is the one nsenter needs.
const INIT = `
  set -e
  read -r pid _ </proc/self/stat
  mount -t proc proc /proc
  mount -t tmpfs tmpfs /run
  mkdir -p /run/etc/upper /run/etc/work /run/docker/plugins /run/lock
  if [[ $2 = root ]]; then # anybody else may not write below /etc even here, and can't start a dockerd
    mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work /etc
    rm -f /etc/docker/daemon.json
    mkdir -p /etc/docker/plugins
    mount --bind "$1/plugins" /run/docker/plugins
    mount --bind "$1/specs" /etc/docker/plugins
  fi
  ip link set dev lo up
  echo "$pid"
  read -r _ || true
`;

export interface Result {
  code: number;
  stdout: string;
  stderr: string;
}

/** A program that runs inside a machine. */
export interface Program {
  /** Resolves with its exit status, or 128 and the signal's number, once it has ended. */
  readonly ended: Promise<number>;
  /** Sends a signal to it alone; false when it has ended already. */
  signal(name: 'TERM' | 'KILL' | 'HUP'): Promise<boolean>;
}

export interface Machine {
  /** A temporary folder that has the same path inside and outside. */
  readonly folder: string;
  /** Outside's path of /run/docker/plugins: a socket made here is a plugin of the dockerd inside. */
  readonly pluginDir: string;
  /** Outside's path of /etc/docker/plugins. */
  readonly specDir: string;
  /** Runs a command inside to its end; a status other than 0 is an answer, not an error. */
  run(command: string[], env?: Record<string, string>): Promise<Result>;
  /** Starts a program inside; its output goes to the named file of the folder. */
  start(command: string[], logName: string, env?: Record<string, string>): Promise<Program>;
  /** Makes an interface with this MAC address, and the far end of its cable; both are down. */
  makeParent(mac: string, name?: string): Promise<{ name: string; remove(): Promise<void> }>;
  /** Lets programs inside reach, at this address and port, a unix socket of the folder. */
  expose(address: string, port: number, socketPath: string): Promise<void>;
  /** Ends every program inside and removes the folder. */
  close(): Promise<void>;
}

const asRoot = process.getuid?.() === 0;
const unshare = ['--mount', '--net', '--pid', '--fork', '--kill-child', '--propagation', 'private'];
const userNamespace = asRoot ? [] : ['--user', '--map-root-user'];

/** What keeps a machine from being made here, in words, or null. */
export async function machineUnavailable(): Promise<string | null> {
  const probe = 'mount -t tmpfs tmpfs /run && ip link add type veth && command -v nsenter && command -v curl';
  const { code, stderr } = await execute('unshare', [...unshare, ...userNamespace, 'bash', '-c', probe]);
  return code === 0 ? null : `namespaces and veth: ${stderr.trim().split('\n').at(-1) || 'refused here'}`;
}

/** How a suite is told its rules: where something is missing, each is skipped, and says so. */
export const ruleOf =
  (tests: Tests, missing: string | null) =>
  (name: string, body: () => Promise<void>): void => {
    if (missing === null) tests(name, body);
    else tests.skip(`${name} (needs ${missing})`, () => {});
  };
type Tests = ReturnType<typeof suite>;

/** A new machine with nothing but its loopback. */
export async function startMachine(): Promise<Machine> {
  removeStaleFolders();
  const folder = mkdtempSync(join(tmpdir(), `${FOLDER_PREFIX}${process.pid}-`));
  const pluginDir = join(folder, 'plugins');
  const specDir = join(folder, 'specs');
  mkdirSync(pluginDir);
  mkdirSync(specDir);
  const init = ['bash', '-c', INIT, 'init', folder, asRoot ? 'root' : 'user'];
  const keeper = spawn('unshare', [...unshare, ...userNamespace, ...init], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const gone = new Promise<void>(resolve => keeper.once('exit', () => resolve()));
  const pid = await firstLine(keeper).catch(error => {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  });
  const user = asRoot ? [] : ['--user', '--preserve-credentials'];
  const enter = ['--target', pid, '--mount', '--net', '--pid', ...user];

  let interfaces = 0;
  const machine: Machine = {
    folder,
    pluginDir,
    specDir,
    run: (command, env) => execute('nsenter', [...enter, '--', ...command], env),
    start: (command, logName, env) => startInside(enter, command, join(folder, logName), env),
    async makeParent(mac, name = `eth${++interfaces}`) {
      const far = `${name}-far`;
      await must(machine, `ip link add ${name} address ${mac} type veth peer name ${far}`);
      await must(machine, `ip link set dev ${far} mtu 9001 up`);
      return { name, remove: async () => void (await must(machine, `ip link delete ${name}`)) };
    },
    async expose(address, port, socketPath) {
      await machine.run(['ip', 'address', 'add', `${address}/32`, 'dev', 'lo']); // 127.0.0.1 is there already
      const forward = fileURLToPath(new URL('forward.ts', import.meta.url));
      const runtime = 'Deno' in globalThis ? [process.execPath, 'run', '-A'] : [process.execPath];
      await machine.start([...runtime, forward, address, String(port), socketPath], `forward-${port}.log`);
      await until(`${address}:${port} answers inside`, START_DEADLINE_MS, async () => {
        const probe = await machine.run(['bash', '-c', `exec 3<>/dev/tcp/${address}/${port}`]);
        return probe.code === 0;
      });
    },
    async close() {
      keeper.stdin?.end();
      await gone;
      rmSync(folder, { recursive: true, force: true });
    },
  };
  return machine;
}

/** Runs a command inside that has to succeed; returns its output. A text is split at its blanks. */
export async function must(machine: Machine, command: string | string[]): Promise<string> {
  const words = typeof command === 'string' ? command.split(' ') : command;
  const { code, stdout, stderr } = await machine.run(words);
  if (code !== 0) throw new Error(`${words.join(' ')} ended with ${code}: ${stderr.trim()}`);
  return stdout.trim();
}

/** Asks again until the answer is true; an error naming `what` when the deadline passes. */
export async function until(what: string, deadlineMs: number, ask: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + deadlineMs;
  while (!(await ask())) {
    if (Date.now() > end) throw new Error(`not within ${deadlineMs} ms: ${what}`);
    await new Promise(resolve => setTimeout(resolve, POLL_MS));
  }
}

/** Runs a command outside to its end. */
export function execute(file: string, args: string[], env: Record<string, string> = {}): Promise<Result> {
  return new Promise(resolve => {
    const options = {
      env: { ...process.env, ...env },
      timeout: RUN_DEADLINE_MS,
      maxBuffer: OUTPUT_BYTES_MAX,
    };
    const child = execFile(file, args, options, (error, stdout, stderr) => {
      if (error === null) resolve({ code: 0, stdout, stderr });
      else if (typeof error.code === 'number') resolve({ code: error.code, stdout, stderr });
      else resolve({ code: 127, stdout, stderr: `${stderr}${error.message}` }); // not there, or killed at the deadline
    });
    child.stdin?.end();
  });
}

/** Starts a program in the namespaces; its output goes to the log. The shell tells its pid in there, then becomes the
 *  program: signals have to be sent from inside, since a signal to nsenter doesn't reach the program. */
export async function startInside(
  enter: readonly string[],
  command: readonly string[],
  log: string,
  env = {},
): Promise<Program> {
  const shell = ['bash', '-c', 'echo $$; exec "$@" >>"$0" 2>&1', log, ...command];
  const child = spawn('nsenter', [...enter, '--', ...shell], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  });
  const ended = new Promise<number>(resolve => {
    child.once('exit', (code, signal) => resolve(code ?? 128 + (signal === 'SIGKILL' ? 9 : 15)));
  });
  const pid = await firstLine(child);
  return {
    ended,
    async signal(name) {
      const { code } = await execute('nsenter', [...enter, '--', 'kill', `-${name}`, pid]);
      return code === 0;
    },
  };
}

export async function firstLine(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error('the output of the program is not a pipe');
  for await (const line of createInterface({ input: child.stdout })) return line;
  throw new Error(`${child.spawnfile} ended before it said its process id`);
}

// A test that was killed leaves its folder; nobody else has its pid in the name.
function removeStaleFolders(): void {
  const alive = new Set(readdirSync('/proc'));
  for (const name of readdirSync(tmpdir())) {
    const pid = name.match(`^${FOLDER_PREFIX}(\\d+)-`)?.[1];
    if (pid !== undefined && !alive.has(pid)) rmSync(join(tmpdir(), name), { recursive: true, force: true });
  }
}
