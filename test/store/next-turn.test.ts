// Goal: long work in parts holds the event loop for one part at a time, however many do such work. Method: the parts and
// the turns are counted.
import { nextTurn } from '../../src/store/next-turn.ts';
import { range } from '../kit/rows.ts';
import { inTurns } from '../kit/turns.ts';
import { assert, suite } from '../kit/uvu.ts';

const test = suite('turns of long work');

test('several at a time: one part of all of them in a turn, in order', async () => {
  const steps: string[] = [];
  const work = async (name: string) => {
    for (const part of range(3)) {
      await nextTurn();
      steps.push(`${name}${part}`);
    }
  };
  await inTurns(
    () => Promise.all(['a', 'b', 'c'].map(work)),
    () => steps.push('other'),
  );
  assert.not.match(steps.join(' '), /\d [abc]/, 'two parts in one turn');
  assert.equal(
    steps.filter(step => step !== 'other'),
    ['a0', 'b0', 'c0', 'a1', 'b1', 'c1', 'a2', 'b2', 'c2'],
  );
});
test.run();
