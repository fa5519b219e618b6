/** The shipped program as processes of their own: servers, commands, and the simulator that they ask. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../../../scripts/tiers.ts';
import { removeFolder, tempFolder } from '../folders.ts';
import { type Environment, freePort, type Program, type Ran, runProgram, startProgram } from './process.ts';

export const BUNDLE = join(ROOT, 'dist/ec2-ipam.mjs');
export const NODE = join(ROOT, 'node_modules/.bin/node');

/** Starts the bundle; resolves when it has written `ready`. */
export async function startBundle(
  args: readonly string[],
  env: Environment,
  ready: string | RegExp,
): Promise<Program> {
  const bundle = startProgram(NODE, [BUNDLE, ...args], env);
  try {
    await bundle.says(ready);
  } catch (error) {
    await bundle.kill9();
    throw new Error(`${(error as Error).message}\n${bundle.output()}`);
  }
  return bundle;
}

/** Runs a command of the bundle to its end. */
export const runBundle = (args: readonly string[], env: Environment): Promise<Ran> =>
  runProgram(NODE, [BUNDLE, ...args], { env });

/** For the environment of a program that speaks to EC2 and its instance metadata at the URL. */
export const ec2Env = (url: string): Environment => ({
  AWS_ENDPOINT_URL_EC2: url,
  AWS_EC2_METADATA_SERVICE_ENDPOINT: url,
  AWS_REGION: 'eu-central-1',
  AWS_ACCESS_KEY_ID: 'test',
  AWS_SECRET_ACCESS_KEY: 'test',
});

export interface Simulator {
  readonly url: string;
  /** What a program needs in its environment to speak to it as to EC2. */
  readonly env: Environment;
  /** The secondary addresses that it shows on the ENI. */
  secondaries(eni: string): Promise<string[]>;
  calls(action: string): Promise<number>;
  /** Changes it through its API. */
  tell(method: 'POST' | 'PUT' | 'DELETE', path: string, body?: unknown): Promise<void>;
  stop(): Promise<unknown>;
}

/** The simulator with the world in a process of its own; also on unix sockets where they are named. */
export async function startSimulator(world: unknown, sockets: readonly string[] = []): Promise<Simulator> {
  const folder = tempFolder();
  const file = join(folder, 'world.json');
  writeFileSync(file, JSON.stringify(world));
  const url = `http://127.0.0.1:${await freePort()}`;
  const listen = [url, ...sockets.map(path => `unix:${path}`)].flatMap(address => ['--listen', address]);
  const bundle = await startBundle(['simulate', ...listen, '--world', file], {}, `at ${url}`);
  const get = async (path: string) => (await fetch(`${url}/simulator/${path}`)).json();
  return {
    url,
    env: ec2Env(url),
    async secondaries(eni) {
      const { enis } = (await get('state')) as { enis: { id: string; secondaries: string[] }[] };
      return enis.find(one => one.id === eni)?.secondaries ?? [];
    },
    calls: async action => ((await get('calls')) as Record<string, number>)[action] ?? 0,
    async tell(method, path, body) {
      const headers = { 'content-type': 'application/json' };
      const answer = await fetch(`${url}/simulator/${path}`, {
        method,
        headers,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      if (!answer.ok) throw new Error(`${method} ${path}: ${await answer.text()}`);
    },
    async stop() {
      await bundle.stop();
      removeFolder(folder);
    },
  };
}
