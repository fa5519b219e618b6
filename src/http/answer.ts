/** Writes the responses of the driver, and tells whether the client is still there to receive them. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import type { Context } from 'hono';
import type { Ipv4 } from '../domain/address.ts';
import { IpamError } from '../domain/error.ts';
import type { EniId } from '../domain/ids.ts';
import type { Log } from '../domain/log.ts';
import { logOf, withId } from './call.ts';

export interface Env {
  /** What @hono/node-server passes to a handler. Absent when the app is called without a socket. */
  Bindings: { incoming?: IncomingMessage; outgoing?: ServerResponse };
  /** `callId`: see call.ts. `failure`: why the call was not done. */
  Variables: { callId?: string; failure?: unknown };
}

// https://docs.docker.com/engine/extend/plugin_api/
const CONTENT_TYPE = 'application/vnd.docker.plugins.v1.2+json';

export const json = (body: unknown, status = 200): Response =>
  new Response(`${JSON.stringify(body)}\n`, { status, headers: { 'content-type': CONTENT_TYPE } });

/** The response for an error: one line under `Error`, by default with status 200. It is the only form whose text every
 *  engine shows unchanged. An unexpected error is logged with its stack, and the client learns none of it. `about`: what
 *  to log of the request. */
export function errorAnswer(
  c: Context<Env>,
  error: unknown,
  log: Log,
  about: { eni?: EniId; ip?: Ipv4 } = {},
  status = 200,
): Response {
  const { path } = c.req;
  if (error instanceof IpamError && error.code !== 'internal') {
    logOf(c, log)('warn', 'request refused', { path, ...about, code: error.code, error: error.line });
    return json({ Error: withId(c, error.line) }, status);
  }
  logOf(c, log)('error', 'internal error', { path, ...about, error });
  return json({ Error: withId(c, 'ec2-ipam: internal error; look into the log of the server') });
}

/** The client of a request. */
export interface Caller {
  /** Aborted some time after the connection has closed. */
  readonly signal: AbortSignal;
  /** Whether the connection is closed. After a reset this is true before the signal aborts. */
  isGone(): boolean;
}

export function watchCaller(c: Context<Env>): Caller {
  const { signal } = c.req.raw; // created on first access, so access it before the caller can go
  const socket = c.env?.incoming?.socket;
  return {
    signal,
    isGone: () => signal.aborted || socket?.destroyed === true || socket?.readableEnded === true,
  };
}

const connectionNames = new WeakMap<object, string>();
let named = 0;
/** Returns a name of the connection that the request came on, for turns. */
export function connectionOf(c: Context<Env>): string | undefined {
  const socket = c.env?.incoming?.socket;
  if (socket === undefined) return undefined;
  const known = connectionNames.get(socket) ?? `connection ${++named}`;
  connectionNames.set(socket, known);
  return known;
}

const SUSPENDED = 'the server was suspended while it answered; start the container again';

/** Writes the response, or calls `undo` when the caller has gone or the claim is stale. The decision and the write are in
 *  one tick, so exactly one of them happens. */
export async function handOver(
  c: Context<Env>,
  caller: Caller,
  body: unknown,
  { undo, isStale }: { undo(): Promise<void>; isStale(): boolean },
): Promise<Response> {
  const why = caller.isGone() ? 'the caller has gone' : isStale() ? SUSPENDED : null;
  if (why === null) return send(c, body);
  c.set('failure', new IpamError(isStale() ? 'unavailable' : 'caller-gone', why));
  await undo();
  return json({ Error: withId(c, why) });
}

/** Returns the response. On a socket it writes it directly: to create and unpack a Response takes a tenth of the
 *  time of a request. */
export function send(c: Context<Env>, body: unknown): Response {
  const outgoing = c.env?.outgoing;
  if (outgoing === undefined) return json(body);
  sendText(outgoing, `${JSON.stringify(body)}\n`);
  return RESPONSE_ALREADY_SENT;
}

export function sendText(outgoing: ServerResponse, text: string): void {
  outgoing.writeHead(200, { 'content-type': CONTENT_TYPE, 'content-length': Buffer.byteLength(text) });
  outgoing.end(text);
}

/** The response to a request that is one too many. */
export const refusalText = (why: string): string =>
  `${JSON.stringify({ Error: `${why}: this one is not done; wait for answers, and send it again` })}\n`;
