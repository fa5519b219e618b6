import { createPulse } from '../../src/http/pulse.ts';
import { assert, suite } from '../kit/uvu.ts';

const pulse = suite('pulse');

/** A process whose clock the test sets, and whose timer it fires. */
function process() {
  let now = 1_000_000;
  let beat = () => {};
  const ageMs = createPulse(
    () => now,
    work => {
      beat = work;
    },
  );
  return {
    ageMs,
    pass: (ms: number) => {
      now += ms;
    },
    runsFor(ms: number) {
      for (let passed = 0; passed < ms; passed += 1_000) {
        now += 1_000;
        beat();
      }
    },
    beat: () => beat(),
  };
}

pulse('a process that runs: reads what was sent just now, however late its timer is', () => {
  const one = process();
  one.runsFor(60_000);
  one.pass(2_900);
  assert.is(one.ageMs(), 0);
});

pulse('a stop: is noticed before the timer has fired, and counts for a moment', () => {
  const one = process();
  one.runsFor(5_000);
  one.pass(3_000);
  assert.is(one.ageMs(), 3_000);
  one.pass(249);
  assert.is(one.ageMs(), 3_249);
  one.pass(1);
  assert.is(one.ageMs(), 0);
});

pulse('a stop that the timer notices first: counts as well', () => {
  const one = process();
  one.pass(20_000);
  one.beat();
  assert.is(one.ageMs(), 20_000);
  one.runsFor(2_000);
  assert.is(one.ageMs(), 0);
});

pulse.run();
