// Goal: many servers on one ledger use what EC2 lets the account do, and in the order in which they were asked.
// Method: 300 rate limiters, as many processes have them, on one memory ledger and one simulated VPC with EC2's token
// buckets, in virtual time.
import type { Cloud, Permit, Urgency } from '../../src/cloud/cloud.ts';
import { createMemoryClient } from '../../src/cloud/memory.ts';
import { PERMIT_WAIT_MS_MAX } from '../../src/cloud/permit-queue.ts';
import { createRateLimiter, type RateLimiterOptions } from '../../src/cloud/rate-limiter.ts';
import type { Budget } from '../../src/cloud/shared-permits.ts';
import { IpamError } from '../../src/domain/error.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import { Clock } from '../kit/clock.ts';
import { codeOf, crowd, ETH1, ips, SUBNET, seeded, simulated } from '../kit/simulated.ts';
import { assert, suite } from '../kit/uvu.ts';

const LATER = Number.POSITIVE_INFINITY;
const SERVERS = 300;
const EPOCH = 1_800_000_000_000;
const ASSIGNS_PER_SECOND = 5;
/** EC2's bucket, but for what the gates leave in it. */
const AT_ONCE = 95;
/** How long a call is on its way to EC2, at most; beyond the first it may be this much longer. */
const WAY_MS = 50;
const JITTER_MS = 100;
/** As an outage's first pauses are. */
const AGAIN_MS = 100;

function scene({ servers = SERVERS, share = 0.5 } = {}) {
  const clock = new Clock();
  const random = seeded(7);
  const vpc = simulated({ now: () => clock.now, bucketScale: 1 });
  const skew = { ms: 0 };
  const ledger = { isAway: false, statements: 0 };
  const store = createMemoryStore({ clock: () => EPOCH + clock.now + skew.ms });
  const asked = <A extends unknown[], T>(method: (...args: A) => Promise<T>) => {
    return async (...args: A): Promise<T> => {
      ledger.statements++;
      await clock.wait(1);
      if (ledger.isAway) throw new IpamError('store-down', 'the ledger is away');
      return await method(...args);
    };
  };
  const budget: Budget = {
    takePermit: asked(store.takePermit),
    giveBackPermit: asked(store.giveBackPermit),
    slowBucket: asked(store.slowBucket),
  };
  const lines: Parameters<RateLimiterOptions['log']>[] = [];
  const clouds = Array.from({ length: servers }, () =>
    createRateLimiter(createMemoryClient(vpc, { wait: clock.wait, deadlineClock: () => clock.now }), {
      clock: () => clock.now,
      wait: clock.wait,
      share,
      budget,
      log: (...line) => void lines.push(line),
    }),
  );
  const cloudOf = (server: number): Cloud => clouds[server % servers] as Cloud;
  const pick = () => cloudOf(Math.floor(random() * servers));

  /** A container waits for one assign call; again while that is throttled. Answers how long it took, and the throttles. */
  async function coldStart(cloud: Cloud): Promise<{ ms: number; throttles: number }> {
    const startedAt = clock.now;
    for (let throttles = 0; ; throttles++) {
      const code = await codeOf(assignOnce(cloud));
      if (code !== 'ec2-throttled') return { ms: clock.now - startedAt, throttles };
      await clock.wait(AGAIN_MS);
    }
  }
  async function assignOnce(cloud: Cloud): Promise<void> {
    const one = await cloud.permit('assign');
    await clock.wait(WAY_MS + Math.floor(random() * JITTER_MS));
    await one.send(ETH1, ips('10.0.1.99'), LATER); // taken or not: it costs a token
  }
  /** Moments of so many calls a second, on average. */
  function* arrivals(perSecond: number, forMs: number): Generator<number> {
    for (let at = 0; at < forMs; yield at) at += (-Math.log(1 - random()) * 1000) / perSecond;
  }
  return { clock, vpc, random, skew, ledger, lines, cloudOf, pick, coldStart, assignOnce, arrivals };
}

const as = (cloud: Cloud, urgency: Urgency): Cloud => cloud.as(() => urgency);
const permit = (cloud: Cloud) => () => cloud.permit('assign');

const shared = suite('shared permits');

shared('five cold starts a second among 300 servers take less than 5 s each', async () => {
  const { clock, vpc, lines, pick, coldStart, arrivals } = scene();
  const took: number[] = [];
  const starts = [...arrivals(ASSIGNS_PER_SECOND, 300_000)];
  for (const at of starts) {
    await clock.advance(at - clock.now);
    void coldStart(pick()).then(({ ms }) => took.push(ms));
  }
  await clock.advance(5_000);
  assert.ok(starts.length > 1_400, `${starts.length} starts`);
  assert.is(took.length, starts.length);
  assert.ok(Math.max(...took) < 5_000, `the slowest took ${Math.max(...took)} ms`);
  assert.equal(lines, [], 'EC2 has throttled nothing');
  assert.is(vpc.calls.get('AssignPrivateIpAddresses'), starts.length);
});

shared('five a second on one of the servers as well', async () => {
  const { clock, cloudOf, coldStart, arrivals } = scene();
  const took: number[] = [];
  for (const at of arrivals(ASSIGNS_PER_SECOND, 120_000)) {
    await clock.advance(at - clock.now);
    void coldStart(cloudOf(17)).then(({ ms }) => took.push(ms));
  }
  await clock.advance(5_000);
  assert.ok(Math.max(...took) < 5_000, `the slowest took ${Math.max(...took)} ms`);
});

shared('300 at once drain as fast as the account allows, in the order in which they came', async () => {
  const { clock, lines, cloudOf } = scene();
  const order: number[] = [];
  for (let i = 0; i < 300; i++)
    void cloudOf(i * 7)
      .permit('assign')
      .then(() => order.push(i));
  await clock.advance(10);
  assert.is(order.length, AT_ONCE);
  await clock.advance(((300 - AT_ONCE) / ASSIGNS_PER_SECOND) * 1000);
  assert.is(order.length, 300);
  assert.equal(
    order,
    order.toSorted((a, b) => a - b),
  );
  assert.equal(lines, []);
});

shared('of 300 calls that are 100 ms longer on their way or not EC2 throttles none', async () => {
  const { clock, vpc, lines, cloudOf, coldStart } = scene();
  const told = crowd(300, i => coldStart(cloudOf(i)));
  await clock.advance(42_000);
  assert.equal([told.done, vpc.calls.get('AssignPrivateIpAddresses'), lines], [300, 300, []]);
});

shared('what others of the account leave is used, however much they ask for', async () => {
  const { clock, vpc, lines, random, cloudOf, coldStart } = scene();
  let othersGot = 0;
  const others = async () => {
    for (;;) {
      if (vpc.write('AssignPrivateIpAddresses', ETH1, () => {}).kind === 'answer') othersGot++;
      await clock.wait(400 * random());
    }
  };
  void others();
  const starts: { ms: number; throttles: number }[] = [];
  for (let i = 0; i < 300; i++) void coldStart(cloudOf(i)).then(one => starts.push(one));
  for (let passed = 0; passed < 120 && starts.length < 300; passed++) await clock.advance(1_000);
  assert.is(starts.length, 300);
  const all = AT_ONCE + (clock.now / 1000) * ASSIGNS_PER_SECOND;
  assert.ok(othersGot + 300 > 0.9 * all, `${othersGot} of theirs, 300 of ours, of ${all}`);
  const throttles = starts.reduce((sum, one) => sum + one.throttles, 0);
  assert.ok(throttles > 0 && throttles < 150, `${throttles} throttles`);
  assert.equal(lines[0], [
    'warn',
    'throttled by EC2, slowing down',
    { action: 'AssignPrivateIpAddresses', perSecond: 2.5 },
  ]);
  assert.ok(lines.length < 5, 'not each server says so');
});

shared('what servers had in hand that have died delays the others by no more than its own time', async () => {
  const { clock, cloudOf } = scene();
  crowd(200, i => cloudOf(i).permit('assign')); // their processes die: nobody uses these
  await clock.advance(10);
  const later = crowd(50, permit(cloudOf(250)));
  await clock.advance(((200 - AT_ONCE + 50) / ASSIGNS_PER_SECOND) * 1000);
  assert.is(later.done, 50);
});

shared('more than a minute of permits is not given away', async () => {
  const { clock, cloudOf } = scene();
  const permits = crowd(500, i => cloudOf(i).permit('assign'));
  await clock.advance(10);
  const refused = permits.errors;
  assert.is(refused.length, 500 - AT_ONCE - (PERMIT_WAIT_MS_MAX / 1000) * ASSIGNS_PER_SECOND);
  assert.is(refused[0]?.code, 'ec2-throttled');
  assert.match(
    refused[0]?.line ?? '',
    /^not sent: AssignPrivateIpAddresses: its permit did not come in time/,
  );
});

shared('permits that nobody waits for any more, or that were not used, go to the next', async () => {
  const { clock, cloudOf } = scene();
  const given: Permit[] = [];
  for (let i = 0; i < AT_ONCE; i++)
    void cloudOf(i)
      .permit('assign')
      .then(one => given.push(one));
  await clock.advance(10);
  assert.is(given.length, AT_ONCE);
  const stopped = new AbortController();
  const left = crowd(50, i => cloudOf(i).permit('assign', stopped.signal));
  await clock.advance(10);
  stopped.abort();
  await clock.advance(10);
  assert.is(left.errors.length, 50);
  const next = crowd(10, i => cloudOf(i).permit('assign'));
  await clock.advance((5 / ASSIGNS_PER_SECOND) * 1000 + 10);
  assert.is(next.done, 5, 'the fifty are not waited for');
  for (const one of given.slice(0, 3)) one[Symbol.dispose]();
  await clock.advance(10);
  const more = crowd(3, i => cloudOf(i).permit('assign'));
  await clock.advance((5 / ASSIGNS_PER_SECOND) * 1000);
  assert.is(next.done, 10);
  assert.is(more.done, 3);
});

shared('what waits for nobody keeps to the share, all servers together', async () => {
  const { clock, cloudOf } = scene();
  const permits = crowd(80, i => as(cloudOf(i), 'refill').permit('assign'));
  await clock.advance(10);
  assert.is(permits.done, 50);
  await clock.advance(10_000);
  assert.is(permits.done, 75, '2.5 a second');
});

shared('a cold call does not wait for those that wait for nobody, and they make up for it', async () => {
  const { clock, cloudOf } = scene();
  const refills = crowd(60, i => as(cloudOf(i), 'refill').permit('assign'));
  await clock.advance(10);
  assert.is(refills.done, 50);
  const cold = crowd(40, i => cloudOf(100 + i).permit('assign'));
  await clock.advance(10);
  assert.is(cold.done, 40);
  const refill = crowd(1, permit(as(cloudOf(200), 'refill')));
  await clock.advance(((10 + 40) / 2.5) * 1000);
  assert.equal([refills.done, refill.done], [60, 0]);
  await clock.advance(400);
  assert.is(refill.done, 1);
});

shared('one that waits for its share goes at once when a container waits for it', async () => {
  const { clock, cloudOf } = scene({ share: 0.05 });
  crowd(5, permit(as(cloudOf(0), 'refill')));
  await clock.advance(10);
  let urgency: Urgency = 'refill';
  const hurried = crowd(1, permit(cloudOf(1).as(() => urgency)));
  await clock.advance(1_000);
  assert.is(hurried.done, 0);
  urgency = 'cold';
  await clock.advance(150);
  assert.is(hurried.done, 1);
});

shared('reads share too: 300 networks that are created at once need 10 s', async () => {
  const { clock, cloudOf, lines } = scene();
  const reads = crowd(300, i => cloudOf(i).subnet(SUBNET));
  await clock.advance(10);
  assert.is(reads.done, AT_ONCE);
  await clock.advance(((300 - AT_ONCE) / 20) * 1000);
  assert.equal([reads.done, lines], [300, []]);
});

shared('while the ledger is away the own bucket paces, and what waits already goes on', async () => {
  const { clock, ledger, cloudOf } = scene({ share: 0.05 });
  ledger.isAway = true;
  const permits = crowd(8, permit(as(cloudOf(0), 'refill')));
  await clock.advance(10);
  assert.is(permits.done, 5);
  await clock.advance(4_000);
  assert.is(permits.done, 6);
  ledger.isAway = false;
  const others = crowd(6, permit(as(cloudOf(1), 'refill')));
  await clock.advance(10);
  assert.is(others.done, 5);
});

shared('while the ledger is away a permit that was not used goes back to the own bucket', async () => {
  const { clock, ledger, cloudOf } = scene({ share: 0.05 });
  ledger.isAway = true;
  const given: Permit[] = [];
  for (let i = 0; i < 5; i++)
    void as(cloudOf(0), 'refill')
      .permit('assign')
      .then(one => given.push(one));
  await clock.advance(10);
  assert.is(given.length, 5);
  const next = crowd(1, permit(as(cloudOf(0), 'refill')));
  given[0]?.[Symbol.dispose]();
  await clock.advance(10);
  assert.is(next.done, 1);
});

shared('a throttle slows the own bucket too, for when the ledger is away', async () => {
  const { clock, vpc, ledger, cloudOf } = scene();
  vpc.faults.add({ kind: 'throttle', times: 1 });
  const refused = crowd(1, async () =>
    (await cloudOf(0).permit('assign')).send(ETH1, ips('10.0.1.99'), LATER),
  );
  await clock.advance(100);
  assert.is(refused.errors[0]?.code, 'ec2-throttled');
  ledger.isAway = true;
  const permits = crowd(20, permit(cloudOf(0)));
  await clock.advance(2_000);
  assert.ok(permits.done <= 6, `${permits.done} permits in two seconds`);
});

shared('a store clock that jumps holds nobody up for longer than a minute', async () => {
  for (const jumpMs of [-3_600_000, 3_600_000, -20_000]) {
    const { clock, skew, cloudOf, coldStart } = scene();
    crowd(AT_ONCE + 20, permit(cloudOf(0)));
    await clock.advance(10_000);
    skew.ms += jumpMs;
    const starts = crowd(50, i => coldStart(cloudOf(i)));
    await clock.advance(40_000);
    assert.is(starts.done, 50, `${jumpMs}`);
  }
});

shared('ENIs of one server take turns: 900 calls of one come not before one of another', async () => {
  const { clock, cloudOf } = scene();
  crowd(AT_ONCE, permit(cloudOf(0)));
  await clock.advance(10);
  const many = crowd(900, permit(cloudOf(1).as(() => 'cold', 'eni-many')));
  await clock.advance(10_000); // it leaves some in the bucket by now
  const before = many.done;
  await clock.advance(10_000);
  const rate = (many.done - before) / 10;
  assert.ok(rate > 0.9 * ASSIGNS_PER_SECOND, `${rate} of 5 a second: the turns cost little of the rate`);
  const one = crowd(1, permit(cloudOf(1).as(() => 'cold', 'eni-one')));
  await clock.advance(2 * (1000 / ASSIGNS_PER_SECOND) + 10);
  assert.is(one.done, 1);
});

shared(
  'an ENI that asks for much leaves permits, with which calls of others go at once, at any server',
  async () => {
    const { clock, cloudOf } = scene();
    const many = crowd(900, permit(cloudOf(1).as(() => 'cold', 'eni-many')));
    await clock.advance(1000);
    assert.ok(many.done >= 70, `${many.done}`);
    for (const server of [1, 2]) {
      const others = crowd(4, i =>
        cloudOf(server)
          .as(() => 'cold', `eni-${server}-${i}`)
          .permit('assign'),
      );
      await clock.advance(10);
      assert.is(others.done, 4, `${server}`);
    }
  },
);

shared(
  'with a thousand of one ENI waiting, a call of another is not refused but the last of those',
  async () => {
    const { clock, cloudOf } = scene();
    crowd(AT_ONCE, permit(cloudOf(0)));
    await clock.advance(10);
    const many = crowd(1100, permit(cloudOf(1).as(() => 'cold', 'eni-many')));
    const one = crowd(1, permit(cloudOf(1).as(() => 'cold', 'eni-one')));
    await clock.advance(10);
    assert.ok(many.errors.length > 0 && many.errors.every(error => error.code === 'ec2-throttled'));
    await clock.advance(2000);
    assert.equal([one.done, one.errors.length], [1, 0]);
  },
);

shared('a turn costs a cold call two statements, one of which it waits for', async () => {
  const { clock, ledger, cloudOf } = scene();
  crowd(10, permit(cloudOf(0)));
  await clock.advance(10);
  assert.is(ledger.statements, 20);
});

shared.run();
