// Goal: whatever argv says, the answer is the right exit status and lines that help. Method: main() with a command
// made for the test, and a world that records what is written.

import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { nearest } from '../../src/cli/arguments.ts';
import { main } from '../../src/cli/cli.ts';
import { type Command, command } from '../../src/cli/command.ts';
import { duration, onOff, text, wholeNumber } from '../../src/cli/settings/value-parsers.ts';
import { IpamError } from '../../src/domain/error.ts';
import { keptIo } from '../kit/cli.ts';
import { removeFolder, tempFolder } from '../kit/folders.ts';
import { assert, suite } from '../kit/uvu.ts';

let ran: unknown = null;
let failure: unknown = null;
const paint = command({
  name: 'paint',
  summary: 'give a thing a color',
  usage: 'THING [COLOR]',
  args: { min: 1, max: 2 },
  settings: ['store', 'storePassword', 'warmMin', 'strictReuse', 'listen', 'logLevel', 'logFormat'],
  options: {
    coats: { kind: wholeNumber(1, 9), fallback: '2', help: 'how often' },
    note: { kind: text('TEXT', 'any text'), fallback: null, help: 'what to remember' },
    'dry-run': { kind: onOff, fallback: 'off', help: 'only say' },
  },
  help: 'Paint dries.',
  async run({ args, options, config, io, log }) {
    if (failure !== null) throw failure;
    log('info', 'painting');
    if (options.note !== null) io.out.write(`${options.note}\n`);
    ran = { args, ...options, warmMin: config.warmMin, strictReuse: config.strictReuse };
    return args[0] === 'ghost' ? 1 : 0;
  },
});
const NONE = { args: { min: 0, max: 0 }, usage: '', options: {} };
const wait: Command = command({ ...paint, ...NONE, name: 'wait', run: async () => 0 });
const look = command({
  ...{ ...paint, ...NONE, name: 'look', args: { min: 0, max: 2 } },
  options: { every: { kind: duration('1s', '1m'), fallback: null, bare: '2s', help: 'again and again' } },
  async run({ args, options }) {
    ran = { args, ...options };
    return 0;
  },
});

async function cli(line: string, env: Record<string, string> = {}) {
  ran = null;
  const { io, written } = keptIo();
  const argv = line === '' ? [] : line.split(' ');
  const nothing = () => {
    throw new Error('no parts are needed');
  };
  const status = await main(argv, env, io, nothing, [paint, wait, look]);
  return { status, out: written.out, err: written.err, ran };
}
/** What paint ran with, where nothing else was said. */
const ranWith = (more: object) => ({
  coats: 2,
  note: null,
  'dry-run': false,
  warmMin: 2,
  strictReuse: false,
  ...more,
});

const commands = suite('the command line');
commands.before.each(() => {
  failure = null;
});

commands('a command: runs with its arguments, options and settings', async () => {
  const env = { EC2_IPAM_WARM_MIN: '4' };
  const { status, ran } = await cli('paint door --coats 3 --dry-run --strict-reuse red', env);
  assert.is(status, 0);
  const given = { args: ['door', 'red'], coats: 3, 'dry-run': true, warmMin: 4, strictReuse: true };
  assert.equal(ran, ranWith(given));
});

commands('an option: may stand anywhere, with = or without; the last one counts', async () => {
  const env = { EC2_IPAM_STRICT_REUSE: 'on' };
  const { ran } = await cli('paint --note=a=b --coats 1 --coats=4 --strict-reuse=off door', env);
  assert.equal(ran, ranWith({ args: ['door'], coats: 4, note: 'a=b' }));
});

commands('codes for a terminal: are visible in what a command prints and complains of', async () => {
  assert.is((await cli('paint door --note do\u001b[31mor')).out, 'do\\u001b[31mor\n');
  for (const line of [
    'paint a \u001b[31m \u001b[31m',
    '\u001b[31m',
    'paint --\u001b[31m a',
    'paint a --coats \u001b[31m',
  ])
    assert.not.match((await cli(line)).err, '\u001b', line);
  failure = new IpamError('bad-request', 'first \u001b[31m\nsecond \u009b');
  assert.is(
    (await cli('paint a')).err.replace(/.*painting.*\n/, ''),
    'ec2-ipam: first \\u001b[31m\nec2-ipam: second \\u009b\n',
  );
});

commands('a file with a secret that others can read: is refused with the command that mends it', async () => {
  const folder = tempFolder();
  const file = join(folder, 'secret');
  const ancestors = JSON.stringify({
    mysql: { host: 'localhost', user: 'u', password: 'hunter2', database: 'd' },
  });
  const cases: [text: string, setting: string, line: string, env: Record<string, string>][] = [
    ['hunter2', 'EC2_IPAM_STORE_PASSWORD_FILE', 'paint door', { EC2_IPAM_STORE_PASSWORD_FILE: file }],
    [ancestors, '--config', 'paint door', { EC2_IPAM_CONFIG: file }],
    [
      JSON.stringify({ store: 'mysql://u:hunter2@127.0.0.1/d' }),
      '--config',
      'paint door',
      { EC2_IPAM_CONFIG: file },
    ],
  ];
  for (const [text, setting, line, env] of cases) {
    writeFileSync(file, text);
    chmodSync(file, 0o644);
    const { status, err, ran } = await cli(line, env);
    assert.equal({ status, ran }, { status: 2, ran: null });
    const refusal = `ec2-ipam: ${setting}: ${file} is open to users other than its owner; chmod 600 ${file}`;
    assert.ok(err.startsWith(refusal) && err.split('\n').length === 2, err);
    chmodSync(file, 0o600);
    assert.is((await cli(line, env)).status, 0);
  }
  writeFileSync(file, '{ "warmMin": 3 }');
  chmodSync(file, 0o644);
  assert.is(
    (await cli('paint door', { EC2_IPAM_CONFIG: file })).status,
    0,
    'without a secret it may be read',
  );
  removeFolder(folder);
});

commands('a flag that may stand alone: takes the next argument where that is a value of it', async () => {
  for (const [line, every, ...args] of [
    ['look', null],
    ['look --every', 2000],
    ['look --every 5s', 5000],
    ['look --every=5s', 5000],
    ['look --every 5s red', 5000, 'red'],
    ['look --every red', 2000, 'red'],
    ['look red --every', 2000, 'red'],
    ['look --every 3s --every', 2000],
    ['look --every=3s 5s', 3000, '5s'],
    ['look --every red 5s', 2000, 'red', '5s'],
    ['look --every -- 5s', 2000, '5s'],
  ] as const)
    assert.equal((await cli(line)).ran, { args, every }, line);
  for (const line of ['look --every=2h', 'look --every=', 'look --every 5s 5s 5s 5s'])
    assert.is((await cli(line)).status, 2, line);
  assert.match((await cli('look --help')).out, /--every \[DURATION\] {2,}again and again\n/);
});

commands('a switch that is a setting: may be followed by on or off', async () => {
  for (const [line, strictReuse] of [
    ['paint door --strict-reuse on', true],
    ['paint door --strict-reuse off', false],
    ['paint --strict-reuse off door', false],
    ['paint --strict-reuse door', true],
  ] as const)
    assert.equal((await cli(line)).ran, ranWith({ args: ['door'], strictReuse }), line);
  assert.equal((await cli('paint --dry-run on')).ran, ranWith({ args: ['on'], 'dry-run': true }));
});

commands('--: ends the flags', async () => {
  assert.equal((await cli('paint -- --coats')).ran, ranWith({ args: ['--coats'] }));
});

commands("the command's own failure: is status 1", async () => {
  assert.is((await cli('paint ghost')).status, 1);
});

const usage: [line: string, ...said: string[]][] = [
  ['pant door', 'there is no command "pant": did you mean paint?'],
  ['xyzzy', 'there is no command "xyzzy": see ec2-ipam --help'],
  ['help pant', 'there is no command "pant": did you mean paint?'],
  ['--coats 3 paint', 'the command comes before its flags: ec2-ipam COMMAND --coats'],
  ['paint door --cots 3', 'paint has no --cots: did you mean --coats?'],
  ['paint door --quarantine 1s', 'paint has no --quarantine: see ec2-ipam paint --help'],
  ['paint door --store-password x', 'paint has no --store-password: see ec2-ipam paint --help'],
  ['paint door -n', 'paint has no -n: see ec2-ipam paint --help'],
  ['paint door --note', '--note needs a value: give any text'],
  ['paint door --coats --dry-run', '--coats needs a value: give a whole number from 1 to 9'],
  ['paint', 'paint needs more arguments: ec2-ipam paint THING [COLOR]'],
  ['paint a b c', 'paint takes at most 2 arguments: ec2-ipam paint THING [COLOR]'],
  ['wait here', 'wait takes no argument, but "here" was given'],
  [
    'paint door --coats 10 --warm-min x',
    '--coats "10": give a whole number from 1 to 9',
    '--warm-min "x": give a whole number from 0 to 1000',
  ],
];
for (const [line, ...said] of usage)
  commands(`"${line}": is wrong usage`, async () => {
    const expected = said.map(one => `ec2-ipam: ${one}\n`).join('');
    assert.equal(await cli(line), { status: 2, out: '', err: expected, ran: null });
  });

commands('help: is asked for in many ways, and is told on stdout', async () => {
  for (const line of ['help', '--help', '-h']) {
    const { status, out, err } = await cli(line);
    assert.equal({ status, err }, { status: 0, err: '' });
    const listed =
      /^usage: ec2-ipam COMMAND.*\n {2}paint THING \[COLOR\] {2}give a thing a color\n {2}wait /s;
    assert.match(out, listed);
  }
  const said = [];
  for (const line of ['help paint', 'paint --help', 'paint -h', 'paint door --nonsense --help'])
    said.push(await cli(line));
  for (const one of said) assert.equal(one, said[0]);
  const { out = '' } = said[0] ?? {};
  for (const part of [
    /^usage: ec2-ipam paint THING \[COLOR\]/,
    /--coats N +how often; default 2\n/,
    /--dry-run +only say\n/,
    /--warm-min N .* default 2 \[EC2_IPAM_WARM_MIN\]\n/,
    /\[EC2_IPAM_STORE_PASSWORD\] .*\[EC2_IPAM_STORE_PASSWORD_FILE\]/,
    /\nPaint dries\.\n$/,
  ])
    assert.match(out, part);
  assert.not.match(out, /--quarantine|--store-password/);
});

commands('nothing at all: is wrong usage, and shows the commands', async () => {
  const { status, out, err } = await cli('');
  assert.equal({ status, out }, { status: 2, out: '' });
  assert.match(err, /^usage: /);
});

commands('--version: is told', async () => {
  assert.match((await cli('--version')).out, /^\d+\.\d+\.\d+\n$/);
});

commands('an error of ours: is its line and status 1; wrong usage found later is status 2', async () => {
  failure = new IpamError('conflict', 'somebody has it', { hint: 'ask' });
  assert.equal((await cli('paint door')).err, 'ec2-ipam: somebody has it; ask\n');
  assert.is((await cli('paint door')).status, 1);
  failure = new IpamError('bad-request', 'no such thing');
  assert.is((await cli('paint door')).status, 2);
});

commands('any other error: is internal, in one line; its stack is for debugging', async () => {
  failure = new TypeError('x is\nundefined');
  const brief = await cli('paint door');
  assert.equal(brief.err, 'ec2-ipam: internal error: x is undefined; --log-level debug shows where\n');
  assert.is(brief.status, 1);
  assert.match(
    (await cli('paint door --log-level debug')).err,
    /^ec2-ipam: internal error: x is undefined\nec2-ipam: .*cli\.test\.ts/s,
  );
  failure = 'a string';
  assert.match((await cli('paint door')).err, /internal error: a string/);
});

commands('warnings of the configuration: are logged on stderr, and stdout is for data', async () => {
  const { out, err, status } = await cli('paint door', { EC2_IPAM_WRAM_MIN: '1' });
  assert.equal({ out, status }, { out: '', status: 0 });
  assert.match(err, /"level":"warn","message":"EC2_IPAM_WRAM_MIN in the environment is no setting"/);
});
commands.run();

const close = suite('nearest');
const KNOWN = ['serve', 'init', 'recycle', 'reconcile', 'release'];
const slips: [given: string, found: string | null][] = [
  ['srve', 'serve'],
  ['serve', 'serve'],
  ['initt', 'init'],
  ['rec', 'recycle'],
  ['reconcil', 'reconcile'],
  ['zzzz', null],
  ['frobnicate', null],
];
for (const [given, found] of slips)
  close(`${given}: is a slip of ${found ?? 'nothing'}`, () => assert.is(nearest(given, KNOWN), found));
close.run();
