import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import type { Context } from 'hono';

/** What @hono/node-server hands to the app beside the request. */
export interface ConnectionEnv {
  Bindings: { incoming?: { socket: { destroy(): unknown } } };
}

/** Ends the caller's connection without an answer. */
export function drop(c: Context<ConnectionEnv>): Response {
  incomingOf(c).socket.destroy();
  return RESPONSE_ALREADY_SENT;
}

/** Never answers, and leaves the connection open until the caller hangs up. */
export function hang(c: Context<ConnectionEnv>): Response {
  incomingOf(c);
  return RESPONSE_ALREADY_SENT;
}

function incomingOf(c: Context<ConnectionEnv>) {
  if (c.env?.incoming === undefined)
    throw new Error('only a served app can leave a caller without an answer');
  return c.env.incoming;
}
