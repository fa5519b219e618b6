/** The real Chromium on the pages of a server, and axe, which looks for what keeps people from using them. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import axe from 'axe-core';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { ROOT } from '../../../scripts/tiers.ts';

/** On a machine that does much else. */
const WAIT_MS = 30_000;
const SCREENSHOTS = join(ROOT, 'node_modules/.cache/screenshots');

/** How people look at a page. Nothing moves for them by itself, so that axe and the pictures see it at rest. */
const WAYS = {
  light: { colorScheme: 'light', viewport: { width: 1280, height: 900 } },
  dark: { colorScheme: 'dark', viewport: { width: 1280, height: 900 } },
  phone: { colorScheme: 'light', viewport: { width: 390, height: 844 } },
  'without script': { javaScriptEnabled: false, viewport: { width: 1280, height: 900 } },
} as const satisfies Record<string, BrowserContextOptions>;
type Way = keyof typeof WAYS;

export interface PageBrowser {
  /** Opens the address; returns what `use` returns. The page is closed then. Fails when the page has complained: of an
   *  error in its script, of what its policy forbids, of a dialog that a name has opened. */
  look<T>(url: string, way: Way, use: (page: Page) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

export async function openPageBrowser(): Promise<PageBrowser> {
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: ['--no-sandbox'], // it does not start as root otherwise
  });
  return {
    look: (url, way, use) => look(browser, url, way, use),
    close: () => browser.close(),
  };
}

async function look<T>(browser: Browser, url: string, way: Way, use: (page: Page) => Promise<T>): Promise<T> {
  const context = await browser.newContext({ ...WAYS[way], reducedMotion: 'reduce' });
  context.setDefaultTimeout(WAIT_MS);
  const complaints: string[] = [];
  try {
    const page = await context.newPage();
    page.on('pageerror', error => complaints.push(String(error)));
    page.on('dialog', dialog => {
      complaints.push(`a dialog says ${dialog.message()}`);
      void dialog.dismiss();
    });
    page.on('console', message => {
      if (/Content.Security.Policy/i.test(message.text())) complaints.push(message.text());
    });
    await page.goto(url);
    const result = await use(page);
    if (complaints.length > 0) throw new Error(`${url} complains: ${complaints.join('\n')}`);
    return result;
  } finally {
    await context.close();
  }
}

/** What axe finds, a line each. */
export async function axeComplaints(page: Page): Promise<string[]> {
  await page.evaluate(axe.source); // a script element is what the page's policy forbids
  const { violations } = await page.evaluate(() =>
    (globalThis as unknown as { axe: { run(): Promise<axe.AxeResults> } }).axe.run(),
  );
  return violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(node => node.html).join(' ')}`);
}

/** Whether the page is wider than the window. */
export const isTooWide = (page: Page): Promise<boolean> =>
  page.evaluate('document.documentElement.scrollWidth > innerWidth');

/** Keeps a picture of the window, to be looked at after the tests. */
export async function keepPicture(page: Page, name: string): Promise<void> {
  mkdirSync(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
}
