// Goal: what a probe is about to change is in a file. Method: real files.
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openJournal, readJournal } from '../../src/probe/journal.ts';
import { removeFolder, tempFolder } from '../kit/folders.ts';
import { assert, suite } from '../kit/uvu.ts';
import { ENI_A } from '../kit/vpcs.ts';

const CHANGE = { verb: 'assign', kind: 'addresses', eni: ENI_A, names: ['10.0.1.20'] } as const;

interface Context {
  folder: string;
  path: string;
}
const journals = suite<Context>('the journal of a probe');
journals.before.each(context => {
  context.folder = tempFolder();
  context.path = join(context.folder, 'journal');
});
journals.after.each(({ folder }) => removeFolder(folder));

journals('has a change as soon as it is noted, and is read again', ({ path }) => {
  const journal = openJournal(path);
  journal.note(CHANGE);
  assert.equal(readJournal(path), { eni: ENI_A, changes: [CHANGE] });
  journal.close();
});

journals('that was cut short in a line: has the lines before it', ({ path }) => {
  const journal = openJournal(path);
  journal.note(CHANGE);
  journal.close();
  appendFileSync(path, '{"verb":"assign","kind":"addr');
  assert.equal(readJournal(path).changes, [CHANGE]);
  writeFileSync(path, '{"verb"');
  assert.equal(readJournal(path), { eni: null, changes: [] });
});

journals('is never written over', ({ path }) => {
  writeFileSync(path, 'x\n');
  assert.throws(() => openJournal(path), /journal .* of an earlier probe is there/);
  assert.is(readFileSync(path, 'utf8'), 'x\n');
});

journals('that is none, or of two ENIs: is refused', ({ path }) => {
  assert.throws(() => readJournal(path), /cannot be read/);
  writeFileSync(path, 'x\n');
  assert.throws(() => readJournal(path), /^line 1 of .* is not of a probe's journal$/);
  writeFileSync(path, [CHANGE, { ...CHANGE, eni: 'eni-0b' }].map(one => `${JSON.stringify(one)}\n`).join(''));
  assert.throws(() => readJournal(path), /names more than one ENI/);
});
journals.run();
