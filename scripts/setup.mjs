// Makes a fresh clone ready: installs the packages, then builds dist/. Plain JavaScript for the system's Node
// (18 or later), since it runs before there is anything else; does nothing when nothing has changed.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const LOCK = 'package-lock.json';
const STAMP = 'node_modules/.ec2-ipam-setup';
const BUNDLE = 'dist/ec2-ipam.mjs';
const NODE = 'node_modules/.bin/node';
const INSTALL_TIMEOUT_MS = 15 * 60_000;
const BUILD_TIMEOUT_MS = 2 * 60_000;
const SCRIPTS = ['scripts/build.ts', 'scripts/bundling.ts', 'scripts/bundle'];
const SOURCES = ['src', 'drizzle', ...SCRIPTS, 'package.json', LOCK, 'ec2-ipam.json', 'mknet.sh'];

process.chdir(ROOT);
if (!isInstalled()) install();
if (!isBuilt()) run('building', NODE, ['scripts/build.ts'], BUILD_TIMEOUT_MS);

/** Whether node_modules is what the lockfile says. One that npm installed by hand since is taken as it is. */
function isInstalled() {
  if (!existsSync(NODE)) return false;
  if (existsSync(STAMP)) return readFileSync(STAMP, 'utf8') === lockHash();
  return changedAt('node_modules/.package-lock.json') >= changedAt(LOCK);
}

function install() {
  // npm says where it is when it runs this, and may be another than the one in PATH; other tools say it too.
  const npm = process.env.npm_execpath ?? '';
  const [command, first] = npm.endsWith('npm-cli.js') ? [process.execPath, [npm]] : ['npm', []];
  const quiet = ['ci', '--no-audit', '--no-fund', '--loglevel=error'];
  run('installing packages', command, [...first, ...quiet], INSTALL_TIMEOUT_MS);
  if (!existsSync(NODE)) fail(`npm ci left no ${NODE}: npm may have been told to ignore scripts`);
  writeFileSync(STAMP, lockHash());
}

function isBuilt() {
  const builtAt = changedAt(BUNDLE);
  return SOURCES.filter(path => existsSync(path)).every(path => newestIn(path) <= builtAt);
}

function lockHash() {
  return createHash('sha256').update(readFileSync(LOCK)).digest('hex');
}

function changedAt(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

/** When the file, or anything in the folder, last changed. */
function newestIn(path) {
  if (!statSync(path).isDirectory()) return changedAt(path);
  return Math.max(changedAt(path), ...readdirSync(path).map(name => newestIn(join(path, name))));
}

function run(what, command, args, timeout) {
  console.log(`setup: ${what}`);
  const { status, error } = spawnSync(command, args, { stdio: 'inherit', timeout });
  if (error !== undefined) fail(`${what}: ${error.message}`);
  if (status !== 0) fail(`${what}: ${command} ended with status ${status}`);
}

function fail(reason) {
  console.error(`setup: ${reason}`);
  process.exit(1);
}
