// Goal: flags beat environment beats file beats default; whatever is wrong is told at once, by the name the user
// gave it, with what is accepted. Method: loadConfig on a made-up environment.
import { type Config, loadConfig, type Sources } from '../../../src/cli/settings/config.ts';
import {
  environmentName,
  jsonKey,
  SETTINGS,
  type Setting,
  settingNames,
} from '../../../src/cli/settings/settings.ts';
import {
  accept,
  duration,
  type Kind,
  listenAddress,
  octalMode,
  percentage,
} from '../../../src/cli/settings/value-parsers.ts';
import { IpamError } from '../../../src/domain/error.ts';
import { assert, suite } from '../../kit/uvu.ts';

interface Given {
  flags?: Record<string, string[]>;
  env?: Record<string, string>;
  /** The contents of /etc/ec2-ipam.json, which is then named by the environment. */
  file?: unknown;
  files?: Record<string, string>;
  isRoot?: boolean;
  isTerminal?: boolean;
  uses?: Sources['uses'];
}

function load({ flags = {}, env = {}, file, files = {}, ...rest }: Given = {}): Config {
  const all: Record<string, string> = { ...files };
  if (file !== undefined) all['/etc/ec2-ipam.json'] = typeof file === 'string' ? file : JSON.stringify(file);
  return loadConfig({
    flags: new Map(Object.entries(flags)),
    env: file === undefined ? env : { EC2_IPAM_CONFIG: '/etc/ec2-ipam.json', ...env },
    home: '/home/user',
    isRoot: true,
    isTerminal: false,
    uses: settingNames,
    readFile: path => {
      const text = all[path];
      if (text === undefined) throw Object.assign(new Error('no such file'), { code: 'ENOENT' });
      return text;
    },
    ...rest,
  });
}

function complaintsOf(given: Given): string[] {
  try {
    load(given);
  } catch (error) {
    if (error instanceof IpamError && error.code === 'bad-request') return error.message.split('\n');
    throw error;
  }
  return [];
}

const first = (lines: readonly string[]): string => lines[0] ?? '';

const ANCESTOR = {
  mysql: { host: 'localhost', port: '3306', user: 'ipam', password: 'pass/w@rd', database: 'ipam' },
  aws: {
    region: 'cn-north-1',
    accessKeyId: '<YOUR_ACCESS_KEY_ID>',
    secretAccessKey: '<YOUR_SECRET_ACCESS_KEY>',
  },
};

const sources = suite('where a setting comes from');
sources('flags beat the environment, which beats the file, which beats the default', () => {
  const flags = { 'warm-min': ['5'] };
  const env = { EC2_IPAM_WARM_MIN: '4' };
  const file = { warmMin: 3 };
  assert.is(load({ flags, env, file }).warmMin, 5);
  assert.is(load({ env, file }).warmMin, 4);
  assert.is(load({ file }).warmMin, 3);
  assert.is(load().warmMin, 2);
});

sources('the defaults are those of the design', () => {
  const { listen, store, stateDir, ec2SharePercent, logFormat, aws, warnings, ...rest } = load();
  assert.equal(listen, [{ kind: 'http', host: '127.0.0.1', port: 8031 }]);
  assert.is(store, 'sqlite:/var/lib/ec2-ipam/ledger.sqlite');
  assert.is(stateDir, '/var/lib/ec2-ipam');
  assert.is(ec2SharePercent, 5);
  assert.is(logFormat, 'json');
  assert.equal(aws, { region: null, credentials: null });
  assert.equal(warnings, []);
  assert.equal(rest, {
    config: null,
    tlsCert: null,
    tlsKey: null,
    tlsClientCa: null,
    allowUnauthenticated: false,
    socketMode: 0o600,
    storePassword: null,
    warmMin: 2,
    warmMax: 6,
    cooldownMs: 30_000,
    quarantineMs: 600_000,
    strictReuse: false,
    confirmMoves: true,
    requestTimeoutMs: 120_000,
    callDeadlineMs: 20_000,
    intentGraceMs: 930_000,
    reconcileEveryMs: 60_000,
    logLevel: 'info',
  });
});

sources('every fallback is itself accepted, and no two settings share a name', () => {
  const all: Setting<unknown>[] = settingNames.map(name => SETTINGS[name]);
  for (const { flag, kind, fallback } of all)
    if (typeof fallback === 'string') assert.ok('value' in accept(kind, fallback), flag);
  for (const name of [jsonKey, environmentName])
    assert.is(new Set(all.map(one => name(one.flag))).size, all.length);
});

sources('a list is repeated as a flag, split at commas in the environment, an array in the file', () => {
  const two = [
    { kind: 'http', host: '127.0.0.1', port: 1 },
    { kind: 'unix', path: '/run/x.sock', mode: 0o660 },
  ];
  const urls = ['http://127.0.0.1:1', 'unix:/run/x.sock'];
  const env = { EC2_IPAM_SOCKET_MODE: '660' };
  assert.equal(load({ flags: { listen: urls }, env }).listen, two);
  assert.equal(load({ env: { ...env, EC2_IPAM_LISTEN: urls.join(', ') } }).listen, two);
  assert.equal(load({ env, file: { listen: urls } }).listen, two);
});

sources('the state directory is where systemd, root or a user has it', () => {
  const of = (given: Given) => load(given).store;
  assert.is(of({ env: { STATE_DIRECTORY: '/var/lib/a:/var/lib/b' } }), 'sqlite:/var/lib/a/ledger.sqlite');
  assert.is(of({ isRoot: false }), 'sqlite:/home/user/.local/state/ec2-ipam/ledger.sqlite');
  assert.is(of({ isRoot: false, env: { XDG_STATE_HOME: '/x' } }), 'sqlite:/x/ec2-ipam/ledger.sqlite');
  assert.is(of({ flags: { 'state-dir': ['/s'], store: ['sqlite:'] } }), 'sqlite:/s/ledger.sqlite');
});

sources('defaults follow the store and the terminal', () => {
  assert.is(load({ flags: { store: ['mysql://u@127.0.0.1/ipam'] } }).ec2SharePercent, 50);
  assert.is(load({ isTerminal: true }).logFormat, 'pretty');
});

sources('the password of the store comes from the environment or a file, and never from argv', () => {
  const files = { '/run/secret': 'from file\n' };
  assert.is(load({ env: { EC2_IPAM_STORE_PASSWORD: 'pw' } }).storePassword, 'pw');
  assert.is(load({ env: { EC2_IPAM_STORE_PASSWORD_FILE: '/run/secret' }, files }).storePassword, 'from file');
  const both = { EC2_IPAM_STORE_PASSWORD: 'pw', EC2_IPAM_STORE_PASSWORD_FILE: '/run/secret' };
  assert.match(first(complaintsOf({ env: both, files })), /both set/);
  assert.match(
    first(complaintsOf({ env: { EC2_IPAM_STORE_PASSWORD_FILE: '/no' } })),
    /^EC2_IPAM_STORE_PASSWORD_FILE: \/no can't be read: ENOENT$/,
  );
  const [warning = ''] = load({ flags: { store: ['mysql://u:secret@127.0.0.1/ipam'] } }).warnings;
  assert.match(warning, /^--store holds a password/);
  assert.not.match(warning, /secret/);
});

sources('the configuration cannot be changed afterwards', () => {
  const config = load();
  assert.throws(() => {
    (config as { warmMin: number }).warmMin = 9;
  });
  assert.throws(() => (config.listen as unknown[]).push(1));
});
sources.run();

const ancestor = suite("the ancestor's file");
ancestor('is accepted as it is, with a warning that the store is reached without TLS', () => {
  const { store, storePassword, aws, warnings, ec2SharePercent } = load({ file: ANCESTOR });
  assert.is(store, 'mysql://ipam@localhost:3306/ipam?ssl=off');
  assert.is(storePassword, 'pass/w@rd');
  assert.is(ec2SharePercent, 50);
  assert.is(aws.region, 'cn-north-1');
  assert.is(aws.credentials?.accessKeyId, '<YOUR_ACCESS_KEY_ID>');
  assert.is(warnings.length, 1);
  assert.match(first(warnings), /ssl=off/);
  assert.not.match(first(warnings), /w@rd/);
});

ancestor('takes a port as a number, and our own settings beside it', () => {
  const mysql = { ...ANCESTOR.mysql, host: 'db.example.com', port: 3307 };
  const config = load({ file: { mysql, warmMax: 9 } });
  assert.is(config.store, 'mysql://ipam@db.example.com:3307/ipam?ssl=off');
  assert.is(config.warmMax, 9);
});

ancestor('gives way to the environment: password, region and keys', () => {
  const env = { EC2_IPAM_STORE_PASSWORD: 'newer', AWS_REGION: 'eu-west-1', AWS_ACCESS_KEY_ID: 'AKIA' };
  const { storePassword, aws } = load({ file: ANCESTOR, env });
  assert.is(storePassword, 'newer');
  assert.equal(aws, { region: 'eu-west-1', credentials: null });
});

ancestor('is refused where it is not itself', () => {
  assert.match(
    first(complaintsOf({ file: { ...ANCESTOR, store: 'sqlite:' } })),
    /store and mysql are both in/,
  );
  assert.match(
    first(complaintsOf({ file: { mysql: { hots: 'x' } } })),
    /mysql in \/etc\/ec2-ipam.json: hots is unknown/,
  );
  assert.match(first(complaintsOf({ file: { aws: { accessKeyId: 'x' } } })), /half of a key/);
  assert.match(first(complaintsOf({ file: { aws: 'x' } })), /aws in \/etc\/ec2-ipam.json is not an object/);
});
ancestor.run();

const complaints = suite('complaints');
complaints('all come at once, each with the place, what was given and what is accepted', () => {
  const found = complaintsOf({
    flags: { 'warm-min': ['many'] },
    env: { EC2_IPAM_COOLDOWN: '30' },
    file: { socketMode: '999', wramMax: 3, logLevel: ['info'] },
  });
  assert.is(found.length, 5, found.join('\n'));
  const expected = [
    '--warm-min "many": give a whole number from 0 to 1000',
    'EC2_IPAM_COOLDOWN "30": give a time from 0s to 24h with its unit, such as 500ms, 30s, 10m or 1h',
    'socketMode in /etc/ec2-ipam.json "999": give three octal digits, such as 0600 or 0660',
    'wramMax in /etc/ec2-ipam.json is no setting: keys are the flags in camelCase, as --help lists them',
    'logLevel in /etc/ec2-ipam.json is not what is accepted: give debug, info, warn or error',
  ];
  assert.equal([...found].sort(), [...expected].sort());
});

const wrong: [why: string, given: Given, complaint: RegExp][] = [
  ['a file that is not there', { env: { EC2_IPAM_CONFIG: '/no' } }, /^--config: \/no can't be read: ENOENT$/],
  [
    'a file that is not JSON',
    { file: '{ "storePassword": "hunter2" ' },
    /^\/etc\/ec2-ipam.json is not JSON: (?!.*hunter2)/,
  ],
  ['a file that is no object', { file: [] }, /is not a JSON object/],
  ['a password among the settings', { file: { storePassword: 'x' } }, /EC2_IPAM_STORE_PASSWORD_FILE/],
  ['a file that names a file', { file: { config: '/x' } }, /config in .* is no setting/],
  [
    'https without all three TLS files',
    { flags: { listen: ['https://0.0.0.0:1'], 'tls-cert': ['c'] } },
    /give all three$/,
  ],
  ['plain http beyond loopback', { flags: { listen: ['http://0.0.0.0:1'] } }, /--allow-unauthenticated/],
  [
    'plain http on a name that is not loopback',
    { flags: { listen: ['http://127.example.com:1'] } },
    /--allow-unauth/,
  ],
  ['marks of the warm pool the wrong way round', { flags: { 'warm-min': ['7'] } }, /--warm-max/],
  ['a grace within the deadline', { flags: { 'intent-grace': ['5s'] } }, /^--intent-grace is not longer/],
  ['a store that no URL names', { flags: { store: ['mysql//x'] } }, /^--store is not accepted: /],
  [
    'a store beyond loopback with nothing said of TLS',
    { flags: { store: ['mysql://u@db.example.com/x'] } },
    /ssl=on/,
  ],
  ['an empty password', { env: { EC2_IPAM_STORE_PASSWORD: '' } }, /^EC2_IPAM_STORE_PASSWORD is empty$/],
];
for (const [why, given, complaint] of wrong)
  complaints(`${why} is refused`, () => {
    const found = complaintsOf(given);
    assert.is(found.length, 1, found.join('\n'));
    assert.match(first(found), complaint);
  });

complaints('plain http beyond loopback is served when it is said to be wanted', () => {
  const flags = { listen: ['http://0.0.0.0:1'], 'allow-unauthenticated': ['on'] };
  assert.equal(complaintsOf({ flags }), []);
});

complaints('rules between settings hold only where all of them are used', () => {
  const file = { listen: ['https://0.0.0.0:1'] };
  assert.equal(complaintsOf({ file, uses: ['store'] }), []);
  assert.is(complaintsOf({ file }).length, 1);
});

complaints('a password in a mistyped URL is not repeated', () => {
  const [found = ''] = complaintsOf({ flags: { listen: ['http://me:hunter2@127.0.0.1:1'] } });
  assert.match(found, /^--listen "http:\/\/me:\*\*\*@127\.0\.0\.1:1"/);
});

complaints('what works but is unwise, or of no use, is a warning', () => {
  assert.match(first(load({ flags: { 'intent-grace': ['924s'] } }).warnings), /only for tests/);
  assert.equal(load({ flags: { 'intent-grace': ['925s'] } }).warnings, []);
  assert.equal(load({ env: { EC2_IPAM_WARMMIN: '3' } }).warnings, [
    'EC2_IPAM_WARMMIN in the environment is no setting',
  ]);
});
complaints.run();

const kinds = suite('kinds');
const LISTEN_IPV6 = { kind: 'http', host: '::1', port: 8031 };
const parsed: [kind: Kind<unknown>, text: string, value: unknown][] = [
  [duration('0s', '1h'), '500ms', 500],
  [duration('0s', '1h'), '30s', 30_000],
  [duration('0s', '1h'), '10m', 600_000],
  [duration('0s', '1h'), '1h', 3_600_000],
  [duration('0s', '1h'), '61m', undefined],
  [duration('1s', '1h'), '999ms', undefined],
  [duration('0s', '1h'), '1.5s', undefined],
  [duration('0s', '1h'), '-1s', undefined],
  [duration('0s', '1h'), '10 m', undefined],
  [percentage(1, 100), '50%', 50],
  [percentage(1, 100), '50', 50],
  [percentage(1, 100), '101%', undefined],
  [percentage(1, 100), '0', undefined],
  [octalMode, '0660', 0o660],
  [octalMode, '660', 0o660],
  [octalMode, '0680', undefined],
  [octalMode, '7', undefined],
  [listenAddress, 'http://[::1]:8031', LISTEN_IPV6],
  [listenAddress, 'https://0.0.0.0:8443/', { kind: 'https', host: '0.0.0.0', port: 8443 }],
  [listenAddress, 'http://127.0.0.1:0', { kind: 'http', host: '127.0.0.1', port: 0 }],
  [listenAddress, 'http://127.0.0.1', undefined],
  [listenAddress, 'http://127.0.0.1:65536', undefined],
  [listenAddress, 'http://127.0.0.1:80/path', undefined],
  [listenAddress, 'ftp://127.0.0.1:80', undefined],
  [listenAddress, 'unix:', undefined],
  [listenAddress, `unix:/${'x'.repeat(107)}`, undefined],
  [listenAddress, `unix:/${'x'.repeat(106)}`, { kind: 'unix', path: `/${'x'.repeat(106)}` }],
];
for (const [kind, text, value] of parsed)
  kinds(`${kind.metavar} ${text} is ${value === undefined ? 'refused' : JSON.stringify(value)}`, () => {
    assert.equal(kind.parse(text), value);
  });
kinds.run();
