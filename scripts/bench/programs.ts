/** Programs under test: processes on any of the three runtimes, their memory, and servers with a ledger
 *  and a simulated VPC of their own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { freePort, type Simulator, startSimulator } from '../../test/kit/servers/bundle.ts';
import { ROOT, type Runtime } from '../tiers.ts';
import { errorIn, exchangeOnce, post } from './load.ts';
import type { EmptyStore } from './stores.ts';

const OUTPUT_LIMIT_MS = 30_000;
const STOP_LIMIT_MS = 10_000;
const OUTPUT_CHARS_MAX = 100_000;
const SAMPLE_EVERY_MS = 10;
const KB_PER_MB = 1024;

export interface Program {
  readonly pid: number;
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** Returns the last of what it has written. */
  output(): string;
  /** Resolves when it has written the text. */
  says(text: string): Promise<void>;
  /** Resolves with its exit status. */
  readonly ended: Promise<number | null>;
  kill(): void;
  /** Sends SIGTERM, and SIGKILL if it does not end. */
  stop(): Promise<number | null>;
}

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** Runs a script with nothing in its environment but PATH and `env`. */
export function start(
  runtime: Runtime,
  script: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Program {
  const flags = runtime === 'deno' ? ['run', '-A', '--no-npm', '--no-remote'] : [];
  const child = spawn(join(ROOT, 'node_modules/.bin', runtime), [...flags, script, ...args], {
    env: { PATH: process.env.PATH ?? '', ...env },
  });
  running.add(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      output = (output + chunk).slice(-OUTPUT_CHARS_MAX);
    });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', code => {
      running.delete(child);
      resolve(code);
    });
  });
  return {
    pid: child.pid ?? 0,
    stdin: child.stdin,
    stdout: child.stdout,
    output: () => output,
    ended,
    kill: () => void child.kill('SIGKILL'),
    async says(text) {
      const deadline = performance.now() + OUTPUT_LIMIT_MS;
      while (!output.includes(text)) {
        if (!running.has(child)) throw new Error(`${script} ${args[0]} has ended: ${output}`);
        if (performance.now() > deadline)
          throw new Error(`${script} ${args[0]} does not write ${text}: ${output}`);
        await pause(SAMPLE_EVERY_MS);
      }
    },
    async stop() {
      child.kill('SIGTERM');
      const late = setTimeout(() => child.kill('SIGKILL'), STOP_LIMIT_MS);
      const code = await ended;
      clearTimeout(late);
      return code;
    },
  };
}

/** Resident memory of a process, now and at its highest. 0 if it has ended. */
export const residentMb = (pid: number): number => statusMb(pid, 'VmRSS');
export const peakMb = (pid: number): number => statusMb(pid, 'VmHWM');

function statusMb(pid: number, field: string): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) / KB_PER_MB;
  } catch {
    return 0;
  }
}

/** Returns the result of the work, and the highest sample taken meanwhile. */
export async function highestDuring<T>(
  sample: () => number,
  work: Promise<T>,
): Promise<{ result: T; highest: number }> {
  let highest = sample();
  const timer = setInterval(() => {
    highest = Math.max(highest, sample());
  }, SAMPLE_EVERY_MS);
  try {
    return { result: await work, highest };
  } finally {
    clearInterval(timer);
  }
}

export const SUBNET = 'subnet-0a1b2c3d4e5f60001';
/** As on the largest instances: the primary, and 49 for containers. */
export const CONTAINERS_PER_ENI = 49;
const INSTANCE_TYPE = 'bench.large';
/** More than any instance type has: an embedded server serves one instance only. */
const ENIS_PER_INSTANCE = 64;

const hexId = (prefix: string, index: number): string =>
  `${prefix}-${(0xbe0c0000 + index).toString(16).padStart(17, '0')}`;
export const eniName = (index: number): string => hexId('eni', index);

/** Returns a VPC for the simulator: a subnet with that many ENIs, each with its primary address only. */
export function worldOf(cidr: string, enis: number): object {
  const instances = Array.from({ length: Math.ceil(enis / ENIS_PER_INSTANCE) }, (_, i) => ({
    id: hexId('i', i),
    type: INSTANCE_TYPE,
  }));
  return {
    subnets: [{ id: SUBNET, cidr }],
    instanceTypes: { [INSTANCE_TYPE]: { enis: ENIS_PER_INSTANCE, addressesPerEni: CONTAINERS_PER_ENI + 1 } },
    instances,
    enis: Array.from({ length: enis }, (_, i) => ({
      id: eniName(i),
      subnet: SUBNET,
      attachment: {
        instance: instances[Math.floor(i / ENIS_PER_INSTANCE)]?.id,
        deviceIndex: i % ENIS_PER_INSTANCE,
      },
    })),
  };
}

const QUIET_FOR_MS = 500;
const QUIET_LIMIT_MS = 30_000;
export const SERVER_READY = 'the ledger is open';
/** All of EC2's tokens, since rate limits are not measured, and no work in the background. */
const SETTINGS = {
  EC2_IPAM_EC2_SHARE: '100%',
  EC2_IPAM_RECONCILE_EVERY: '24h',
  EC2_IPAM_LOG_FORMAT: 'json',
};

/** A server of the bundle with a ledger and a simulated VPC of its own. */
export interface Fixture {
  readonly url: string;
  readonly server: Program;
  readonly ec2: Simulator;
  readonly enis: readonly string[];
  /** Returns the number of EC2 calls so far. */
  ec2Calls(): Promise<number>;
  /** Resolves when there has been no EC2 call for a while. */
  quiet(): Promise<void>;
  close(): Promise<void>;
}
interface FixtureOptions {
  /** The bundle. */
  readonly program: string;
  readonly runtime: Runtime;
  readonly store: EmptyStore;
  readonly cidr: string;
  readonly enis: number;
  readonly settings?: Readonly<Record<string, string>>;
}

/** Resolves when the server knows each of the ENIs by a RequestPool, and has filled its ledger. The
 *  server is then started again: it compares a subnet that it finds in its ledger at once, and a new one
 *  some time later. */
export async function openFixture(options: FixtureOptions): Promise<Fixture> {
  const { program, runtime, store, cidr, settings = {} } = options;
  const ec2 = await startSimulator(worldOf(cidr, options.enis));
  const url = `http://127.0.0.1:${await freePort()}`;
  const env = { ...ec2.env, ...store.env, ...SETTINGS, ...settings };
  const serve = () => start(runtime, program, ['serve', '--listen', url], env);
  const enis = Array.from({ length: options.enis }, (_, i) => eniName(i));
  let server = serve();
  const close = async () => {
    await server.stop();
    await ec2.stop();
  };
  try {
    await server.says(SERVER_READY);
    for (const eni of enis) await requestPool(url, eni, cidr);
    await server.stop();
    server = serve();
    await server.says(SERVER_READY);
  } catch (error) {
    await close();
    throw error;
  }
  const ec2Calls = async () => {
    const calls = (await (await fetch(`${ec2.url}/simulator/calls`)).json()) as Record<string, number>;
    return Object.values(calls).reduce((sum, count) => sum + count, 0);
  };
  const quiet = async () => {
    const limit = performance.now() + QUIET_LIMIT_MS;
    for (let calls = -1, now = await ec2Calls(); calls !== now; now = await ec2Calls()) {
      if (performance.now() > limit) throw new Error('the server does not stop calling EC2');
      calls = now;
      await pause(QUIET_FOR_MS);
    }
  };
  return { url, server, ec2, enis, ec2Calls, quiet, close };
}

async function requestPool(url: string, eni: string, cidr: string): Promise<void> {
  const body = JSON.stringify({ Pool: cidr, Options: { 'eni-id': eni } });
  const error = errorIn(await exchangeOnce(url, post('/IpamDriver.RequestPool', body)));
  if (error !== null) throw new Error(`RequestPool for ${eni}: ${error}`);
}
