// Goal: the pages are loaded when they are looked at, and a server that has none says why. Method: a load that the test
// counts, or has fail as Node does.
import { createLazyPages } from '../../../src/http/admin/pages.ts';
import type { Views } from '../../../src/views/views.ts';
import { inTurns } from '../../kit/turns.ts';
import { assert, suite } from '../../kit/uvu.ts';

const PARTS = { views: {} as Views, version: '1.0.0', log: () => {} };
const REQUEST = new Request('http://127.0.0.1/');

const lazy = suite('pages that are loaded on first use');
lazy('loading: when the first is asked for, and once', async () => {
  let loads = 0;
  const pages = createLazyPages(PARTS, async () => {
    loads++;
    return { createPages: () => ({ fetch: async () => new Response('a page') }) };
  });
  assert.is(loads, 0);
  for (const _ of [1, 2]) assert.is(await (await pages.fetch(REQUEST)).text(), 'a page');
  assert.is(loads, 1);
});

lazy('loading, making and showing them: others go on in between', async () => {
  const steps: string[] = [];
  const pages = createLazyPages(PARTS, async () => {
    steps.push('load');
    return {
      createPages() {
        steps.push('make');
        return {
          async fetch() {
            steps.push('show');
            return new Response('a page');
          },
        };
      },
    };
  });
  await inTurns(
    () => pages.fetch(REQUEST),
    () => steps.push('other'),
  );
  const others = /^(?:other )+load (?:other )+make (?:other )+show/;
  assert.match(steps.join(' '), others);
});

lazy('a load that fails: is an error for who asked, and the next one tries again', async () => {
  let loads = 0;
  const pages = createLazyPages(PARTS, async () => {
    if (++loads === 1) throw new Error('no memory');
    return { createPages: () => ({ fetch: async () => new Response('a page') }) };
  });
  const both = [pages.fetch(REQUEST), pages.fetch(REQUEST)].map(one => one.then(String, String));
  assert.equal(await Promise.all(both), ['Error: no memory', 'Error: no memory']);
  assert.is(await (await pages.fetch(REQUEST)).text(), 'a page');
  assert.is(loads, 2);
});

lazy('Node, from source: says how to see them', async () => {
  const pages = createLazyPages(PARTS, async () => {
    throw Object.assign(new TypeError('.tsx'), { code: 'ERR_UNKNOWN_FILE_EXTENSION' });
  });
  const answer = await pages.fetch(REQUEST);
  assert.is(answer.status, 501);
  assert.match(await answer.text(), 'run `npm run build`');
});
lazy.run();
