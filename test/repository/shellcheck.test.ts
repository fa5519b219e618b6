// Goal: no shell script goes unchecked. Method: shellcheck on every file of the repository that begins with a
// shell's name, without exceptions in the scripts.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execute } from '../kit/docker/netns.ts';
import { assert, suite } from '../kit/uvu.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const FOLDERS = ['scripts', '.ci', 'test'];

const filesIn = (folder: string, recursive: boolean): string[] =>
  readdirSync(join(ROOT, folder), { recursive, encoding: 'utf8' }).map(name => join(folder, name));
const scripts = filesIn('.', false)
  .concat(FOLDERS.filter(folder => existsSync(join(ROOT, folder))).flatMap(folder => filesIn(folder, true)))
  .filter(path => statSync(join(ROOT, path)).isFile())
  .filter(path => /^#!.*\b(ba|da)?sh\b/.test(readFileSync(join(ROOT, path), 'utf8').slice(0, 100)));

const shellcheck = suite('shellcheck');
const version = await execute('shellcheck', ['--version']);

shellcheck('the scripts: are found', () => {
  for (const path of ['mknet.sh', 'scripts/provision/install']) assert.ok(scripts.includes(path), path);
});
for (const path of scripts) {
  shellcheck(`${path}: may be run`, () => {
    assert.ok(statSync(join(ROOT, path)).mode & 0o100, 'chmod +x');
  });
  if (version.code === 0)
    shellcheck(`${path}: has no complaint and disables none`, async () => {
      const { stdout } = await execute('shellcheck', ['--format=gcc', join(ROOT, path)]);
      assert.is(stdout, '');
      assert.not.match(readFileSync(join(ROOT, path), 'utf8'), /shellcheck disable/);
    });
  else shellcheck.skip(`${path}: has no complaint and disables none (needs shellcheck)`, () => {});
}
shellcheck.run();
