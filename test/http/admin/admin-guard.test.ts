// Goal: pages of others get nothing from the admin listener, those who look after the server do. Method: the app, with
// the headers that browsers, tunnels and Prometheus send.
import type { TLSSocket } from 'node:tls';
import { createAdminApp } from '../../../src/http/admin/admin.ts';
import { noteTlsPeer } from '../../../src/http/identity.ts';
import type { Listener } from '../../../src/http/listener/listen.ts';
import { assert, suite } from '../../kit/uvu.ts';

function appOn(kind: Listener['kind']) {
  return createAdminApp({
    kind,
    ready: async () => ({ isReady: true, store: 'ok', ec2: 'ok' }),
    metrics: { contentType: 'text/plain', text: async () => 'up 1\n' },
    api: async () => ({ fetch: request => new Response(request.method) }),
    pages: {
      fetch: async request =>
        new Response('a page', new URL(request.url).pathname === '/style.css' ? { headers: KEPT } : {}),
    },
  });
}
const KEPT = { 'cache-control': 'max-age=60' };

const asked = async (kind: Listener['kind'], headers: Record<string, string>, path = '/', method = 'GET') =>
  await appOn(kind).fetch(new Request(`http://127.0.0.1:8032${path}`, { method, headers }));

const LINK = { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' };
const cases: [what: string, kind: Listener['kind'], headers: Record<string, string>, status: number][] = [
  ['curl by address', 'http', { host: '127.0.0.1:8032' }, 200],
  ['a browser by name', 'http', { host: 'localhost:8032', 'sec-fetch-site': 'none' }, 200],
  ['IPv6', 'http', { host: '[::1]:8032' }, 200],
  ['a tunnel with a port of its own', 'http', { host: 'localhost:9000' }, 200],
  ['a client without a Host', 'http', {}, 200],
  ['a page that had its name rebound', 'http', { host: 'evil.example:8032' }, 403],
  ['such a page, to the name of this host', 'http', { host: 'web-1:8032' }, 403],
  ['any Host over https: TLS has checked it', 'https', { host: 'ipam.internal:8032' }, 200],
  ['any Host on a socket', 'unix', { host: 'x' }, 200],
  ['the script of our page', 'http', { host: 'localhost:1', 'sec-fetch-site': 'same-origin' }, 200],
  ['our page, which names itself', 'http', { host: 'localhost:1', origin: 'http://localhost:1' }, 200],
  ['the same over https', 'https', { host: 'ipam.internal', origin: 'https://ipam.internal' }, 200],
  ['a script of another page', 'http', { host: 'localhost:1', 'sec-fetch-site': 'cross-site' }, 403],
  ['a page of another port', 'http', { host: 'localhost:1', 'sec-fetch-site': 'same-site' }, 403],
  ['a page that names another port', 'http', { host: 'localhost:1', origin: 'http://localhost:2' }, 403],
  ['a page without an origin', 'http', { host: 'localhost:1', origin: 'null' }, 403],
  ['a page of others on a socket', 'unix', { host: 'x', origin: 'http://evil.example' }, 403],
  ['a link of another page', 'http', { host: 'localhost:1', 'sec-fetch-site': 'cross-site', ...LINK }, 200],
  [
    'a frame of another page',
    'http',
    { host: 'localhost:1', 'sec-fetch-site': 'cross-site', ...LINK, 'sec-fetch-dest': 'iframe' },
    403,
  ],
];
const guard = suite('who may look');
for (const [what, kind, headers, status] of cases)
  guard(`${what}: ${status}`, async () => {
    for (const path of ['/', '/api/v1/events', '/metrics', '/healthz'])
      assert.is((await asked(kind, headers, path)).status, status, path);
  });

guard('a certificate that cannot be read: is refused as that, not as that of a Docker host', async () => {
  const unread = {
    getPeerCertificate: () => ({ raw: new Uint8Array([0x30, 0x80]) }),
  } as unknown as TLSSocket;
  noteTlsPeer(unread);
  const answer = await appOn('https').fetch(new Request('https://ipam.internal:8032/'), {
    incoming: { socket: unread },
  });
  assert.is(answer.status, 403);
  const line = await answer.text();
  assert.match(line, /^the client certificate is not one that this server can read; /);
  assert.not.match(line, /Docker/);
});

guard('what would change something: is refused everywhere', async () => {
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH'])
    for (const path of ['/', '/api/v1/overview', '/metrics'])
      assert.is((await asked('http', {}, path, method)).status, 405, `${method} ${path}`);
  const refused = await asked('http', {}, '/api/v1/overview', 'POST');
  assert.equal(await refused.json(), {
    error: 'only GET and HEAD are served',
    hint: 'use the commands to change something',
  });
});

guard('each answer: is not kept, unless it says otherwise, and allows a page nothing of others', async () => {
  for (const [path, status] of [
    ['/', 200],
    ['/readyz', 200],
    ['/api/v1/x', 200],
  ] as const) {
    const { headers, status: given } = await asked('http', {}, path);
    assert.is(given, status);
    assert.is(headers.get('cache-control'), 'no-store');
    assert.match(
      headers.get('content-security-policy') ?? '',
      /^default-src 'none'; .*frame-ancestors 'none'$/,
    );
    assert.is(headers.get('x-content-type-options'), 'nosniff');
    assert.is(headers.get('referrer-policy'), 'no-referrer');
  }
  const refused = await asked('http', { host: 'evil.example' });
  assert.is(refused.headers.get('cache-control'), 'no-store');
  assert.is((await asked('http', {}, '/style.css')).headers.get('cache-control'), 'max-age=60');
});
guard.run();
