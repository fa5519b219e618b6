// Goal: a tier runs where it has files, and what tiers write that run at the same time can be read. Method: jobs of
// the tier `fast`, and outputs that are written to in turns.
import { createOutputs, jobsOf } from '../../scripts/run-tier.ts';
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
