// Goal: no web page that a browser shows on this machine takes an address or changes the simulator. Method: the real
// Chromium opens pages that try, of another origin and by a name that is rebound to loopback; the log tells that their
// requests came.
import { type SqliteLedger, sqliteLedger } from '../kit/databases/ledgers.ts';
import { browse, startStranger } from '../kit/servers/browser.ts';
import { call } from '../kit/servers/checker.ts';
import { eniName, type OnSite, SUBNET, siteSuite } from '../kit/servers/site.ts';
import { assert } from '../kit/uvu.ts';
import { until } from '../kit/wait.ts';

const ENI = eniName(0);
const EVIL = 'evil.test';
/** Another address of loopback, where the stranger has the ports of our servers. */
const ELSEWHERE = '127.0.0.2';

const ASK = { path: '/IpamDriver.RequestAddress', body: { PoolID: ENI, Address: '' } };
const TAKE = { path: '/simulator/foreign', body: { subnet: SUBNET, ip: '10.0.3.99' } };

/** A page that runs the script and shows what it returns. */
const pageThat = (script: string): string => `<pre id="said"></pre>
<script>(async () => {
  const said = await (async () => { ${script} })();
  document.getElementById('said').textContent = JSON.stringify(said);
})()</script>`;
function saidOn(page: string): unknown {
  const [, said = ''] = /<pre id="said">([^<]*)<\/pre>/.exec(page) ?? [];
  assert.ok(said, page);
  return JSON.parse(said.replaceAll('&gt;', '>').replaceAll('&lt;', '<').replaceAll('&amp;', '&'));
}

type Try = typeof ASK | typeof TAKE;
/** All ways in which the script of a page sends something to another origin. */
const scripted = (url: string, { path, body }: Try): string =>
  pageThat(`
  const target = ${JSON.stringify(url + path)};
  const body = ${JSON.stringify(JSON.stringify(body))};
  const said = [];
  for (const how of [
    { method: 'POST', mode: 'no-cors', body },
    { method: 'POST', body },
    { method: 'POST', headers: { 'content-type': 'application/json' }, body },
    { mode: 'no-cors' },
  ])
    said.push(await fetch(target, how).then(answer => answer.type, () => 'failed'));
  navigator.sendBeacon(target, body);
  return said;`);
const SCRIPTED = 5;

/** A form that sends itself, as text that is JSON. */
const form = (url: string, { path, body }: Try): string => `
<form method="post" enctype="text/plain" action="${url}${path}">
<input name='${JSON.stringify(body).slice(0, -1)},"' value='":0}'></form>
<script>document.forms[0].submit()</script>`;

const pages = siteSuite('web pages in Chromium', () => sqliteLedger(), [ENI]);
type Context = OnSite<SqliteLedger>;

/** What the ledger and the simulator have. */
async function stateOf({ ledger, site }: Context): Promise<unknown> {
  const { enis, faults } = (await (await fetch(`${site.ec2.url}/simulator/state`)).json()) as {
    enis: unknown;
    faults: unknown;
  };
  return { rows: await ledger.rows(), enis, faults };
}
/** How often the server has refused a request with these words. Those that follow within a second are one line. */
function refusals({ site }: Context, says: string): number {
  const lines = site.server?.output().split('\n') ?? [];
  const counts = lines
    .filter(line => line.includes('request refused') && line.includes(says))
    .map(line => Number(/\bcount\W+(\d+)/.exec(line)?.[1] ?? 1));
  return counts.reduce((sum, count) => sum + count, 0);
}

pages('a page of another origin: takes no address, and changes nothing in the simulator', async context => {
  const before = await stateOf(context);
  for (const [url, what] of [
    [context.site.url, ASK],
    [context.site.ec2.url, TAKE],
  ] as const) {
    const opened = async (page: string) => {
      const stranger = await startStranger({ address: ELSEWHERE, port: 0 }, page);
      try {
        return await browse(`http://${EVIL}:${stranger.port}/page`, { [EVIL]: ELSEWHERE });
      } finally {
        stranger.close();
      }
    };
    const said = saidOn(await opened(scripted(url, what)));
    assert.equal(said, ['opaque', 'failed', 'failed', 'opaque'], 'a page cannot read an answer');
    assert.match(await opened(form(url, what)), /the request is from a web page/);
  }
  await until('all attempts', () => refusals(context, 'from a web page') >= SCRIPTED + 1);
  assert.equal(await stateOf(context), before);
});

pages('a page whose name was rebound to loopback: takes no address, and reads nothing', async context => {
  const before = await stateOf(context);
  for (const [url, what, read] of [
    [context.site.url, ASK, '/Plugin.Activate'],
    [context.site.ec2.url, TAKE, '/simulator/state'],
  ] as const) {
    const port = Number(new URL(url).port);
    const page = pageThat(`
      const said = [];
      const post = { method: 'POST', body: ${JSON.stringify(JSON.stringify(what.body))} };
      for (const [path, how] of [[${JSON.stringify(what.path)}, post], [${JSON.stringify(read)}, {}]]) {
        const answer = await fetch(path, how);
        said.push([answer.status, await answer.text()]);
      }
      return said;`);
    const stranger = await startStranger({ address: ELSEWHERE, port }, page, port);
    try {
      const said = saidOn(await browse(`http://${EVIL}:${port}/page`, { [EVIL]: ELSEWHERE })) as string[][];
      assert.equal(
        said.map(([status]) => status),
        [403, 403],
      );
      assert.match(said[0]?.[1] ?? '', /from a web page/);
      assert.match(said[1]?.[1] ?? '', /is not a name of loopback/, 'here only Host tells');
    } finally {
      stranger.close();
    }
  }
  // Chromium asks for an icon too.
  await until('refusals by the name', () => refusals(context, 'is not a name of loopback') > 0);
  assert.equal(await stateOf(context), before);
});

pages('an address that is opened by such a name: shows nothing', async ({ site }) => {
  const shown = await browse(`${site.ec2.url.replace('127.0.0.1', EVIL)}/simulator/state`, {
    [EVIL]: '127.0.0.1',
  });
  assert.match(shown, /is not a name of loopback/);
  assert.not.match(shown, SUBNET);
});

pages('the same requests of another program: are served', async context => {
  const { site, ledger } = context;
  const answer = await call(site.url, 'IpamDriver.RequestAddress', ASK.body);
  assert.is(answer.kind, 'answered', JSON.stringify(answer));
  assert.is((await ledger.rows()).filter(row => row.status === 'allocated').length, 1);
  await site.ec2.tell('POST', TAKE.path.replace('/simulator/', ''), TAKE.body);
});
pages.run();
