// Goal: no listener serves a web page, and each serves dockerd. Method: requests as bytes on each transport, with the
// headers of a browser and of dockerd; what a browser really sends: test/program/web-page.browser.test.ts.
import { once } from 'node:events';
import { type Listening, listen } from '../../../src/http/listener/listen.ts';
import { bodyOf, exchange, statusOf } from '../../kit/servers/raw-http.ts';
import { LOCAL, PLAIN, suiteWithFolders, TLS, type Transport } from '../../kit/servers/transports.ts';
import { assert } from '../../kit/uvu.ts';

/** The hosts that the app was asked by. */
let handled: (string | null)[] = [];
const app = {
  async fetch(asked: Request): Promise<Response> {
    handled.push(asked.headers.get('host'));
    return new Response(`${asked.method} ${await asked.text()}`);
  },
};
let server: Listening;

const pages = suiteWithFolders('web pages', { certificates: true });
pages.after.each(() => server.close(0));

/** What comes for a request with these headers; on one connection, so that a refusal leaves the next in order. */
async function answersTo(transport: Transport, ...headers: string[]): Promise<string[]> {
  server = await listen(app, transport.listener());
  const socket = transport.dial(server.address);
  await once(socket, transport === TLS ? 'secureConnect' : 'connect');
  const answers = [];
  handled = [];
  for (const header of headers)
    answers.push(await exchange(socket, `POST / HTTP/1.1\r\n${header}\r\nContent-Length: 2\r\n\r\nhi`));
  socket.destroy();
  return answers;
}
const DOCKERDS: Readonly<Record<string, string>> = {
  TCP: 'Host: 127.0.0.1:8031',
  TLS: 'Host: ipam.internal:8031',
  'a unix socket': 'Host: plugin.moby.localhost',
};

for (const transport of [...PLAIN, TLS])
  pages(`${transport.name}: refuses what a page sends, and then serves dockerd`, async () => {
    const host = DOCKERDS[transport.name] ?? '';
    const [origin = '', site = '', dockerds = ''] = await answersTo(
      transport,
      `${host}\r\nOrigin: http://127.0.0.1:8031`,
      `${host}\r\nSec-Fetch-Site: none`,
      host,
    );
    for (const refusal of [origin, site]) {
      assert.is(statusOf(refusal), 403);
      const { Err, Error: told } = JSON.parse(bodyOf(refusal));
      assert.match(told, /^the request is from a web page/);
      assert.is(Err, told, 'engines show this one');
    }
    assert.is(bodyOf(dockerds), 'POST hi');
    assert.equal(handled, [host.replace('Host: ', '')], 'the app sees nothing of a page');
  });

for (const transport of [...PLAIN, TLS])
  pages(
    `${transport.name}: ${transport.name === 'TCP' ? 'refuses' : 'does not look at'} the name it is called by`,
    async () => {
      const [answer = ''] = await answersTo(transport, 'Host: evil.test:8031');
      if (transport.name !== 'TCP') return assert.is(bodyOf(answer), 'POST hi');
      assert.is(statusOf(answer), 403);
      assert.match(JSON.parse(bodyOf(answer)).Error, /^Host "evil\.test:8031" is not a name of loopback/);
      assert.equal(handled, []);
    },
  );

pages('a refusal: is a line of the log, and more of them are one a second', async () => {
  const lines: unknown[] = [];
  server = await listen(app, LOCAL, (...line) => void lines.push(line));
  const ask = () => fetch(server.address, { method: 'POST', headers: { origin: 'http://evil.test' } });
  const startedAt = performance.now();
  for (let i = 0; i < 20; i++) await (await ask()).text();
  assert.ok(lines.length <= 1 + (performance.now() - startedAt) / 1000, `${lines.length} lines`);
  assert.equal(lines.slice(0, 1), [
    [
      'warn',
      'request refused',
      {
        code: 'bad-request',
        error:
          'the request is from a web page, and pages are not served; send it without Origin and Sec-Fetch-Site',
      },
    ],
  ]);
});
pages.run();
