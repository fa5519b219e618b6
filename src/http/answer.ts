import type { IncomingMessage, ServerResponse } from 'node:http';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import type { Context } from 'hono';
import type { Ipv4 } from '../domain/address.ts';
import { IpamError } from '../domain/error.ts';
import type { EniId } from '../domain/ids.ts';
import type { Log } from '../domain/log.ts';

/** What @hono/node-server hands to a handler; absent when the app is called without a socket. */
export interface Env {
  Bindings: { incoming?: IncomingMessage; outgoing?: ServerResponse };
}

// https://docs.docker.com/engine/extend/plugin_api/
const CONTENT_TYPE = 'application/vnd.docker.plugins.v1.2+json';

export const json = (body: unknown): Response =>
  new Response(`${JSON.stringify(body)}\n`, { headers: { 'content-type': CONTENT_TYPE } });

/** The answer to what went wrong: one line under `Error`, with status 200, which is the only form whose text
 *  every engine shows as it is. What we did not foresee is logged whole and shown as nothing. */
export function errorAnswer(
  error: unknown,
  log: Log,
  about: { path: string; eni?: EniId; ip?: Ipv4 },
): Response {
  if (error instanceof IpamError && error.code !== 'internal') {
    log('warn', 'request refused', { ...about, code: error.code, error: error.line });
    return json({ Error: error.line });
  }
  log('error', 'internal error', { ...about, error });
  return json({ Error: 'ec2-ipam: internal error; look into the log of the server' });
}

/** Who sent a request. */
export interface Caller {
  /** Aborted, with caller-gone, some time after the connection has closed. */
  readonly signal: AbortSignal;
  /** Whether the connection is closed by now. After a reset it is known here before the signal aborts. */
  isGone(): boolean;
}

export function watchCaller(c: Context<Env>): Caller {
  const closed = c.req.raw.signal; // made on first access: it must exist before the caller can go
  const socket = c.env?.incoming?.socket;
  const left = new AbortController();
  closed.addEventListener('abort', () => left.abort(callerGone()), { once: true });
  return {
    signal: left.signal,
    isGone: () => closed.aborted || socket?.destroyed === true || socket?.readableEnded === true,
  };
}

const callerGone = () => new IpamError('caller-gone', 'the caller has gone');

/** Resolves when the next answer on the connection is the one to this request. Before that it could not be written: it
 *  would wait behind those to what the client sent before, and be lost without notice if the connection closed. Throws
 *  caller-gone. */
export async function inTurn(c: Context<Env>, caller: Caller): Promise<void> {
  const outgoing = c.env?.outgoing;
  if (outgoing === undefined || outgoing.socket !== null) return;
  if (!caller.isGone())
    await new Promise<void>(resolve => {
      outgoing.once('socket', () => resolve()).once('close', () => resolve());
    });
  if (caller.isGone()) throw callerGone();
}

/** Hands the answer to the caller, or undoes what it promises when the caller has gone. That is decided in the
 *  tick in which the first byte goes to the socket, so there is no moment at which both or neither happens. */
export async function handOver(
  c: Context<Env>,
  caller: Caller,
  body: unknown,
  undo: () => Promise<void>,
): Promise<Response> {
  if (caller.isGone()) {
    await undo();
    return json({ Error: 'the caller has gone' });
  }
  return send(c, body);
}

/** Answers at once. On a socket that spares the making and taking apart of a Response, a tenth of what a request
 *  costs. */
export function send(c: Context<Env>, body: unknown): Response {
  const outgoing = c.env?.outgoing;
  if (outgoing === undefined) return json(body);
  const text = `${JSON.stringify(body)}\n`;
  outgoing.writeHead(200, { 'content-type': CONTENT_TYPE, 'content-length': Buffer.byteLength(text) });
  outgoing.end(text);
  return RESPONSE_ALREADY_SENT;
}
