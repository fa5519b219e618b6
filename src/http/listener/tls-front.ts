/** TLS with client certificates, in front of an http.Server. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Server } from 'node:http';
import type { Server as NetServer, Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { IpamError } from '../../domain/error.ts';
import type { Log } from '../../domain/log.ts';
import { readPrivate } from '../../store/private-file.ts';
import type { ClientGate } from '../hosts/client-gate.ts';
import { noteTlsPeer } from '../identity.ts';
import { createClientPlaces, OF_CERTIFICATE_MAX } from './client-places.ts';

/** The longest time for a TLS handshake. Until then the client has presented no certificate, and takes up
 *  a connection. */
const HANDSHAKE_MAX_MS = 10_000;

/** Names of PEM files. */
export interface TlsFiles {
  readonly cert: string;
  readonly key: string;
  /** The authority whose certificates clients must show; null: only hosts that enrolled are served. */
  readonly clientCa: string | null;
  readonly gate?: ClientGate;
}

export interface TlsBounds {
  /** The longest time for a handshake, in milliseconds. */
  readonly handshakeMaxMs?: number;
  /** The most open connections of one client. */
  readonly ofCertificateMax?: number;
}

/** Creates a TLS server in front of `http`, for clients of the authority only. Where hosts can enrol, others connect too:
 *  the gate refuses their requests. Throws bad-request when the files
 *  cannot be used. Closes connections whose handshake takes longer than `handshakeMaxMs`.
 *
 *  On Bun the sockets of node:https have no peer certificate, and Deno's server ignores `requestCert`. A tls.Server
 *  that passes its sockets to the http.Server behaves alike on all three runtimes. */
export function createTlsFront(
  http: Server,
  files: TlsFiles,
  log?: Log,
  { handshakeMaxMs = HANDSHAKE_MAX_MS, ofCertificateMax = OF_CERTIFICATE_MAX }: TlsBounds = {},
): NetServer {
  const cert = readPem(files.cert, '--tls-cert');
  const key = readPem(files.key, '--tls-key', readPrivate);
  const clientCa = files.clientCa === null ? [] : [readPem(files.clientCa, '--tls-client-ca')];
  checkPair(cert, key, clientCa);
  const { gate } = files;
  const options = {
    cert,
    key,
    // Without any the library takes the authorities of the system. The server's own certificate signs nobody.
    ca: clientCa.length > 0 ? clientCa : [cert],
    requestCert: true,
    rejectUnauthorized: gate?.enrols !== true,
    minVersion: 'TLSv1.2' as const,
    ALPNProtocols: ['http/1.1'],
    handshakeTimeout: handshakeMaxMs,
  };
  const places = createClientPlaces(ofCertificateMax);
  const front = createTlsServer(options, socket => {
    const client = noteTlsPeer(socket);
    if (client !== null && !places.enter(client, socket)) {
      log?.('warn', `connection refused: ${ofCertificateMax} of one certificate are open`, { client });
      socket.destroy();
      return;
    }
    gate?.came(socket, clientCa.length > 0);
    http.emit('connection', socket);
  });
  gate?.onAuthority(authority => front.setSecureContext({ ...options, ca: [...clientCa, authority] }));
  return front.on('tlsClientError', (error: Error, socket: Socket) => {
    log?.('warn', 'client refused', { peer: socket.remoteAddress, reason: error.message });
    socket.destroy();
  });
}

const readPublic = (path: string): string => readFileSync(path, 'utf8');

function readPem(path: string, flag: string, read: typeof readPrivate = readPublic): string {
  try {
    return read(path, flag);
  } catch (error) {
    if (error instanceof IpamError) throw error;
    const reason = (error as { code?: string }).code ?? error;
    throw new IpamError('bad-request', `${flag}: ${path} can't be read: ${reason}`, { cause: error });
  }
}

/** Checks that key and certificate belong together. Deno checks that only at the first handshake. */
function checkPair(cert: string, key: string, authorities: readonly string[]): void {
  let fits: boolean;
  try {
    for (const authority of authorities) new X509Certificate(authority);
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
