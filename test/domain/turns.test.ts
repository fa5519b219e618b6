// Goal: who comes with many waits behind who comes with one, and what is remembered of keys is bounded. Method: places
// and a clock that the test sets.
import { createTurns, NO_KEY } from '../../src/domain/turns.ts';
import { range } from '../kit/rows.ts';
import { assert, suite } from '../kit/uvu.ts';

const turns = suite('turns');

/** A queue that serves in the order of places. */
function queue(perSecond = 1) {
  const clock = { now: 0 };
  const one = createTurns(() => clock.now, perSecond);
  let waiting: { key: string; place: number }[] = [];
  return {
    clock,
    turns: one,
    come: (key: string, count = 1) => {
      for (const _ of range(count)) waiting.push({ key, place: one.arrive(key) });
    },
    serve(count: number): string {
      const order: string[] = [];
      for (const _ of range(count)) {
        const [next] = waiting.toSorted((a, b) => a.place - b.place);
        if (next === undefined) break;
        waiting = waiting.filter(other => other !== next);
        one.served(next.key, next.place);
        order.push(next.key);
      }
      return order.join('');
    },
  };
}

turns('keys take turns, however many of one came first', () => {
  const { come, serve } = queue();
  come('a', 100);
  come('b', 2);
  come('c');
  assert.is(serve(6), 'abcaba');
});

turns('who comes later waits for no more than the round that is under way', () => {
  const { come, serve } = queue();
  come('a', 100);
  assert.is(serve(50), 'a'.repeat(50));
  come('b', 3);
  const order = serve(6);
  assert.is(order.indexOf('b') <= 1, true, order);
  assert.is(order.split('b').length - 1, 3, order);
});

turns('who was served alone owes nothing to who comes then', () => {
  const { come, serve } = queue();
  come('a', 5);
  serve(5);
  come('b', 3);
  come('a', 3);
  assert.is(serve(6), 'bababa');
});

turns('a key that had many lately is greedy, until its steady rate has made up for them', () => {
  const { come, serve, turns: one, clock } = queue();
  come('a', 12);
  serve(9);
  assert.not(one.isGreedy('a'));
  serve(3);
  assert.ok(one.isGreedy('a'));
  assert.not(one.isGreedy('b'));
  clock.now += 1999;
  assert.ok(one.isGreedy('a'));
  clock.now += 2;
  assert.not(one.isGreedy('a'));
});

turns('work of the server itself is never greedy', () => {
  const { come, serve, turns: one } = queue();
  come(NO_KEY, 50);
  serve(50);
  assert.not(one.isGreedy(NO_KEY));
});

turns('who was idle while others were served has saved up no turns', () => {
  const { come, serve } = queue();
  come('b');
  serve(1);
  come('a', 50);
  serve(50);
  come('b', 10);
  come('a', 10);
  assert.is(serve(6), 'bababa');
});

turns('more keys than are remembered: one that waits with many does not lose its place', () => {
  const { turns: one } = queue();
  one.arrive('the oldest');
  for (const _ of range(50)) one.arrive('crowd');
  for (const i of range(9_999)) one.arrive(`k${i}`);
  assert.is(one.arrive('crowd'), 51);
});

turns('more keys than are remembered: the oldest is forgotten, and the others are not', () => {
  const { turns: one } = queue();
  const spend = (key: string) => {
    for (const place of range(10).map(() => one.arrive(key))) one.served(key, place);
  };
  for (const i of range(10_001)) spend(`k${i}`);
  assert.not(one.isGreedy('k0'));
  for (const key of ['k1', 'k5000', 'k10000']) assert.ok(one.isGreedy(key), key);
});

turns(
  'a host that names ever more keys makes it remember no more of them, and forgets no greedy one at rest',
  () => {
    const { come, serve, turns: one, clock } = queue();
    come('greedy', 50);
    serve(50);
    for (const i of range(30_000)) {
      come(`k${i}`);
      serve(1);
      clock.now += 1;
    }
    assert.ok(one.isGreedy('greedy'));
  },
);
turns.run();
