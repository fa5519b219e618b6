// Goal: what is known of a request that was not answered: whether the server got it. Method: real TLS on loopback, before
// servers that are away, silent, slow, or that end the connection.
import { readFileSync } from 'node:fs';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { type Call, NotSentError, sendCall } from '../../src/agent/server-client.ts';
import { IpamError } from '../../src/domain/error.ts';
import { type Certificates, makeCertificates } from '../kit/servers/certificates.ts';
import { freePort } from '../kit/servers/process.ts';
import { assert, suite } from '../kit/uvu.ts';
import { pause } from '../kit/wait.ts';

/** Longer than a connection may take. */
const SLOW_MS = 3_500;

let certificates: Certificates;
let servers: { server: Server; sockets: Set<Socket> }[] = [];

const client = suite('a request to a server');
client.before(() => {
  certificates = makeCertificates();
});
client.after(() => certificates.remove());
client.after.each(async () => {
  for (const { server, sockets } of servers) {
    server.close();
    for (const socket of sockets) socket.destroy();
  }
  servers = [];
});

async function portOf(server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', socket => sockets.add(socket.on('error', () => {})));
  servers.push({ server, sockets });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

function overTls(answer: Parameters<typeof createTlsServer>[1]): Promise<number> {
  const { cert, key } = certificates.server;
  return portOf(createTlsServer({ cert: readFileSync(cert), key: readFileSync(key) }, answer));
}

const ask = (port: number, more: Partial<Call> = {}) =>
  sendCall(
    { host: 'localhost', port },
    {
      ...{ path: '/x', body: '{}', withinMs: 20_000, agent: false },
      serverCa: readFileSync(certificates.ca, 'utf8'),
      ...more,
    },
  );

/** The error, and whether it says that the server did not get the request. */
async function failureOf(work: Promise<unknown>): Promise<[isUnsent: boolean, line: string]> {
  const error = await work.then(
    () => null,
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof IpamError, String(error));
  return [error instanceof NotSentError, (error as IpamError).line];
}

client('nobody listens: it was not sent', async () => {
  const [isUnsent, line] = await failureOf(ask(await freePort()));
  assert.ok(isUnsent, line);
});

client('a server that accepts the connection and no more: it was not sent', async () => {
  const [isUnsent, line] = await failureOf(ask(await portOf(createServer())));
  assert.ok(isUnsent, line);
  assert.match(line, /it cannot be reached/);
});

client('a server that ends the connection: may have carried it out', async () => {
  const [isUnsent, line] = await failureOf(ask(await overTls(({ socket }) => void socket.destroy())));
  assert.not(isUnsent, line);
});

client('a server that does not answer in time: may have carried it out', async () => {
  const [isUnsent, line] = await failureOf(ask(await overTls(() => {}), { withinMs: 500 }));
  assert.not(isUnsent, line);
  assert.match(line, /not within 500 ms/);
});

client('a wait that is ended: ends at once, and so does the connection', async () => {
  const closed = Promise.withResolvers<void>();
  const port = await overTls(({ socket }) => void socket.once('close', () => closed.resolve()));
  const over = new AbortController();
  const asked = failureOf(ask(port, { signal: over.signal }));
  setTimeout(() => over.abort(), 300);
  const [isUnsent, line] = await asked;
  assert.not(isUnsent);
  assert.match(line, /the wait has ended/);
  await closed.promise;
});

client('a server that takes long: is waited for', async () => {
  const port = await overTls(async (_, response) => {
    await pause(SLOW_MS);
    response.end('{"x":1}');
  });
  assert.equal(await ask(port), { status: 200, text: '{"x":1}' });
});
client.run();
