/** Answers of the pages: compressed where the browser takes it, and with what keeps a browser from running or showing
 *  anything that is not of this server. */
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';

const compress = promisify(gzip);
/** Less is sent as it is. */
const COMPRESSED_MIN_CHARS = 1000;

const GUARDS = {
  'content-security-policy':
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; " +
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  vary: 'accept-encoding',
};

export interface Content {
  readonly status: number;
  readonly type: string;
  readonly text: string;
  /** Whether its address changes with it, so that it may be kept for good. */
  readonly isForGood?: boolean;
}

export async function respond(
  request: Request,
  { status, type, text, isForGood = false }: Content,
): Promise<Response> {
  const headers = new Headers({
    ...GUARDS,
    'content-type': type,
    'cache-control': isForGood ? 'public, max-age=31536000, immutable' : 'no-store',
  });
  if (text.length < COMPRESSED_MIN_CHARS || !takesGzip(request))
    return new Response(text, { status, headers });
  headers.set('content-encoding', 'gzip');
  return new Response(await compress(text), { status, headers });
}

const takesGzip = ({ headers }: Request): boolean =>
  /\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))/i.test(headers.get('accept-encoding') ?? '');
