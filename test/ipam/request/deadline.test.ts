// Goal: a request stops waiting when it has waited for long enough or its caller has gone, and not before. Method: a
// clock that only the test moves, and a deadline that an outage moves.
import { aborted } from '../../../src/domain/abort.ts';
import { IpamError } from '../../../src/domain/error.ts';
import { createDeadline } from '../../../src/ipam/request/deadline.ts';
import { Clock } from '../../kit/clock.ts';
import { assert, suite } from '../../kit/uvu.ts';

const deadline = suite('deadline');

/** A deadline after 10 s, and what may change. */
function scene() {
  const time = new Clock();
  const caller = new AbortController();
  const until = { ms: 10_000 };
  let waits = 0;
  const wait = (ms: number, signal?: AbortSignal) => {
    waits++;
    return time.wait(ms, signal);
  };
  const one = createDeadline({ clock: () => time.now, wait }, caller.signal, () => until.ms);
  return { time, caller, until, one, waits: () => waits };
}

deadline('its signal is aborted when it has passed, and not before', async () => {
  const { time, one } = scene();
  const { signal } = one;
  await time.advance(9_999);
  assert.equal([signal.aborted, one.isPast()], [false, false]);
  await time.advance(1);
  assert.equal([signal.aborted, one.isPast()], [true, true]);
  assert.is(signal.reason.code, 'unavailable');
});

for (const [what, ms] of [
  ['later when an outage is over', 30_000],
  ['earlier when one has begun before', 5_000],
] as const)
  deadline(`it moves: ${what}`, async () => {
    const { time, until, one } = scene();
    const { signal } = one;
    await time.advance(2_000);
    until.ms = ms;
    await time.advance(ms - 2_001);
    assert.is(signal.aborted, false);
    await time.advance(1_001);
    assert.is(signal.aborted, true);
  });

deadline('it has passed for good when its signal is aborted, whatever the outage does', async () => {
  const { time, until, one } = scene();
  const { signal } = one;
  await time.advance(10_000);
  until.ms = 30_000;
  assert.equal([signal.aborted, one.isPast()], [true, true]);
});

deadline('a caller that has gone aborts its signal at once, and is told as such', async () => {
  const { caller, one } = scene();
  const { signal } = one;
  caller.abort(new IpamError('caller-gone', 'gone'));
  assert.is(signal.aborted, true);
  assert.is(signal.reason.code, 'caller-gone');
  assert.throws(
    () => one.isPast(),
    (error: IpamError) => error.code === 'caller-gone',
  );
});

deadline('it is looked at by the clock where no timer gets its turn', () => {
  const { time, one } = scene();
  time.now = 10_000;
  assert.is(one.isPast(), true);
});

deadline(
  'a request that never waits has no timer, and one that has ended leaves none, nor what waits',
  async () => {
    const { time, waits } = scene();
    await time.advance(20_000);
    assert.is(waits(), 0);
    const other = scene();
    const { signal } = other.one;
    await other.time.advance(2_500);
    // The runtime keeps a signal of several for as long as anything waits for it.
    let isWaiting = true;
    void aborted(signal).then(() => {
      isWaiting = false;
    });
    other.one.end();
    const before = other.waits();
    await other.time.advance(60_000);
    assert.equal([other.waits(), isWaiting], [before, false]);
  },
);

deadline.run();
