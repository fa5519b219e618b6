// Goal: a tier runs where it has files, what tiers write that run at the same time can be read, and what failed is
// found. Method: jobs of the tier `fast`, outputs that are written to in turns, and the words of uvu and Bun.
import { createOutputs, failuresIn, jobsOf } from '../../scripts/run-tier.ts';
import { RUNTIMES, TIERS } from '../../scripts/tiers.ts';
import { assert, suite } from '../kit/uvu.ts';

const jobs = suite('jobs of a tier');
jobs('a runtime for which a short run has no file: gets none', () => {
  const runtimesOf = (file: string, isShort: boolean) =>
    TIERS.filter(({ name }) => name === 'fast')
      .flatMap(tier => jobsOf(tier, [file], { runtimes: RUNTIMES, isShort }))
      .map(({ runtime }) => runtime);
  assert.equal(runtimesOf('test/repository/readme.test.ts', true), ['node']);
  assert.equal(runtimesOf('test/repository/readme.test.ts', false), [...RUNTIMES]);
  assert.equal(runtimesOf('test/http/driver.test.ts', true), [...RUNTIMES]);
});
jobs.run();

const outputs = suite('outputs of tiers that run together');

/** What is shown after each step, and a way to write to an output. */
function shown() {
  const texts: string[] = [];
  const to = {
    write(text: string | Uint8Array) {
      texts.push(String(text));
      return true;
    },
  };
  return { to, text: () => texts.join('') };
}

outputs('the first: is shown as it comes, the second when the first has ended', () => {
  const { to, text } = shown();
  const open = createOutputs();
  const [one, two] = [open(), open()];
  one.write(to, 'a');
  two.write(to, '1');
  one.write(to, 'b');
  assert.is(text(), 'ab');
  one.end();
  assert.is(text(), 'ab1');
  two.write(to, '2');
  assert.is(text(), 'ab12');
});

outputs('one that ends beside another: is shown after it, and before what came later', () => {
  const { to, text } = shown();
  const open = createOutputs();
  const [one, two] = [open(), open()];
  one.write(to, 'a');
  two.write(to, '1');
  two.end();
  const three = open();
  three.write(to, 'x');
  one.write(to, 'b');
  assert.is(text(), 'ab');
  one.end();
  assert.is(text(), 'ab1x');
});

outputs('one that is opened when no other is open: is shown at once', () => {
  const { to, text } = shown();
  const open = createOutputs();
  const one = open();
  one.end();
  open().write(to, 'a');
  assert.is(text(), 'a');
});
outputs.run();

const failures = suite('what a run wrote of its failures');
failures('uvu: each test that failed, with what is below its name', () => {
  const one = '   FAIL  pools  "first"\n    said  (equal)\n\n    at a (b.ts:1:1)';
  const two = '   FAIL  pools  "second"\n    boo';
  const said = ` pools  ✘ ✘ •   (1 / 3)\n\n${one}\n\n\n${two}\n\n\n  Total:     3\n  Passed:    1\n`;
  assert.equal(failuresIn(said), [one, two]);
});

failures('Bun: each test that failed, with what is above its name', () => {
  const one = 'error: boo\n      at a (b.ts:1:1)\n(fail) pools > first [2.45ms]';
  assert.equal(failuresIn(`(pass) pools > zeroth [1ms]\n${one}\n(pass) pools > third [1ms]\n 2 pass\n`), [
    one,
  ]);
});

failures('a run that names none, since it was cut off: its last lines', () => {
  assert.equal(failuresIn(`${'•\n'.repeat(100)}Error: boo\n`), [`${'•\n'.repeat(24)}Error: boo`]);
});
failures.run();
