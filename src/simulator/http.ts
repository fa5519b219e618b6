/** Reads the body of an HTTP request, and ends or holds a connection that gets no response. */
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import type { Context } from 'hono';

/** What @hono/node-server passes to the app beside the request. */
export interface ConnectionEnv {
  Bindings: { incoming?: { socket: { destroy(): unknown; readonly localAddress?: string } } };
}

export const BODY_BYTES_MAX = 1 << 20;

/** Returns the body as text; null when it is longer than BODY_BYTES_MAX. */
export async function bodyText(c: Context): Promise<string | null> {
  const decoder = new TextDecoder();
  let text = '';
  let bytes = 0;
  const reader = c.req.raw.body?.getReader();
  for (let part = await reader?.read(); part?.done === false; part = await reader?.read()) {
    bytes += part.value.byteLength;
    if (bytes > BODY_BYTES_MAX) {
      await reader?.cancel();
      return null;
    }
    text += decoder.decode(part.value, { stream: true });
  }
  return text + decoder.decode();
}

/** Closes the client's connection without a response. */
export function drop(c: Context<ConnectionEnv>): Response {
  incomingOf(c).socket.destroy();
  return RESPONSE_ALREADY_SENT;
}

/** Never responds. The connection stays open until the client closes it. */
export function hang(c: Context<ConnectionEnv>): Response {
  incomingOf(c);
  return RESPONSE_ALREADY_SENT;
}

function incomingOf(c: Context<ConnectionEnv>) {
  if (c.env?.incoming === undefined)
    throw new Error('only an app that is served can leave a request without a response');
  return c.env.incoming;
}

/** Resolves after `ms` milliseconds, by a timer. */
export const sleep = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms));
