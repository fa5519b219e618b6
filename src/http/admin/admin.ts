/** What the admin listener serves: whether the process and its ledger work, the metrics, the API and the pages. */
import { Hono } from 'hono';
import { IpamError } from '../../domain/error.ts';
import type { Store } from '../../store/store.ts';
import { kept, within } from '../../views/parts/kept.ts';
import type { Listener } from '../listener/listen.ts';
import { adminGuard } from './admin-guard.ts';

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
  let wasRight = false;
  async function ask(): Promise<string> {
    try {
      const outdated = await store.outdated();
      wasRight ||= outdated === null;
      // Then only a newer server has changed it, beside which this one works on.
      return wasRight ? 'ok' : (outdated ?? 'ok');
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

/** A Hono app, or anything with its `fetch`. It is loaded when somebody asks for it first. */
type Lazily = () => Promise<{ fetch(request: Request, bindings?: object): Response | Promise<Response> }>;

export interface AdminParts {
  readonly kind: Listener['kind'];
  readonly ready: () => Promise<Readiness>;
  readonly metrics: { readonly contentType: string; text(): Promise<string> };
  /** Everything under /api/. */
  readonly api: Lazily;
  /** What people look at: everything else. */
  readonly pages: { fetch(request: Request): Promise<Response> };
}

export function createAdminApp({ kind, ready, metrics, api, pages }: AdminParts): Hono {
  const app = new Hono();
  app.use(adminGuard(kind));
  app.get('/healthz', c => c.text('ok\n'));
  app.get('/readyz', async c => {
    const readiness = await ready();
    return c.json(readiness, readiness.isReady ? 200 : 503);
  });
  app.get('/metrics', async c => c.body(await metrics.text(), 200, { 'content-type': metrics.contentType }));
  app.get('/api/*', async c => await (await api()).fetch(c.req.raw, c.env as object));
  app.get('*', async c => await pages.fetch(c.req.raw));
  return app;
}
