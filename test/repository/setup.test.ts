// Goal: a fresh clone gets its packages and its bundle, and what is up to date is left alone. Method: the script in
// a folder of its own, with an npm and a build that only note that they ran.
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { ROOT } from '../../scripts/tiers.ts';
import { removeFolder, tempFolder } from '../kit/folders.ts';
import { assert, suite } from '../kit/uvu.ts';

const SCRIPT = join(ROOT, 'scripts/setup.mjs');
const NODE = join(ROOT, 'node_modules/.bin/node');
const NPM = `
  import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
  if (process.argv[2] !== 'ci' || process.env.NPM_FAILS) process.exit(7);
  rmSync('node_modules', { recursive: true, force: true });
  mkdirSync('node_modules/.bin', { recursive: true });
  writeFileSync('node_modules/.package-lock.json', '{}');
  if (!process.env.NPM_LEAVES_NO_NODE) symlinkSync(process.execPath, 'node_modules/.bin/node');
`;
const BUILD = `
  import { mkdirSync, writeFileSync } from 'node:fs';
  mkdirSync('dist', { recursive: true });
  writeFileSync('dist/ec2-ipam.mjs', '');
`;

const FILES = {
  'npm-cli.js': NPM,
  'scripts/build.ts': BUILD,
  'src/main.ts': '',
  'scripts/bundling.ts': '',
  'scripts/bundle/one-file.ts': '',
  'package.json': '{ "type": "module" }',
  'package-lock.json': '{}',
};

const SOURCES = ['src/main.ts', 'scripts/build.ts', 'scripts/bundling.ts', 'scripts/bundle/one-file.ts'];

let folder = '';
const path = (name: string) => join(folder, name);

function setup(env: Record<string, string> = {}) {
  const { status, stdout, stderr } = spawnSync(NODE, [path('scripts/setup.mjs')], {
    encoding: 'utf8',
    cwd: tmpdir(),
    env: { PATH: process.env.PATH, npm_execpath: path('npm-cli.js'), ...env },
  });
  return { status, did: [...stdout.matchAll(/^setup: (.*)$/gm)].map(([, what]) => what), stderr };
}

/** As if the file had been changed a minute from now. */
const touch = (name: string) => utimesSync(path(name), new Date(), new Date(Date.now() + 60_000));

const tests = suite('setup');
tests.before.each(() => {
  folder = tempFolder();
  for (const name of ['scripts', 'scripts/bundle', 'src']) mkdirSync(path(name));
  copyFileSync(SCRIPT, path('scripts/setup.mjs'));
  for (const [name, text] of Object.entries(FILES)) writeFileSync(path(name), text);
});
tests.after.each(() => removeFolder(folder));

tests('a fresh clone: gets packages and a bundle, and then nothing more is done', () => {
  assert.equal(setup(), { status: 0, did: ['installing packages', 'building'], stderr: '' });
  assert.equal(setup(), { status: 0, did: [], stderr: '' });
});

tests('a changed source: is built', () => {
  setup();
  for (const source of SOURCES) {
    touch(source);
    assert.equal(setup().did, ['building'], source);
    utimesSync(path(source), new Date(0), new Date(0));
    assert.equal(setup().did, []);
  }
});

tests('another lockfile: is installed, whatever its date', () => {
  setup();
  writeFileSync(path('package-lock.json'), '{ "other": true }');
  utimesSync(path('package-lock.json'), new Date(0), new Date(0));
  assert.equal(setup().did, ['installing packages']);
  assert.equal(setup().did, []);
});

tests('packages installed by hand since the lockfile changed: are taken as they are', () => {
  execFileSync(NODE, [path('npm-cli.js'), 'ci'], { cwd: folder });
  assert.equal(setup().did, ['building']);
  touch('package-lock.json');
  assert.equal(setup().did, ['installing packages', 'building']);
});

tests('an install that failed, or left no node: is an error and is tried again', () => {
  const failed = setup({ NPM_FAILS: '1' });
  assert.is(failed.status, 1);
  assert.match(failed.stderr, /^setup: installing packages: .* ended with status 7$/m);
  const without = setup({ NPM_LEAVES_NO_NODE: '1' });
  assert.is(without.status, 1);
  assert.match(without.stderr, /npm ci left no node_modules\/\.bin\/node/);
  assert.equal(setup().did, ['installing packages', 'building']);
});

tests('the script: works with what a system has, nothing in it is newer than Node 18', () => {
  const newer = /import\.meta\.(dirname|filename|main)|with \{ type|\busing\b|toSorted|groupBy/;
  assert.not.match(readFileSync(SCRIPT, 'utf8'), newer);
});
tests.run();
