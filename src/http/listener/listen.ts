/** Listens on TCP, TLS or a unix socket, and serves a Hono app there on every runtime. */
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import {
  createServer as createHttpServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import { type AddressInfo, createServer as createNetServer, type Server as NetServer } from 'node:net';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { getRequestListener } from '@hono/node-server';
import { IpamError } from '../../domain/error.ts';
import type { Log } from '../../domain/log.ts';
import { isLoopbackSocket, pageRefusal } from '../../domain/web-page.ts';
import { noteUnixPeer } from '../identity.ts';
import { createSeldom } from '../seldom.ts';
import { createClientPlaces, OF_ADDRESS_MAX } from './client-places.ts';
import { type ConnectionBounds, createConnections } from './connections.ts';
import { nameSocket, withFreeName } from './stale-socket.ts';
import { createTlsFront, type TlsBounds, type TlsFiles } from './tls-front.ts';

/** Where to listen. A `port` of 0 lets the system choose. */
export type Address =
  | { readonly kind: 'http'; readonly host: string; readonly port: number }
  | { readonly kind: 'https'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

/** Where and how to listen. `tls` names PEM files; `mode` is the permission bits of the socket. */
export type Listener =
  | { readonly kind: 'http'; readonly host: string; readonly port: number }
  | { readonly kind: 'https'; readonly host: string; readonly port: number; readonly tls: TlsFiles }
  | { readonly kind: 'unix'; readonly path: string; readonly mode: number };

export interface Listening {
  /** As in --listen, with the port that the system chose. */
  readonly address: string;
  /** Stops accepting, waits at most `boundMs` for the requests in flight, and closes what remains. */
  close(boundMs: number): Promise<void>;
}
/** A Hono app, or anything with its `fetch`. */
interface App {
  readonly fetch: Parameters<typeof getRequestListener>[0];
}

interface PlaceBounds {
  /** The most open connections. */
  readonly openMax?: number;
  /** Those of one address, on a listener without certificates. */
  readonly openOfAddressMax?: number;
}

interface Who {
  /** The app decides which web pages it serves; else none is. */
  readonly servesPages?: boolean;
}

/** The most open connections of a listener. */
export const OPEN_MAX = 10_000;

/**
 * Serves `app` through node:http on every runtime, but to no web page unless `servesPages`. Clients of an https
 * listener must present a certificate of the client authority. Throws conflict when another process listens there,
 * else unavailable or bad-request.
 */
export async function listen(
  app: App,
  listener: Listener,
  log?: Log,
  bounds?: ConnectionBounds & TlsBounds & PlaceBounds & Who,
): Promise<Listening> {
  const seldom = log === undefined ? undefined : createSeldom(log);
  const handle = getRequestListener(app.fetch, { overrideGlobalObjects: false });
  const http = createHttpServer((request, response) => {
    connections.expect(request, response, () => {
      const refusal = bounds?.servesPages ? null : refusalOf(request, listener);
      if (refusal === null) void handle(request, response);
      else refuse(response, refusal, seldom);
    });
  });
  // The server never closes an idle connection: dockerd keeps them for ever, and repeats a request with an empty body
  // when the connection was closed.
  http.keepAliveTimeout = http.requestTimeout = http.headersTimeout = http.timeout = 0;
  // Deno ends a connection after each response when the server does not listen itself.
  Object.defineProperty(http, 'listening', { value: true });
  const front =
    listener.kind === 'https'
      ? createTlsFront(http, listener.tls, seldom, bounds)
      : plainFront(http, seldom, bounds);
  if (listener.kind === 'unix') front.on('connection', noteUnixPeer);
  front.maxConnections = bounds?.openMax ?? OPEN_MAX;
  const connections = createConnections(http, front, seldom, bounds);
  const removeSocket = await bind(front, listener);
  return {
    address: addressOf(front, listener),
    async close(boundMs) {
      removeSocket();
      await connections.close(boundMs);
    },
  };
}

function refusalOf({ headers, socket }: IncomingMessage, { kind }: Listener): IpamError | null {
  const { origin, host, 'sec-fetch-site': secFetchSite } = headers as Record<string, string | undefined>;
  return pageRefusal(
    { origin, host, secFetchSite },
    kind === 'http' && isLoopbackSocket(socket.localAddress),
  );
}

/** Under a status of failure engines show `Err`. */
function refuse(response: ServerResponse, { code, line }: IpamError, log?: Log): void {
  log?.('warn', 'request refused', { code, error: line });
  const body = `${JSON.stringify({ Err: line, Error: line })}\n`;
  response.writeHead(403, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
  response.end(body);
}

/** A TCP server in front of `http`. When an http.Server closes, it closes its connections in a way that differs from
 *  runtime to runtime and loses requests in transit. It does not touch connections that another server accepted. */
function plainFront(
  http: Server,
  log?: Log,
  { openOfAddressMax = OF_ADDRESS_MAX }: PlaceBounds = {},
): NetServer {
  const places = createClientPlaces(openOfAddressMax);
  return createNetServer({ allowHalfOpen: true, noDelay: true }, socket => {
    const { remoteAddress: peer } = socket;
    if (peer !== undefined && !places.enter(peer, socket)) {
      log?.('warn', `connection refused: ${openOfAddressMax} of one address are open`, { peer });
      socket.destroy();
      return;
    }
    http.emit('connection', socket);
  });
}

const codeOf = (error: unknown): string => (error as { code?: string }).code ?? String(error);

/** Returns a function that removes the name of a unix socket. */
async function bind(front: NetServer, listener: Listener): Promise<() => void> {
  try {
    if (listener.kind === 'unix') return await bindSocket(front, listener.path, listener.mode);
    const { host, port } = listener;
    await listening(front, () => front.listen({ host, port }));
    return () => {};
  } catch (error) {
    throw error instanceof IpamError ? error : cannotListen(formatAddress(listener), error);
  }
}

async function bindSocket(front: NetServer, path: string, mode: number): Promise<() => void> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  return await withFreeName(path, () => bindAs(front, path, mode));
}

async function bindAs(front: NetServer, path: string, mode: number): Promise<() => void> {
  const hidden = join(dirname(path), `.${randomBytes(4).toString('hex')}`);
  await listening(front, () => {
    // The umask gives the socket its mode, in the tick in which all runtimes bind it. Before a later chmod others
    // could connect.
    const umask = process.umask(0o777 & ~mode);
    try {
      front.listen({ path: hidden });
    } finally {
      process.umask(umask);
    }
  });
  try {
    return nameSocket(hidden, path);
  } catch (error) {
    front.close();
    throw error;
  }
}

function listening(front: NetServer, listen: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    front.once('error', reject).once('listening', resolve);
    listen();
  });
}

const REASONS: Readonly<Record<string, [why: string, hint: string]>> = {
  EADDRINUSE: ['another process listens there', 'stop it, or give another address'],
  EACCES: ['permission denied', 'run as a user who may, or give another address'],
  EPERM: ['permission denied', 'run as a user who may, or give another address'],
  EADDRNOTAVAIL: ['no interface of this machine has that address', 'give another address'],
};

function cannotListen(where: string, error: unknown): IpamError {
  const code = codeOf(error);
  const [why, hint] = REASONS[code] ?? [code, 'give another address'];
  return new IpamError(
    code === 'EADDRINUSE' ? 'conflict' : 'unavailable',
    `can't listen on ${where}: ${why}`,
    {
      hint,
      cause: error,
    },
  );
}

function addressOf(front: NetServer, listener: Listener): string {
  const bound = front.address() as AddressInfo;
  return formatAddress(listener.kind === 'unix' ? listener : { ...listener, port: bound.port });
}

/** As in --listen. */
function formatAddress(address: Address): string {
  if (address.kind === 'unix') return `unix:${address.path}`;
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return `${address.kind}://${host}:${address.port}`;
}
