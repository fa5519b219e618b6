// Goal: what only its owner may know is not read from a file that others can read. Method: files with each mode.
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { readPrivate, refuseExposed, refuseNamedPipe } from '../../src/store/private-file.ts';
import { lineOf } from '../kit/failures.ts';
import { removeFolder, tempFolder } from '../kit/folders.ts';
import { assert, suite } from '../kit/uvu.ts';

const NOBODY = 65_534;
const isRoot = process.getuid?.() === 0;

const files = suite<{ path: string; folder: string }>('a private file');
files.before.each(context => {
  context.folder = tempFolder();
  context.path = join(context.folder, 'secret');
  writeFileSync(context.path, 'hunter2');
});
files.after.each(({ folder }) => removeFolder(folder));

for (const mode of [0o600, 0o400, 0o700])
  files(`mode ${mode.toString(8)}: is read`, ({ path }) => {
    chmodSync(path, mode);
    assert.is(readPrivate(path, '--tls-key'), 'hunter2');
    refuseExposed('it', [path]);
  });

for (const mode of [0o444, 0o644, 0o604, 0o602, 0o620, 0o660, 0o666])
  files(`mode ${mode.toString(8)}: is refused, with the command that mends it`, ({ path }) => {
    chmodSync(path, mode);
    const fix = `is open to users other than its owner; chmod 600 ${path}`;
    assert.is(
      lineOf(() => readPrivate(path, '--tls-key'), 'bad-request'),
      `--tls-key: ${path} ${fix}, or mount the secret with mode=0400 (Docker) or defaultMode: 0400 (Kubernetes)`,
    );
    assert.is(
      lineOf(() => refuseExposed('the store', [path]), 'store-down'),
      `the store ${fix}`,
    );
  });

files("a group: may read root's file only", ({ path }) => {
  chmodSync(path, 0o640);
  if (isRoot) {
    assert.is(readPrivate(path, '--tls-key'), 'hunter2');
    chownSync(path, NOBODY, NOBODY);
  }
  lineOf(() => readPrivate(path, '--tls-key'), 'bad-request');
});

files('several files: those that are open are named, those that are absent are not', ({ path }) => {
  const [other, private_] = [`${path}-wal`, `${path}-x`];
  for (const file of [other, private_]) writeFileSync(file, '');
  chmodSync(other, 0o644);
  chmodSync(path, 0o644);
  chmodSync(private_, 0o600);
  const line = lineOf(() => refuseExposed('it', [path, other, private_, `${path}-absent`]));
  assert.match(line, new RegExp(`chmod 600 ${path} ${other}$`));
});

files('a pipe: is read, since it is no file that stays', ({ folder }) => {
  const pipe = join(folder, 'pipe');
  execFileSync('mkfifo', ['-m', '666', pipe]);
  execFileSync('sh', ['-c', `(printf hunter2 >'${pipe}') >/dev/null 2>&1 &`]);
  assert.is(readPrivate(pipe, '--tls-key'), 'hunter2');
});

files(
  'a named pipe: is refused where nothing may wait; files, absent ones and inherited pipes are not',
  ({ folder, path }) => {
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', ['-m', '600', pipe]);
    lineOf(() => refuseNamedPipe(pipe), 'bad-request');
    for (const one of [path, `${path}-absent`, '/dev/stdin', '/dev/fd/63', '/proc/self/fd/0'])
      refuseNamedPipe(one);
  },
);
files.run();
