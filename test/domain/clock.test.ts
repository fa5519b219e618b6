// Goal: a deadline that has passed in truth has passed here. Method: clocks that stop, step and jitter.
import { createDeadlineClock } from '../../src/domain/clock.ts';
import { assert, suite } from '../kit/uvu.ts';

const clock = suite('deadline clock');

/** Passes `ms` on the monotonic clock and `dayMs` in the time of day. */
function clocks() {
  let [monotonic, day] = [5_000, 1_800_000_000_000];
  const read = createDeadlineClock(
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

type Step = [ms: number, dayMs: number, passed: number];
function passes(rule: string, ...steps: Step[]): void {
  clock(rule, () => {
    const pass = clocks();
    for (const [ms, dayMs, passed] of steps) assert.is(pass(ms, dayMs), passed);
  });
}
passes('the clock: passes as both do', [10, 10, 10], [20_000, 20_000, 20_010]);
passes('a sleep of the machine: counts', [10, 600_000, 600_000], [10, 10, 600_010]);
passes('a time of day that is set back: prolongs nothing', [10, -600_000, 10], [10, 10, 20]);
passes('a sleep after that: counts', [10, -600_000, 10], [0, 300_000, 300_010], [0, 300_000, 600_010]);
passes('a time of day that is set forward: passes', [10, 600_000, 600_000], [10, -600_000, 600_010]);
passes('the clock: never steps back', [10, 20, 10], [0, -20, 10], [0, 0, 10]);

clock('rounding and slewing of the time of day: do not add up', () => {
  const pass = clocks();
  let passed = 0;
  for (let i = 0; i < 10_000; i++) passed = pass(1, i % 2 === 0 ? 0 : 2);
  assert.is(passed, 10_000);
});
clock.run();
