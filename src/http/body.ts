import type { Context } from 'hono';
import { IpamError } from '../domain/error.ts';
import type { Env } from './answer.ts';

/** The largest body taken, in bytes: Docker's have some hundreds. */
const BODY_BYTES_MAX = 64 * 1024;
/** How long the body of a request that has begun may take. The server itself has no such bound, since that would
 *  close idle connections too. */
export const BODY_MAX_MS = 30_000;

/** The body as text. Throws bad-request when it is too large, before more than that has been read, and when it has
 *  not come after `boundMs`; then the connection ends with the answer. */
export async function bodyText(c: Context<Env>, boundMs: number): Promise<string> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      c.env?.outgoing?.setHeader('Connection', 'close');
      reject(refusal(`the body of the request did not come within ${boundMs / 1000} s`));
    }, boundMs);
  });
  try {
    return await Promise.race([wholeBody(c), late]);
  } catch (error) {
    if (error instanceof IpamError) throw error;
    throw new IpamError('caller-gone', 'the caller has gone before its request was whole', { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

/** hono's own bodyLimit fails on requests without a Content-Length when the global Request is left as it is. */
async function wholeBody(c: Context<Env>): Promise<string> {
  const length = c.req.header('content-length');
  if (length !== undefined) {
    if (!(Number(length) <= BODY_BYTES_MAX)) throw tooLarge();
    return await c.req.text();
  }
  const decoder = new TextDecoder();
  let text = '';
  let bytes = 0;
  const reader = c.req.raw.body?.getReader();
  for (let part = await reader?.read(); part?.done === false; part = await reader?.read()) {
    bytes += part.value.byteLength;
    if (bytes > BODY_BYTES_MAX) {
      await reader?.cancel();
      throw tooLarge();
    }
    text += decoder.decode(part.value, { stream: true });
  }
  return text + decoder.decode();
}

const refusal = (what: string): IpamError =>
  new IpamError('bad-request', what, { hint: 'nothing was changed' });
const tooLarge = (): IpamError => refusal(`the body is larger than ${BODY_BYTES_MAX} bytes`);
