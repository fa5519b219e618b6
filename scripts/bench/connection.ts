/** HTTP/1.1 of the load driver, as lean as it gets, so that it is not the driver that is measured: one kept-alive
 *  socket per client, requests written as finished text, and of a response only its end looked for. */
import { connect } from 'node:net';

const ONE_ANSWER_MAX_MS = 30_000;

export interface Connection {
  /** Writes a request; calls back with the whole response. One at a time. */
  exchange(request: string, answered: (response: string) => void): void;
  isOpen(): boolean;
  close(): void;
}

/** A POST as dockerd writes it: no Content-Type. */
export const post = (path: string, body: string): string =>
  `POST ${path} HTTP/1.1\r\nHost: plugin.moby.localhost\r\nUser-Agent: Go-http-client/1.1\r\n` +
  `Content-Length: ${Buffer.byteLength(body)}\r\n` +
  `Accept: application/vnd.docker.plugins.v1.2+json\r\n\r\n${body}`;

/** `lost` hears of a request that will have no answer. Rejects when nobody listens. */
export function openConnection(url: string, lost: (error: Error) => void): Promise<Connection> {
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port), noDelay: true });
  let response = '';
  let waiting: ((response: string) => void) | null = null;
  socket.setEncoding('latin1');
  socket.on('data', (chunk: string) => {
    response += chunk;
    if (waiting === null || !isWhole(response)) return;
    const answered = waiting;
    const whole = response;
    waiting = null;
    response = '';
    answered(whole);
  });
  return new Promise((resolve, reject) => {
    socket.once('error', reject); // before it is connected; afterwards `close` tells
    socket.once('close', () => {
      if (waiting !== null) lost(new Error(`${url} closed a connection on which it was asked`));
    });
    socket.once('connect', () =>
      resolve({
        exchange(request, answered) {
          waiting = answered;
          socket.write(request, 'latin1');
        },
        isOpen: () => !socket.destroyed && socket.writable,
        close: () => void socket.destroy(),
      }),
    );
  });
}

/** On a connection of its own. Rejects when there is no answer. */
export async function exchangeOnce(url: string, request: string): Promise<string> {
  let fail: (error: Error) => void = () => {};
  const connection = await openConnection(url, error => fail(error));
  const late = setTimeout(connection.close, ONE_ANSWER_MAX_MS);
  try {
    return await new Promise<string>((resolve, reject) => {
      fail = reject;
      connection.exchange(request, resolve);
    });
  } finally {
    clearTimeout(late);
    connection.close();
  }
}

function isWhole(response: string): boolean {
  const headEnd = response.indexOf('\r\n\r\n');
  if (headEnd < 0) return false;
  const length = /\ncontent-length: *(\d+)/i.exec(response.slice(0, headEnd))?.[1];
  if (length !== undefined) return response.length - headEnd - 4 >= Number(length);
  return response.endsWith('\r\n0\r\n\r\n');
}

const ADDRESS = /"Address":"([0-9.]+)\//;
/** The address that a response gives, without its prefix length; null: none. */
export const addressIn = (response: string): string | null => ADDRESS.exec(response)?.[1] ?? null;

/** The text of an `{"Error": …}`, or a status other than 200; null: it went well. */
export function errorIn(response: string): string | null {
  if (!response.startsWith('HTTP/1.1 200 ')) return response.slice(0, response.indexOf('\r\n'));
  const at = response.indexOf('{"Error"');
  return at < 0 ? null : response.slice(at).trim();
}
