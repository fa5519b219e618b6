/** Bytes on real sockets: what clients send to a listener, and what a server sends to an agent. */
import { readFileSync } from 'node:fs';
import { connect, type NetConnectOpts, type Socket } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';
import { sendCall } from '../../src/agent/server-client.ts';
import { IpamError } from '../../src/domain/error.ts';
import { createDriver } from '../../src/http/driver.ts';
import { type Listener, listen } from '../../src/http/listener/listen.ts';
import { removeFolder, tempFolder } from '../kit/folders.ts';
import { makeCertificates } from '../kit/servers/certificates.ts';
import { dockerds, exchange } from '../kit/servers/raw-http.ts';
import { toward } from '../kit/servers/transports.ts';
import { ROOMY } from '../kit/vpcs.ts';
import { NOT_WARM, world } from '../kit/world.ts';
import { type Hostile, joined } from './hostile.ts';
import { checkedLine, INSIDES, logInto, type Part, type Scene, type Target } from './part.ts';

/** A client that hears nothing for so long hangs up. */
const QUIET_MS = 250;
const REQUESTS_MAX = 12;
const LOOPBACK = { host: '127.0.0.1', port: 0 };
const encoder = new TextEncoder();
const METHODS =
  'GetCapabilities GetDefaultAddressSpaces RequestPool ReleasePool RequestAddress ReleaseAddress'.split(' ');
const HEADERS = [
  ...[
    'Content-Encoding: gzip',
    'Expect: 100-continue',
    'Content-Length: 5',
    'Content-Length: -1',
    'Host: evil.example',
  ],
  ...[
    'Upgrade: h2c\r\nConnection: Upgrade',
    'Transfer-Encoding: chunked',
    'Transfer-Encoding: gzip, chunked',
  ],
  ...[
    'Content-Length: 99999999999999999999',
    'Content-Length: 1e3',
    'Origin: http://evil.example',
    ': x',
    ' folded: x',
  ],
  ...[
    'Connection: close',
    'Connection: keep-alive, close',
    `X-Long: ${'y'.repeat(20_000)}`,
    'X\u0000: y',
    'Te: trailers',
  ],
  ...[
    'EC2-IPAM-Request-Id: 00000000-0000-4000-8000-000000000000\r\nEC2-IPAM-Sent-Ms-Ago: 0',
    'EC2-IPAM-Request-Id: x',
  ],
];
const LINES = [
  'GET / HTTP/1.1',
  'POST * HTTP/1.1',
  'POST //x HTTP/1.0',
  'PRI * HTTP/2.0',
  'BREW / HTTP/9',
  'CONNECT a:1 HTTP/1.1',
];

/** A request; often not quite. */
function request(hostile: Hostile): Uint8Array {
  const body = hostile.body({ PoolID: 'eni-0a', Address: '', Options: { 'eni-id': 'eni-0a' } });
  const path = hostile.chance(0.9)
    ? `/IpamDriver.${hostile.oneOf(METHODS)}`
    : `/${'%ff'.repeat(hostile.below(9))}`;
  const line = hostile.chance(0.9) ? `POST ${path} HTTP/1.1` : hostile.oneOf(LINES);
  const odd = Array.from({ length: hostile.chance(0.3) ? 1 + hostile.below(2) : 0 }, () =>
    hostile.oneOf(HEADERS),
  );
  const isChunked = hostile.chance(0.15);
  const framing = isChunked ? 'Transfer-Encoding: chunked' : `Content-Length: ${body.length}`;
  const head = encoder.encode([line, 'Host: localhost', framing, ...odd, '', ''].join('\r\n'));
  const whole = joined(head, isChunked ? chunked(hostile, body) : body);
  return hostile.chance(0.1) ? hostile.spoilt(whole) : whole;
}

function chunked(hostile: Hostile, body: Uint8Array): Uint8Array {
  const at = hostile.below(body.length + 1);
  const size = (part: Uint8Array) =>
    hostile.chance(0.9)
      ? part.length.toString(16)
      : hostile.oneOf(['g', '-1', 'fffffffffffffffff', '0x1', '1;x=y']);
  const parts = [body.slice(0, at), body.slice(at)].filter(part => part.length > 0);
  const pieces = parts.flatMap(part => [encoder.encode(`${size(part)}\r\n`), part, encoder.encode('\r\n')]);
  return joined(
    ...pieces,
    encoder.encode(hostile.oneOf(['0\r\n\r\n', '0\r\n\r\n', '0\r\nX: y\r\n\r\n', '0\r\n', ''])),
  );
}

const LAST = encoder.encode(
  'POST /Plugin.Activate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n',
);

/** Writes the bytes in one piece or in two; returns all that comes until the end, or until nothing more comes. */
function exchangeAll(socket: Socket, bytes: Uint8Array, cut: number | null): Promise<string> {
  return new Promise(resolve => {
    let heard = '';
    socket.setTimeout(QUIET_MS, () => socket.destroy());
    socket.on('data', (chunk: Buffer) => {
      heard += chunk.toString('latin1');
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(heard));
    socket.write(bytes.subarray(0, cut ?? bytes.length));
    if (cut !== null) setImmediate(() => socket.write(bytes.subarray(cut)));
  });
}

function checkHeard(heard: string): void {
  for (const [, status = ''] of heard.matchAll(/HTTP\/1\.1 (\d{3})/g))
    if (!/^(100|200|4\d\d)$/.test(status)) throw new Error(`status ${status}: ${heard.slice(0, 500)}`);
  if (INSIDES.test(heard)) throw new Error(`an answer with insides: ${heard.slice(0, 500)}`);
}

async function openListeners({ note, wrong, more }: Scene): Promise<Target> {
  const certificates = makeCertificates(undefined, 'i-0a');
  const folder = tempFolder();
  const { pools, allocator } = world({ vpc: ROOMY, policy: { ...NOT_WARM, requestTimeoutMs: 100 } });
  const log = logInto(wrong);
  const app = createDriver({ pools, allocator, opened: async () => {} }, log);
  const { cert, key } = certificates.server;
  const listeners: readonly Listener[] = [
    { kind: 'http', ...LOOPBACK },
    { kind: 'unix', path: join(folder, 'x.sock'), mode: 0o600 },
    { kind: 'https', ...LOOPBACK, tls: { cert, key, clientCa: certificates.ca } },
  ];
  const open = await Promise.all(listeners.map(listener => listen(app, listener, log)));
  const [tcp = '', unix = '', tls = ''] = open.map(({ address }) => address);
  const pem = (path: string) => readFileSync(path);
  const { client, ca } = certificates;
  const options = { ...(toward(tls) as object), ca: pem(ca), cert: pem(client.cert), key: pem(client.key) };
  const dials: readonly (() => Socket)[] = [
    ...[tcp, tcp, tcp, unix, unix, tls].map(address => () => connect(toward(address) as NetConnectOpts)),
    () => connectTls(options),
  ];
  return {
    async input(hostile) {
      const count = 1 + hostile.below(REQUESTS_MAX);
      more(count - 1);
      const bytes = joined(...Array.from({ length: count }, () => request(hostile)), LAST);
      const cut = hostile.chance(0.3) ? hostile.below(bytes.length) : null;
      const heard = await exchangeAll(hostile.oneOf(dials)(), bytes, cut);
      checkHeard(heard);
      note(heard === '' ? 'no answer' : `begins with ${heard.slice(9, 12)}`);
    },
    async end() {
      const activate = dockerds('/Plugin.Activate', '').replace('plugin.moby.localhost', 'localhost');
      for (const dial of dials.filter((_, i) => i !== dials.length - 2)) {
        const socket = dial().on('error', () => {});
        const answer = await exchange(socket, activate);
        socket.destroy();
        if (!answer.includes('IpamDriver')) throw new Error(`after all that: ${answer}`);
      }
      await Promise.all(open.map(one => one.close(0)));
      certificates.remove();
      removeFolder(folder);
    },
  };
}

/** Servers that answer an agent with anything. */
async function openServers({ note }: Scene): Promise<Target> {
  const certificates = makeCertificates();
  const pem = (path: string) => readFileSync(path, 'utf8');
  let answer: Uint8Array = new Uint8Array();
  const server = createTlsServer(
    { cert: pem(certificates.server.cert), key: pem(certificates.server.key) },
    socket => {
      socket.on('error', () => {});
      socket.once('data', () => socket.end(answer));
    },
  );
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const serverCa = pem(certificates.ca);
  certificates.remove();
  return {
    async input(hostile) {
      const body = hostile.body({ Address: '10.0.1.7/24', Data: {} });
      const length = hostile.chance(0.8) ? body.length : hostile.oneOf([0, 1, 1e6, -1, 'x']);
      const odd = hostile.chance(0.3) ? `${hostile.oneOf(HEADERS)}\r\n` : '';
      const status = hostile.chance(0.8)
        ? '200 OK'
        : hostile.oneOf(['100 Continue', '204 x', '403 no', '999 x', 'x']);
      const head = `HTTP/1.1 ${status}\r\n${odd}Content-Length: ${length}\r\n\r\n`;
      const whole = joined(encoder.encode(head), body);
      answer = hostile.chance(0.3) ? hostile.spoilt(whole) : whole;
      try {
        const call = { path: '/x', body: '{}', withinMs: 500, agent: false as const, serverCa };
        const given = await sendCall({ host: '127.0.0.1', port }, call);
        note(`${given.status}`);
      } catch (error) {
        if (!(error instanceof IpamError)) throw error;
        checkedLine(error.line);
        note(error.code);
      }
    },
    async end() {
      await new Promise(resolve => server.close(resolve));
    },
  };
}

export const LISTENERS: Part = { name: 'listeners', share: 40, lanes: 24, open: openListeners };
export const SERVERS: Part = { name: 'servers', share: 3, lanes: 1, open: openServers };
