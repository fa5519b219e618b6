// Goal: TCP, a unix socket and mutual TLS are served alike on every runtime, nobody gets in who should not, and a
// stop loses no answer. Method: real sockets on loopback; node:http as the client, raw sockets where it hides too
// much.
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { Agent, type IncomingMessage, request, type Server } from 'node:http';
import { request as requestTls, Agent as TlsAgent } from 'node:https';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { setTimeout as wait } from 'node:timers/promises';
import { createAdaptorServer } from '@hono/node-server';
import { type ErrorCode, IpamError } from '../src/domain/error.ts';
import { type Listener, type Listening, listen } from '../src/http/listen.ts';
import { tlsFront } from '../src/http/tls-front.ts';
import { type Certificates, makeCertificates } from './certificates.ts';
import { assert, suite } from './uvu.ts';

const LOCAL: Listener = { kind: 'http', host: '127.0.0.1', port: 0 };
const BOUND_MS = 10_000;

let folder = '';
let open: Listening[] = [];
let certificates: Certificates;
/** Ends the request that waits in the app. */
let finish = () => {};

const app = {
  async fetch(asked: Request): Promise<Response> {
    if (new URL(asked.url).pathname === '/slow')
      await new Promise<void>(resolve => {
        finish = resolve;
        arrived();
      });
    if (new URL(asked.url).pathname === '/stream') return new Response(halfThenRest());
    return new Response(`${asked.method} ${await asked.text()}`);
  },
};
let arrived = () => {};

function halfThenRest(): ReadableStream {
  const text = new TextEncoder();
  return new ReadableStream({
    start(stream) {
      stream.enqueue(text.encode('half'));
      finish = () => {
        stream.enqueue(text.encode(' and rest'));
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

async function errorOf(asked: Promise<unknown>, code: ErrorCode): Promise<string> {
  const error = await asked.then(
    () => 'no error',
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof IpamError)) throw new Error(`not one of our errors: ${error}`, { cause: error });
  assert.is(error.code, code, error.line);
  return error.line;
}

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
  }
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

const tcp = suite('listen on TCP');
prepare(tcp);
tcp('answers at the port that the system chose', async () => {
  const { address } = await serve(LOCAL);
  assert.match(address, /^http:\/\/127\.0\.0\.1:\d+$/);
  assert.not.match(address, /:0$/);
  assert.is(await post('hello', { address }), 'POST hello');
});

tcp('a port that is taken is one clear error', async () => {
  const { address } = await serve(LOCAL);
  const port = Number(new URL(address).port);
  const line = await errorOf(listen(app, { kind: 'http', host: '127.0.0.1', port }), 'conflict');
  assert.is(
    line,
    `can't listen on ${address}: another process listens there; stop it, or give another --listen`,
  );
});

tcp('an address that this machine has not is one clear error', async () => {
  const line = await errorOf(listen(app, { kind: 'http', host: '192.0.2.77', port: 0 }), 'unavailable');
  assert.match(line, /^can't listen on http:\/\/192\.0\.2\.77:0: .*; give another --listen$/);
});
tcp.run();

const unix = suite('listen on a unix socket');
prepare(unix);
unix('makes the folder, answers, and removes the socket at the end', async () => {
  const path = join(folder, 'plugins', 'x.sock');
  const { address, close } = await serve({ kind: 'unix', path, mode: 0o600 });
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

unix('replaces the socket of a server that died', async () => {
  const path = join(folder, 'x.sock');
  await leaveStaleSocket(path);
  await serve({ kind: 'unix', path, mode: 0o600 });
  assert.is(await post('hello', { socketPath: path }), 'POST hello');
});

unix('leaves the socket of a server that lives', async () => {
  const path = join(folder, 'x.sock');
  await serve({ kind: 'unix', path, mode: 0o600 });
  const line = await errorOf(listen(app, { kind: 'unix', path, mode: 0o600 }), 'conflict');
  assert.match(line, /another server answers there/);
  assert.is(await post('hello', { socketPath: path }), 'POST hello');
});

unix('never removes what is no socket', async () => {
  const path = join(folder, 'ledger');
  writeFileSync(path, 'precious');
  const line = await errorOf(listen(app, { kind: 'unix', path, mode: 0o600 }), 'conflict');
  assert.match(line, /the file is not a socket; remove it, or give another --listen$/);
  assert.is(readFileSync(path, 'utf8'), 'precious');
});

unix('a folder that cannot be made is one clear error', async () => {
  writeFileSync(join(folder, 'file'), '');
  const path = join(folder, 'file', 'x.sock');
  assert.match(
    await errorOf(listen(app, { kind: 'unix', path, mode: 0o600 }), 'unavailable'),
    /^can't listen on unix:/,
  );
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
  const front = tlsFront(http, { ...certificates.server, clientCa: certificates.ca }, undefined, 100);
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
    return errorOf(listen(app, { kind: 'https', host: '127.0.0.1', port: 0, tls: all }), 'bad-request');
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
const begun = () =>
  new Promise<void>(resolve => {
    arrived = resolve;
  });

stop('lets a request in flight finish, accepts nothing new, and says that the connection ends', async () => {
  const { address, close } = await serve(LOCAL);
  const agent = new Agent({ keepAlive: true });
  const begins = begun();
  const answer = new Promise<IncomingMessage>((resolve, reject) => {
    request(`${address}/slow`, { method: 'POST', agent }, resolve).once('error', reject).end('last');
  });
  await begins;
  const closed = close(BOUND_MS);
  await refused(Number(new URL(address).port));
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
  const begins = begun();
  const answer = failed(post('never', { address, path: '/slow' }));
  await begins;
  await close(50);
  assert.ok(await answer);
  finish();
});

stop('ends in its bound for clients that never shake hands', async () => {
  const { address, close } = await serve(httpsListener());
  const mute = await connected(Number(new URL(address).port));
  const startedAt = performance.now();
  await close(100);
  assert.ok(performance.now() - startedAt < 2000, 'it waited for the client');
  mute.destroy();
});

stop('lets a request on a unix socket finish too', async () => {
  const path = join(folder, 'x.sock');
  const { close } = await serve({ kind: 'unix', path, mode: 0o600 });
  const begins = begun();
  const answer = post('last', { socketPath: path, path: '/slow' });
  await begins;
  const closed = close(BOUND_MS);
  finish();
  assert.is(await answer, 'POST last');
  await closed;
});
stop.run();

// Takes its time: node:http's own bounds are 5 s for an idle connection, and a look around every 30 s for slow ones.
const IDLE_MS = 6500;
const idle = suite('an idle connection');
prepare(idle);
idle('is never closed by the server', async () => {
  const { address } = await serve(LOCAL);
  const socket = connect(Number(new URL(address).port), '127.0.0.1');
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
});
idle.run();
