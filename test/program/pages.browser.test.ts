// Goal: who looks at the pages sees what happens, with a mouse, with keys, on a phone, in the dark, and without scripts;
// names of containers are never markup. Method: the real Chromium and axe on two servers of one MariaDB, whose
// clients start and stop containers.
import type { Page } from 'playwright-core';
import { openGate } from '../kit/databases/gate.ts';
import { type MariaLedger, mariaLedger } from '../kit/databases/ledgers.ts';
import { byLength } from '../kit/length.ts';
import { startBundle } from '../kit/servers/bundle.ts';
import { call } from '../kit/servers/checker.ts';
import {
  axeComplaints,
  isTooWide,
  keepPicture,
  openPageBrowser,
  type PageBrowser,
} from '../kit/servers/page-browser.ts';
import { freePort } from '../kit/servers/process.ts';
import { eniName, INSTANCE, type OnSite, Site, SUBNET } from '../kit/servers/site.ts';
import { assert, suite } from '../kit/uvu.ts';

const ENIS = [0, 1].map(eniName);
const [ENI = ''] = ENIS;
const HOSTILE = `<img src=x onerror="alert(1)">`;
const BLOCK = '10.0.0.0/24';
const MAP = `/subnets/${SUBNET}?block=${BLOCK}`;
const CLIENTS = 4;
/** Longer than a page goes without hearing anything. */
const SILENT_MS = 60_000;

interface Context extends OnSite<MariaLedger> {
  readonly other: Site;
  /** Their pages. */
  readonly at: string;
  readonly atOther: string;
  readonly browser: PageBrowser;
}
const pages = suite<Context>('pages in Chromium');
pages.before(async context => {
  const ledger = await mariaLedger();
  const [at, atOther] = [`http://127.0.0.1:${await freePort()}`, `http://127.0.0.1:${await freePort()}`];
  const settings = (admin: string) => ({ EC2_IPAM_ADMIN_LISTEN: admin, EC2_IPAM_HISTORY: 'on' });
  const site = await Site.open(ledger, ENIS.length, settings(at));
  const other = await site.beside(settings(atOther));
  Object.assign(context, { ledger, site, other, at, atOther, browser: await openPageBrowser() });
  await site.start();
  await other.start();
  await site.makeNetworks(ENIS);
});
pages.after(async ({ ledger, site, browser }) => {
  await browser?.close();
  await site?.close();
  await ledger?.close();
});

/** A container of the name, at the address if one is named; returns the address. */
async function start({ url }: Site, name: string, Address = ''): Promise<string> {
  const body = { PoolID: ENI, Address, Options: { 'com.docker.network.endpoint.name': name } };
  const answer = await call(url, 'IpamDriver.RequestAddress', body);
  if (answer.kind !== 'answered') throw new Error(JSON.stringify(answer));
  return answer.address.replace(/\/.*/, '');
}
async function stop({ url }: Site, address: string): Promise<void> {
  const answer = await call(url, 'IpamDriver.ReleaseAddress', { PoolID: ENI, Address: address });
  assert.is(answer.kind, 'answered');
}

/** Also a window of 1280 that is enlarged four times, as WCAG 1.4.10 asks for. */
const SMALLEST = { width: 320, height: 640 };
const WAYS = ['light', 'dark', 'phone'] as const;
/** The ways in which axe looks at the page. */
const waysOf = byLength<(name: string) => readonly (typeof WAYS)[number][]>({
  full: () => WAYS,
  short: name => (name === 'map' ? ['light', 'dark'] : [name === 'bars' ? 'light' : 'phone']),
  leftOut: 'axe on the overview but on a phone, on bars but in light, on the map on a phone',
});

const cell = (page: Page, address: string) => page.locator(`a[data-ip="${address}"]`);
const says = (page: Page, word: string) => page.locator('#live', { hasText: word }).waitFor();
/** Waits until the cell has the status, and these words in its label. */
const shows = (page: Page, address: string, status: string, words = ': ') =>
  page.locator(`a.s-${status}[data-ip="${address}"][aria-label*="${words}"]`).waitFor();

pages(
  'each page: has nothing that axe finds, in light, in the dark, on a phone, under load',
  async context => {
    const { site, other, at, browser } = context;
    const ip = await start(site, HOSTILE, '10.0.0.200');
    await site.run('hold', '10.0.0.40-10.0.0.43', '--why', HOSTILE);
    const paths = {
      overview: '/',
      bars: `/subnets/${SUBNET}`,
      map: MAP,
      ...byLength<Record<string, string>>({
        full: {
          bars: `/subnets/${SUBNET}`,
          address: `/subnets/${SUBNET}/addresses/${ip}`,
          eni: `/enis/${ENI}`,
          hosts: '/hosts',
          health: '/health',
          search: '/search?q=img',
          none: '/nothing',
        },
        short: {},
        leftOut: 'axe on pages other than the overview and the map',
      }),
    };
    const looking = (async () => {
      for (const [name, path] of Object.entries(paths))
        for (const way of waysOf(name))
          await browser.look(at + path, way, async page => {
            assert.equal(await axeComplaints(page), [], `${name}, ${way}`);
            assert.not.ok(await isTooWide(page), `${name}, ${way}`);
            await keepPicture(page, `${name}-${way}`);
            if (way !== 'phone') return;
            await page.setViewportSize(SMALLEST);
            assert.not.ok(await isTooWide(page), `${name}, on the smallest phone`);
          });
    })();
    looking.catch(() => {}); // it is awaited below
    await site.checker.load(CLIENTS, [site.url, other.url], ENIS, looking);
    await looking;
    assert.equal(site.checker.wrongs, []);
    await stop(site, ip);
  },
);

pages(
  'the map: shows what this server and another do, in place, and counts it',
  async ({ site, other, at, browser }) => {
    await browser.look(at + MAP, 'light', async page => {
      await says(page, 'live');
      const counted = async () => Number(await page.locator('[data-count="allocated"]').textContent());
      const before = await counted();
      for (const [server, address] of [
        [site, '10.0.0.201'],
        [other, '10.0.0.202'],
      ] as const) {
        await start(server, 'web', address);
        await shows(page, address, 'allocated', 'container web');
      }
      await page.locator('[data-count="allocated"]', { hasText: String(before + 2) }).waitFor();
      for (const [server, address] of [
        [site, '10.0.0.202'],
        [other, '10.0.0.201'],
      ] as const) {
        await stop(server, address);
        await shows(page, address, 'ready');
      }
    });
  },
);

pages(
  'a page that is fetched again, but is from before what moved: is fetched once more',
  async ({ site, at, browser }) => {
    await browser.look(at + MAP, 'light', async page => {
      let old = '';
      let mustBeOld = false;
      await page.route(at + MAP, async route => {
        if (route.request().resourceType() === 'document') {
          old = await (await route.fetch()).text();
          // Nothing is fetched for the time alone.
          await route.fulfill({
            body: old.replace(/ data-every="\d+"/, ''),
            contentType: 'text/html; charset=utf-8',
          });
        } else if (mustBeOld) {
          mustBeOld = false;
          await route.fulfill({ body: old, contentType: 'text/html; charset=utf-8' });
        } else await route.continue();
      });
      const refreshed = page.waitForResponse(answer => answer.request().resourceType() === 'fetch');
      await page.reload();
      await refreshed; // as the stream has begun
      const allocated = page.locator('[data-count="allocated"]').first();
      const before = Number(await allocated.textContent());
      mustBeOld = true;
      await start(site, 'web', '10.0.0.207');
      await shows(page, '10.0.0.207', 'allocated', 'container web');
      await page
        .locator('[data-count="allocated"]', { hasText: String(before + 1) })
        .first()
        .waitFor();
      assert.is(mustBeOld, false);
    });
    await stop(site, '10.0.0.207');
  },
);

pages(
  'a server that is started again: the page says so, comes back, and has what it missed',
  async context => {
    const { site, other, at, browser } = context;
    await browser.look(at + MAP, 'light', async page => {
      await says(page, 'live');
      await site.kill9();
      await says(page, 'reconnecting');
      await start(other, 'meanwhile', '10.0.0.203');
      await site.start();
      await says(page, 'live');
      await shows(page, '10.0.0.203', 'allocated', 'container meanwhile');
      await start(site, 'later', '10.0.0.204');
      await shows(page, '10.0.0.204', 'allocated', 'container later');
    });
    for (const address of ['10.0.0.203', '10.0.0.204']) await stop(site, address);
  },
);

pages(
  'a connection that ends without a word, as while a laptop sleeps: is noticed, and made anew',
  async ({ site, at, browser }) => {
    const gate = await openGate(Number(new URL(at).port));
    await browser.look(`http://127.0.0.1:${gate.port}${MAP}`, 'light', async page => {
      await page.clock.install();
      await page.reload();
      await says(page, 'live');
      gate.blackHole(true);
      await page.clock.fastForward(SILENT_MS);
      await says(page, 'reconnecting');
      await start(site, 'asleep', '10.0.0.209');
      gate.blackHole(false);
      await page.clock.fastForward(SILENT_MS);
      await shows(page, '10.0.0.209', 'allocated', 'container asleep');
      await says(page, 'live');
    });
    await gate.close();
    await stop(site, '10.0.0.209');
  },
);

pages(
  'a page that cannot be read anew: says so until it can, and one that is no more ends',
  async context => {
    const { site, at, browser } = context;
    await browser.look(at + MAP, 'light', async page => {
      await says(page, 'live');
      let status = 503;
      await page.route(at + MAP, route => route.fulfill({ status, body: `<h1>status ${status}</h1>` }));
      const ip = await start(site, 'unread');
      await says(page, 'not up to date');
      await page.unrouteAll({ behavior: 'wait' });
      await says(page, 'live');
      status = 404;
      await page.route(at + MAP, route =>
        route.fulfill({ status, contentType: 'text/html', body: '<h1>Gone</h1>' }),
      );
      await stop(site, ip);
      await page.locator('h1', { hasText: 'Gone' }).waitFor();
    });
  },
);

pages('a page whose title the browser has translated: goes on, and is not loaded anew', async context => {
  const { site, at, browser } = context;
  await browser.look(at + MAP, 'light', async page => {
    await says(page, 'live');
    await page.evaluate("document.title = 'Carte'; globalThis.isSame = true");
    const readAnew = () => page.waitForResponse(at + MAP);
    const [ip] = await Promise.all([start(site, 'translated'), readAnew()]);
    // Were the page loaded anew, this would be its own answer.
    await Promise.all([stop(site, ip), readAnew()]);
    assert.is(await page.evaluate('globalThis.isSame'), true);
  });
});

pages('a page that is opened while the ledger is away: comes when it is back', async ({ at, browser }) => {
  await browser.look(at + MAP, 'light', async page => {
    await page.route(at + MAP, async route => {
      const text = await (await route.fetch()).text();
      const body = text
        .replace(/<title>.*?<\/title>/, '<title>Away</title>')
        .replace(/<main[\s\S]*<\/main>/, '<main><h1>Away</h1></main>')
        .replace(/ data-live="[^"]*" data-every="\d+"/, ' data-every="1000"');
      await route.fulfill({ status: 503, contentType: 'text/html; charset=utf-8', body });
    });
    await page.reload();
    await page.locator('h1', { hasText: 'Away' }).waitFor();
    await page.unrouteAll({ behavior: 'wait' });
    await says(page, 'live');
    await cell(page, '10.0.0.200').waitFor();
  });
});

pages('an ENI: gets the cells of addresses that come, and loses those that go', async context => {
  const { site, at, browser } = context;
  await start(site, 'stays', '10.0.0.207');
  await browser.look(`${at}/enis/${ENI}`, 'light', async page => {
    await says(page, 'live');
    await cell(page, '10.0.0.207').focus();
    await start(site, 'comes', '10.0.0.210');
    await shows(page, '10.0.0.210', 'allocated', 'container comes');
    assert.is(await page.evaluate('document.activeElement.dataset.ip'), '10.0.0.207');
    assert.match((await page.locator('[data-details]').textContent()) ?? '', /stays/);
    await cell(page, '10.0.0.210').focus();
    assert.match((await page.locator('[data-details]').textContent()) ?? '', /comes/);
    await page.locator('[data-fresh="calls"] tr', { hasText: '10.0.0.210' }).waitFor();
    await stop(site, '10.0.0.210');
    await shows(page, '10.0.0.210', 'ready');
    await site.run('recycle', SUBNET, '--idle', '0s', '--limit', '10000');
    await cell(page, '10.0.0.210').waitFor({ state: 'detached' });
    await shows(page, '10.0.0.207', 'allocated', 'container stays');
  });
  await stop(site, '10.0.0.207');
});

/** What the browser does when another tab is shown, and when this one is again. */
const setSeen = (page: Page, state: 'hidden' | 'visible') =>
  page.evaluate(`
    Object.defineProperty(document, 'visibilityState', { configurable: true, value: '${state}' });
    document.dispatchEvent(new Event('visibilitychange'));
  `);

pages('tabs that nobody sees: hold no connection, and have what they missed when seen', async context => {
  const { site, at, browser } = context;
  await browser.look(at + MAP, 'light', async first => {
    // Chromium has six connections to a server.
    for (let tab = 1; tab <= 6; tab++) {
      const page = tab === 1 ? first : await first.context().newPage();
      if (tab > 1) await page.goto(at + MAP);
      await says(page, 'live');
      await setSeen(page, 'hidden');
    }
    const seen = await first.context().newPage();
    await seen.goto(at + MAP);
    await says(seen, 'live');
    await start(site, 'unseen', '10.0.0.208');
    await shows(seen, '10.0.0.208', 'allocated', 'container unseen');
    assert.is(await cell(first, '10.0.0.208').textContent(), '·');
    await setSeen(first, 'visible');
    await shows(first, '10.0.0.208', 'allocated', 'container unseen');
  });
  await stop(site, '10.0.0.208');
});

pages(
  'the search: finds a container, an instance and an address, and leads to the map',
  async ({ site, at, browser }) => {
    await start(site, 'needle-1', '10.0.0.205');
    await browser.look(at, 'light', async page => {
      const search = async (words: string) => {
        await page.getByRole('searchbox').fill(words);
        await page.keyboard.press('Enter');
        await page.getByRole('heading', { name: 'Search' }).waitFor();
      };
      for (const words of ['10.0.0.205', INSTANCE, ENI, 'needle']) {
        await search(words);
        await page.locator('tbody tr').first().waitFor();
      }
      await page.getByRole('link', { name: 'show it' }).click();
      await page.locator('a.found[data-ip="10.0.0.205"]').waitFor();
      assert.match((await page.locator('[data-details]').textContent()) ?? '', /needle-1/);
    });
    await stop(site, '10.0.0.205');
  },
);

pages('the keyboard: goes through the cells, and into one', async ({ site, at, browser }) => {
  await start(site, HOSTILE, '10.0.0.17');
  await browser.look(at + MAP, 'light', async page => {
    await cell(page, '10.0.0.0').focus();
    const isAt = async (address: string) => {
      assert.is(await page.evaluate('document.activeElement.dataset.ip'), address);
      assert.is(await page.locator('[data-details] h2').textContent(), address);
    };
    const keys = {
      ArrowDown: '10.0.0.16',
      ArrowRight: '10.0.0.17',
      End: '10.0.0.31',
      Home: '10.0.0.16',
      ArrowUp: '10.0.0.0',
      ArrowLeft: '10.0.0.0',
    };
    for (const [key, address] of Object.entries(keys)) {
      await page.keyboard.press(key);
      await isAt(address);
    }
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('ArrowRight');
    assert.match((await page.locator('[data-details]').textContent()) ?? '', HOSTILE);
    // The cells are one stop: the next leads out of them.
    await page.keyboard.press('Tab');
    assert.is(await page.evaluate('document.activeElement.dataset.ip'), undefined);
    await page.keyboard.press('Shift+Tab');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: '10.0.0.17' }).waitFor();
    await page.getByRole('row').filter({ hasText: HOSTILE }).waitFor();
  });
  await stop(site, '10.0.0.17');
});

pages('without scripts: all of it is there, and links lead to it', async ({ site, at, browser }) => {
  await start(site, HOSTILE, '10.0.0.206');
  await browser.look(at, 'without script', async page => {
    await page.getByRole('link', { name: '10.0.0.0/22' }).click();
    await page.getByRole('link', { name: BLOCK }).click();
    await page.getByRole('link', { name: `10.0.0.206: allocated, container ${HOSTILE}` }).click();
    await page.getByRole('heading', { name: '10.0.0.206' }).waitFor();
    await page.getByRole('link', { name: ENI }).first().click();
    await page.getByRole('heading', { name: ENI }).waitFor();
    await page.getByRole('searchbox').fill('img');
    await page.getByRole('button', { name: 'Search' }).click();
    assert.match((await page.locator('tbody').textContent()) ?? '', HOSTILE);
  });
  await stop(site, '10.0.0.206');
});
pages('the demo: has a page on which containers come and go', async ({ browser }) => {
  const where = /come and go now:\n +(http:\S+)/;
  const demo = await startBundle(['demo', '--port', '0', '--page-port', '0'], {}, where);
  try {
    const [, url = ''] = await demo.says(where);
    await browser.look(url, 'light', async page => {
      await says(page, 'live');
      await page.getByRole('link', { name: '10.0.1.0/24' }).click();
      const build = page.locator('a.s-allocated[aria-label*="container build"]');
      await build.waitFor();
      await build.waitFor({ state: 'detached' });
      await build.waitFor();
    });
    assert.is(await demo.stop(), 0);
  } finally {
    await demo.kill9();
  }
});
pages.run();
