/** Connections of clients with certificates, without a network. */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { TLSSocket } from 'node:tls';
import { noteTlsPeer } from '../../src/http/identity.ts';
import { makeCertificates } from '../kit/servers/certificates.ts';

/** One for each subjectAltName; null: a certificate without one. */
export function socketsOf(...names: readonly (string | null)[]): object[] {
  const certificates = makeCertificates();
  const sockets = names.map(san => {
    const { raw } = new X509Certificate(readFileSync(certificates.sign('host', san).cert));
    const socket = { remoteAddress: '10.0.1.4', encrypted: true, getPeerCertificate: () => ({ raw }) };
    noteTlsPeer(socket as unknown as TLSSocket);
    return socket;
  });
  certificates.remove();
  return sockets;
}
