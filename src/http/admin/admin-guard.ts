/**
 * Whom the admin listener answers, and what browsers may do with its answers.
 *
 * Over plain HTTP it listens on loopback only. Every page that somebody of this host opens can send requests there, also
 * under a name of its own that its DNS points at 127.0.0.1. So `Host` must be a name of loopback; any port will do, since
 * tunnels have ports of their own. Prometheus sends the host of its target, so that `localhost` and 127.0.0.1 work.
 * Over https a client has shown a certificate and has checked ours, and a unix socket is opened by users of this host;
 * there `Host` may be anything. The certificate of a Docker host opens nothing here: a host may not see those of others.
 */
import type { Context, MiddlewareHandler } from 'hono';
import { shown } from '../../domain/text.ts';
import { namesLoopback } from '../../domain/web-page.ts';
import { hostCertificateOf } from '../identity.ts';
import type { Listener } from '../listener/listen.ts';

const HEADERS = {
  'content-security-policy':
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; " +
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
};

/** Why a request is not answered, and what to do. */
export interface Refusal {
  readonly status: 400 | 403 | 404 | 405 | 500 | 503;
  readonly error: string;
  readonly hint: string;
}

/** Refuses what pages of others send, and all that would change something; adds the headers for browsers. */
export const adminGuard =
  (kind: Listener['kind']): MiddlewareHandler =>
  async (c, next) => {
    const refusal = hostRefusal(hostCertificateOf(c)) ?? refusalOf(c.req.raw, kind);
    if (refusal === null) await next();
    else c.res = answerRefusal(c, refusal);
    for (const [name, value] of Object.entries(HEADERS)) c.res.headers.set(name, value);
    if (!c.res.headers.has('cache-control')) c.res.headers.set('cache-control', 'no-store');
  };

/** In JSON for the API, else as a line. */
export function answerRefusal(c: Context, { status, error, hint }: Refusal): Response {
  if (c.req.path.startsWith('/api/')) return c.json({ error, hint }, status);
  return c.text(`${error}${hint === '' ? '' : `; ${hint}`}\n`, status);
}

const hostRefusal = (certificate: string | null): Refusal | null =>
  certificate === null
    ? null
    : {
        status: 403,
        error: `the client certificate is ${certificate}`,
        hint: 'use one that names no instance',
      };

function refusalOf({ method, headers }: Request, kind: Listener['kind']): Refusal | null {
  const host = headers.get('host');
  if (kind === 'http' && host !== null && !namesLoopback(host))
    return {
      status: 403,
      error: `Host "${shown(host)}" is not a name of loopback`,
      hint: 'call this server localhost or 127.0.0.1',
    };
  if (isOfOtherSite(headers, host, method))
    return {
      status: 403,
      error: 'the request is from a page of another site',
      hint: 'open the address itself',
    };
  if (method !== 'GET' && method !== 'HEAD')
    return {
      status: 405,
      error: 'only GET and HEAD are served',
      hint: 'use the commands to change something',
    };
  return null;
}

/** Browsers say which site a request is from. A link that somebody follows may be from any, but not a frame, a script or a
 *  picture. `none`: somebody typed the address. */
function isOfOtherSite(headers: Headers, host: string | null, method: string): boolean {
  const origin = headers.get('origin');
  if (origin !== null && hostIn(origin) !== host?.toLowerCase()) return true;
  const site = headers.get('sec-fetch-site');
  if (site === null || site === 'same-origin' || site === 'none') return false;
  const isLink = headers.get('sec-fetch-mode') === 'navigate' && headers.get('sec-fetch-dest') === 'document';
  return !isLink || method !== 'GET';
}

/** Null: it is no origin of a page, as the `null` of a page without one. */
function hostIn(origin: string): string | null {
  return URL.canParse(origin) ? new URL(origin).host : null;
}
