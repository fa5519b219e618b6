/** Answers of the pages, compressed where the browser takes it. The guard of the listener adds the policy. */
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';

const compress = promisify(gzip);
/** Less is sent as it is. */
const COMPRESSED_MIN_CHARS = 1000;

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
    vary: 'accept-encoding',
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
