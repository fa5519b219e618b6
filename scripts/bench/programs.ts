/** Programs under test: processes on any of the three runtimes, their memory, and servers with a ledger
 *  and a simulated VPC of their own. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { setTimeout as pause } from 'node:timers/promises';
import { type Simulator, startSimulator } from '../../test/kit/servers/bundle.ts';
import { freePort, type Program, startProgram } from '../../test/kit/servers/process.ts';
import { ROOT, type Runtime } from '../tiers.ts';
import { errorIn, exchangeOnce, post } from './load.ts';
import { sum } from './rows.ts';
import type { EmptyStore } from './stores.ts';

const SAMPLE_EVERY_MS = 10;
const KB_PER_MB = 1024;
const US_PER_MS = 1000;
const TURNS = join(ROOT, 'scripts/bench/turns.mjs');

/** Runs a script with nothing in its environment but PATH and `env`. */
export function start(
  runtime: Runtime,
  script: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Program {
  const flags = runtime === 'deno' ? ['run', '-A', '--no-npm', '--no-remote'] : [];
  return startProgram(join(ROOT, 'node_modules/.bin', runtime), [...flags, script, ...args], env);
}

/** Resident memory: now, and at its highest so far. */
type MemoryField = 'VmRSS' | 'VmHWM';

/** 0 if the process has ended. */
export function memoryMb(pid: number, field: MemoryField): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) / KB_PER_MB;
  } catch {
    return 0;
  }
}

/** Returns the result of the work, and the highest sample of a process's memory taken meanwhile. */
export async function withMemory<T>(pid: number, field: MemoryField, work: Promise<T>) {
  let peakMb = 0;
  const sample = () => {
    peakMb = Math.max(peakMb, memoryMb(pid, field));
  };
  sample();
  const timer = setInterval(sample, SAMPLE_EVERY_MS);
  const result = await work.finally(() => clearInterval(timer));
  return { result, peakMb };
}

export const SUBNET = 'subnet-0a1b2c3d4e5f60001';
/** As on the largest instances: the primary, and 49 for containers. */
export const CONTAINERS_PER_ENI = 49;
const INSTANCE = 'i-0000000000be0c000';

export const eniName = (index: number): string =>
  `eni-${(0xbe0c0000 + index).toString(16).padStart(17, '0')}`;

/** Returns a VPC for the simulator: one instance, since an embedded server serves no other, with that many ENIs,
 *  each with its primary address only. */
export const worldOf = (cidr: string, enis: number): object => ({
  subnets: [{ id: SUBNET, cidr }],
  instanceTypes: { 'bench.large': { enis, addressesPerEni: CONTAINERS_PER_ENI + 1 } },
  instances: [{ id: INSTANCE, type: 'bench.large' }],
  enis: Array.from({ length: enis }, (_, deviceIndex) => ({
    id: eniName(deviceIndex),
    subnet: SUBNET,
    attachment: { instance: INSTANCE, deviceIndex },
  })),
});

const QUIET_FOR_MS = 500;
const QUIET_LIMIT_MS = 30_000;
export const SERVER_READY = 'ledger opened';
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
  /** Returns the result of the work, and the longest turn of the server's event loop meanwhile, in milliseconds of CPU
   *  time. The server must have been opened `withTurns`. */
  withTurns<T>(work: () => Promise<T>): Promise<{ result: T; longestMs: number }>;
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
  /** Whether the turns of its event loop can be measured. */
  readonly withTurns?: boolean;
}

/** Resolves when the server knows each of the ENIs by a RequestPool, and has filled its ledger. The
 *  server is then started again: it compares a subnet that it finds in its ledger at once, and a new one
 *  some time later. */
export async function openFixture(options: FixtureOptions): Promise<Fixture> {
  const { program, runtime, store, cidr, settings = {}, withTurns = false } = options;
  const ec2 = await startSimulator(worldOf(cidr, options.enis));
  const url = `http://127.0.0.1:${await freePort()}`;
  const env = { ...ec2.env, ...store.env, ...SETTINGS, ...settings };
  const [script = '', ...args] = [...(withTurns ? [TURNS] : []), program, 'serve', '--listen', url];
  const serve = () => start(runtime, script, args, env);
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
    return sum(Object.values(calls));
  };
  const quiet = async () => {
    const limit = performance.now() + QUIET_LIMIT_MS;
    for (let calls = -1, now = await ec2Calls(); calls !== now; now = await ec2Calls()) {
      if (performance.now() > limit) throw new Error('the server does not stop calling EC2');
      calls = now;
      await pause(QUIET_FOR_MS);
    }
  };
  let windows = 0;
  const inWindow = async <T>(work: () => Promise<T>) => {
    windows++;
    process.kill(server.pid, 'SIGUSR2');
    await server.says(`window ${windows} of turns: open`);
    const result = await work();
    process.kill(server.pid, 'SIGUSR2');
    const [, us] = await server.says(new RegExp(`window ${windows} of turns: (\\d+) us`));
    return { result, longestMs: Number(us) / US_PER_MS };
  };
  return { url, server, ec2, enis, ec2Calls, quiet, withTurns: inWindow, close };
}

async function requestPool(url: string, eni: string, cidr: string): Promise<void> {
  const body = JSON.stringify({ Pool: cidr, Options: { 'eni-id': eni } });
  const error = errorIn(await exchangeOnce(url, post('/IpamDriver.RequestPool', body)));
  if (error !== null) throw new Error(`RequestPool for ${eni}: ${error}`);
}
