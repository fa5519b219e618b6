// Goal: each page shows its view, escapes what comes from outside, and stays small and quick. Method: the pages with
// views that the test gives.
import '../kit/tsx.ts';
import { setImmediate as turn } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';
import { IpamError } from '../../src/domain/error.ts';
import type { Cell } from '../../src/views/shapes.ts';
import type { Views } from '../../src/views/views.ts';
import { inTurns } from '../kit/turns.ts';
import { assert, suite } from '../kit/uvu.ts';
import * as views from './views.ts';

const { createPages } = await import('../../src/pages/pages.tsx');
const { Portions } = await import('../../src/pages/portions.tsx');
const { ICON, SCRIPT, STYLE } = await import('../../src/pages/assets.ts');

const { SUBNET, ENI, HOSTILE } = views;
const SOURCE: Views = {
  overview: async () => views.overview(),
  subnet: async (id, block) =>
    id === SUBNET ? views.map() : id === 'large' && block === null ? views.largeMap() : null,
  address: async address => (address === '10.0.1.5' ? views.address() : null),
  eni: async () => views.eni(),
  hosts: async () => views.hosts(),
  health: async () => views.health(),
  search: async query => views.search(query),
};
const logged: string[] = [];
const open = (more: Partial<Views> = {}) =>
  createPages({ views: { ...SOURCE, ...more }, version: '1.0.0', log: (_, what) => void logged.push(what) });

async function get(path: string, more: Partial<Views> = {}, headers: Record<string, string> = {}) {
  const answer = await open(more).fetch(new Request(`http://127.0.0.1${path}`, { headers }));
  const bytes = Buffer.from(await answer.arrayBuffer());
  const text =
    answer.headers.get('content-encoding') === 'gzip' ? gunzipSync(bytes).toString() : bytes.toString();
  return { status: answer.status, headers: answer.headers, bytes, text };
}

const PATHS = [
  '/',
  `/subnets/${SUBNET}`,
  `/subnets/${SUBNET}/addresses/10.0.1.5`,
  `/enis/${ENI}`,
  '/hosts',
  '/health',
  `/search?q=${encodeURIComponent(HOSTILE)}`,
];

const pages = suite('pages');
for (const path of PATHS) {
  pages(`${path}: escapes what comes from outside, and has no style and script of its own`, async () => {
    const { status, text } = await get(path);
    assert.is(status, 200);
    assert.ok(text.startsWith('<!doctype html>'));
    assert.not.match(text, '<img');
    const tags = text.replace(/="[^"]*"/g, '=');
    assert.not.match(tags, /<[^>]*\s(?:style|on\w+)=|<style|<script(?! src=)/);
    if (path !== '/health') assert.match(text, '&lt;img src=x onerror=');
  });
  pages(`${path}: is not kept by the browser`, async () => {
    assert.is((await get(path)).headers.get('cache-control'), 'no-store');
  });
}

pages('many at once: one of them is shown in a turn of the event loop', async () => {
  let now = 0;
  const shownAt: number[] = [];
  const health = async () => ({
    ...views.health(),
    get runtime() {
      shownAt.push(now);
      return 'node 24';
    },
  });
  const many = () => Promise.all(Array.from({ length: 5 }, () => get('/health', { health })));
  await inTurns(many, turn => {
    now = turn;
  });
  assert.is(shownAt.length, 5);
  assert.is(new Set(shownAt).size, 5, shownAt.join());
});

pages('the map: has a cell for each address, in blocks of sixteen, each told apart by its sign', async () => {
  const { text } = await get(`/subnets/${SUBNET}`);
  assert.is(text.match(/data-ip=/g)?.length, 256);
  assert.is(text.match(/class="block"/g)?.length, 16);
  const shows = (last: number, classes: string, sign: string) =>
    assert.match(text, new RegExp(`<a class="${classes}"[^>]*data-ip="10\\.0\\.1\\.${last}"[^>]*>${sign}<`));
  shows(5, 'cell s-allocated', '●');
  shows(6, 'cell s-ready', '○');
  shows(7, 'cell s-ready resting', '○');
  shows(8, 'cell s-allocated drift', '●');
  shows(11, 'cell s-free resting', '·');
  shows(20, 'cell s-operator', 'R');
  shows(255, 'cell s-reserved', '×');
});

pages('a block of a larger subnet: has the counts of the block', async () => {
  const whole = views.largeMap().subnet;
  const subnet = async () => ({
    ...views.map(),
    subnet: { ...whole, counts: { ...whole.counts, free: 65_000 } },
  });
  const { text } = await get(`/subnets/${SUBNET}?block=10.0.1.0/24`, { subnet });
  assert.match(text, 'data-count="free">243<');
  assert.match(text, `part of <a href="/subnets/${SUBNET}">10.0.0.0/16</a>`);
});

pages('the map: marks the address that was searched for', async () => {
  assert.match((await get(`/subnets/${SUBNET}?at=10.0.1.6`)).text, 'class="cell s-ready found"');
});

pages('a large subnet: opens the block with the address that was searched for', async () => {
  const asked: (string | null)[] = [];
  const subnet = async (_: string, block: string | null) => {
    asked.push(block);
    return block === null ? views.largeMap() : views.map();
  };
  assert.is((await get('/subnets/large?at=10.0.1.6', { subnet })).status, 200);
  assert.equal(asked, [null, '10.0.1.0/24']);
});

pages('a /16: is 256 bars, below 50 kB', async () => {
  const { bytes, text, headers } = await get('/subnets/large', {}, { 'accept-encoding': 'gzip, br' });
  assert.is(headers.get('content-encoding'), 'gzip');
  assert.is(text.match(/\?block=/g)?.length, 256);
  assert.ok(bytes.length < 50_000, `${bytes.length} bytes`);
});

pages('a page with many parts: lets the event loop turn between them', async () => {
  const many = <T>([one]: readonly T[]) => Array.from({ length: 100 }, () => one as T);
  const more: Partial<Views> = {
    overview: async () => views.overview({ problems: many(views.overview().problems) }),
    address: async () => ({ ...views.address(), holdings: many(views.address().holdings) }),
    hosts: async () => ({ ...views.hosts(), hosts: many(views.hosts().hosts) }),
  };
  const paths = [
    `/subnets/${SUBNET}`,
    '/subnets/large',
    '/',
    `/subnets/${SUBNET}/addresses/10.0.1.5`,
    '/hosts',
  ];
  for (const path of paths) {
    let turns = 0;
    let ticker = setImmediate(function tick() {
      turns++;
      ticker = setImmediate(tick);
    });
    await get(path, more);
    clearImmediate(ticker);
    assert.ok(turns >= 8, `${path}: ${turns} turns`);
  }
});

pages('compression: not for who does not take it', async () => {
  for (const accepted of ['', 'br', 'gzip;q=0', 'gzip; q=0.0, br'])
    assert.is(
      (await get('/', {}, { 'accept-encoding': accepted })).headers.get('content-encoding'),
      null,
      accepted,
    );
});

pages('stylesheet, script and icon: are kept for good, by a name that has their hash', async () => {
  const { text } = await get('/');
  for (const { path, type } of [STYLE, SCRIPT, ICON]) {
    assert.match(text, path);
    const { status, headers } = await get(path);
    assert.is(status, 200);
    assert.is(headers.get('content-type'), type);
    assert.match(headers.get('cache-control') ?? '', 'immutable');
  }
});

pages('what there is not: is a page that says so', async () => {
  for (const path of [
    '/nothing',
    '/subnets/unknown',
    `/subnets/${SUBNET}/addresses/10.0.1.99`,
    '/assets/x.css',
  ]) {
    const { status, text } = await get(path);
    assert.is(status, 404, path);
    assert.match(text, 'There is no such page');
  }
});

pages('a time that cannot be: is a dash', async () => {
  const [first, ...others] = views
    .map()
    .cells.map(one => ({ ...one, since: 9e15, missingSince: Number.NaN }));
  const subnet = async () => ({ ...views.map(), cells: [{ ...first, since: -9e15 }, ...others] as Cell[] });
  const map = await get(`/subnets/${SUBNET}`, { subnet });
  assert.is(map.status, 200);
  assert.match(map.text, 'since –, missing since –');
  const found = views.address();
  const address = async () => ({ ...found, now: 9e15, restedSince: 9e15 });
  const { status, text } = await get(`/subnets/${SUBNET}/addresses/10.0.1.5`, { address });
  assert.is(status, 200);
  assert.match(text, /<dt>last released<\/dt><dd>–/);
  assert.match(text, 'read at –');
});

pages(
  'a part that cannot be shown: does not end the server where the rest of its page was given up',
  async () => {
    const unhandled: unknown[] = [];
    const note = (error: unknown) => unhandled.push(error);
    process.on('unhandledRejection', note);
    const show = () => {
      throw new Error('it has no name');
    };
    void Portions({ items: [1], size: 1, show });
    for (const _ of Array(3)) await turn(); // it has failed then
    process.off('unhandledRejection', note);
    assert.equal(unhandled, []);
  },
);

pages('an EC2 call without a result: is not told to be waiting for one', async () => {
  const found = views.address();
  const address = async () => ({ ...found, calls: found.calls.map(one => ({ ...one, result: null })) });
  const { text } = await get(`/subnets/${SUBNET}/addresses/10.0.1.5`, { address });
  assert.match(text, '<td>none noted</td>');
});

pages('an address that was held very often: shows the last hundred holdings', async () => {
  const found = views.address();
  const [holding] = found.holdings;
  const held = async (count: number) => {
    const holdings = Array.from({ length: count }, () => holding as (typeof found.holdings)[number]);
    const { text } = await get(`/subnets/${SUBNET}/addresses/10.0.1.5`, {
      address: async () => ({ ...found, holdings }),
    });
    return { shown: text.match(/<tr><th scope="row"><bdi>/g)?.length, more: /There are more/.test(text) };
  };
  assert.equal(await held(100), { shown: 100, more: false });
  assert.equal(await held(101), { shown: 100, more: true });
});

const SHORT = views.CONTAINER.slice(0, 12);
for (const [path, where] of [
  [`/subnets/${SUBNET}/addresses/10.0.1.5`, 'Now'],
  [`/subnets/${SUBNET}/addresses/10.0.1.5`, 'Who had it'],
  [`/enis/${ENI}`, 'What moved last'],
] as const)
  pages(`${path}, ${where}: has the id of the container as Docker shows it, behind its name`, async () => {
    const { text } = await get(path);
    const [, part = ''] = text.split(`aria-label="${where}"`);
    const [section = ''] = part.split('</section>');
    assert.match(section, `</bdi> <span class="mono soft" title="${views.CONTAINER}">${SHORT}</span>`);
  });

pages('the map of an ENI: says the id of the container that has an address', async () => {
  const { text } = await get(`/enis/${ENI}`);
  assert.match(text, `container id ${SHORT}`);
  assert.match(text, `[&quot;container id&quot;,&quot;${SHORT}&quot;]`);
});

pages('a container of which the id alone is known: is told by that', async () => {
  const found = views.address();
  const holdings = found.holdings.map(one => ({ ...one, container: null }));
  const path = `/subnets/${SUBNET}/addresses/10.0.1.5`;
  const { text } = await get(path, { address: async () => ({ ...found, holdings }) });
  assert.match(
    text,
    `<th scope="row"><span class="mono soft" title="${views.CONTAINER}">${SHORT}</span></th>`,
  );
  const nothing = holdings.map(one => ({ ...one, containerId: null }));
  const without = await get(path, { address: async () => ({ ...found, holdings: nothing }) });
  assert.match(without.text, '<th scope="row">–</th>');
});

pages('/health: has the version of each server, as far as it is known', async () => {
  const { text } = await get('/health');
  assert.match(text, /abcd1234 \(this one\)<\/th><td>1\.0\.0<\/td>/);
  assert.match(text, /dead1234<\/th><td>–<\/td>/);
});

pages('a page that has nothing yet: has a place for each part that comes', async () => {
  const none: Partial<Views> = {
    overview: async () => views.overview({ problems: [], subnets: [], reserved: [] }),
    address: async () => ({ ...views.address(), holdings: [], calls: [] }),
    eni: async () => ({ ...views.eni(), addresses: [], moves: [], calls: [] }),
    hosts: async () => ({ ...views.hosts(), hosts: [], tenants: [] }),
  };
  const places = (text: string) =>
    [...text.matchAll(/data-fresh="([^"]*)"|data-map/g)].map(([all]) => all).filter(one => !/bar-/.test(one));
  for (const path of ['/', `/subnets/${SUBNET}/addresses/10.0.1.5`, `/enis/${ENI}`, '/hosts'])
    assert.equal(places((await get(path, none)).text), places((await get(path)).text), path);
});

const failing = (error: Error) => ({
  overview: async () => {
    throw error;
  },
});
pages('a bad address, a store that is away: say so in one line', async () => {
  const bad = await get('/', failing(new IpamError('bad-request', `"${HOSTILE}" is no subnet`)));
  assert.is(bad.status, 400);
  assert.match(bad.text, '&quot; is no subnet');
  const { status, text } = await get('/', failing(new IpamError('store-down', 'it is away')));
  assert.is(status, 503);
  assert.match(text, / data-every="5000"/);
});

pages('a bug: is logged, and not shown', async () => {
  logged.length = 0;
  const { status, text } = await get('/', failing(new Error('SELECT secret')));
  assert.is(status, 500);
  assert.not.match(text, 'SELECT');
  assert.equal(logged, ['page not made']);
});
pages.run();
