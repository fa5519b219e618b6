/** What the admin listener serves: whether the process and its ledger work, the metrics, and the pages. */
import { IpamError } from '../domain/error.ts';
import type { Store } from '../store/store.ts';
import { kept, within } from '../views/kept.ts';

/** An answer about the ledger is good for so long, so that probes do not load the store. */
const KEPT_MS = 1000;
/** The longest time of a probe. */
const STORE_MAX_MS = 2000;

export interface Readiness {
  readonly isReady: boolean;
  /** `ok`, or why the ledger cannot be used. */
  readonly store: string;
  /** `ok`, or the code of the error with which EC2's last answer to this server ended. */
  readonly ec2: string;
}

interface ReadyParts {
  readonly store: Pick<Store, 'outdated'>;
  /** Whether the ledger has been opened. */
  readonly isOpen: () => boolean;
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
  readonly wait: (ms: number, signal?: AbortSignal) => Promise<void>;
  readonly ec2: () => string;
}

/** Returns a check whether the ledger can be reached and has the right schema. It asks the store at most once a second,
 *  never twice at a time, and answers within two seconds. Never throws. EC2 does not decide: containers start with
 *  ready addresses while it is away. */
export function createReadyCheck({ store, isOpen, clock, wait, ec2 }: ReadyParts): () => Promise<Readiness> {
  async function ask(): Promise<string> {
    try {
      return (await store.outdated()) ?? 'ok';
    } catch (error) {
      return error instanceof IpamError ? error.line : 'internal error';
    }
  }
  const asked = kept(ask, KEPT_MS, clock);

  return async () => {
    const said = isOpen() ? await within(STORE_MAX_MS, asked(), wait) : 'the ledger is not open yet';
    const store = said ?? `no answer within ${STORE_MAX_MS / 1000} s`;
    return { isReady: store === 'ok', store, ec2: ec2() };
  };
}

interface AdminApp {
  fetch(request: Request): Promise<Response>;
}

interface AdminParts {
  readonly ready: () => Promise<Readiness>;
  readonly metrics: { readonly contentType: string; text(): Promise<string> };
  /** What people look at: all that is not for programs. */
  readonly pages: AdminApp;
}

export function createAdminApp({ ready, metrics, pages }: AdminParts): AdminApp {
  const forPrograms: Readonly<Record<string, () => Promise<Response>>> = {
    '/healthz': async () => new Response('ok\n', { headers: FRESH }),
    '/readyz': async () => {
      const readiness = await ready();
      return Response.json(readiness, { status: readiness.isReady ? 200 : 503, headers: FRESH });
    },
    '/metrics': async () =>
      new Response(await metrics.text(), { headers: { ...FRESH, 'content-type': metrics.contentType } }),
  };
  return {
    async fetch(request) {
      const { method, url } = request;
      const { pathname } = new URL(url);
      if (method !== 'GET' && method !== 'HEAD') return refusal(405, 'only GET is served');
      const answer = Object.hasOwn(forPrograms, pathname) ? forPrograms[pathname] : undefined;
      return answer === undefined ? await pages.fetch(request) : await answer();
    },
  };
}

const FRESH = { 'cache-control': 'no-store' };

const refusal = (status: number, why: string): Response =>
  new Response(`${why}\n`, { status, headers: { ...FRESH, allow: 'GET, HEAD' } });
