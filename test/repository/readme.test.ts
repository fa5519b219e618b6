// Goal: what the READMEs say is what the code does. Method: their tables, blocks and names are read back and held
// against settings, commands, moves, sources and files. (What is generated: cli-page.test.ts.)
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { newCounts, rowOf, tableOf as studyTable } from '../../scripts/scale-study/table.ts';
import { ROOT, TIERS } from '../../scripts/tiers.ts';
import { main } from '../../src/cli/cli.ts';
import { SETTINGS, type Setting, settingNames } from '../../src/cli/settings/settings.ts';
import { MOVES, STATUSES } from '../../src/domain/allocation.ts';
import { marksOf } from '../../src/domain/pool-size.ts';
import { NETWORKS, REQUESTS } from '../../src/http/admission.ts';
import { BODY_BYTES_MAX } from '../../src/http/body.ts';
import { OF_ADDRESS_MAX, OF_CERTIFICATE_MAX } from '../../src/http/listener/client-places.ts';
import { PENDING_MAX } from '../../src/http/listener/connection.ts';
import { CROWD_MAX } from '../../src/http/listener/connections.ts';
import { OPEN_MAX } from '../../src/http/listener/listen.ts';
import { NEWCOMER_BOUNDS } from '../../src/http/listener/newcomers.ts';
import { configOf, keptIo } from '../kit/cli.ts';
import { blockBehind, blocksIn, linesOf, PAGES, type Page, readPages } from '../kit/pages.ts';
import { assert, suite } from '../kit/uvu.ts';

const README_BYTES_MAX = 16_000;
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const TEXTS = readPages(ROOT);
const textOf = (page: Page): string => TEXTS.get(page) ?? '';
const README = textOf('README.md');
const filesIn = (folder: string): string[] =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter(file => /\.tsx?$/.test(file))
    .map(file => read(join(folder, file)));
const SOURCES = filesIn('src').join('\n');

/** What stands under a heading, up to the next of its kind. */
function section(page: Page, title: string): string {
  const [, text] = textOf(page).split(`\n## ${title}\n`);
  assert.ok(text, `${page} has no section "${title}"`);
  return text?.split('\n## ')[0] ?? '';
}

const thousands = (count: number): string => count.toLocaleString('en-US');

/** The rows of the page's table whose head begins with these cells, each as its cells. */
function tableOf(page: Page, ...head: string[]): string[][] {
  const lines = textOf(page).split('\n');
  const at = lines.findIndex(line => line.startsWith(`| ${head.join(' | ')} |`));
  assert.ok(at >= 0, `${page} has no table | ${head.join(' | ')} |`);
  const end = lines.findIndex((line, index) => index > at && !line.startsWith('|'));
  return lines.slice(at + 2, end).map(line => line.slice(2, -2).split(' | '));
}

/** What names the rows of the table. */
const firstColumn = (page: Page, ...head: string[]): string[] =>
  tableOf(page, ...head).map(([cell = '']) => plain(cell));

const blocks = (language: string): string[] => [...TEXTS.values()].flatMap(text => blocksIn(text, language));
const codeIn = (text: string): string[] => [...text.matchAll(/`([^`]+)`/g)].map(([, code = '']) => code);
const proseOf = (text: string): string => text.replace(/^```.*?^```$/gms, '');
const prose = [...TEXTS.values()].map(proseOf).join('\n');
const plain = (cell: string): string => cell.replaceAll('`', '');
const sorted = (words: Iterable<string>): string[] => [...words].sort();

/** What the command line answers to `argv`. */
async function said(...argv: string[]): Promise<string> {
  const { io, written } = keptIo();
  await main(argv, {}, io, () => {
    throw new Error('help needs no parts');
  });
  return written.all;
}
/** Fails with the first of these that is not so. */
function each<T>(list: Iterable<T>, isSo: (one: T) => boolean, complaint: (one: T) => string = String): void {
  for (const one of list) assert.ok(isSo(one), complaint(one));
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

const readme = suite('READMEs');

const TITLES =
  'Try it, Install on a host, Central or embedded, Settings, What to do when, Upgrade from the ancestor, Links';
readme('README.md: is short, and leads to each other page from its beginning', () => {
  assert.ok(Buffer.byteLength(README) <= README_BYTES_MAX, `${Buffer.byteLength(README)} bytes`);
  const titles = [...README.matchAll(/^## (.*)$/gm)].map(([, title = '']) => title);
  assert.is(titles.join(', '), TITLES);
  const contents = (README.split('\n## ')[0] ?? '').replaceAll('\n', ' ');
  each(PAGES.slice(1), page => contents.includes(`](${page})`));
  each(titles, title => contents.includes(`[${title}](#`));
});

readme('README.md: leads to the upgrade, from each of the two that may be there', () => {
  const links = [...README.matchAll(/\]\(drizzle\/README\.md#([a-z-]+)\)/g)].map(([, anchor]) => anchor);
  assert.equal(new Set(links), new Set(['upgrade-from-the-release-before', 'upgrade-from-the-ancestor']));
});

readme('each README of the repository: is among the pages that are checked here', () => {
  const folders = ['.', 'src', 'scripts', 'drizzle', 'test'];
  const found = folders.flatMap(folder =>
    readdirSync(join(ROOT, folder), { recursive: folder !== '.', encoding: 'utf8' })
      .map(file => normalize(join(folder, file)))
      .filter(file => file.endsWith('.md')),
  );
  assert.equal(sorted(found), sorted(PAGES));
});

readme('a README that the program names: is named with its folder and a heading', () => {
  const said = SOURCES.split('\n').filter(line => line.includes('README') && !/^\s*(\/?\*|\/\/)/.test(line));
  assert.ok(said.length > 1);
  for (const line of said) {
    const [, page = '', title = ''] = /see (\S+README\.md), ([A-Z][\w ]*)/.exec(line) ?? [];
    assert.ok(page !== '' && read(page).includes(`\n## ${title}\n`), line);
  }
});

readme('a newcomer: types two commands, of which CI runs the second', () => {
  assert.equal(linesOf(blocksIn(README, 'sh')[0] ?? ''), ['npm run demo', 'npm test']);
  assert.match(read('.ci/run'), /^exec npm test$/m);
});

readme('the picture of README.md: is there, and names statuses and moves as the ledger does', () => {
  const [, path = ''] = README.match(/!\[[^\]]+\]\(([^)]+\.svg)\)/) ?? [];
  const picture = read(path);
  assert.match(picture, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" viewBox="[^"]+"/);
  const words = [...picture.matchAll(/<text [^>]*>([a-z]+)<\/text>/g)].map(([, word]) => word);
  const known: readonly unknown[] = [...STATUSES, ...Object.keys(MOVES), 'dockerd', 'ledger', 'ipvlan'];
  each('free assign ready claim allocated release unassign'.split(' '), word => words.includes(word));
  each(words, word => known.includes(word));
});

readme('each setting of the table in README.md: has its default', () => {
  const rows = tableOf('README.md', 'flag', 'default', 'meaning');
  assert.is(rows.length, 10);
  for (const [flag = '', fallback = ''] of rows) {
    const name = settingNames.find(one => `--${SETTINGS[one].flag}` === plain(flag));
    const setting: Setting<unknown> | null = name === undefined ? null : SETTINGS[name];
    const expected = setting?.fallback;
    assert.is(plain(fallback), typeof expected === 'object' ? (expected?.said ?? 'none') : expected, flag);
  }
});

readme('what the demo prints: is printed by the program', () => {
  const [shown = ''] = blocksIn(section('README.md', 'Try it'), 'text');
  const source = read('src/cli/commands/demo.ts');
  const labels = [...shown.matchAll(/^ {2}(docker \w+)/gm)].map(([, label = '']) => label);
  assert.ok(labels.length > 4);
  const texts = ['A simulated subnet', 'The server listens on', 'until Ctrl-C.'];
  each([...labels, ...texts], text => source.includes(text));
});

readme('every ec2-ipam and mknet.sh command: is accepted as it is written', () => {
  const shown = [...blocks('sh'), ...blocks('ini'), ...codeIn(prose)].join('\n').replace(/\\\n/g, ' ');
  const lines = [...shown.matchAll(/\bec2-ipam(?:\.mjs)? ([a-z]+)(?!\S)([^\n]*)/g)];
  assert.ok(lines.length > 15, 'few commands were found');
  for (const [line, name = '', rest = ''] of lines) {
    const known = flagsIn(helps.get(name) ?? '');
    assert.ok(helps.has(name), `${line}: there is no command ${name}`);
    each(
      flagsIn(rest),
      flag => known.includes(flag),
      flag => `${line}: ${name} has no ${flag}`,
    );
  }
  const options = flagsIn(read('mknet.sh').match(/<<'HELP'\n(.*?)\nHELP/s)?.[1] ?? '');
  for (const [line] of shown.matchAll(/mknet\.sh[^\n]*/g))
    each(
      flagsIn(line),
      flag => options.includes(flag),
      flag => `${line}: mknet.sh has no ${flag}`,
    );
});

readme('each status: is told with all the moves out of it, and each move stands in the picture', () => {
  const moves = Object.entries(MOVES).filter(([, { from, to }]) => from !== (to as string));
  const rows = tableOf('src/README.md', 'status', 'means', 'on the ENI?', 'moves out of it');
  assert.equal(sorted(rows.map(([status = '']) => plain(status))), sorted(STATUSES));
  for (const [status = '', , , names = ''] of rows) {
    const out = moves.filter(([, { from }]) => from === plain(status)).map(([name]) => name);
    assert.equal(sorted(names.split(', ')), out.length === 0 ? ['none'] : sorted(out), status);
  }
  const picture = blocksIn(section('src/README.md', 'The life of an address'), 'text')[0] ?? '';
  const drawn = picture.split(/ {2,}|[-+|<>^]+|\bv\b/).map(word => word.trim());
  const words = [...moves.map(([name]) => name), ...STATUSES];
  assert.equal(sorted(new Set(drawn.filter(word => /^[a-z][a-z ]*$/.test(word)))), sorted(words));
});

readme('every error and log message that is explained: stands in the source', () => {
  const rows = [
    ...tableOf('src/cli/README.md', 'the line says', 'do'),
    ...tableOf('src/cli/README.md', 'message', 'means'),
    ...[...section('README.md', 'What to do when').matchAll(/^\*\*.*\*\*/gm)],
  ];
  assert.ok(rows.length > 20);
  const foreign = 'connection refused'; // dockerd's own
  const messages = rows.flatMap(([cell = '']) => codeIn(cell)).filter(message => message !== foreign);
  each(messages, message => SOURCES.includes(message));
});

readme('every JSON block: parses; the plugin spec verifies the server, the configuration is accepted', () => {
  for (const block of blocks('json')) JSON.parse(block);
  const { TLSConfig } = JSON.parse(blockBehind(TEXTS, 'Each host, in `/etc/docker/plugins/', 'json'));
  assert.is(TLSConfig.InsecureSkipVerify, false);
  for (const name of ['CAFile', 'CertFile', 'KeyFile']) assert.type(TLSConfig[name], 'string');
  const file = JSON.parse(blockBehind(TEXTS, '### Files', 'json'));
  const config = configOf({ file });
  assert.is(config.strictReuse, file.strictReuse);
  assert.equal(config.warnings, []);
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
const HARDENING: readonly string[] = [
  'CapabilityBoundingSet=CAP_NET_ADMIN CAP_SYS_ADMIN CAP_SYS_PTRACE',
  'RestrictNamespaces=net',
  'RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK',
  'SystemCallFilter=@system-service',
  'SystemCallErrorNumber=EPERM',
  'SystemCallArchitectures=native',
  'ProtectSystem=strict',
  'ReadOnlyPaths=/run',
  // As ProtectSystem= leaves it no other place, and a stop must not remove the sockets of other plugins.
  'RuntimeDirectory=docker/plugins',
  'RuntimeDirectoryPreserve=yes',
  'UMask=0077',
  ...['NoNewPrivileges', 'ProtectHome', 'PrivateTmp', 'PrivateDevices', 'ProtectKernelTunables'].map(yes),
  ...['ProtectKernelModules', 'ProtectKernelLogs', 'ProtectControlGroups', 'ProtectClock'].map(yes),
  ...['ProtectHostname', 'LockPersonality', 'RestrictRealtime', 'RestrictSUIDSGID'].map(yes),
];
function yes(name: string): string {
  return `${name}=yes`;
}
/** With these the witness sees no container, and takes none for evidence; or the runtimes do not start. */
const BLINDING =
  'ProtectProc ProcSubset PrivateNetwork PrivateMounts PrivateUsers PrivatePIDs User DynamicUser RootDirectory MemoryDenyWriteExecute';

readme('the unit: is hardened, and leaves the witness what it needs to see', () => {
  const lines = sectionOf(blockBehind(TEXTS, '**4. The unit.**', 'ini'), 'Service').split('\n');
  each(HARDENING, line => lines.includes(line));
  const names = lines.map(line => line.split('=')[0]);
  each(BLINDING.split(' '), name => !names.includes(name));
});

for (const [name, lines] of UNIT)
  readme(`the unit: has what [${name}] needs to have the socket there before Docker, for good`, () => {
    for (const line of lines)
      assert.match(sectionOf(blockBehind(TEXTS, '**4. The unit.**', 'ini'), name), line);
  });

readme('a host without a server: has a unit that brings its ENIs up before Docker', () => {
  const link = blockBehind(TEXTS, '`/etc/systemd/system/ec2-ipam-link.service`', 'ini');
  assert.is(blocks('ini').length, 3);
  assert.match(sectionOf(link, 'Unit'), /^Before=docker\.service$/m);
  assert.match(sectionOf(link, 'Service'), /^Type=oneshot\nExecStart=\/\S+\/mknet\.sh --link$/m);
  assert.match(sectionOf(link, 'Install'), /^WantedBy=docker\.service$/m);
});

readme('an agent: has a unit that has the socket there before Docker, for good', () => {
  const unit = blockBehind(TEXTS, '`/etc/systemd/system/ec2-ipam-agent.service`', 'ini');
  const server = blockBehind(TEXTS, '**4. The unit.**', 'ini');
  const lines = (text: string) => text.split('\n').filter(line => !/^(Description|ExecStart)=/.test(line));
  assert.equal(lines(unit), lines(server));
  assert.match(
    sectionOf(unit, 'Service'),
    /^ExecStart=.* agent --listen unix:\/run\/docker\/plugins\/ec2-ipam\.sock /m,
  );
});

readme('every path and script that is named: is there', () => {
  const top = readdirSync(ROOT);
  const made = ['dist', 'node_modules']; // not in a fresh clone, so not looked into
  const lists = blocks('text').filter(text => text.startsWith('src/'));
  const named = [
    ...codeIn(prose),
    ...blocks('sh').flatMap(text => text.split(/\s+/)),
    ...lists.flatMap(text => text.match(/^src\/\S+|(?<= )src\/\S+/gm) ?? []),
  ];
  const paths = named.filter(name => /^\.?[\w.-]+(\/[\w.-]+)*\/?$/.test(name) && /[./]/.test(name));
  const folderOf = (path: string) => path.split('/')[0] ?? '';
  const own = paths.filter(path => [...top, 'src', 'test', 'scripts', 'drizzle'].includes(folderOf(path)));
  assert.ok(own.length > 80, 'few paths were found');
  each(own, path => made.includes(folderOf(path)) || existsSync(join(ROOT, path)));
});

readme('each view: is told with its file', () => {
  const files = firstColumn('src/views/README.md', 'file', 'view', 'API');
  assert.ok(files.length > 7);
  each(files, file => existsSync(join(ROOT, 'src/views', file)));
});

readme('every npm script that is named: is there, and takes the flags that it is given', () => {
  const { scripts } = JSON.parse(read('package.json'));
  const asked = [...TEXTS.values()].flatMap(text => [
    ...text.matchAll(/\bnpm (?:run ([\w:-]+)|(test)\b)(?: --([^\n`|]*))?/g),
  ]);
  assert.ok(asked.length >= 20);
  for (const [line, run, test, rest = ''] of asked) {
    const name = run ?? test ?? '';
    assert.type(scripts[name], 'string', line);
    const file = `scripts/${name}.ts`;
    const folder = `scripts/${name}`;
    const sources =
      rest === '' ? [] : [read(file), ...(existsSync(join(ROOT, folder)) ? filesIn(folder) : [])];
    const isTaken = (flag: string) => new RegExp(`${flag}[ \\]]|\\b${flag.slice(2)}: \\{ type:`);
    each(
      flagsIn(rest),
      flag => sources.some(text => isTaken(flag).test(text)),
      flag => `${line}: ${flag}`,
    );
  }
});

/** As GitHub makes them of headings. */
const anchorsOf = (page: string): string[] =>
  [...page.matchAll(/^#+ (.*)$/gm)].map(([, title = '']) =>
    title
      .toLowerCase()
      .replace(/[^\p{L}\w -]/gu, '')
      .replaceAll(' ', '-'),
  );
for (const page of PAGES)
  readme(`every link of ${page}: leads to a file or a heading`, () => {
    for (const [, target = ''] of proseOf(textOf(page)).matchAll(/\]\(([^)]+)\)/g)) {
      if (target.startsWith('https://')) continue;
      const [path = '', anchor] = target.split('#');
      const file = path === '' ? page : normalize(join(dirname(page), path));
      assert.ok(existsSync(join(ROOT, file)), target);
      if (anchor !== undefined)
        assert.ok(anchorsOf(proseOf(read(file))).includes(anchor), `no heading for ${target}`);
    }
  });

readme('every name of the program that src/README.md gives: is in the sources', () => {
  const isName = (code: string) => /^[a-z]+[A-Z]\w+$|^[A-Z]\w+$/.test(code);
  const names = codeIn(proseOf(textOf('src/README.md'))).filter(isName);
  assert.ok(names.length > 10);
  each(names, name => new RegExp(`\\b${name}\\b`).test(SOURCES));
});

readme('the marks of a warm pool: are those of the table', () => {
  const target = { warmMin: Number(SETTINGS.warmMin.fallback), warmMax: Number(SETTINGS.warmMax.fallback) };
  const rows = tableOf('src/cli/README.md', 'gained lately', 'refilled below', 'up to');
  assert.ok(rows.length > 3);
  for (const [gained = '', low, high] of rows) {
    const marks = marksOf(target, { level: Number.parseInt(gained, 10), at: 0 }, 0);
    assert.equal(marks, { low: Number(low), high: Number(high) });
  }
});

readme('the bounds of requests and connections: are those of the code', () => {
  const told = section('src/README.md', 'The life of a request').split('### Many requests')[1] ?? '';
  const { silentMaxMs, totalMax, ofAddressMax } = NEWCOMER_BOUNDS;
  const bounds = [
    `${PENDING_MAX} may wait on it, ${thousands(CROWD_MAX)} on a listener`,
    `A body has ${BODY_BYTES_MAX / 1024} kB at most`,
    `Of a client ${REQUESTS.ofClientMax} requests are handled at a time, ${REQUESTS.ofEniMax} of them for one ENI, and`,
    `${NETWORKS.ofClientMax} for networks; of all ${thousands(REQUESTS.totalMax)};`,
    `${thousands(OPEN_MAX)} of a listener, ${thousands(OF_CERTIFICATE_MAX)} of a certificate,`,
    `${thousands(OF_ADDRESS_MAX)} of an address of plain HTTP`,
    `${thousands(ofAddressMax)} of an address and ${thousands(totalMax)} of a listener, for ${silentMaxMs / 1000} s`,
  ];
  each(bounds, bound => told.replaceAll(/\s+/g, ' ').includes(bound));
});

readme('the table of chores: has each chore of the background loop', () => {
  const chores = [...read('src/ipam/sync/keeper.ts').matchAll(/\{ name: '([^']+)', everyMs/g)];
  const names = chores.map(([, name]) => name);
  assert.equal(firstColumn('src/README.md', 'chore', 'every'), names);
});

readme('the table of tiers: has each tier of the tests', () => {
  const names = TIERS.map(tier => tier.name);
  assert.equal(firstColumn('test/README.md', 'tier', 'files'), names);
});

readme('each rule of the table of tests: has its test', () => {
  const rows = tableOf('test/README.md', 'rule', 'test', 'name');
  assert.ok(rows.length > 10);
  each(rows, ([, files = '', name = '']) => codeIn(files).some(file => read(file).includes(plain(name))));
});

readme('a test that is shown: stands in the tests as it is shown', () => {
  const shown = blocks('ts');
  const tests = filesIn('test');
  assert.ok(shown.length > 0);
  each(shown, block => tests.some(text => text.includes(block)));
});

readme('the table of scripts: has the files that package.json runs', () => {
  const { scripts } = JSON.parse(read('package.json'));
  for (const [command = '', file = ''] of tableOf('scripts/README.md', 'command', 'file', 'does')) {
    const script: string = scripts[plain(command).split(' ').at(-1) ?? ''];
    const [text, path] = [plain(command), plain(file)];
    assert.ok(script.includes(path) || path === 'drizzle.config.ts', `${text}: ${script}`);
  }
});

readme('the figures of the scale study: stand in columns that it has, by phases that it has', () => {
  const columns = studyTable([rowOf({ name: '', lastsMs: 1000, counts: newCounts() })]).split('\n')[0] ?? '';
  const [head = ''] = textOf('scripts/README.md').match(/^\| phase \|.*$/m) ?? [];
  each(head.split('|').filter(Boolean), column => columns.includes(`|${column}|`));
  const names = [...read('scripts/scale-study/study.ts').matchAll(/`([^`]+)`|'([^']+)'/g)].map(
    ([, template, text = '']) => new RegExp(`^${template?.replace(/\$\{[^}]+\}/g, '.+') ?? text}$`),
  );
  each(tableOf('scripts/README.md', 'phase'), ([phase = '']) => names.some(name => name.test(phase)));
});

readme('each block that the tests read by the text before it: stands in one page', () => {
  const readers = filesIn('test/vpc').flatMap(text => [
    ...text.matchAll(/blockBehind\(\s*'((?:[^'\\]|\\.)+)',\s*'(\w+)',?\s*\)/g),
  ]);
  assert.is(readers.length, 9);
  for (const [, text = '', language = ''] of readers) assert.ok(blockBehind(TEXTS, text, language) !== '');
});

readme('each block: is of a kind that a test reads', () => {
  const languages = [...TEXTS.values()].flatMap(text =>
    [...text.matchAll(/^```(\w*)\n.*?^```$/gms)].map(([, language = '']) => language),
  );
  each(languages, language => ['sh', 'ini', 'json', 'yaml', 'sql', 'text', 'ts'].includes(language));
  // The tier vpc runs these.
  assert.is(languages.filter(language => ['yaml', 'sql'].includes(language)).length, 2);
});
readme.run();
