// Goal: what the README says is what the code does. Method: its tables, blocks and names are read back and held
// against settings, commands, moves, sources and files.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TIERS } from '../../scripts/tiers.ts';
import { main } from '../../src/cli/cli.ts';
import type { Io } from '../../src/cli/command.ts';
import { loadConfig } from '../../src/cli/settings/config.ts';
import { environmentName, SETTINGS, type Setting, settingNames } from '../../src/cli/settings/settings.ts';
import { MOVES, STATUSES } from '../../src/domain/allocation.ts';
import { assert, suite } from '../kit/uvu.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const README = read('README.md');
const SOURCES = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
  .filter(file => file.endsWith('.ts'))
  .map(file => read(join('src', file)))
  .join('\n');

/** What stands under a heading, up to the next of its kind. */
function section(title: string): string {
  const [, text] = README.split(`\n## ${title}\n`);
  assert.ok(text, `no section "${title}"`);
  return text?.split('\n## ')[0] ?? '';
}

/** The rows of the table whose head begins with these cells, each as its cells. */
function tableOf(...head: string[]): string[][] {
  const lines = README.split('\n');
  const at = lines.findIndex(line => line.startsWith(`| ${head.join(' | ')} |`));
  assert.ok(at >= 0, `no table | ${head.join(' | ')} |`);
  const end = lines.findIndex((line, index) => index > at && !line.startsWith('|'));
  return lines.slice(at + 2, end).map(line => line.slice(2, -2).split(' | '));
}

const blocks = (language: string): string[] =>
  [...README.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, 'gms'))].map(([, text = '']) => text);
const codeIn = (text: string): string[] => [...text.matchAll(/`([^`]+)`/g)].map(([, code = '']) => code);
const prose = README.replace(/^```.*?^```$/gms, '');
const plain = (cell: string): string => cell.replaceAll('`', '');
const sorted = (words: Iterable<string>): string[] => [...words].sort();

/** What the command line answers to `argv`. */
async function said(...argv: string[]): Promise<string> {
  let text = '';
  const output = {
    write: (more: string) => {
      text += more;
    },
    isTerminal: false,
  };
  const io: Io = {
    out: output,
    err: output,
    ask: async () => null,
    signal: AbortSignal.timeout(60_000),
    crashed: new Promise(() => {}),
  };
  await main(argv, {}, io, () => {
    throw new Error('help needs no parts');
  });
  return text;
}
const leftColumn = (text: string): string[] =>
  [...text.matchAll(/^ {2}(\S.*?) {2,}\S/gm)].map(([, left = '']) => left);
const usages = leftColumn(await said('--help'));
const helps = new Map<string, string>();
for (const usage of usages) {
  const [name = ''] = usage.split(' ');
  helps.set(name, await said(name, '--help'));
}
const flagsIn = (text: string): string[] => text.match(/--[a-z][a-z0-9-]+/g) ?? [];
const optionsOf = (name: string): string[] =>
  leftColumn(helps.get(name)?.match(/^options:\n((?: {2}.*\n)*)/m)?.[1] ?? '').flatMap(flagsIn);

const readme = suite('README');

readme('the table of settings has each setting, with its names and its default', () => {
  const expected = settingNames.map(name => {
    const { flag, shape, fallback }: Setting<unknown> = SETTINGS[name];
    const text = typeof fallback === 'object' ? (fallback?.said ?? 'none') : fallback;
    return [shape === 'secret' ? '–' : `--${flag}`, environmentName(flag), text];
  });
  const found = tableOf('flag', 'environment', 'default').map(cells => cells.slice(0, 3).map(plain));
  assert.equal(found, expected);
});

readme('the table of commands has each command, with its arguments and its own flags', () => {
  const rows = tableOf('command', 'own flags');
  assert.equal(
    rows.map(([command = '']) => plain(command)),
    usages,
  );
  for (const [command = '', flags = ''] of rows) {
    const [name = ''] = plain(command).split(' ');
    assert.equal(flagsIn(flags), optionsOf(name), name);
  }
});

readme('every ec2-ipam and mknet.sh command that it shows is accepted as it is written', () => {
  const shown = [...blocks('sh'), ...blocks('ini'), ...codeIn(prose)].join('\n').replace(/\\\n/g, ' ');
  const lines = [...shown.matchAll(/\bec2-ipam(?:\.mjs)? ([a-z]+)(?!\S)([^\n]*)/g)];
  assert.ok(lines.length > 15, 'few commands were found');
  for (const [line, name = '', rest = ''] of lines) {
    const known = flagsIn(helps.get(name) ?? '');
    assert.ok(helps.has(name), `${line}: there is no command ${name}`);
    for (const flag of flagsIn(rest)) assert.ok(known.includes(flag), `${line}: ${name} has no ${flag}`);
  }
  const options = flagsIn(read('mknet.sh').match(/<<'HELP'\n(.*?)\nHELP/s)?.[1] ?? '');
  for (const [line] of shown.matchAll(/mknet\.sh[^\n]*/g))
    for (const flag of flagsIn(line)) assert.ok(options.includes(flag), `${line}: mknet.sh has no ${flag}`);
});

readme('each status is told with all the moves out of it, and each move stands in the picture', () => {
  const moves = Object.entries(MOVES).filter(([, { from, to }]) => from !== (to as string));
  const rows = tableOf('status', 'means', 'on the ENI?', 'moves out of it');
  assert.equal(sorted(rows.map(([status = '']) => plain(status))), sorted(STATUSES));
  for (const [status = '', , , names = ''] of rows) {
    const out = moves.filter(([, { from }]) => from === plain(status)).map(([name]) => name);
    assert.equal(sorted(names.split(', ')), out.length === 0 ? ['none'] : sorted(out), status);
  }
  const picture = section('The life of an address').match(/```text\n(.*?)```/s)?.[1] ?? '';
  const drawn = new Set(
    picture
      .split(/ {2,}|[-+|<>^]+|\bv\b/)
      .map(word => word.trim())
      .filter(word => /^[a-z][a-z ]*$/.test(word)),
  );
  const words = [...moves.map(([name]) => name), ...STATUSES];
  assert.equal(sorted(drawn), sorted(words));
});

readme('every error and log message that it explains stands in the source', () => {
  const rows = [...tableOf('the line says', 'do'), ...tableOf('message', 'means')];
  assert.ok(rows.length > 20);
  const foreign = 'connection refused'; // dockerd's own
  for (const message of rows.flatMap(([cell = '']) => codeIn(cell)))
    assert.ok(message === foreign || SOURCES.includes(message), `no source says "${message}"`);
});

readme(
  'every JSON block parses; the plugin spec verifies the server, and the configuration is accepted',
  () => {
    const [spec, file, policy] = blocks('json').map(text => JSON.parse(text));
    assert.ok(policy.Statement);
    assert.is(spec.TLSConfig.InsecureSkipVerify, false);
    for (const name of ['CAFile', 'CertFile', 'KeyFile']) assert.type(spec.TLSConfig[name], 'string');
    const config = loadConfig({
      flags: new Map([['config', ['example.json']]]),
      env: {},
      readFile: () => JSON.stringify(file),
      home: '/root',
      isRoot: true,
      isTerminal: false,
      uses: settingNames,
    });
    assert.is(config.strictReuse, file.strictReuse);
    assert.equal(config.warnings, []);
  },
);

readme('the policy allows the actions that the program calls, and no other', () => {
  const called = [...read('src/cloud/ec2.ts').matchAll(/new (\w+)Command\(/g)].map(
    ([, name]) => `ec2:${name}`,
  );
  const policy = blocks('json')
    .map(text => JSON.parse(text))
    .find(block => block.Statement);
  const allowed = policy.Statement.flatMap((statement: { Action: string[] }) => statement.Action);
  assert.equal(sorted(allowed), sorted(new Set(called)));
  for (const { Action, Condition } of policy.Statement)
    if (Action.includes('ec2:AssignPrivateIpAddresses'))
      assert.ok(Condition.StringEquals['aws:ResourceTag/ec2-ipam']);
});

const sectionOf = (unit = '', name: string): string =>
  `\n${unit}`.split(`\n[${name}]\n`)[1]?.split('\n[')[0] ?? '';
const UNIT: [section: string, lines: RegExp[]][] = [
  ['Unit', [/^After=network-online\.target$/m, /^Before=docker\.service$/m, /^StartLimitIntervalSec=0$/m]],
  [
    'Service',
    [
      /^ExecStartPre=-\/\S+\/mknet\.sh --link$/m,
      /^ExecStart=\/\S+ \/\S+\/ec2-ipam\.mjs serve --listen unix:\/run\/docker\/plugins\/ec2-ipam\.sock$/m,
      /^ExecStartPost=.*until test -S \/run\/docker\/plugins\/ec2-ipam\.sock;/m,
      /^Restart=always$/m,
      /^StateDirectory=ec2-ipam$/m,
      /^StateDirectoryMode=0700$/m,
    ],
  ],
  ['Install', [/^WantedBy=docker\.service$/m]],
];
for (const [name, lines] of UNIT)
  readme(`the unit has what [${name}] needs to have the socket there before Docker, for good`, () => {
    for (const line of lines) assert.match(sectionOf(blocks('ini')[0], name), line);
  });

readme('a host without a server has a unit that brings its ENIs up before Docker', () => {
  const [, link, ...more] = blocks('ini');
  assert.equal(more, []);
  assert.match(sectionOf(link, 'Unit'), /^Before=docker\.service$/m);
  assert.match(sectionOf(link, 'Service'), /^Type=oneshot\nExecStart=\/\S+\/mknet\.sh --link$/m);
  assert.match(sectionOf(link, 'Install'), /^WantedBy=docker\.service$/m);
});

readme('every path, script and link that it names is there', () => {
  const top = readdirSync(ROOT);
  const made = ['dist', 'node_modules']; // not in a fresh clone, so not looked into
  const named = [...codeIn(prose), ...blocks('sh').flatMap(text => text.split(/\s+/))].concat(
    blocks('text')
      .filter(text => text.startsWith('src/'))
      .flatMap(text => text.match(/^src\/\S+|(?<= )src\/\S+/gm) ?? []),
  );
  const paths = named.filter(name => /^\.?[\w.-]+(\/[\w.-]+)*\/?$/.test(name) && /[./]/.test(name));
  const own = paths.filter(
    path => top.includes(path.split('/')[0] ?? '') || /^(src|test|scripts)\//.test(path),
  );
  assert.ok(own.length > 20, 'few paths were found');
  for (const path of own)
    if (!made.includes(path.split('/')[0] ?? ''))
      assert.ok(existsSync(join(ROOT, path)), `${path} is not there`);

  const { scripts } = JSON.parse(read('package.json'));
  const asked = [...README.matchAll(/\bnpm (?:run ([\w:-]+)|(test)\b)/g)].map(
    ([, run, test]) => run ?? test ?? '',
  );
  assert.ok(asked.length >= 4);
  for (const name of asked) assert.type(scripts[name], 'string', `npm run ${name}`);

  const anchors = [...README.matchAll(/^#+ (.*)$/gm)].map(([, title = '']) =>
    title
      .toLowerCase()
      .replace(/[^\w -]/g, '')
      .replaceAll(' ', '-'),
  );
  for (const [, target = ''] of README.matchAll(/\]\(([^)]+)\)/g))
    if (target.startsWith('#')) assert.ok(anchors.includes(target.slice(1)), `no heading for ${target}`);
    else if (!target.startsWith('https://')) assert.ok(existsSync(join(ROOT, target)), target);
});

readme('the table of tiers has each tier of the tests', () => {
  assert.equal(
    tableOf('tier', 'files').map(([tier = '']) => plain(tier)),
    TIERS.map(tier => tier.name),
  );
});
readme.run();
