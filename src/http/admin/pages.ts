/** The pages, loaded when the first one is asked for: a server that nobody looks at needs no memory for them. That takes
 *  some milliseconds, between which the requests of Docker go on. */
import { once } from '../../domain/once.ts';
import { nextTurn } from '../../store/next-turn.ts';

type Pages = typeof import('../../pages/pages.tsx');

interface PagesApp {
  fetch(request: Request): Promise<Response>;
}

export function createLazyPages(
  parts: Parameters<Pages['createPages']>[0],
  load: () => Promise<Pages> = () => import('../../pages/pages.tsx'),
): PagesApp {
  const loaded = once(async (): Promise<PagesApp> => {
    try {
      await nextTurn();
      const { createPages } = await load();
      await nextTurn();
      const pages = createPages(parts);
      await nextTurn();
      return pages;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ERR_UNKNOWN_FILE_EXTENSION') return FROM_SOURCE;
      throw error;
    }
  });
  return { fetch: async request => await (await loaded()).fetch(request) };
}

/** Bun and Deno load .tsx, Node does not. */
const FROM_SOURCE: PagesApp = {
  fetch: async () =>
    new Response('Node cannot show the pages from source: run `npm run build`, then dist/ec2-ipam.mjs\n', {
      status: 501,
    }),
};
