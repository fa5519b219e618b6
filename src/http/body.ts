import type { Context } from 'hono';
import { IpamError } from '../domain/error.ts';
import type { Env } from './answer.ts';

/** The largest body taken, in bytes: Docker's have some hundreds. */
const BODY_BYTES_MAX = 64 * 1024;

/** The body as text. Throws bad-request when it is too large, before more than that has been read. hono's own
 *  bodyLimit fails on requests without a Content-Length when the global Request is left as it is. */
export async function bodyText(c: Context<Env>): Promise<string> {
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

const tooLarge = (): IpamError =>
  new IpamError('bad-request', `the body is larger than ${BODY_BYTES_MAX} bytes`, {
    hint: 'nothing was changed',
  });
