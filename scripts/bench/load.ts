/** Clients of a server: windows of time in which they send one request after another, and bursts. They do
 *  as little as they can, so that the server is measured: a client writes finished text to a socket that
 *  stays open, and looks only for the end of a response. */
import { connect } from 'node:net';
import {
  build,
  decodeFromCompressedBase64,
  encodeIntoCompressedBase64,
  type Histogram,
} from 'hdr-histogram-js';
import type { Answers, BurstResult, HttpWindow, Latencies, Lease, WindowResult } from './driver.ts';
import type { Latency } from './rows.ts';

const ONE_RESPONSE_MAX_MS = 30_000;
const US_PER_MS = 1000;
const CONNECTIONS_MAX = 1_000;
export const NOOP_PATH = '/IpamDriver.GetDefaultAddressSpaces';

export interface Connection {
  /** Writes a request and calls back with the whole response. One at a time. */
  exchange(request: string, done: (response: string) => void): void;
  isOpen(): boolean;
  close(): void;
}

/** Returns a POST as dockerd writes it, without Content-Type. */
export const post = (path: string, body: string): string =>
  `POST ${path} HTTP/1.1\r\nHost: plugin.moby.localhost\r\nUser-Agent: Go-http-client/1.1\r\n` +
  `Content-Length: ${Buffer.byteLength(body)}\r\n` +
  `Accept: application/vnd.docker.plugins.v1.2+json\r\n\r\n${body}`;

const body = (eni: string): string =>
  JSON.stringify({ PoolID: eni, Address: '', Options: { 'com.docker.network.endpoint.name': 'benchmark' } });
export const noopFor = (eni: string): string => post(NOOP_PATH, body(eni));
const requestFor = (eni: string): string => post('/IpamDriver.RequestAddress', body(eni));
const releaseFor = ({ eni, ip }: Lease): string =>
  post('/IpamDriver.ReleaseAddress', `{"PoolID":"${eni}","Address":"${ip}"}`);

/** Calls `lost` if the connection is closed before a response. Rejects if nobody listens. */
export function openConnection(url: string, lost: (error: Error) => void): Promise<Connection> {
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port), noDelay: true });
  let response = '';
  let waiting: ((response: string) => void) | null = null;
  socket.setEncoding('latin1');
  socket.on('data', (chunk: string) => {
    response += chunk;
    if (waiting === null || !isWhole(response)) return;
    const done = waiting;
    const whole = response;
    waiting = null;
    response = '';
    done(whole);
  });
  return new Promise((resolve, reject) => {
    socket.once('error', reject); // has no effect once connected; `close` follows
    socket.once('close', () => {
      if (waiting !== null) lost(new Error(`${url} closed a connection before its response`));
    });
    socket.once('connect', () =>
      resolve({
        exchange(request, done) {
          waiting = done;
          socket.write(request, 'latin1');
        },
        isOpen: () => !socket.destroyed && socket.writable,
        close: () => void socket.destroy(),
      }),
    );
  });
}

/** Returns a function that opens connections to a URL when they are first needed, and keeps them. */
export function keptConnections<C>(open: (url: string) => Promise<C>, isOpen: (connection: C) => boolean) {
  const all = new Map<string, C[]>();
  return async (url: string, count: number): Promise<readonly C[]> => {
    if (count > CONNECTIONS_MAX) throw new RangeError(`${count} connections, more than ${CONNECTIONS_MAX}`);
    const kept = (all.get(url) ?? []).filter(isOpen);
    all.set(url, kept);
    while (kept.length < count) kept.push(await open(url));
    return kept.slice(0, count);
  };
}

/** Sends one request on a connection of its own. Rejects if there is no response. */
export async function exchangeOnce(url: string, request: string): Promise<string> {
  let fail: (error: Error) => void = () => {};
  const connection = await openConnection(url, error => fail(error));
  const late = setTimeout(connection.close, ONE_RESPONSE_MAX_MS);
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

/** Returns the address in a response, without its prefix length, or null. */
const addressIn = (response: string): string | null => /"Address":"([0-9.]+)\//.exec(response)?.[1] ?? null;

/** Returns the text of an `{"Error": …}`, or a status other than 200, or null. */
export function errorIn(response: string): string | null {
  if (!response.startsWith('HTTP/1.1 200 ')) return response.slice(0, response.indexOf('\r\n'));
  const at = response.indexOf('{"Error"');
  return at < 0 ? null : response.slice(at).trim();
}

function countError(answers: Answers, response: string): void {
  const error = errorIn(response);
  if (error === null) return;
  answers.errors++;
  answers.firstError ??= error;
}

export const newHistogram = (): Histogram => build();
export const record = (histogram: Histogram, ms: number): void =>
  histogram.recordValue(Math.round(ms * US_PER_MS));
export const encode = (histogram: Histogram): Latencies => encodeIntoCompressedBase64(histogram);

/** Returns quantiles over all windows, in whole microseconds and at most 0.1 % too high. NaN: no latency. */
export function latencyOf(windows: readonly Latencies[]): Latency {
  const all = newHistogram();
  for (const window of windows) all.add(decodeFromCompressedBase64(window));
  const ms = (percentile: number) =>
    all.totalCount === 0 ? Number.NaN : all.getValueAtPercentile(percentile) / US_PER_MS;
  return { p50: ms(50), p95: ms(95), p99: ms(99) };
}

/** Runs `client` on every connection, until each has called `end`. */
const forEachClient = (
  connections: readonly Connection[],
  client: (connection: Connection, index: number, end: () => void) => void,
): Promise<unknown> =>
  Promise.all(
    connections.map((connection, i) => new Promise<void>(resolve => client(connection, i, resolve))),
  );

interface Window extends Answers {
  readonly deadline: number;
  calls: number;
}

const openWindow = (ms: number): Window => ({
  deadline: performance.now() + ms,
  calls: 0,
  duplicates: 0,
  errors: 0,
  firstError: null,
});

/** Sends a request, and counts it if the response comes before the deadline. */
function timed(
  window: Window,
  connection: Connection,
  request: string,
  latencies: Histogram,
  done: (response: string) => void,
): void {
  const startedAt = performance.now();
  connection.exchange(request, response => {
    const now = performance.now();
    record(latencies, now - startedAt);
    if (now <= window.deadline) window.calls++;
    countError(window, response);
    done(response);
  });
}

export async function noopWindow(
  { enis, ms }: HttpWindow,
  connections: readonly Connection[],
): Promise<WindowResult> {
  const window = openWindow(ms);
  const latencies = newHistogram();
  await forEachClient(connections, (connection, i, end) => {
    const request = noopFor(enis[i % enis.length] ?? '');
    const send = () => {
      if (performance.now() >= window.deadline) end();
      else timed(window, connection, request, latencies, send);
    };
    send();
  });
  return { ...window, requests: encode(latencies), releases: encode(newHistogram()) };
}

/** Each client requests an address while it holds one, then releases the older one, so that an address
 *  given to two clients is seen. It releases the last one after the deadline. */
export async function loadWindow(
  { enis, ms }: HttpWindow,
  connections: readonly Connection[],
): Promise<WindowResult> {
  const window = openWindow(ms);
  const [requests, releases] = [newHistogram(), newHistogram()];
  const held = new Set<string>();
  await forEachClient(connections, (connection, i, end) => {
    const eni = enis[i % enis.length] ?? '';
    const request = requestFor(eni);
    const take = (kept: string | null) => {
      if (performance.now() >= window.deadline) return kept === null ? end() : give(kept, end);
      timed(window, connection, request, requests, response => {
        const ip = addressIn(response);
        if (ip === null) return take(kept);
        if (held.has(ip)) window.duplicates++;
        held.add(ip);
        if (kept === null) take(ip);
        else give(kept, () => take(ip));
      });
    };
    const give = (ip: string, then: () => void) => {
      held.delete(ip); // once the request is sent, the server may give it to another client
      timed(window, connection, releaseFor({ eni, ip }), releases, then);
    };
    take(null);
  });
  return { ...window, requests: encode(requests), releases: encode(releases) };
}

/** Sends a request for each item, as many at a time as there are connections. */
const exchangeAll = <T>(
  items: readonly T[],
  connections: readonly Connection[],
  requestOf: (item: T) => string,
  answered: (item: T, response: string, ms: number) => void,
): Promise<unknown> => {
  const left = items.values();
  return forEachClient(connections, (connection, _, end) => {
    const next = () => {
      const { value: item, done } = left.next();
      if (done) return end();
      const startedAt = performance.now();
      connection.exchange(requestOf(item), response => {
        answered(item, response, performance.now() - startedAt);
        next();
      });
    };
    next();
  });
};

/** Requests an address for each ENI in the list. The addresses stay allocated. */
export async function burst(
  enis: readonly string[],
  connections: readonly Connection[],
): Promise<BurstResult> {
  const result: BurstResult = { leases: [], latenciesMs: [], duplicates: 0, errors: 0, firstError: null };
  const held = new Set<string>();
  await exchangeAll(enis, connections, requestFor, (eni, response, ms) => {
    result.latenciesMs.push(ms);
    countError(result, response);
    const ip = addressIn(response);
    if (ip === null) return;
    if (held.has(ip)) result.duplicates++;
    held.add(ip);
    result.leases.push({ eni, ip });
  });
  return result;
}

export async function release(
  leases: readonly Lease[],
  connections: readonly Connection[],
): Promise<Answers> {
  const result: Answers = { duplicates: 0, errors: 0, firstError: null };
  await exchangeAll(leases, connections, releaseFor, (_, response) => countError(result, response));
  return result;
}
