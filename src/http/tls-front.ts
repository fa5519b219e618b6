import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Server } from 'node:http';
import type { Server as NetServer, Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { IpamError } from '../domain/error.ts';
import type { Log } from '../domain/log.ts';

/** How long a client may take for its handshake; until then it has shown no certificate, and holds a place. */
const HANDSHAKE_MAX_MS = 10_000;

/** Names of PEM files. */
export interface TlsFiles {
  readonly cert: string;
  readonly key: string;
  /** The authority whose certificates clients must show. */
  readonly clientCa: string;
}

/** A TLS server in front of `http`, for clients of the authority only. Throws bad-request about the files.
 *  Clients that do not end their handshake within `handshakeMaxMs` are cut off.
 *
 *  node:https on Bun has no peer certificate on its sockets, and Deno's own server ignores `requestCert`; a
 *  tls.Server that hands its sockets to the http.Server behaves alike on all three runtimes. */
export function createTlsFront(
  http: Server,
  files: TlsFiles,
  log?: Log,
  handshakeMaxMs = HANDSHAKE_MAX_MS,
): NetServer {
  const cert = readPem(files.cert, '--tls-cert');
  const key = readPem(files.key, '--tls-key');
  const ca = readPem(files.clientCa, '--tls-client-ca');
  checkPair(cert, key, ca);
  const options = {
    cert,
    key,
    ca,
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: 'TLSv1.2' as const,
    ALPNProtocols: ['http/1.1'],
    handshakeTimeout: handshakeMaxMs,
  };
  const front = createTlsServer(options, socket => http.emit('connection', socket));
  return front.on('tlsClientError', (error: Error, socket: Socket) => {
    log?.('warn', 'client refused', { peer: socket.remoteAddress, reason: error.message });
    socket.destroy();
  });
}

function readPem(path: string, flag: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const reason = (error as { code?: string }).code ?? error;
    throw new IpamError('bad-request', `${flag}: ${path} can't be read: ${reason}`, { cause: error });
  }
}

/** Deno would only find out at the first handshake. */
function checkPair(cert: string, key: string, ca: string): void {
  let fits: boolean;
  try {
    new X509Certificate(ca);
    fits = new X509Certificate(cert).checkPrivateKey(createPrivateKey(key));
  } catch (error) {
    throw new IpamError('bad-request', `the TLS files can't be used: ${(error as Error).message}`, {
      hint: 'give --tls-cert, --tls-key and --tls-client-ca in PEM, the key without a passphrase',
      cause: error,
    });
  }
  if (!fits)
    throw new IpamError('bad-request', '--tls-key is not the key of --tls-cert', {
      hint: 'give a certificate and its own private key',
    });
}
