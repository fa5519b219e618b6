// Goal: a deadline that has passed in truth has passed here. Method: clocks that stop, step and jitter.
import { deadlineClock } from '../../src/domain/clock.ts';
import { assert, suite } from '../kit/uvu.ts';

const clock = suite('deadline clock');

/** Passes `ms` on the monotonic clock and `dayMs` in the time of day. */
function clocks() {
  let [monotonic, day] = [5_000, 1_800_000_000_000];
  const read = deadlineClock(
    () => monotonic,
    () => day,
  );
  const start = read();
  return (ms: number, dayMs: number) => {
    monotonic += ms;
    day += dayMs;
    return read() - start;
  };
}

const cases: [what: string, steps: [ms: number, dayMs: number, passed: number][]][] = [
  [
    'it passes as both do',
    [
      [10, 10, 10],
      [20_000, 20_000, 20_010],
    ],
  ],
  [
    'the time for which the machine sleeps counts',
    [
      [10, 600_000, 600_000],
      [10, 10, 600_010],
    ],
  ],
  [
    'a time of day that is set back prolongs nothing',
    [
      [10, -600_000, 10],
      [10, 10, 20],
    ],
  ],
  [
    'nor does a sleep that follows go unnoticed',
    [
      [10, -600_000, 10],
      [0, 300_000, 300_010],
      [0, 300_000, 600_010],
    ],
  ],
  [
    'one that is set forward makes it pass',
    [
      [10, 600_000, 600_000],
      [10, -600_000, 600_010],
    ],
  ],
  [
    'it never steps back',
    [
      [10, 20, 10],
      [0, -20, 10],
      [0, 0, 10],
    ],
  ],
];
for (const [what, steps] of cases)
  clock(what, () => {
    const pass = clocks();
    for (const [ms, dayMs, passed] of steps) assert.is(pass(ms, dayMs), passed);
  });

clock('what rounding and slewing make of the time of day does not add up', () => {
  const pass = clocks();
  let passed = 0;
  for (let i = 0; i < 10_000; i++) passed = pass(1, i % 2 === 0 ? 0 : 2);
  assert.is(passed, 10_000);
});
clock.run();
