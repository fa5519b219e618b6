/** HTTP/1.1 as bytes on one connection, so that tests see exactly what a server says. */
import { connect, type NetConnectOpts, type Socket } from 'node:net';

const ANSWER_DEADLINE_MS = 30_000;

export interface Connection {
  /** Writes one request; returns the bytes of its response, one character each. */
  exchange(request: string): Promise<string>;
  close(): void;
}

/** A request as dockerd writes it: no Content-Type, and `Accept` with the version of the plugin protocol. */
export const dockerds = (path: string, body: string): string =>
  [
    `POST ${path} HTTP/1.1`,
    'Host: plugin.moby.localhost',
    'User-Agent: Go-http-client/1.1',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Accept: application/vnd.docker.plugins.v1.2+json',
    '',
    body,
  ].join('\r\n');

export const statusOf = (response: string): number => Number(response.slice('HTTP/1.1 '.length).slice(0, 3));
export const bodyOf = (response: string): string =>
  Buffer.from(response.slice(response.indexOf('\r\n\r\n') + 4), 'latin1').toString();

/** A connection that stays open from request to request. It asks one thing at a time. */
export async function open(to: NetConnectOpts): Promise<Connection> {
  const socket = connect(to);
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  socket.on('error', () => {}); // the end of the connection tells of it
  return {
    async exchange(request) {
      const response = await exchange(socket, request);
      if (response === '') throw new Error('closed without a response');
      return response;
    },
    close: () => socket.destroy(),
  };
}

/** What comes for the request until it is whole, or until the connection ends. */
export function exchange(socket: Socket, request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let response = '';
    const settle = () => {
      clearTimeout(late);
      socket.off('data', onData).off('close', settle).off('end', settle);
      resolve(response);
    };
    const onData = (chunk: Buffer) => {
      response += chunk.toString('latin1');
      if (isWhole(response)) settle();
    };
    const late = setTimeout(() => {
      reject(new Error(`no whole response within ${ANSWER_DEADLINE_MS} ms: ${response}`));
    }, ANSWER_DEADLINE_MS);
    socket.on('data', onData).on('close', settle).on('end', settle);
    socket.write(request);
  });
}

export function isWhole(response: string): boolean {
  const headEnd = response.indexOf('\r\n\r\n');
  if (headEnd < 0) return false;
  const head = response.slice(0, headEnd);
  if (/^transfer-encoding: *chunked$/im.test(head)) return response.endsWith('0\r\n\r\n');
  const length = /^content-length: *(\d+)$/im.exec(head)?.[1];
  return length !== undefined && response.length - headEnd - 4 >= Number(length);
}
