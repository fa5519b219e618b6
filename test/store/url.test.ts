// Goal: a store URL is read, or refused with what is accepted, and never quoted where it may hold a password.
import { createStore, parseStoreUrl, type StoreSpec } from '../../src/store/create-store.ts';
import { failureOf, lineOf } from '../kit/failures.ts';
import { assert, suite } from '../kit/uvu.ts';

const url = suite('store URL');
const mysql = (patch: Partial<Extract<StoreSpec, { kind: 'mysql' }>> = {}): StoreSpec => ({
  kind: 'mysql',
  host: 'db.example',
  port: 3306,
  user: 'ipam',
  password: null,
  database: 'ledger',
  ssl: 'on',
  ...patch,
});

const accepted: [text: string, spec: StoreSpec][] = [
  ['sqlite:', { kind: 'sqlite', path: null }],
  ['sqlite:/var/lib/ec2-ipam/ledger.sqlite', { kind: 'sqlite', path: '/var/lib/ec2-ipam/ledger.sqlite' }],
  ['mysql://ipam@db.example/ledger?ssl=on', mysql()],
  ['mysql://ipam@db.example:3307/ledger?ssl=off', mysql({ port: 3307, ssl: 'off' })],
  ['mysql://ipam@db.example/ledger?ssl=Amazon%20RDS', mysql({ ssl: 'Amazon RDS' })],
  ['mysql://ipam@db.example/ledger?ssl=amazon+rds', mysql({ ssl: 'Amazon RDS' })],
  ['mysql://ipam:s%40cret@db.example/ledger?ssl=on', mysql({ password: 's@cret' })],
  ['mysql://ipam@localhost/ledger', mysql({ host: 'localhost', ssl: 'off' })],
  ['mysql://ipam@127.0.0.1/ledger', mysql({ host: '127.0.0.1', ssl: 'off' })],
  ['mysql://ipam@[::1]:3306/ledger', mysql({ host: '::1', ssl: 'off' })],
];
for (const [text, spec] of accepted) url(`${text}: is read`, () => assert.equal(parseStoreUrl(text), spec));

const refused: [text: string, says: RegExp][] = [
  ['', /is not a URL/],
  ['/var/lib/ledger.sqlite', /is not a URL/],
  ['memory:', /no store is known for "memory:"/],
  ['postgres://ipam:s3cret@db/ledger', /no store is known for "postgres:"/],
  ['sqlite:ledger.sqlite', /not an absolute path/],
  ['sqlite::memory:', /not an absolute path/],
  ['sqlite:/var/lib/', /not an absolute path/],
  ['mysql:', /cannot be read|names no host/],
  ['mysql://ipam:s3cret@/ledger', /cannot be read|names no host/],
  ['mysql://db.example/ledger?ssl=on', /names no user/],
  ['mysql://ipam:s3cret@db.example?ssl=on', /names no database/],
  ['mysql://ipam:s3cret@db.example/a/b?ssl=on', /names no database/],
  ['mysql://ipam:s3cret@db.example/ledger', /without TLS; add \?ssl=on/],
  ['mysql://ipam:s3cret@10.0.0.9/ledger', /without TLS/],
  ['mysql://ipam:s3cret@db.example/ledger?ssl=maybe', /ssl="maybe" is not known/],
  ['mysql://ipam:s3cret@10.0.0.9/ledger?ssl=on', /10\.0\.0\.9 is an address; give the name of the server/],
  ['mysql://ipam:s3cret@[fd00::9]/ledger?ssl=Amazon+RDS', /fd00::9 is an address; give the name/],
  ['mysql://ipam:s3cret@db.example/ledger?ssl=on&charset=gbk', /"charset" is no setting/],
  ['mysql://ipam:%zz@db.example/ledger?ssl=on', /wrong percent-encoding|cannot be read/],
];
for (const [text, says] of refused)
  url(`${text || 'nothing'}: is refused`, () => {
    const line = lineOf(() => parseStoreUrl(text), 'bad-request');
    assert.match(line, says);
    assert.not.match(line, /s3cret/);
  });

url('sqlite: without a path: needs to be told where', async () => {
  assert.match(await failureOf(createStore({ kind: 'sqlite', path: null }), 'bad-request'), /names no file/);
});
url.run();
