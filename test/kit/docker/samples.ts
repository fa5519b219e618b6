/** What Docker Engines 26 and 29 answered when each state was made, and a server that answers so. */
import { readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';

interface Sample {
  readonly engine: string;
  readonly what: string;
  readonly json: unknown;
}
const SAMPLES = readFileSync(new URL('../../witness/samples.jsonl', import.meta.url), 'utf8')
  .split('\n')
  .filter(Boolean)
  .map((line): Sample => JSON.parse(line));

export const ENGINES = ['26.1.5', '29.1.5'] as const;
export type EngineVersion = (typeof ENGINES)[number];

/** The sample of the engine whose description begins so. */
export function sample<T = Record<string, unknown>>(engine: EngineVersion, what: string): T {
  const found = SAMPLES.find(one => one.engine === engine && one.what.startsWith(what));
  if (found === undefined) throw new Error(`no sample "${what}" of ${engine}`);
  return found.json as T;
}

/** What an engine answers. Tests change it. */
export interface Answers {
  info: unknown;
  networks: readonly { readonly Id: string }[];
  /** By id; what is absent is answered with 404. */
  network: Record<string, unknown>;
  containers: readonly unknown[];
  /** Overrides the answer to a path. */
  instead?:
    | ((path: string) => { readonly status: number; readonly body: string } | 'hang' | undefined)
    | undefined;
}

/** The engine with the containers that the samples show. */
export function answersOf(engine: EngineVersion): Answers {
  const network = sample<{ Id: string }>(engine, 'GET /networks/{id}');
  const names = ['looping', 'gone', 'created', 'paused', 'web'];
  return {
    info: sample(engine, 'GET /info'),
    networks: [sample(engine, 'GET /networks (one entry)')],
    network: { [network.Id]: network },
    containers: names.map(name => sample(engine, `GET /containers/json?all=1, /${name}`)),
  };
}

export interface FakeDocker {
  readonly socketPath: string;
  readonly asked: string[];
  close(): Promise<void>;
}
let made = 0;

/** The part of Docker's API that the witness reads, on a unix socket. */
export async function serveDocker(answers: Answers): Promise<FakeDocker> {
  const socketPath = join(tmpdir(), `ec2-ipam-docker-${process.pid}-${++made}.sock`);
  const asked: string[] = [];
  const server: Server = createServer((incoming, response) => {
    const path = incoming.url ?? '';
    asked.push(path);
    const given = answers.instead?.(path) ?? answerTo(answers, path);
    if (given === 'hang') return;
    response.writeHead(given.status, { 'content-type': 'application/json' }).end(given.body);
  });
  await new Promise<void>(resolve => server.listen(socketPath, resolve));
  return {
    socketPath,
    asked,
    async close() {
      server.closeAllConnections();
      await new Promise(resolve => server.close(resolve));
      rmSync(socketPath, { force: true });
    },
  };
}

function answerTo(answers: Answers, path: string): { status: number; body: string } {
  const ok = (json: unknown) => ({ status: 200, body: JSON.stringify(json) });
  const bare = path.replace('/v1.44', '');
  if (bare === '/info') return ok(answers.info);
  if (bare === '/networks') return ok(answers.networks);
  if (bare === '/containers/json?all=1') return ok(answers.containers);
  const network = answers.network[bare.replace('/networks/', '')];
  return network === undefined ? { status: 404, body: '{"message":"no such network"}' } : ok(network);
}
