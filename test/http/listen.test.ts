// Goal: TCP, a unix socket and mutual TLS are served alike on every runtime, nobody gets in who should not, and a
// stop loses no answer. Method: real sockets on loopback; node:http as the client, raw sockets where it hides too
// much.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { Agent, type IncomingMessage, request, type Server } from 'node:http';
import { request as requestTls, Agent as TlsAgent } from 'node:https';
import { type AddressInfo, connect, createServer, type NetConnectOpts, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { text } from 'node:stream/consumers';
import { setTimeout as wait } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { createAdaptorServer } from '@hono/node-server';
import { type Listener, type Listening, listen } from '../../src/http/listen.ts';
import { createTlsFront } from '../../src/http/tls-front.ts';
import { failureOf } from '../kit/failures.ts';
import { type Certificates, makeCertificates } from '../kit/servers/certificates.ts';
import { type Dialled, KeepAliveClient } from '../kit/servers/keep-alive.ts';
import { assert, suite } from '../kit/uvu.ts';
import { until } from '../kit/wait.ts';

const LOCAL: Listener = { kind: 'http', host: '127.0.0.1', port: 0 };
const unixAt = (path: string): Listener => ({ kind: 'unix', path, mode: 0o600 });
const BOUND_MS = 10_000;
const NODE = fileURLToPath(new URL('../../node_modules/.bin/node', import.meta.url));
const CONNECT_MANY = fileURLToPath(new URL('connect-many.ts', import.meta.url));

let folder = '';
const socketPath = () => join(folder, 'x.sock');
let open: Listening[] = [];
let certificates: Certificates;
/** Ends the request that waits in the app. */
let finish = () => {};

const app = {
  async fetch(asked: Request): Promise<Response> {
    handled.push(new URL(asked.url).pathname);
    if (['/slow', '/early'].includes(new URL(asked.url).pathname))
      await new Promise<void>(resolve => {
        finish = resolve;
        arrived();
      });
    if (['/stream', '/early'].includes(new URL(asked.url).pathname)) return new Response(halfThenRest());
    return new Response(`${asked.method} ${await asked.text()}`);
  },
};
let arrived = () => {};
/** The paths of what was asked. */
let handled: string[] = [];

function halfThenRest(): ReadableStream {
  const encoder = new TextEncoder();
  return new ReadableStream({
    start(stream) {
      stream.enqueue(encoder.encode('half'));
      finish = () => {
        stream.enqueue(encoder.encode(' and rest'));
        stream.close();
      };
    },
  });
}

async function serve(listener: Listener): Promise<Listening> {
  const listening = await listen(app, listener);
  open.push(listening);
  return listening;
}

interface Where {
  address?: string;
  socketPath?: string;
  agent?: Agent;
  path?: string;
}

function post(body: string, { address = 'http://localhost', path = '/', ...rest }: Where): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = request(`${address}${path}`, { method: 'POST', ...rest }, answer =>
      textOf(answer).then(resolve, reject),
    );
    sent.once('error', reject).end(body);
  });
}

async function textOf(answer: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of answer) text += chunk;
  return text;
}

const portOf = (address: string) => Number(new URL(address).port);

async function connected(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
    .on('error', () => {})
    .resume();
  await once(socket, 'connect');
  return socket;
}

/** Resolves when nobody listens at the port any more. */
async function refused(port: number): Promise<void> {
  for (;;) {
    const socket = connect(port, '127.0.0.1');
    const [what] = await Promise.race([
      once(socket, 'connect').then(() => ['connected']),
      new Promise<unknown[]>(resolve => socket.once('error', error => resolve([error]))),
    ]);
    socket.destroy();
    if (what !== 'connected') return;
    await wait(20); // the accept queue is empty at times
  }
}

/** Sends a request that waits in the app; resolves when it has got there. */
async function begin<T>(send: () => T): Promise<{ sent: T }> {
  const { promise, resolve } = Promise.withResolvers<void>();
  arrived = resolve;
  const sent = send();
  await promise;
  return { sent };
}

const failed = (asked: Promise<unknown>): Promise<boolean> =>
  asked.then(
    () => false,
    () => true,
  );

function prepare(tests: ReturnType<typeof suite>): void {
  tests.before.each(() => {
    folder = mkdtempSync(join(tmpdir(), 'ec2-ipam-listen-'));
    open = [];
  });
  tests.after.each(async () => {
    for (const one of open) await one.close(0);
    rmSync(folder, { recursive: true, force: true });
  });
}

function withCertificates(tests: ReturnType<typeof suite>): void {
  tests.before(() => {
    certificates = makeCertificates();
  });
  tests.after(() => certificates.remove());
}

// Takes its time, so it begins first: node:http's own bounds are 5 s for an idle connection, and a look around every
// 30 s for slow ones.
const IDLE_MS = 6500;
const idling = staysOpen();
idling.catch(() => {});

const tcp = suite('listen on TCP');
prepare(tcp);
// Bun and Deno tell less of what waits in the accept queue, and lose a few.
if (!('Deno' in globalThis) && process.versions.bun === undefined)
  tcp('a stop serves who connects while a request is being dealt with', async () => {
    let busy = 0;
    const late: Promise<string>[] = [];
    const working = {
      async fetch(asked: Request): Promise<Response> {
        if (new URL(asked.url).pathname === '/work') {
          const until = performance.now() + 5;
          late.push(post('late', { address, agent: new Agent() }).catch(error => error.code));
          while (performance.now() < until) busy++; // as a commit that blocks
        }
        return new Response('done');
      },
    };
    let address = '';
    for (let round = 0; round < 60; round++) {
      const server = await listen(working, LOCAL);
      address = server.address;
      const { hostname, port } = new URL(address);
      const socket = connect(Number(port), hostname);
      await once(socket, 'connect');
      socket.once('data', () => socket.destroy());
      const closed = server.close(BOUND_MS);
      await wait(Math.floor(round / 12));
      socket.write('POST /work HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n');
      await closed;
    }
    assert.ok(busy > 0);
    const answers = new Set(await Promise.all(late));
    answers.delete('ECONNREFUSED'); // it knows that it was not heard, and asks elsewhere
    assert.equal(answers, new Set(['done']));
  });

tcp('answers at the port that the system chose', async () => {
  const { address } = await serve(LOCAL);
  assert.match(address, /^http:\/\/127\.0\.0\.1:\d+$/);
  assert.not.match(address, /:0$/);
  assert.is(await post('hello', { address }), 'POST hello');
});

tcp('a port that is taken is one clear error', async () => {
  const { address } = await serve(LOCAL);
  const port = portOf(address);
  const line = await failureOf(listen(app, { kind: 'http', host: '127.0.0.1', port }), 'conflict');
  assert.is(
    line,
    `can't listen on ${address}: another process listens there; stop it, or give another --listen`,
  );
});

tcp('an address that this machine has not is one clear error', async () => {
  const line = await failureOf(listen(app, { kind: 'http', host: '192.0.2.77', port: 0 }), 'unavailable');
  assert.match(line, /^can't listen on http:\/\/192\.0\.2\.77:0: .*; give another --listen$/);
});
tcp.run();

const unix = suite('listen on a unix socket');
prepare(unix);
unix('makes the folder, answers, and removes the socket at the end', async () => {
  const path = join(folder, 'plugins', 'x.sock');
  const { address, close } = await serve(unixAt(path));
  assert.is(address, `unix:${path}`);
  assert.is(await post('hello', { socketPath: path }), 'POST hello');
  await close(BOUND_MS);
  assert.not(existsSync(path));
});

unix('has its mode from the first moment, and the umask is as before', async () => {
  const umask = process.umask(0);
  try {
    for (const mode of [0o600, 0o660, 0o666]) {
      const path = join(folder, `${mode}.sock`);
      const listening = serve({ kind: 'unix', path, mode });
      while (!existsSync(path)) await new Promise(resolve => setImmediate(resolve));
      assert.is(statSync(path).mode & 0o777, mode);
      await listening;
      assert.is(statSync(path).mode & 0o777, mode);
      assert.is(process.umask(), 0);
    }
  } finally {
    process.umask(umask);
  }
});

unix('leaves the socket of the next server that came while it stopped', async () => {
  const path = socketPath();
  const old = await serve(unixAt(path));
  const { sent: last } = await begin(() => post('last', { socketPath: path, path: '/slow' }));
  const finishOld = finish;
  const closed = old.close(BOUND_MS);
  assert.not(existsSync(path));
  await serve(unixAt(path));
  assert.is(await post('next', { socketPath: path }), 'POST next');
  finishOld();
  assert.is(await last, 'POST last');
  await closed;
  assert.is(await post('next', { socketPath: path }), 'POST next');
});

unix('leaves the socket of the next server that came before it stopped', async () => {
  const path = socketPath();
  const old = await serve(unixAt(path));
  rmSync(path);
  await serve(unixAt(path));
  await old.close(BOUND_MS);
  assert.is(await post('next', { socketPath: path }), 'POST next');
});

unix('of servers that start at once only one gets the name, and it can be reached', async () => {
  const path = socketPath();
  const started = await Promise.allSettled([1, 2, 3].map(() => serve(unixAt(path))));
  const refusals = started.filter(one => one.status === 'rejected');
  assert.is(refusals.length, 2);
  for (const { reason } of refusals) assert.match(reason.line, /another server answers there/);
  assert.is(await post('hello', { socketPath: path }), 'POST hello');
  assert.equal(readdirSync(folder), ['x.sock']);
});

unix('replaces the socket of a server that died', async () => {
  const path = socketPath();
  await leaveStaleSocket(path);
  await serve(unixAt(path));
  assert.is(await post('hello', { socketPath: path }), 'POST hello');
});

unix('leaves the socket of a server that lives', async () => {
  const path = socketPath();
  await serve(unixAt(path));
  const line = await failureOf(listen(app, unixAt(path)), 'conflict');
  assert.match(line, /another server answers there/);
  assert.is(await post('hello', { socketPath: path }), 'POST hello');
});

unix('never removes what is no socket', async () => {
  const path = join(folder, 'ledger');
  writeFileSync(path, 'precious');
  const line = await failureOf(listen(app, unixAt(path)), 'conflict');
  assert.match(line, /the file is not a socket; remove it, or give another --listen$/);
  assert.is(readFileSync(path, 'utf8'), 'precious');
});

unix('a folder that cannot be made is one clear error', async () => {
  writeFileSync(join(folder, 'file'), '');
  const path = join(folder, 'file', 'x.sock');
  assert.match(await failureOf(listen(app, unixAt(path)), 'unavailable'), /^can't listen on unix:/);
});

/** A socket file that nobody listens on. A closing server removes its own, so it is renamed meanwhile. */
async function leaveStaleSocket(path: string): Promise<void> {
  const server = createServer();
  await new Promise<void>(resolve => server.listen({ path: `${path}.new` }, resolve));
  renameSync(`${path}.new`, path);
  await new Promise(resolve => server.close(resolve));
  assert.ok(existsSync(path));
}
unix.run();

const tls = suite('listen on https');
prepare(tls);
withCertificates(tls);

const httpsListener = (): Listener => ({
  kind: 'https',
  host: '127.0.0.1',
  port: 0,
  tls: { ...certificates.server, clientCa: certificates.ca },
});

function postTls(
  address: string,
  client: { cert: string; key: string } | null,
  agent = new TlsAgent(),
): Promise<string> {
  const own = client === null ? {} : { cert: readFileSync(client.cert), key: readFileSync(client.key) };
  return new Promise((resolve, reject) => {
    const options = { method: 'POST', agent, ca: readFileSync(certificates.ca), ...own };
    const sent = requestTls(address, options, answer => textOf(answer).then(resolve, reject));
    sent.once('error', reject).end('hello');
  });
}

tls('serves a client with a certificate of the authority', async () => {
  const { address } = await serve(httpsListener());
  assert.is(await postTls(address, certificates.client), 'POST hello');
});

tls('serves no client without a certificate, with a rogue one, or without TLS', async () => {
  const refusals: string[] = [];
  const listening = await listen(app, httpsListener(), (_, message) => void refusals.push(message));
  open.push(listening);
  assert.ok(await failed(postTls(listening.address, null)), 'without a certificate');
  assert.ok(await failed(postTls(listening.address, certificates.rogue)), 'with a rogue one');
  assert.ok(
    await failed(post('hello', { address: listening.address.replace('https', 'http') })),
    'without TLS',
  );
  assert.is(await postTls(listening.address, certificates.client), 'POST hello');
  assert.ok(refusals.length >= 2 && refusals.every(one => one === 'client refused'), refusals.join());
});

tls('a client that does not end its handshake, or that is refused, keeps no place', async () => {
  const http = createAdaptorServer({ fetch: app.fetch, overrideGlobalObjects: false }) as Server;
  const front = createTlsFront(http, { ...certificates.server, clientCa: certificates.ca }, undefined, 100);
  await new Promise<void>(resolve => front.listen(0, '127.0.0.1', resolve));
  const { port } = front.address() as AddressInfo;
  const [mute, plain] = [await connected(port), await connected(port)];
  plain.write('POST / HTTP/1.1\r\n\r\n');
  await Promise.all([mute, plain].map(socket => socket.destroyed || once(socket, 'close')));
  await new Promise(resolve => front.close(resolve));
});

tls('a missing or foreign file, and one that is no PEM, is one clear error', async () => {
  const garbage = join(folder, 'garbage');
  writeFileSync(garbage, 'garbage');
  const lineWith = (files: object) => {
    const all = { ...certificates.server, clientCa: certificates.ca, ...files };
    return failureOf(listen(app, { kind: 'https', host: '127.0.0.1', port: 0, tls: all }), 'bad-request');
  };
  assert.is(await lineWith({ key: '/nonexistent' }), "--tls-key: /nonexistent can't be read: ENOENT");
  assert.match(await lineWith({ key: certificates.client.key }), /^--tls-key is not the key of --tls-cert; /);
  for (const name of ['cert', 'key', 'clientCa'])
    assert.match(await lineWith({ [name]: garbage }), /^the TLS files can't be used: /);
});
tls.run();

const stop = suite('a stop');
prepare(stop);
withCertificates(stop);

stop('lets a request in flight finish, accepts nothing new, and says that the connection ends', async () => {
  const { address, close } = await serve(LOCAL);
  const agent = new Agent({ keepAlive: true });
  const { sent: answer } = await begin(
    () =>
      new Promise<IncomingMessage>((resolve, reject) => {
        request(`${address}/slow`, { method: 'POST', agent }, resolve).once('error', reject).end('last');
      }),
  );
  const closed = close(BOUND_MS);
  await refused(portOf(address));
  finish();
  const answered = await answer;
  assert.is(answered.headers.connection, 'close');
  assert.is(await textOf(answered), 'POST last');
  await closed;
  agent.destroy();
});

stop('does not wait for idle connections', async () => {
  const { address, close } = await serve(LOCAL);
  const agent = new Agent({ keepAlive: true });
  await post('one', { address, agent });
  await closesSoon(close);
  agent.destroy();
});

stop('does not wait for idle connections of an https listener either', async () => {
  const { address, close } = await serve(httpsListener());
  const agent = new TlsAgent({ keepAlive: true });
  assert.is(await postTls(address, certificates.client, agent), 'POST hello');
  await closesSoon(close);
  agent.destroy();
});

stop('does not keep a connection whose answer had begun', async () => {
  const { address, close } = await serve(LOCAL);
  const agent = new Agent({ keepAlive: true });
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    request(`${address}/stream`, { agent }, resolve).once('error', reject).end();
  });
  const closed = closesSoon(close);
  finish();
  assert.is(await textOf(answer), 'half and rest');
  await closed;
  agent.destroy();
});

async function closesSoon(close: Listening['close']): Promise<void> {
  const startedAt = performance.now();
  await close(BOUND_MS);
  assert.ok(performance.now() - startedAt < BOUND_MS / 2, 'it waited for its bound');
}

stop('cuts at its bound what has not finished', async () => {
  const { address, close } = await serve(LOCAL);
  const { sent: answer } = await begin(() => failed(post('never', { address, path: '/slow' })));
  await close(50);
  assert.ok(await answer);
  finish();
});

stop('ends in its bound for clients that never shake hands', async () => {
  const { address, close } = await serve(httpsListener());
  const mute = await connected(portOf(address));
  const startedAt = performance.now();
  await close(100);
  assert.ok(performance.now() - startedAt < 2000, 'it waited for the client');
  mute.destroy();
});

stop('lets a request on a unix socket finish too', async () => {
  const path = socketPath();
  const { close } = await serve(unixAt(path));
  const { sent: answer } = await begin(() => post('last', { socketPath: path, path: '/slow' }));
  const closed = close(BOUND_MS);
  finish();
  assert.is(await answer, 'POST last');
  await closed;
});
/** A connection as bytes, with all that came on it. */
interface Wire {
  readonly socket: Socket;
  received: string;
  hasEnded: boolean;
  error: unknown;
}

function wire(address: string): Wire {
  const made: Wire = { socket: connect(toward(address)), received: '', hasEnded: false, error: null };
  made.socket.setEncoding('latin1').on('data', (chunk: unknown) => {
    made.received += chunk;
  });
  made.socket
    .on('error', error => {
      made.error = error;
    })
    .on('close', () => {
      made.hasEnded = true;
    });
  return made;
}

/** A server, and one client of it. */
async function connection(listener: Listener) {
  const { address, close } = await serve(listener);
  return { close, one: wire(address), port: portOf(address) };
}

const asks = (body: string, path = '/') =>
  `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
const answersOn = ({ received }: Wire) => received.match(/POST \w+$|POST \w+(?=HTTP)/g) ?? [];
const saysEnd = ({ received }: Wire) => received.split(/^connection: close\r$/im).length - 1;

/** On each transport that shows bytes. */
const PLAIN: readonly [string, () => Listener][] = [
  ['TCP', () => LOCAL],
  ['a unix socket', () => unixAt(socketPath())],
];
const toward = (address: string): NetConnectOpts =>
  address.startsWith('unix:')
    ? { path: address.slice('unix:'.length) }
    : { host: '127.0.0.1', port: portOf(address) };

for (const [transport, listener] of PLAIN) {
  stop(`answers what comes on an idle connection of ${transport}, and says that it ends`, async () => {
    const { address, close } = await serve(listener());
    const wires = Array.from({ length: 5 }, () => wire(address));
    for (const one of wires) one.socket.write(asks('one'));
    await until('the first answers', () => wires.every(one => answersOn(one).length === 1));
    for (const one of wires) one.socket.write(asks('again'));
    const closed = closesSoon(close);
    const asked = wires.map(async one => {
      let answers = 1;
      while (saysEnd(one) === 0) {
        answers++;
        await until('an answer', () => answersOn(one).length === answers);
        if (saysEnd(one) === 0) one.socket.write(asks('again'));
      }
      return answers;
    });
    for (const [i, answers] of (await Promise.all(asked)).entries()) {
      await until('the end', () => wires[i]?.hasEnded === true);
      assert.is(wires[i] && answersOn(wires[i]).length, answers);
    }
    await closed;
  });

  stop(`keeps a connection of ${transport} that was used just now`, async () => {
    const { one, close } = await connection(listener());
    one.socket.write(asks('one'));
    await until('the first answer', () => answersOn(one).length === 1);
    const closed = closesSoon(close);
    await wait(200);
    one.socket.write(asks('two'));
    await closed;
    await until('the end', () => one.hasEnded);
    assert.equal(answersOn(one), ['POST one', 'POST two']);
    assert.is(saysEnd(one), 1);
  });

  stop(`serves the clients in the accept queue of ${transport}`, async () => {
    const { address, close } = await serve(listener());
    const flag = join(folder, 'queued');
    const clients = spawn(NODE, [CONNECT_MANY, JSON.stringify(toward(address)), '50', flag], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const heard = text(clients.stdout);
    const deadline = performance.now() + BOUND_MS;
    while (!existsSync(flag) && performance.now() < deadline); // the server does not get to look
    await closesSoon(close);
    const received = JSON.parse(await heard) as string[];
    assert.is(received.length, 50);
    for (const answer of received) {
      assert.match(answer, /POST queued$/);
    }
  });

  stop(`waits on ${transport} for the rest of a request that has begun, but not for ever`, async () => {
    const { address, close } = await serve(listener());
    const [late, never, mute] = [wire(address), wire(address), wire(address)];
    const begin = asks('late').slice(0, 20);
    for (const one of [late, never]) one.socket.write(begin);
    await wait(50);
    const closed = closesSoon(close);
    await until('the end of the silent one', () => mute.hasEnded);
    await wait(300); // a moment that the others would not outlast if they were taken for silent
    assert.not(late.hasEnded);
    late.socket.write(asks('late').slice(20));
    await until('the end of the late one', () => late.hasEnded);
    assert.equal(answersOn(late), ['POST late']);
    await closed;
    await until('the end of the other', () => never.hasEnded);
    assert.is(never.received, '');
  });

  stop(`a client of ${transport} that goes on sending meanwhile: reads all answers`, async () => {
    const { one, close } = await connection(listener());
    await begin(() => one.socket.write(asks('last', '/slow')));
    one.socket.pause();
    const closed = closesSoon(close);
    handled = [];
    finish();
    for (let i = 0; i < 30; i++) {
      one.socket.write(asks('more', '/more'));
      await wait(10);
    }
    one.socket.resume();
    await closed;
    await until('the end', () => one.hasEnded);
    const answers = answersOn(one);
    assert.is(answers[0], 'POST last');
    assert.is(answers.length, handled.length + 1);
    assert.is(saysEnd(one), 1);
    assert.is(one.error, null);
  });

  stop(`keeps a connection of ${transport} whose answer did not say that it ends`, async () => {
    const { one, close } = await connection(listener());
    one.socket.write(asks('', '/stream'));
    await until('the first half', () => one.received.includes('half'));
    const closed = closesSoon(close);
    await wait(50);
    finish();
    await until('the rest', () => one.received.endsWith('0\r\n\r\n'));
    one.socket.write(asks('next'));
    await closed;
    await until('the end', () => one.hasEnded);
    assert.equal(answersOn(one), ['POST next']);
    assert.is(saysEnd(one), 1);
  });
}

stop('answers all that was sent at once, and says with the last that it ends', async () => {
  const { one, close, port } = await connection(LOCAL);
  const finishes: (() => void)[] = [];
  for (const body of ['first', 'second']) {
    await begin(() => one.socket.write(asks(body, '/slow')));
    finishes.push(finish);
  }
  const closed = closesSoon(close);
  await refused(port);
  for (const end of finishes.reverse()) end();
  await closed;
  await until('the end', () => one.hasEnded);
  assert.equal(answersOn(one), ['POST first', 'POST second']);
  assert.is(saysEnd(one), 1);
  assert.ok(one.received.search(/^connection: close/im) > one.received.indexOf('POST first'));
});

stop('handles nothing that comes after the answer that says that the connection ends', async () => {
  const { one, close, port } = await connection(LOCAL);
  one.socket.write(asks('one'));
  await until('the first answer', () => answersOn(one).length === 1);
  handled = [];
  await begin(() => one.socket.write(asks('two', '/early')));
  const closed = closesSoon(close);
  await refused(port);
  finish();
  await until('the head of the answer', () => saysEnd(one) === 1);
  one.socket.write(asks('three'));
  await wait(50);
  finish();
  await closed;
  assert.equal(handled, ['/early']);
});

stop('loses no request of clients that ask at once, on any transport', async () => {
  const listeners: Listener[] = [LOCAL, unixAt(join(folder, 'y.sock'))];
  for (const listener of [...listeners, httpsListener()]) {
    const { address, close } = await serve(listener);
    const dial = (): Dialled => {
      if (listener.kind !== 'https') return { socket: connect(toward(address)), ready: 'connect' };
      const { cert, key } = certificates.client;
      const files = { cert: readFileSync(cert), key: readFileSync(key), ca: readFileSync(certificates.ca) };
      return { socket: connectTls({ ...toward(address), ...files } as object), ready: 'secureConnect' };
    };
    const clients = Array.from({ length: 10 }, () => new KeepAliveClient(dial));
    let isOver = false;
    const asking = clients.map(async (client, i) => {
      while (!isOver) {
        await client.call('/', i).catch(() => {});
        if (!client.isConnected) return;
        await wait(Math.random() * i);
      }
    });
    await until('some answers', () => clients.every(one => one.answered > 2));
    await closesSoon(close);
    isOver = true;
    await Promise.all(asking);
    assert.equal(
      clients.flatMap(one => one.broken),
      [],
      listener.kind,
    );
  }
});
stop.run();

const ahead = suite('a client that sends ahead');
prepare(ahead);
ahead('ends the connection of a client that sends ever more and reads no answer', async () => {
  const { address } = await serve(LOCAL);
  const one = wire(address);
  await begin(() => one.socket.write(asks('', '/slow')));
  handled = [];
  one.socket.write(asks('more', '/more').repeat(200));
  await until('the end', () => one.hasEnded);
  assert.is(handled.length, 99, 'beside the first');
  assert.is(one.received, '');
  finish();
});
ahead.run();

const idle = suite('an idle connection');
idle('is never closed by the server', () => idling);
idle.run();

/** Asks, is silent for longer than node:http lets a connection be, and asks again. */
async function staysOpen(): Promise<void> {
  const echo = async (asked: Request) => new Response(`${asked.method} ${await asked.text()}`);
  const { address, close } = await listen({ fetch: echo }, LOCAL);
  const socket = connect(portOf(address), '127.0.0.1');
  let received = '';
  socket.setEncoding('utf8').on('data', chunk => {
    received += chunk;
  });
  const ask = () => socket.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi');
  const answers = async (count: number) => {
    while (received.split('POST hi').length <= count && !socket.destroyed) await wait(10);
  };
  ask();
  await answers(1);
  await wait(IDLE_MS);
  ask();
  await answers(2);
  assert.is(received.split('POST hi').length - 1, 2, received);
  socket.destroy();
  await close(0);
}
