// Goal: a web page is told from dockerd and from commands. Method: the headers of each.
import { pageRefusal } from '../../src/domain/web-page.ts';
import { assert, suite } from '../kit/uvu.ts';

const page = suite('a web page');
const LOOPBACK = [
  '127.0.0.1:8031',
  '127.0.0.1',
  '127.8.9.1:1',
  'localhost:8031',
  'LOCALHOST.',
  '[::1]:8031',
  '[::1]',
  'plugin.moby.localhost', // dockerd's on a unix socket
];
for (const host of LOOPBACK)
  page(`Host ${host}: is a name of loopback`, () => assert.is(pageRefusal({ host }, true), null));

const OTHERS = [
  'evil.test:8031',
  '127.0.0.1.evil.test',
  'localhost.evil.test',
  'evillocalhost',
  '127.example.com',
  '10.0.1.9:8031',
  '[fd00::1]:8031',
  '127.0.0.1@evil.test',
  '',
  ':8031',
  '127.0.0.1:8031:1',
  '[::1]evil.test',
];
for (const host of OTHERS) {
  page(`Host "${host}": is refused on loopback`, () =>
    assert.match(
      pageRefusal({ host }, true)?.line ?? '',
      /is not a name of loopback; call this server 127\.0\.0\.1/,
    ),
  );
  page(`Host "${host}": is not looked at elsewhere`, () => assert.is(pageRefusal({ host }, false), null));
}

for (const onLoopback of [true, false])
  for (const headers of [
    { origin: 'http://127.0.0.1:8031' },
    { origin: 'null' },
    { origin: '' },
    { secFetchSite: 'none' },
  ])
    page(`${JSON.stringify(headers)}: is refused ${onLoopback ? 'on loopback' : 'elsewhere'}`, () => {
      const refusal = pageRefusal({ ...headers, host: '127.0.0.1' }, onLoopback);
      assert.match(refusal?.line ?? '', /^the request is from a web page/);
    });

page('without any of them: is none', () => assert.is(pageRefusal({}, true), null));
page('a Host without end: is cut in the error', () =>
  assert.ok((pageRefusal({ host: 'x'.repeat(9000) }, true)?.line.length ?? 0) < 250),
);
page.run();
