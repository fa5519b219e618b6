/** Clients of a server: windows of time in which they send one request after another, and bursts. They do
 *  as little as they can, so that the server is measured: a client writes finished text to a socket that
 *  stays open, and looks only for the end of a response. */
import { connect } from 'node:net';
import { build } from 'hdr-histogram-js';
import type { Latency } from './rows.ts';

const ONE_RESPONSE_MAX_MS = 30_000;
const US_PER_MS = 1000;
const CONNECTIONS_MAX = 1_000;
export const NOOP_PATH = '/IpamDriver.GetDefaultAddressSpaces';

/** Clients send one request after another until the time is over. */
export interface HttpWindow {
  readonly url: string;
  readonly clients: number;
  /** Client `i` is a host with the ENI `i` modulo their number. */
  readonly enis: readonly string[];
  readonly ms: number;
}
/** RequestAddress for each of the ENIs, `each` times. */
interface Burst {
  readonly url: string;
  readonly enis: readonly string[];
  readonly each: number;
  /** Otherwise one after another, as dockerd does for one network. */
  readonly atOnce: boolean;
  /** Releases all addresses at the end, which else stay allocated. */
  readonly thenRelease?: boolean;
}
interface Answers {
  /** Addresses given while another client held them. */
  duplicates: number;
  errors: number;
  firstError: string | null;
}
export interface WindowResult extends Answers {
  /** Responses within the time. */
  calls: number;
  /** Of RequestAddress, or of the no-op. */
  readonly requestsMs: number[];
  readonly releasesMs: number[];
}
interface BurstResult extends Answers {
  /** In the order of the responses. */
  readonly latenciesMs: number[];
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
const releaseFor = ({ eni, ip }: { eni: string; ip: string }): string =>
  post('/IpamDriver.ReleaseAddress', `{"PoolID":"${eni}","Address":"${ip}"}`);

interface Connection {
  /** Returns the whole response. One request at a time. Rejects if the connection is closed before. */
  exchange(request: string): Promise<string>;
  isOpen(): boolean;
  close(): void;
}

/** Rejects if nobody listens. */
function openConnection(url: string): Promise<Connection> {
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port), noDelay: true });
  let response = '';
  let waiting: PromiseWithResolvers<string> | null = null;
  socket.setEncoding('latin1');
  socket.on('data', (chunk: string) => {
    response += chunk;
    if (waiting === null || !isWhole(response)) return;
    waiting.resolve(response);
    waiting = null;
    response = '';
  });
  socket.once('close', () => waiting?.reject(new Error(`${url} closed a connection before its response`)));
  const connection: Connection = {
    exchange(request) {
      waiting = Promise.withResolvers();
      socket.write(request, 'latin1');
      return waiting.promise;
    },
    isOpen: () => !socket.destroyed && socket.writable,
    close: () => void socket.destroy(),
  };
  return new Promise((resolve, reject) => {
    socket.once('error', reject); // has no effect once connected; `close` follows
    socket.once('connect', () => resolve(connection));
  });
}

function isWhole(response: string): boolean {
  const headEnd = response.indexOf('\r\n\r\n');
  if (headEnd < 0) return false;
  const length = /\ncontent-length: *(\d+)/i.exec(response.slice(0, headEnd))?.[1];
  if (length !== undefined) return response.length - headEnd - 4 >= Number(length);
  return response.endsWith('\r\n0\r\n\r\n');
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
const connectionsTo = keptConnections(openConnection, connection => connection.isOpen());

/** Sends one request on a connection of its own. Rejects if there is no response. */
export async function exchangeOnce(url: string, request: string): Promise<string> {
  const connection = await openConnection(url);
  const late = setTimeout(connection.close, ONE_RESPONSE_MAX_MS);
  try {
    return await connection.exchange(request);
  } finally {
    clearTimeout(late);
    connection.close();
  }
}

/** Returns the address in a response, without its prefix length, or null. */
const addressIn = (response: string): string | null => /"Address":"([0-9.]+)\//.exec(response)?.[1] ?? null;

/** Returns the text of an `{"Error": …}`, or a status other than 200, or null. */
export function errorIn(response: string): string | null {
  if (!response.startsWith('HTTP/1.1 200 ')) return response.slice(0, response.indexOf('\r\n'));
  const at = response.indexOf('{"Error"');
  return at < 0 ? null : response.slice(at).trim();
}

const noAnswers = (): Answers => ({ duplicates: 0, errors: 0, firstError: null });

function countError(answers: Answers, response: string): void {
  const error = errorIn(response);
  if (error === null) return;
  answers.errors++;
  answers.firstError ??= error;
}

/** Adds an address to those that are held. */
function countAddress(answers: Answers, held: Set<string>, ip: string): void {
  if (held.has(ip)) answers.duplicates++;
  held.add(ip);
}

/** Returns quantiles in whole microseconds and at most 0.1 % too high. NaN: no latency. */
export function latencyOf(latenciesMs: readonly number[]): Latency {
  const all = build();
  for (const latencyMs of latenciesMs) all.recordValue(Math.round(latencyMs * US_PER_MS));
  const ms = (percentile: number) =>
    all.totalCount === 0 ? Number.NaN : all.getValueAtPercentile(percentile) / US_PER_MS;
  return { p50: ms(50), p95: ms(95), p99: ms(99) };
}

interface Client {
  readonly eni: string;
  isOver(): boolean;
  /** Returns the response, and counts it if it comes within the time. */
  send(request: string, latenciesMs: number[]): Promise<string>;
}

async function runWindow(
  { url, clients, enis, ms }: HttpWindow,
  run: (client: Client, result: WindowResult) => Promise<void>,
): Promise<WindowResult> {
  const connections = await connectionsTo(url, clients);
  const result: WindowResult = { calls: 0, requestsMs: [], releasesMs: [], ...noAnswers() };
  const deadline = performance.now() + ms;
  const runOn = async (connection: Connection, index: number) => {
    const send = async (request: string, latenciesMs: number[]) => {
      const startedAt = performance.now();
      const response = await connection.exchange(request);
      const now = performance.now();
      latenciesMs.push(now - startedAt);
      if (now <= deadline) result.calls++;
      countError(result, response);
      return response;
    };
    const eni = enis[index % enis.length] ?? '';
    await run({ eni, isOver: () => performance.now() >= deadline, send }, result);
  };
  await Promise.all(connections.map(runOn));
  return result;
}

/** POSTs as large as RequestAddress, on which the server does no work. */
export const noopWindow = (asked: HttpWindow): Promise<WindowResult> =>
  runWindow(asked, async ({ eni, isOver, send }, { requestsMs }) => {
    const request = noopFor(eni);
    while (!isOver()) await send(request, requestsMs);
  });

/** Each client requests an address while it holds one, then releases the older one, so that an address
 *  given to two clients is seen. It releases the last one after the deadline. */
export function loadWindow(asked: HttpWindow): Promise<WindowResult> {
  const held = new Set<string>();
  return runWindow(asked, async ({ eni, isOver, send }, result) => {
    const request = requestFor(eni);
    const release = async (ip: string) => {
      held.delete(ip); // once the request is sent, the server may give it to another client
      await send(releaseFor({ eni, ip }), result.releasesMs);
    };
    let kept: string | null = null;
    while (!isOver()) {
      const ip = addressIn(await send(request, result.requestsMs));
      if (ip === null) continue;
      countAddress(result, held, ip);
      if (kept !== null) await release(kept);
      kept = ip;
    }
    if (kept !== null) await release(kept);
  });
}

/** Sends a request for each item, one after another on each connection. */
async function exchangeAll<T>(
  items: readonly T[],
  connections: readonly Connection[],
  requestOf: (item: T) => string,
  answered: (item: T, response: string, ms: number) => void,
): Promise<void> {
  const left = items.values();
  const sendOn = async (connection: Connection) => {
    for (const item of left) {
      const startedAt = performance.now();
      const response = await connection.exchange(requestOf(item));
      answered(item, response, performance.now() - startedAt);
    }
  };
  await Promise.all(connections.map(sendOn));
}

export async function burst({ url, enis, each, atOnce, thenRelease }: Burst): Promise<BurstResult> {
  const all = enis.flatMap(eni => Array<string>(each).fill(eni));
  const connections = await connectionsTo(url, atOnce ? all.length : 1);
  const result: BurstResult = { latenciesMs: [], ...noAnswers() };
  const held = new Set<string>();
  const leases: { eni: string; ip: string }[] = [];
  await exchangeAll(all, connections, requestFor, (eni, response, ms) => {
    result.latenciesMs.push(ms);
    countError(result, response);
    const ip = addressIn(response);
    if (ip === null) return;
    countAddress(result, held, ip);
    leases.push({ eni, ip });
  });
  if (thenRelease)
    await exchangeAll(leases, connections.slice(0, 1), releaseFor, (_, response) =>
      countError(result, response),
    );
  return result;
}
