/** Reads the body of a request, within a bound of size and of time. */
import type { Context } from 'hono';
import { IpamError } from '../domain/error.ts';
import type { Env } from './answer.ts';

/** The largest body that is read, in bytes, but for calls that say more. Docker's have some hundreds, and so many
 *  clients may stop just before the end as there are connections. */
export const BODY_BYTES_MAX = 16 * 1024;
/** The longest time for the body of a request whose head has arrived. It is not a bound of the server, because that
 *  would close idle connections too. */
export const BODY_MAX_MS = 30_000;

/** Returns the body as text. Throws bad-request when it is larger than `bytesMax`, without reading the rest, and when it
 *  has not arrived after `boundMs`. In the second case the connection ends after the response. */
export async function bodyText(
  c: Context<Env>,
  boundMs: number,
  bytesMax: number = BODY_BYTES_MAX,
): Promise<string> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      c.env?.outgoing?.setHeader('Connection', 'close');
      reject(refusal(`the body of the request did not come within ${boundMs / 1000} s`));
    }, boundMs);
  });
  try {
    return await Promise.race([wholeBody(c, bytesMax), late]);
  } catch (error) {
    if (error instanceof IpamError) throw error;
    throw new IpamError('caller-gone', 'the caller has gone before its request was whole', { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

/** Hono's bodyLimit fails on requests without a Content-Length when the global Request is not replaced. */
async function wholeBody(c: Context<Env>, bytesMax: number): Promise<string> {
  const length = c.req.header('content-length');
  if (length !== undefined) {
    if (!(Number(length) <= bytesMax)) throw tooLarge(bytesMax);
    return await c.req.text();
  }
  const decoder = new TextDecoder();
  let text = '';
  let bytes = 0;
  const reader = c.req.raw.body?.getReader();
  for (let part = await reader?.read(); part?.done === false; part = await reader?.read()) {
    bytes += part.value.byteLength;
    if (bytes > bytesMax) {
      await reader?.cancel();
      throw tooLarge(bytesMax);
    }
    text += decoder.decode(part.value, { stream: true });
  }
  return text + decoder.decode();
}

const refusal = (what: string): IpamError =>
  new IpamError('bad-request', what, { hint: 'nothing was changed' });
const tooLarge = (bytesMax: number): IpamError => refusal(`the body is larger than ${bytesMax} bytes`);
