import { mkdirSync } from 'node:fs';
import type { Server } from 'node:http';
import type { AddressInfo, Server as NetServer } from 'node:net';
import { dirname } from 'node:path';
import process from 'node:process';
import { createAdaptorServer } from '@hono/node-server';
import { IpamError } from '../domain/error.ts';
import type { Log } from '../domain/log.ts';
import { Connections } from './connections.ts';
import { removeStaleSocket } from './stale-socket.ts';
import { type TlsFiles, tlsFront } from './tls-front.ts';

/** Where to listen. A `port` of 0 lets the system choose. */
export type Address =
  | { readonly kind: 'http'; readonly host: string; readonly port: number }
  | { readonly kind: 'https'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

/** Where and how. `tls` names PEM files; `mode` is the permission bits of the socket. */
export type Listener =
  | { readonly kind: 'http'; readonly host: string; readonly port: number }
  | { readonly kind: 'https'; readonly host: string; readonly port: number; readonly tls: TlsFiles }
  | { readonly kind: 'unix'; readonly path: string; readonly mode: number };

export interface Listening {
  /** As a user would write it, with the port that the system chose. */
  readonly address: string;
  /** Accepts nothing new, lets the requests in flight finish for at most `boundMs`, then cuts what remains. */
  close(boundMs: number): Promise<void>;
}
/** A Hono app, or anything with its `fetch`. */
type App = Pick<Parameters<typeof createAdaptorServer>[0], 'fetch'>;

const CONNECTIONS_MAX = 10_000;

/**
 * Serves `app` through node:http on every runtime. Clients of an https listener must show a certificate of
 * the client authority. Throws conflict when somebody else listens there, else unavailable or bad-request.
 */
export async function listen(app: App, listener: Listener, log?: Log): Promise<Listening> {
  const http = createAdaptorServer({ fetch: app.fetch, overrideGlobalObjects: false }) as Server;
  // dockerd keeps idle connections for ever and repeats a request with an empty body when one turns out to
  // be closed: the server never closes first.
  http.keepAliveTimeout = http.requestTimeout = http.headersTimeout = http.timeout = 0;
  const front = listener.kind === 'https' ? tlsFront(http, listener.tls, log) : http;
  front.maxConnections = CONNECTIONS_MAX;
  const connections = new Connections(http, front);
  if (listener.kind === 'unix') await prepareSocket(listener.path);
  await bind(front, listener);
  return {
    address: addressOf(front, listener),
    close: boundMs => connections.close(boundMs),
  };
}

const codeOf = (error: unknown): string => (error as { code?: string }).code ?? String(error);

async function prepareSocket(path: string): Promise<void> {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  } catch (error) {
    throw cannotListen(`unix:${path}`, error);
  }
  await removeStaleSocket(path);
}

/** The socket gets its mode from the umask, in the one tick in which all runtimes bind it: a chmod
 *  afterwards would leave a moment in which others could connect. */
function bind(front: NetServer, listener: Listener): Promise<void> {
  return new Promise((resolve, reject) => {
    front.once('error', error => reject(cannotListen(formatAddress(listener), error)));
    if (listener.kind !== 'unix') {
      front.listen({ host: listener.host, port: listener.port }, resolve);
      return;
    }
    const umask = process.umask(0o777 & ~listener.mode);
    try {
      front.listen({ path: listener.path }, resolve);
    } finally {
      process.umask(umask);
    }
  });
}

const REASONS: Readonly<Record<string, [why: string, hint: string]>> = {
  EADDRINUSE: ['another process listens there', 'stop it, or give another --listen'],
  EACCES: ['permission denied', 'run as a user who may, or give another --listen'],
  EPERM: ['permission denied', 'run as a user who may, or give another --listen'],
  EADDRNOTAVAIL: ['no interface of this machine has that address', 'give another --listen'],
};

function cannotListen(where: string, error: unknown): IpamError {
  const code = codeOf(error);
  const [why, hint] = REASONS[code] ?? [code, 'give another --listen'];
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

/** As a user would write it. */
function formatAddress(address: Address): string {
  if (address.kind === 'unix') return `unix:${address.path}`;
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return `${address.kind}://${host}:${address.port}`;
}
