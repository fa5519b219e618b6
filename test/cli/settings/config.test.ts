// Goal: flags beat environment beats file beats default; whatever is wrong is told at once, by the name the user
// gave it, with what is accepted. Method: loadConfig on a made-up environment.
import {
  AGENT_SETTINGS,
  environmentName,
  jsonKey,
  SETTINGS,
  type Setting,
  settingNames,
} from '../../../src/cli/settings/settings.ts';
import {
  accept,
  duration,
  enrolledRole,
  type Kind,
  listenAddress,
  octalMode,
  percentage,
  serverUrl,
} from '../../../src/cli/settings/value-parsers.ts';
import { IpamError } from '../../../src/domain/error.ts';
import { configOf, type Given } from '../../kit/cli.ts';
import { assert, suite } from '../../kit/uvu.ts';

/** What is wrong, a line each. */
function complaintsOf(given: Given): string[] {
  try {
    configOf(given);
  } catch (error) {
    if (error instanceof IpamError && error.code === 'bad-request') return error.message.split('\n');
    throw error;
  }
  return [];
}
/** Fails unless that is all that is wrong. */
function complains(given: Given, says: RegExp): void {
  const found = complaintsOf(given);
  assert.is(found.length, 1, found.join('\n'));
  assert.match(found[0] ?? '', says);
}
const http = (host: string, port: number, kind = 'http') => ({ kind, host, port });
const flag = (name: string, ...values: string[]): Given => ({ flags: { [name]: values } });
const firstWarning = (given: Given): string => configOf(given).warnings[0] ?? '';

const ANCESTOR = {
  mysql: { host: 'localhost', port: '3306', user: 'ipam', password: 'pass/w@rd', database: 'ipam' },
  aws: {
    region: 'cn-north-1',
    accessKeyId: '<YOUR_ACCESS_KEY_ID>',
    secretAccessKey: '<YOUR_SECRET_ACCESS_KEY>',
  },
};

const sources = suite('where a setting comes from');
sources('flags: beat the environment, which beats the file, which beats the default', () => {
  const flags = { 'warm-min': ['5'] };
  const env = { EC2_IPAM_WARM_MIN: '4' };
  const file = { warmMin: 3 };
  assert.is(configOf({ flags, env, file }).warmMin, 5);
  assert.is(configOf({ env, file }).warmMin, 4);
  assert.is(configOf({ file }).warmMin, 3);
  assert.is(configOf().warmMin, 2);
});

sources('defaults: are those of the design', () => {
  assert.equal(configOf(), {
    listen: [{ kind: 'unix', path: '/run/docker/plugins/ec2-ipam.sock', mode: 0o600 }],
    formerListen: http('127.0.0.1', 8031),
    store: 'sqlite:/var/lib/ec2-ipam/ledger.sqlite',
    stateDir: '/var/lib/ec2-ipam',
    ec2SharePercent: 5,
    logFormat: 'json',
    aws: { region: null, credentials: null },
    warnings: [],
    config: null,
    adminListen: null,
    tlsCert: null,
    tlsKey: null,
    tlsClientCa: null,
    allowUnauthenticated: false,
    authorize: 'instance',
    socketMode: 0o600,
    storePassword: null,
    warmMin: 2,
    warmMax: 6,
    cooldownMs: 30_000,
    quarantineMs: 600_000,
    strictReuse: false,
    history: true,
    confirmMoves: true,
    requestTimeoutMs: 120_000,
    callDeadlineMs: 20_000,
    intentGraceMs: 930_000,
    reconcileEveryMs: 60_000,
    logLevel: 'info',
    dockerSocket: '/var/run/docker.sock',
    witness: 'report',
    witnessEveryMs: 60_000,
    witnessAgeMs: 120_000,
    enrollRole: [],
    authorityKey: null,
    server: [],
    serverCa: null,
    exposed: [],
  });
});

sources("Docker's socket: is an absolute path, or off; a short age of evidence is warned of", () => {
  assert.is(configOf(flag('docker-socket', '/run/other.sock')).dockerSocket, '/run/other.sock');
  assert.is(configOf(flag('docker-socket', 'off')).dockerSocket, null);
  complains(flag('docker-socket', 'docker.sock'), /^--docker-socket "docker.sock": give the absolute path/);
  assert.match(
    firstWarning(flag('witness-age', '5s')),
    /^--witness-age is shorter than 120s: only for tests/,
  );
  assert.equal(configOf(flag('witness-age', '120s')).warnings, []);
});

sources('a fallback: is itself accepted, and no two settings share a name', () => {
  const all: Setting<unknown>[] = settingNames.map(name => SETTINGS[name]);
  for (const { flag, kind, fallback } of all)
    if (typeof fallback === 'string') assert.ok('value' in accept(kind, fallback), flag);
  for (const name of [jsonKey, environmentName])
    assert.is(new Set(all.map(one => name(one.flag))).size, all.length);
});

sources('a list: is repeated as a flag, split at commas in the environment, an array in the file', () => {
  const two = [http('127.0.0.1', 1), { kind: 'unix', path: '/run/x.sock', mode: 0o660 }];
  const urls = ['http://127.0.0.1:1', 'unix:/run/x.sock'];
  const env = { EC2_IPAM_SOCKET_MODE: '660' };
  assert.equal(configOf({ flags: { listen: urls }, env }).listen, two);
  assert.equal(configOf({ env: { ...env, EC2_IPAM_LISTEN: urls.join(', ') } }).listen, two);
  assert.equal(configOf({ env, file: { listen: urls } }).listen, two);
});

sources('the state directory: is where systemd, root or a user has it', () => {
  const of = (given: Given) => configOf(given).store;
  assert.is(of({ env: { STATE_DIRECTORY: '/var/lib/a:/var/lib/b' } }), 'sqlite:/var/lib/a/ledger.sqlite');
  assert.is(of({ isRoot: false }), 'sqlite:/home/user/.local/state/ec2-ipam/ledger.sqlite');
  assert.is(of({ isRoot: false, env: { XDG_STATE_HOME: '/x' } }), 'sqlite:/x/ec2-ipam/ledger.sqlite');
  assert.is(of({ flags: { 'state-dir': ['/s'], store: ['sqlite:'] } }), 'sqlite:/s/ledger.sqlite');
});

sources('the default of --listen: is the socket that dockerd looks for, or one of the user', () => {
  const of = (given: Given) => configOf(given).listen;
  const socket = (path: string, mode = 0o600) => [{ kind: 'unix', path, mode }];
  assert.equal(of({ isRoot: false }), socket('/home/user/.local/state/ec2-ipam/ec2-ipam.sock'));
  assert.equal(of({ isRoot: false, flags: { 'state-dir': ['/s'] } }), socket('/s/ec2-ipam.sock'));
  assert.equal(of({ flags: { 'state-dir': ['/s'] } }), socket('/run/docker/plugins/ec2-ipam.sock'));
  assert.equal(
    of({ flags: { 'socket-mode': ['0660'] } }),
    socket('/run/docker/plugins/ec2-ipam.sock', 0o660),
  );
});

sources('the former default of --listen: is served too where nothing else is said', () => {
  const former = http('127.0.0.1', 8031);
  assert.equal(configOf({ isRoot: false }).formerListen, former);
  const url = 'unix:/run/x.sock';
  const said: Given[] = [
    flag('listen', url),
    { env: { EC2_IPAM_LISTEN: url } },
    { file: { listen: [url] } },
    { defaults: { listen: url } },
    { uses: ['store'] },
  ];
  for (const given of said) assert.is(configOf(given).formerListen, null, JSON.stringify(given));
});

sources('defaults: follow the store and the terminal', () => {
  assert.is(configOf({ flags: { store: ['mysql://u@127.0.0.1/ipam'] } }).ec2SharePercent, 50);
  assert.is(configOf({ isTerminal: true }).logFormat, 'pretty');
});

sources('the password of the store: comes from the environment or a file, and never from argv', () => {
  const files = { '/run/secret': 'from file\n' };
  assert.is(configOf({ env: { EC2_IPAM_STORE_PASSWORD: 'pw' } }).storePassword, 'pw');
  const inFile = { EC2_IPAM_STORE_PASSWORD_FILE: '/run/secret' };
  assert.is(configOf({ env: inFile, files }).storePassword, 'from file');
  complains({ env: { EC2_IPAM_STORE_PASSWORD: 'pw', ...inFile }, files }, /both set/);
  const absent = /^EC2_IPAM_STORE_PASSWORD_FILE: \/no can't be read: ENOENT$/;
  complains({ env: { EC2_IPAM_STORE_PASSWORD_FILE: '/no' } }, absent);
  const warning = firstWarning(flag('store', 'mysql://u:secret@127.0.0.1/ipam'));
  assert.match(firstWarning(flag('store', 'mysql://u:sec@ret@127.0.0.1/ipam')), /^--store holds a password/);
  assert.match(warning, /^--store holds a password/);
  assert.not.match(warning, /secret/);
});

sources('the configuration: cannot be changed afterwards', () => {
  const config = configOf();
  assert.throws(() => {
    (config as { warmMin: number }).warmMin = 9;
  });
  assert.throws(() => (config.listen as unknown[]).push(1));
});
sources.run();

const ancestor = suite("the ancestor's file");
ancestor('the file: is accepted as it is, with a warning that the store is reached without TLS', () => {
  const { store, storePassword, aws, warnings, ec2SharePercent } = configOf({ file: ANCESTOR });
  assert.is(store, 'mysql://ipam@localhost:3306/ipam?ssl=off');
  assert.is(storePassword, 'pass/w@rd');
  assert.is(ec2SharePercent, 50);
  assert.is(aws.region, 'cn-north-1');
  assert.is(aws.credentials?.accessKeyId, '<YOUR_ACCESS_KEY_ID>');
  assert.is(warnings.length, 1);
  assert.match(warnings[0] ?? '', /ssl=off/);
  assert.not.match(warnings[0] ?? '', /w@rd/);
});

ancestor('the file: takes a port as a number, and our own settings beside it', () => {
  const mysql = { ...ANCESTOR.mysql, host: 'db.example.com', port: 3307 };
  const config = configOf({ file: { mysql, warmMax: 9 } });
  assert.is(config.store, 'mysql://ipam@db.example.com:3307/ipam?ssl=off');
  assert.is(config.warmMax, 9);
});

ancestor('the file: gives way to the environment in password, region and keys', () => {
  const env = { EC2_IPAM_STORE_PASSWORD: 'newer', AWS_REGION: 'eu-west-1', AWS_ACCESS_KEY_ID: 'AKIA' };
  const { storePassword, aws } = configOf({ file: ANCESTOR, env });
  assert.is(storePassword, 'newer');
  assert.equal(aws, { region: 'eu-west-1', credentials: null });
  const { region } = configOf({ file: ANCESTOR, env: { AWS_REGION: '' } }).aws;
  assert.is(region, configOf({ file: ANCESTOR }).aws.region, 'one that is empty is not set');
  assert.is(configOf({ env: { AWS_REGION: '' } }).aws.region, null);
});

ancestor('a file that is not itself: is refused', () => {
  complains({ file: { ...ANCESTOR, store: 'sqlite:' } }, /store and mysql are both in/);
  const [unknown = ''] = complaintsOf({ file: { mysql: { hots: 'x' } } });
  assert.match(unknown, /mysql in \/etc\/ec2-ipam.json: hots is unknown/);
  complains({ file: { aws: { accessKeyId: 'x' } } }, /half of a key/);
  complains({ file: { aws: 'x' } }, /aws in \/etc\/ec2-ipam.json is not an object/);
});
ancestor.run();

const complaints = suite('complaints');
complaints('complaints: all come at once, each with the place, what was given and what is accepted', () => {
  const file = { socketMode: '999', wramMax: 3, logLevel: ['info'] };
  const found = complaintsOf({ ...flag('warm-min', 'many'), env: { EC2_IPAM_COOLDOWN: '30' }, file });
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

const TLS_HALF = { flags: { listen: ['https://0.0.0.0:1'], 'tls-cert': ['c'] } };
const ROLE = 'arn:aws:iam::123456789012:role/docker-host';
const enrolling = (env: Record<string, string>): Given => ({
  flags: { listen: ['https://0.0.0.0:1'], 'tls-cert': ['c'], 'tls-key': ['k'], 'enroll-role': [ROLE] },
  env,
});
/** Hosts may enrol at this server, and have certificates of it. */
const adminTls: Given = {
  flags: {
    ...enrolling({}).flags,
    'admin-listen': ['https://127.0.0.1:2'],
  },
  env: { EC2_IPAM_AUTHORITY_KEY: 'x'.repeat(20) },
};
const NOT_JSON = /^\/etc\/ec2-ipam.json is not JSON: (?!.*hunter2)/;
const PLAIN = /--allow-unauthenticated/;
const wrong: [why: string, given: Given, complaint: RegExp][] = [
  ['a file that is not there', { env: { EC2_IPAM_CONFIG: '/no' } }, /^--config: \/no can't be read: ENOENT$/],
  ['a file that is not JSON', { file: '{ "storePassword": "hunter2" ' }, NOT_JSON],
  ['a file that is no object', { file: [] }, /is not a JSON object/],
  ['a password among the settings', { file: { storePassword: 'x' } }, /EC2_IPAM_STORE_PASSWORD_FILE/],
  ['a file that names a file', { file: { config: '/x' } }, /config in .* is no setting/],
  ['https without all three TLS files', TLS_HALF, /--tls-client-ca or --enroll-role: give them$/],
  ['enrolment without a key', enrolling({}), /^--enroll-role needs a key .* EC2_IPAM_AUTHORITY_KEY_FILE/],
  [
    'enrolment with a short key',
    enrolling({ EC2_IPAM_AUTHORITY_KEY: 'hunter2' }),
    /^EC2_IPAM_AUTHORITY_KEY is too short: (?!.*hunter2)/,
  ],
  [
    'enrolment without https',
    {
      flags: { 'enroll-role': [ROLE] },
      env: { EC2_IPAM_AUTHORITY_KEY: 'x'.repeat(20) },
    },
    /^--enroll-role needs an https listener/,
  ],
  [
    'a role that is no ARN',
    flag('enroll-role', 'docker-host'),
    /^--enroll-role "docker-host": give arn:aws:iam::/,
  ],
  ['an agent without a server', { uses: AGENT_SETTINGS }, /^an agent needs a server: give --server/],
  ['plain http beyond loopback', flag('listen', 'http://0.0.0.0:1'), PLAIN],
  ['plain http on a name that is not loopback', flag('listen', 'http://127.example.com:1'), PLAIN],
  [
    'an admin listener for everybody, whatever is allowed for Docker',
    { flags: { 'admin-listen': ['http://0.0.0.0:1'], 'allow-unauthenticated': ['on'] } },
    /^--admin-listen http beyond loopback/,
  ],
  [
    'an admin listener on https without an authority of clients',
    adminTls,
    /^--admin-listen https needs --tls-cert,/,
  ],
  [
    "an admin listener at Docker's address",
    { flags: { listen: ['http://localhost:1'], 'admin-listen': ['http://localhost:1'] } },
    /^--admin-listen is an address of --listen/,
  ],
  [
    "an admin listener at Docker's socket",
    { flags: { listen: ['unix:/run/x.sock'], 'admin-listen': ['unix:/run/../run/x.sock'] } },
    /^--admin-listen is an address of --listen/,
  ],
  ['marks of the warm pool the wrong way round', flag('warm-min', '7'), /--warm-max/],
  ['a grace within the deadline', flag('intent-grace', '5s'), /^--intent-grace is not longer/],
  ['a store that no URL names', flag('store', 'mysql//x'), /^--store is not accepted: /],
  ['a store beyond loopback with no word of TLS', flag('store', 'mysql://u@db.example.com/x'), /ssl=on/],
  [
    'an empty password',
    { env: { EC2_IPAM_STORE_PASSWORD: '' } },
    /^EC2_IPAM_STORE_PASSWORD is empty: give a password$/,
  ],
];
for (const [why, given, complaint] of wrong)
  complaints(`${why}: is refused`, () => complains(given, complaint));

complaints('plain http beyond loopback: is served when it is said to be wanted', () => {
  const flags = { listen: ['http://0.0.0.0:1'], 'allow-unauthenticated': ['on'] };
  assert.equal(complaintsOf({ flags }), []);
});

complaints('two listeners on ports that the system chooses: are not one', () => {
  const flags = { listen: ['http://127.0.0.1:0'], 'admin-listen': ['http://127.0.0.1:0'] };
  assert.equal(complaintsOf({ flags }), []);
});

complaints('rules between settings: hold only where all of them are used', () => {
  const file = { listen: ['https://0.0.0.0:1'] };
  assert.equal(complaintsOf({ file, uses: ['store'] }), []);
  assert.is(complaintsOf({ file }).length, 1);
});

complaints('a password in a mistyped URL: is not repeated', () => {
  for (const password of ['hunter2', 'hun@ter2', 'hun/ter2', 'h:u@n/ter2'])
    complains(
      flag('listen', `http://me:${password}@127.0.0.1:1`),
      /^--listen "http:\/\/me:\*\*\*@127\.0\.0\.1:1"/,
    );
});

complaints('what works but is unwise, or of no use: is a warning', () => {
  assert.match(firstWarning(flag('intent-grace', '924s')), /only for tests/);
  assert.is(firstWarning(flag('intent-grace', '925s')), '');
  const https = {
    'tls-cert': ['c'],
    'tls-key': ['k'],
    'tls-client-ca': ['a'],
    listen: ['https://0.0.0.0:1'],
  };
  assert.match(firstWarning({ flags: { ...https, authorize: ['any'] } }), /^--authorize any: every client/);
  assert.is(firstWarning({ flags: https }), '');
  assert.is(firstWarning(flag('authorize', 'any')), '', 'without https there is no certificate');
  const { warnings } = configOf({ env: { EC2_IPAM_WARMMIN: '3' } });
  assert.equal(warnings, ['EC2_IPAM_WARMMIN in the environment is no setting']);
});
complaints.run();

const kinds = suite('value parsers');
const LONG = (length: number) => `/${'x'.repeat(length - 1)}`;
const parsed: [kind: Kind<unknown>, ...cases: [text: string, value: unknown][]][] = [
  [duration('0s', '1h'), ['500ms', 500], ['30s', 30_000], ['10m', 600_000], ['1h', 3_600_000]],
  [duration('0s', '1h'), ['61m', undefined], ['1.5s', undefined], ['-1s', undefined], ['10 m', undefined]],
  [duration('1s', '1h'), ['999ms', undefined]],
  [percentage(1, 100), ['50%', 50], ['50', 50], ['101%', undefined], ['0', undefined]],
  [
    enrolledRole,
    ['arn:aws:iam::123456789012:role/a/b/host', { account: '123456789012', role: 'host', profile: 'host' }],
    ['arn:aws-cn:iam::123456789012:role/host=p', { account: '123456789012', role: 'host', profile: 'p' }],
    ['arn:aws:iam::1234:role/host', undefined],
    ['arn:aws:iam::123456789012:user/host', undefined],
  ],
  [
    serverUrl,
    ['https://IPAM.example.com', { host: 'ipam.example.com', port: 443 }],
    ['https://[fd00::1]:8031/', { host: 'fd00::1', port: 8031 }],
    ['http://ipam.example.com', undefined],
    ['https://ipam.example.com/path', undefined],
    ['https://u@ipam.example.com', undefined],
  ],
  [octalMode, ['0660', 0o660], ['660', 0o660], ['0680', undefined], ['7', undefined]],
  [listenAddress, ['http://[::1]:8031', http('::1', 8031)], ['http://127.0.0.1:0', http('127.0.0.1', 0)]],
  [listenAddress, ['https://0.0.0.0:8443/', http('0.0.0.0', 8443, 'https')], ['http://127.0.0.1', undefined]],
  [listenAddress, ['http://127.0.0.1:65536', undefined], ['http://127.0.0.1:80/path', undefined]],
  [listenAddress, ['ftp://127.0.0.1:80', undefined], ['unix:', undefined], [`unix:${LONG(108)}`, undefined]],
  [listenAddress, [`unix:${LONG(107)}`, { kind: 'unix', path: LONG(107) }]],
];
for (const [kind, ...cases] of parsed)
  for (const [text, value] of cases)
    kinds(`${kind.metavar} ${text}: is ${value === undefined ? 'refused' : JSON.stringify(value)}`, () => {
      assert.equal(kind.parse(text), value);
    });
kinds.run();
