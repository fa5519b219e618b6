/** The pages that people look at: read-only, the same with and without the script. */
import { type Context, Hono } from 'hono';
import type { Child } from 'hono/jsx';
import { isError } from '../domain/error.ts';
import type { Log } from '../domain/log.ts';
import { nextTurn } from '../store/next-turn.ts';
import { QUERY_CHARS_MAX } from '../views/search.ts';
import type { Views } from '../views/views.ts';
import { AddressPage } from './address-page.tsx';
import { ICON, SCRIPT, STYLE } from './assets.ts';
import { EniPage } from './eni-page.tsx';
import { HealthPage } from './health-page.tsx';
import { HostsPage } from './hosts-page.tsx';
import { type Frame, Layout } from './layout.tsx';
import { OverviewPage } from './overview-page.tsx';
import { respond } from './respond.ts';
import { SearchPage } from './search-page.tsx';
import { SubnetPage } from './subnet-page.tsx';

interface Parts {
  readonly views: Views;
  readonly version: string;
  readonly log: Log;
}
/** What one page shows. */
interface Page {
  readonly frame: Omit<Frame, 'version'>;
  readonly content: Child;
}
/** Returns null where there is no such thing. */
type Show = (context: Context) => Promise<Page | null>;

const HTML = 'text/html; charset=utf-8';

/** Serves all paths that are not the API's, stylesheet and script too. It never throws. */
export function createPages({ views, version, log }: Parts): { fetch(request: Request): Promise<Response> } {
  const app = new Hono();
  const send = async ({ req }: Context, status: number, { frame, content }: Page): Promise<Response> => {
    await nextTurn(); // others may have the same reading in this one
    const page = <Layout frame={{ ...frame, version }}>{content}</Layout>;
    return await respond(req.raw, { status, type: HTML, text: String(await page.toString()) });
  };
  const serve = (path: string, show: Show) =>
    app.get(path, async context => {
      const page = await show(context);
      return page === null ? await send(context, 404, NOT_FOUND) : await send(context, 200, page);
    });

  serve('/', async () => {
    const view = await views.overview();
    return {
      frame: { title: 'Overview', nav: '/', ...movingWith(view) },
      content: <OverviewPage view={view} />,
    };
  });
  serve('/subnets/:id', async ({ req }) => {
    const found = req.query('at') ?? null;
    const map = await mapOf(views, req.param('id') ?? '', req.query('block') ?? null, found);
    if (map === null) return null;
    const title = map.block ?? map.subnet.cidr;
    return {
      frame: { title, nav: '/', ...movingWith(map, map.subnet.id) },
      content: <SubnetPage map={map} found={found} />,
    };
  });
  serve('/subnets/:id/addresses/:address', async ({ req }) => {
    const view = await views.address(req.param('address') ?? '', req.param('id') ?? '');
    if (view === null) return null;
    const { address: title } = view.cell;
    return {
      frame: { title, nav: '/', ...movingWith(view, view.cell.subnet) },
      content: <AddressPage view={view} />,
    };
  });
  serve('/enis/:id', async ({ req }) => {
    const view = await views.eni(req.param('id') ?? '');
    if (view === null) return null;
    return {
      frame: { title: view.id, nav: '/', ...movingWith(view, view.subnet) },
      content: <EniPage view={view} />,
    };
  });
  serve('/hosts', async () => {
    const view = await views.hosts();
    const frame = { title: 'Hosts', nav: '/hosts', now: view.now, everyMs: SOON_MS };
    return { frame, content: <HostsPage view={view} /> };
  });
  serve('/health', async () => {
    const view = await views.health();
    const frame = { title: 'Health', nav: '/health', now: view.now, everyMs: SOON_MS };
    return { frame, content: <HealthPage view={view} /> };
  });
  serve('/search', async ({ req }) => {
    const query = (req.query('q') ?? '').trim().slice(0, QUERY_CHARS_MAX);
    const view = query === '' ? { query, found: [], hasMore: false } : await views.search(query);
    return { frame: { title: 'Search', query }, content: <SearchPage view={view} /> };
  });
  for (const { path, type, text } of [STYLE, SCRIPT, ICON])
    app.get(path, ({ req }) => respond(req.raw, { status: 200, type, text, isForGood: true }));

  app.notFound(context => send(context, 404, NOT_FOUND));
  app.onError(async (error, context) => {
    if (isError(error, 'bad-request'))
      return await send(context, 400, failure('The request cannot be answered', error.line));
    if (isError(error, 'store-down', 'unavailable'))
      return await send(context, 503, failure('The ledger cannot be read now', error.line, SOON_MS));
    log('error', 'page not made', { error });
    return await send(context, 500, failure('The page could not be made', 'The log of the server says why.'));
  });
  return { fetch: async request => await app.fetch(request) };
}

/** How often a page is fetched anew that follows events, for what happens without one; and one that does not. */
const SELDOM_MS = 30_000;
const SOON_MS = 5000;

/** What is to be fetched anew when something moves: in the subnet, or anywhere. */
function movingWith(view: { readonly now: number; readonly lastEvent: string }, subnet?: string) {
  const query = new URLSearchParams({ after: view.lastEvent, ...(subnet === undefined ? {} : { subnet }) });
  return { now: view.now, live: `/api/v1/events?${query}`, everyMs: SELDOM_MS };
}

/** Where an address was searched for in a subnet that is too large for one page: the /24 with that address. */
async function mapOf(views: Views, id: string, block: string | null, found: string | null) {
  const map = await views.subnet(id, block);
  if (map === null || map.block !== null || found === null) return map;
  return await views.subnet(id, found.replace(/\.\d+$/, '.0/24'));
}

/** `everyMs`: how often it is tried again; undefined: never. */
const failure = (title: string, line: string, everyMs?: number): Page => ({
  frame: { title, ...(everyMs === undefined ? {} : { everyMs }) },
  content: (
    <>
      <h1>{title}</h1>
      <p>{line}</p>
    </>
  ),
});
const NOT_FOUND: Page = failure('There is no such page', 'The ledger has nothing of this name.');
