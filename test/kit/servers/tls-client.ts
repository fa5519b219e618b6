/** A client with a certificate, as bytes on connections of its own. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:tls';
import type { Certificates } from './certificates.ts';
import { exchange } from './raw-http.ts';

/** Returns what sends a request and resolves with its response. */
export function tlsClient(to: { readonly host: string; readonly port: number }, certificates: Certificates) {
  const { cert, key } = certificates.client;
  const files = { ca: readFileSync(certificates.ca), cert: readFileSync(cert), key: readFileSync(key) };
  return async (request: string): Promise<string> => {
    const socket = connect({ ...to, ...files });
    await once(socket, 'secureConnect');
    const response = await exchange(socket, request);
    socket.destroy();
    return response;
  };
}
