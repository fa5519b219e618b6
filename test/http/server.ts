/** A server whose app can be made to wait, and clients that show all that came. */
import { once } from 'node:events';
import { type Agent, type IncomingMessage, request } from 'node:http';
import { request as requestTls, Agent as TlsAgent } from 'node:https';
import { connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { type Listener, type Listening, listen } from '../../src/http/listener/listen.ts';
import { suiteWithFolders, tlsOptions, toward } from '../kit/servers/transports.ts';
import { until } from '../kit/wait.ts';

/** The longest that a stop waits in these tests. */
export const BOUND_MS = 10_000;

const pathOf = ({ url }: Request) => new URL(url).pathname;
/** Echoes. A request for /slow or /early waits before its answer, one for /stream or /early in the middle of it. */
export const app = {
  /** The paths of what was asked. */
  handled: [] as string[],
  /** Ends the request that waits. */
  finish: () => {},
  arrived: () => {},
  async fetch(asked: Request): Promise<Response> {
    app.handled.push(pathOf(asked));
    if (['/slow', '/early'].includes(pathOf(asked)))
      await new Promise<void>(resolve => {
        app.finish = resolve;
        app.arrived();
      });
    if (['/stream', '/early'].includes(pathOf(asked))) return new Response(halfThenRest());
    return new Response(`${asked.method} ${await asked.text()}`);
  },
};

function halfThenRest(): ReadableStream {
  const encoder = new TextEncoder();
  return new ReadableStream({
    start(stream) {
      stream.enqueue(encoder.encode('half'));
      app.finish = () => {
        stream.enqueue(encoder.encode(' and rest'));
        stream.close();
      };
    },
  });
}

/** Sends a request that waits in the app; resolves when it has got there. */
export async function begin<T>(send: () => T): Promise<{ sent: T }> {
  const { promise, resolve } = Promise.withResolvers<void>();
  app.arrived = resolve;
  const sent = send();
  await promise;
  return { sent };
}

let open: Listening[] = [];
/** A suite whose servers are closed after each test. */
export function serverSuite(
  ...named: Parameters<typeof suiteWithFolders>
): ReturnType<typeof suiteWithFolders> {
  const tests = suiteWithFolders(...named);
  tests.after.each(async () => {
    for (const one of open) await one.close(0);
    open = [];
  });
  return tests;
}

export async function serve(
  listener: Listener,
  ...more: [Parameters<typeof listen>[2]?, Parameters<typeof listen>[3]?]
): Promise<Listening> {
  const listening = await listen(app, listener, ...more);
  open.push(listening);
  return listening;
}

interface How {
  readonly path?: string;
  readonly agent?: Agent | undefined;
  /** With which certificate, over https; null: with none. */
  readonly client?: Parameters<typeof tlsOptions>[0];
}
/** Resolves when the head of the answer is there. */
export function ask(address: string, body: string, { path = '/', agent, client }: How = {}) {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const isTls = address.startsWith('https:');
  const { path: socketPath } = toward(address) as { path?: string };
  const url = `${socketPath === undefined ? address : 'http://localhost'}${path}`;
  const options = { method: 'POST', agent, ...(socketPath === undefined ? {} : { socketPath }) };
  const sent = isTls
    ? requestTls(url, { ...options, agent: agent ?? new TlsAgent(), ...tlsOptions(client) }, resolve)
    : request(url, options, resolve);
  sent.once('error', reject).end(body);
  return promise;
}
export const post = async (address: string, body: string, how?: How): Promise<string> =>
  await text(await ask(address, body, how));

export const failed = (asked: Promise<unknown>): Promise<boolean> =>
  asked.then(
    () => false,
    () => true,
  );

/** A connection that says nothing. */
export async function mute(address: string): Promise<Socket> {
  const socket = connect(toward(address))
    .on('error', () => {})
    .resume();
  await once(socket, 'connect');
  return socket;
}

/** A connection as bytes, with all that came on it. */
export function wire(address: string) {
  const socket = connect(toward(address));
  const made = {
    socket,
    received: '',
    hasEnded: false,
    error: null as unknown,
    ask: (body: string, path?: string) => socket.write(bytesOf(body, path)),
    answers: () => made.received.match(/POST \w+$|POST \w+(?=HTTP)/g) ?? [],
    /** How often it was told that the connection ends. */
    endsSaid: () => made.received.split(/^connection: close\r$/im).length - 1,
    answered: (count = 1) => until(`answer ${count}`, () => made.answers().length === count),
    ended: () => until('the end', () => made.hasEnded),
  };
  socket.setEncoding('latin1').on('data', (chunk: unknown) => {
    made.received += chunk;
  });
  socket.on('error', error => {
    made.error = error;
  });
  socket.on('close', () => {
    made.hasEnded = true;
  });
  return made;
}
export const bytesOf = (body: string, path = '/'): string =>
  `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
