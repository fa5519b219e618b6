/** What the admin listener serves: whether the process and its ledger work, for whoever probes a server. */
import { IpamError } from '../domain/error.ts';
import type { Store } from '../store/store.ts';

/** An answer about the ledger is good for so long, so that probes do not load the store. */
const KEPT_MS = 1000;
/** The longest time of a probe. */
const STORE_MAX_MS = 2000;

export interface Readiness {
  readonly isReady: boolean;
  /** `ok`, or why the ledger cannot be used. */
  readonly store: string;
}

interface ReadyParts {
  readonly store: Pick<Store, 'outdated'>;
  /** Whether the ledger has been opened. */
  readonly isOpen: () => boolean;
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
  readonly wait: (ms: number, signal?: AbortSignal) => Promise<void>;
}

/** Returns a check whether the ledger can be reached and has the right schema. It asks the store at most once a second,
 *  never twice at a time, and answers within two seconds. Never throws. EC2 does not decide: containers start with
 *  ready addresses while it is away. */
export function createReadyCheck({ store, isOpen, clock, wait }: ReadyParts): () => Promise<Readiness> {
  let known: { readonly said: string; readonly at: number } | null = null;
  let asking: Promise<string> | null = null;

  async function ask(): Promise<string> {
    try {
      return (await store.outdated()) ?? 'ok';
    } catch (error) {
      return error instanceof IpamError ? error.line : 'internal error';
    }
  }

  async function askOnce(): Promise<string> {
    const said = await ask();
    known = { said, at: clock() };
    asking = null;
    return said;
  }

  async function inTime(asked: Promise<string>): Promise<string> {
    const answered = new AbortController();
    const late = async () => {
      await wait(STORE_MAX_MS, answered.signal);
      return `no answer within ${STORE_MAX_MS / 1000} s`;
    };
    try {
      return await Promise.race([asked, late()]);
    } finally {
      answered.abort();
    }
  }

  async function said(): Promise<string> {
    if (!isOpen()) return 'the ledger is not open yet';
    if (known !== null && clock() - known.at < KEPT_MS) return known.said;
    asking ??= askOnce();
    return await inTime(asking);
  }

  return async () => {
    const store = await said();
    return { isReady: store === 'ok', store };
  };
}

interface AdminApp {
  fetch(request: Request): Promise<Response>;
}

export function createAdminApp(ready: () => Promise<Readiness>): AdminApp {
  const pages: Readonly<Record<string, () => Promise<Response>>> = {
    '/healthz': async () => new Response('ok\n', { headers: FRESH }),
    '/readyz': async () => {
      const readiness = await ready();
      return Response.json(readiness, { status: readiness.isReady ? 200 : 503, headers: FRESH });
    },
  };
  return {
    async fetch({ method, url }) {
      const { pathname } = new URL(url);
      const page = Object.hasOwn(pages, pathname) ? pages[pathname] : undefined;
      if (page === undefined) return refusal(404, `no such page; there are ${Object.keys(pages).join(', ')}`);
      if (method !== 'GET' && method !== 'HEAD') return refusal(405, 'only GET is served');
      return await page();
    },
  };
}

const FRESH = { 'cache-control': 'no-store' };

const refusal = (status: number, why: string): Response =>
  new Response(`${why}\n`, { status, headers: { ...FRESH, allow: 'GET, HEAD' } });
