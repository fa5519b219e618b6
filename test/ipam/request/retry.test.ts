// Goal: what waits for something that is away waits long enough, not too long, and not one after the other.
// Method: a clock that only waiting moves.
import { IpamError, isError } from '../../../src/domain/error.ts';
import { createOutage } from '../../../src/ipam/request/retry.ts';
import { codeOf } from '../../kit/simulated.ts';
import { assert, suite } from '../../kit/uvu.ts';

const BOUND_MS = 10_000;
const PAUSE_MAX_MS = 2_000;
const isDown = (error: unknown): error is IpamError => isError(error, 'store-down');
const down = async (): Promise<never> => {
  throw new IpamError('store-down', 'down');
};

function outage(time = { now: 50_000 }) {
  const pauses: number[] = [];
  const wait = async (ms: number) => {
    pauses.push(ms);
    time.now += ms;
  };
  return { time, pauses, outage: createOutage(BOUND_MS, { clock: () => time.now, wait }) };
}

const enduring = suite('outage');

enduring('what succeeds is done once, without a wait', async () => {
  const { outage: it, pauses } = outage();
  let tries = 0;
  assert.is(await it.retryWhile(isDown, async () => ++tries), 1);
  assert.equal(pauses, []);
});

enduring('a wait doubles up to its longest, and ends at the bound with the error itself', async () => {
  const { outage: it, pauses, time } = outage();
  assert.is(await codeOf(it.retryWhile(isDown, down)), 'store-down');
  assert.equal(pauses.slice(0, 7), [50, 100, 200, 400, 800, 1_600, PAUSE_MAX_MS]);
  assert.is(Math.max(...pauses), PAUSE_MAX_MS);
  assert.is(time.now, 50_000 + BOUND_MS, 'the last wait is cut short');
});

enduring(
  'who can go elsewhere waits no longer than that takes, and keeps nobody else from waiting',
  async () => {
    const { outage: it, time } = outage();
    assert.is(await codeOf(it.retryWhile(isDown, down, { withinMs: 3_000 })), 'store-down');
    assert.is(time.now, 53_000);
    assert.is(await codeOf(it.retryWhile(isDown, down)), 'store-down');
    assert.is(time.now, 50_000 + BOUND_MS);
  },
);

enduring('what comes back in time is only a wait', async () => {
  const { outage: it, time } = outage();
  const back = time.now + 3_000;
  assert.is(await it.retryWhile(isDown, async () => (time.now < back ? await down() : 'done')), 'done');
});

enduring('whoever comes later waits only as long as the first is still to wait', async () => {
  const { outage: it, time } = outage();
  await codeOf(it.retryWhile(isDown, down));
  const before = time.now;
  let tries = 0;
  const counted = () => {
    tries++;
    return down();
  };
  assert.is(await codeOf(it.retryWhile(isDown, counted)), 'store-down');
  assert.is(tries, 1, 'but it is tried');
  assert.is(time.now, before);
});

enduring('a success ends the outage, and the next one begins anew', async () => {
  const { outage: it, time } = outage();
  await codeOf(it.retryWhile(isDown, down));
  await it.retryWhile(isDown, async () => {});
  const before = time.now;
  await codeOf(it.retryWhile(isDown, down));
  assert.is(time.now, before + BOUND_MS);
});

enduring('another error is no outage: it is thrown at once, and shows that there is an answer', async () => {
  const { outage: it, pauses, time } = outage();
  await codeOf(it.retryWhile(isDown, down));
  pauses.length = 0;
  const conflict = async () => {
    throw new IpamError('conflict', 'taken');
  };
  assert.is(await codeOf(it.retryWhile(isDown, conflict)), 'conflict');
  assert.equal(pauses, []);
  assert.is(it.deadline(time.now), time.now + BOUND_MS);
});

enduring('a caller that has gone ends its own wait, and not the outage', async () => {
  const { outage: it, time } = outage();
  const caller = new AbortController();
  let tries = 0;
  const began = time.now;
  const work = async () => {
    if (++tries === 3) caller.abort(new IpamError('caller-gone', 'gone'));
    return await down();
  };
  assert.is(await codeOf(it.retryWhile(isDown, work, { caller: caller.signal })), 'caller-gone');
  assert.is(tries, 3);
  assert.is(it.deadline(time.now), began + BOUND_MS);
});

enduring('work that finds its caller gone does not end the outage either', async () => {
  const { outage: it, time } = outage();
  const began = time.now;
  await codeOf(it.retryWhile(isDown, down));
  const left = async () => {
    throw new IpamError('caller-gone', 'gone');
  };
  assert.is(await codeOf(it.retryWhile(isDown, left)), 'caller-gone');
  assert.is(it.deadline(time.now), began + BOUND_MS);
});

enduring('a deadline counts from the start of the request, or of an earlier outage', async () => {
  const { outage: it, time } = outage();
  assert.is(it.deadline(time.now + 7), time.now + 7 + BOUND_MS);
  const began = time.now;
  await codeOf(it.retryWhile(isDown, down));
  assert.is(it.deadline(began + 9_000), began + BOUND_MS);
  assert.is(it.deadline(began - 1_000), began - 1_000 + BOUND_MS);
});

enduring('an outage that nobody has met for long is over, and the next one begins anew', async () => {
  const { outage: it, time } = outage();
  await codeOf(it.retryWhile(isDown, down));
  time.now += 6 * 3_600_000;
  assert.is(it.deadline(time.now), time.now + BOUND_MS);
  let tries = 0;
  const back = async () => (tries++ === 0 ? await down() : 'done');
  assert.is(await it.retryWhile(isDown, back), 'done');
});

enduring('two outages that take turns have one bound between them', async () => {
  const { outage: outer, time } = outage();
  const { outage: inner } = outage(time);
  const isAway = (error: unknown): error is IpamError => isError(error, 'ec2-throttled');
  const startedAt = time.now;
  let tries = 0;
  const work = async (): Promise<never> => {
    throw new IpamError(++tries % 4 === 0 ? 'store-down' : 'ec2-throttled', 'away');
  };
  await codeOf(outer.retryWhile(isDown, () => inner.retryWhile(isAway, work, { startedAt }), { startedAt }));
  assert.ok(time.now - startedAt <= BOUND_MS, `${time.now - startedAt} ms`);
});

enduring.run();
