/** What all pages have: head, navigation, search, foot. */
import { raw } from 'hono/html';
import type { Child } from 'hono/jsx';
import { QUERY_CHARS_MAX } from '../views/search.ts';
import { ICON, SCRIPT, STYLE } from './assets.ts';
import { utc } from './time.ts';

export interface Frame {
  readonly title: string;
  /** The path of the page in the navigation that this one belongs to. */
  readonly nav?: string;
  /** The words in the search box. */
  readonly query?: string;
  /** When what it shows was read, by the ledger's clock. */
  readonly now?: number;
  /** The events that the script follows. */
  readonly live?: string;
  /** How often the script fetches the page anew; undefined: never. */
  readonly everyMs?: number;
  readonly version: string;
}

const NAV = [
  ['/', 'Overview'],
  ['/hosts', 'Hosts'],
  ['/health', 'Health'],
] as const;

export const Layout = ({ frame, children }: { frame: Frame; children?: Child }) => (
  <>
    {raw('<!doctype html>')}
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>{frame.title} · ec2-ipam</title>
        <link rel="icon" href={ICON.path} />
        <link rel="stylesheet" href={STYLE.path} />
        <script src={SCRIPT.path} defer></script>
      </head>
      <body data-live={frame.live} data-every={frame.everyMs} data-now={frame.now}>
        <a class="skip" href="#main">
          Skip to the content
        </a>
        <header class="top">
          <div>
            <a class="brand" href="/">
              ec2-ipam
            </a>
            <nav aria-label="Pages">
              <ul>
                {NAV.map(([path, name]) => (
                  <li>
                    <a href={path} aria-current={frame.nav === path ? 'page' : undefined}>
                      {name}
                    </a>
                  </li>
                ))}
              </ul>
            </nav>
            <search>
              <form class="search" action="/search">
                <input
                  type="search"
                  name="q"
                  value={frame.query}
                  maxlength={QUERY_CHARS_MAX}
                  aria-label="Search"
                  placeholder="address, ENI, instance, container"
                />
                <button type="submit">Search</button>
              </form>
            </search>
          </div>
        </header>
        <main id="main" tabindex={-1}>
          {children}
        </main>
        <footer data-fresh="foot">
          ec2-ipam {frame.version}
          {frame.now === undefined ? '' : `, read at ${utc(frame.now)}`}
        </footer>
      </body>
    </html>
  </>
);
