// Goal: TCP, a unix socket and mutual TLS are served alike on every runtime, nobody gets in who should not, and what
// prevents listening is one clear error. Method: real sockets on loopback.
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import type { Server } from 'node:http';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import process from 'node:process';
import { createAdaptorServer } from '@hono/node-server';
import { type Listener, listen } from '../../../src/http/listener/listen.ts';
import { createTlsFront } from '../../../src/http/listener/tls-front.ts';
import { failureOf } from '../../kit/failures.ts';
import {
  certificates,
  folder,
  LOCAL,
  portOf,
  serverTls,
  socketPath,
  TLS,
  unixAt,
} from '../../kit/servers/transports.ts';
import { assert } from '../../kit/uvu.ts';
import { until } from '../../kit/wait.ts';
import { app, BOUND_MS, begin, failed, mute, post, serve, serverSuite } from '../server.ts';

const tcp = serverSuite('listen on TCP');

tcp('answers at the port that the system chose', async () => {
  const { address } = await serve(LOCAL);
  assert.match(address, /^http:\/\/127\.0\.0\.1:\d+$/);
  assert.not.match(address, /:0$/);
  assert.is(await post(address, 'hello'), 'POST hello');
});

tcp('a port that is taken is one clear error', async () => {
  const { address } = await serve(LOCAL);
  const line = await failureOf(serve({ ...LOCAL, port: portOf(address) } as Listener), 'conflict');
  const says = 'another process listens there; stop it, or give another address';
  assert.is(line, `can't listen on ${address}: ${says}`);
});

tcp('an address that this machine has not is one clear error', async () => {
  const line = await failureOf(serve({ kind: 'http', host: '192.0.2.77', port: 0 }), 'unavailable');
  assert.match(line, /^can't listen on http:\/\/192\.0\.2\.77:0: .*; give another address$/);
});
tcp.run();

const unix = serverSuite('listen on a unix socket');
const serveUnix = () => serve(unixAt(socketPath()));
/** Whoever listens at the socket serves. */
const isServed = async (body = 'hello') =>
  assert.is(await post(`unix:${socketPath()}`, body), `POST ${body}`);

unix('makes the folder, answers, and removes the socket at the end', async () => {
  const path = join(folder, 'plugins', 'x.sock');
  const { address, close } = await serve(unixAt(path));
  assert.is(address, `unix:${path}`);
  assert.is(await post(address, 'hello'), 'POST hello');
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
  const old = await serveUnix();
  const { sent: last } = await begin(() => post(old.address, 'last', { path: '/slow' }));
  const { finish } = app;
  const closed = old.close(BOUND_MS);
  assert.not(existsSync(socketPath()));
  await serveUnix();
  await isServed('next');
  finish();
  assert.is(await last, 'POST last');
  await closed;
  await isServed('next');
});

unix('leaves the socket of the next server that came before it stopped', async () => {
  const old = await serveUnix();
  rmSync(socketPath());
  await serveUnix();
  await old.close(BOUND_MS);
  await isServed('next');
});

unix('of servers that start at once only one gets the name, and it can be reached', async () => {
  const started = await Promise.allSettled([1, 2, 3].map(serveUnix));
  const refusals = started.filter(one => one.status === 'rejected');
  assert.is(refusals.length, 2);
  for (const { reason } of refusals) assert.match(reason.line, /another server answers there/);
  await isServed();
  assert.equal(readdirSync(folder), ['x.sock']);
});

unix('replaces the socket of a server that died', async () => {
  await leaveStaleSocket(socketPath());
  await serveUnix();
  await isServed();
});

unix('leaves the socket of a server that lives', async () => {
  await serveUnix();
  assert.match(await failureOf(serveUnix(), 'conflict'), /another server answers there/);
  await isServed();
});

unix('never removes what is no socket', async () => {
  writeFileSync(socketPath(), 'precious');
  const line = await failureOf(serveUnix(), 'conflict');
  assert.match(line, /the file is not a socket; remove it, or give another address$/);
  assert.is(readFileSync(socketPath(), 'utf8'), 'precious');
});

unix('a folder that cannot be made is one clear error', async () => {
  writeFileSync(join(folder, 'file'), '');
  const path = join(folder, 'file', 'x.sock');
  assert.match(await failureOf(serve(unixAt(path)), 'unavailable'), /^can't listen on unix:/);
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

const tls = serverSuite('listen on https', { certificates: true });

tls('serves a client with a certificate of the authority', async () => {
  const { address } = await serve(TLS.listener());
  assert.is(await post(address, 'hello'), 'POST hello');
});

tls('serves no client without a certificate, with a rogue one, or without TLS', async () => {
  const refusals: string[] = [];
  const { address } = await serve(TLS.listener(), (_, message) => void refusals.push(message));
  assert.ok(await failed(post(address, 'hello', { client: null })), 'without a certificate');
  assert.ok(await failed(post(address, 'hello', { client: certificates.rogue })), 'with a rogue one');
  assert.ok(await failed(post(address.replace('https', 'http'), 'hello')), 'without TLS');
  assert.is(await post(address, 'hello'), 'POST hello');
  await until('both lines', () => refusals.length === 2);
  assert.ok(
    refusals.every(one => one === 'client refused'),
    refusals.join(),
  );
});

tls('a client that does not end its handshake, or that is refused, keeps no place', async () => {
  const http = createAdaptorServer({ fetch: app.fetch, overrideGlobalObjects: false }) as Server;
  const front = createTlsFront(http, serverTls(), undefined, { handshakeMaxMs: 100 });
  await new Promise<void>(resolve => front.listen(0, '127.0.0.1', resolve));
  const address = `https://127.0.0.1:${(front.address() as AddressInfo).port}`;
  const [silent, plain] = [await mute(address), await mute(address)];
  plain.write('POST / HTTP/1.1\r\n\r\n');
  await Promise.all([silent, plain].map(socket => socket.destroyed || once(socket, 'close')));
  await new Promise(resolve => front.close(resolve));
});

tls('a missing or foreign file, and one that is no PEM, is one clear error', async () => {
  const garbage = join(folder, 'garbage');
  writeFileSync(garbage, 'garbage', { mode: 0o600 });
  const lineWith = (files: object) =>
    failureOf(
      listen(app, { ...LOCAL, kind: 'https', tls: { ...serverTls(), ...files } } as Listener),
      'bad-request',
    );
  assert.is(await lineWith({ key: '/nonexistent' }), "--tls-key: /nonexistent can't be read: ENOENT");
  const open = join(folder, 'open.key');
  copyFileSync(certificates.server.key, open);
  chmodSync(open, 0o644);
  const says = `--tls-key: ${open} is open to users other than its owner; chmod 600 ${open}, or mount `;
  assert.ok((await lineWith({ key: open })).startsWith(says));
  assert.match(await lineWith({ key: certificates.client.key }), /^--tls-key is not the key of --tls-cert; /);
  for (const name of ['cert', 'key', 'clientCa'])
    assert.match(await lineWith({ [name]: garbage }), /^the TLS files can't be used: /);
});
tls.run();
