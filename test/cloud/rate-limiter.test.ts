// Goal: whatever is asked of EC2, the account's rate is kept, the urgent goes first, and no call waits for
// another's answer. Method: the limiter before a simulated VPC, both on one virtual clock that only the test
// moves.
import type { Cloud, Ec2Client, Permit, Urgency } from '../../src/cloud/cloud.ts';
import { createMemoryClient } from '../../src/cloud/memory.ts';
import { PERMIT_WAIT_MS_MAX } from '../../src/cloud/permit-queue.ts';
import { createRateLimiter, PERMIT_MS, type RateLimiterOptions } from '../../src/cloud/rate-limiter.ts';
import { IpamError } from '../../src/domain/error.ts';
import { Clock } from '../kit/clock.ts';
import { codeOf, crowd, ETH1, INSTANCE, ips, SUBNET, simulated } from '../kit/simulated.ts';
import { assert, suite } from '../kit/uvu.ts';

const LATER = Number.POSITIVE_INFINITY;
const LOOK_AGAIN_MS = 100;

/** A limiter, or several, before one VPC, whose buckets are off unless `bucketScale` says otherwise. */
function scene(options: { share?: number; bucketScale?: number; callTimeoutMs?: number } = {}) {
  const { share = 1, bucketScale = null, callTimeoutMs = 10_000 } = options;
  const clock = new Clock();
  const vpc = simulated({ now: () => clock.now, bucketScale });
  const lines: Parameters<RateLimiterOptions['log']>[] = [];
  const open = createMemoryClient(vpc, {
    wait: clock.wait,
    deadlineClock: () => clock.now,
    pageSize: 5,
    callTimeoutMs,
  });
  const before = (cloud: Ec2Client): Cloud =>
    createRateLimiter(cloud, {
      clock: () => clock.now,
      wait: clock.wait,
      share,
      budget: null,
      log: (...line) => void lines.push(line),
    });
  const cloud = before(open);
  /** When so much time has passed, so many calls of each crowd are done. */
  const after = async (ms: number, crowds: readonly { done: number }[], done: readonly number[]) => {
    await clock.advance(ms);
    assert.equal(
      crowds.map(one => one.done),
      done,
    );
  };
  return {
    ...{ clock, vpc, lines, open, before, cloud, after },
    as: (urgency: Urgency) => cloud.as(() => urgency),
    calls: (action: string) => vpc.calls.get(action) ?? 0,
  };
}

const permit = (cloud: Cloud) => () => cloud.permit('assign');
const send = (one: Permit): Promise<void> => one.send(ETH1, ips('10.0.1.20'), LATER);
const assignOne = async (cloud: Cloud): Promise<void> => send(await cloud.permit('assign'));
const limiter = suite('rate limiter');

limiter('what the bucket holds goes at once, the rest as fast as it fills', async () => {
  const { as, after } = scene();
  const permits = crowd(200, permit(as('refill')));
  const reads = crowd(200, () => as('refill').subnet(SUBNET));
  await after(0, [permits, reads], [100, 100]);
  await after(50, [permits, reads], [100, 101]);
  await after(1950, [permits, reads], [110, 140]);
  await after(18_000, [permits, reads], [200, 200]);
});

limiter('the share makes bucket and rate smaller, but never less than one call at a time', async () => {
  const { as, after } = scene({ share: 0.05 });
  const permits = crowd(10, permit(as('refill')));
  await after(0, [permits], [5]);
  await after(3999, [permits], [5]);
  await after(1, [permits], [6]);

  const small = scene({ share: 0.002 });
  await small.after(0, [crowd(2, permit(small.as('idle')))], [1]);
});

limiter("cold calls draw ahead of the share, as far as the account's bucket goes", async () => {
  const { as, after } = scene({ share: 0.05 });
  const permits = crowd(102, permit(as('cold')));
  await after(3999, [permits], [100]);
  await after(1, [permits], [101]);
  await after(4000, [permits], [102]);
});

limiter('a permit that nobody waits for any more goes to the next', async () => {
  const { clock, as, after } = scene({ share: 0.05 });
  crowd(5, permit(as('refill')));
  const given = new AbortController();
  const late = crowd(1, () => as('refill').permit('assign', given.signal));
  const next = crowd(1, permit(as('refill')));
  await clock.advance(1000);
  given.abort(new IpamError('unavailable', 'nobody waits any longer'));
  await clock.advance(LOOK_AGAIN_MS);
  assert.is(late.errors[0]?.code, 'ec2-throttled');
  await after(2900, [late, next], [0, 1]);
});

limiter('a caller that has gone ends the wait for a permit as such', async () => {
  const { clock, as } = scene({ share: 0.001 });
  crowd(100, permit(as('cold')));
  const gone = AbortSignal.abort(new IpamError('caller-gone', 'gone'));
  const left = crowd(1, () => as('cold').permit('assign', gone));
  await clock.advance(0);
  assert.is(left.errors[0]?.code, 'caller-gone');
});

limiter('what is less urgent waits until the debt of the cold calls is paid', async () => {
  const { as, after } = scene({ share: 0.05 });
  const cold = crowd(10, permit(as('cold'))); // five more than the share holds
  const refill = crowd(1, permit(as('refill')));
  await after(23_999, [cold, refill], [10, 0]);
  await after(1, [refill], [1]);
});

limiter('the more urgent goes first, among equals the first that came', async () => {
  const { clock, as } = scene();
  crowd(100, permit(as('cold')));
  const order: string[] = [];
  const asked = { e: 'idle', b: 'refill', d: 'reconcile', a: 'cold', c: 'refill' } as const;
  for (const [name, urgency] of Object.entries(asked))
    void as(urgency)
      .permit('assign')
      .then(() => order.push(name));
  await clock.advance(200);
  assert.equal(order, ['a']);
  await clock.advance(800);
  assert.equal(order, ['a', 'b', 'c', 'd', 'e']);
});

limiter('one that waits becomes more urgent without losing its place among its new equals', async () => {
  const { clock, cloud, as, after } = scene({ share: 0.05 });
  crowd(5, permit(as('cold')));
  let urgency: Urgency = 'refill';
  const changing = cloud.as(() => urgency);
  const promoted = crowd(1, permit(changing));
  await after(1000, [promoted], [0]);
  urgency = 'cold';
  await after(LOOK_AGAIN_MS, [promoted], [1]); // a cold call draws ahead

  urgency = 'reconcile';
  const order: string[] = [];
  crowd(94, permit(as('cold')));
  for (const [name, one] of [
    ['first', changing],
    ['second', as('cold')],
  ] as const)
    void one.permit('assign').then(() => order.push(name));
  await clock.advance(0);
  urgency = 'cold';
  await clock.advance(8000);
  assert.equal(order, ['first', 'second']);
});

limiter('a throttle empties the bucket and halves its rate, once for those that come together', async () => {
  const { vpc, cloud, as, lines, after } = scene();
  const given = await Promise.all(Array.from({ length: 3 }, permit(cloud)));
  vpc.faults.add({ kind: 'throttle', times: 3 });
  for (const one of given) assert.is(await codeOf(send(one)), 'ec2-throttled');
  const permits = crowd(100, permit(as('cold')));
  await after(9999, [permits], [24]); // 2.5 a second
  assert.equal(lines, [
    ['warn', 'throttled by EC2, slowing down', { action: 'AssignPrivateIpAddresses', perSecond: 2.5 }],
  ]);
  await after(2001, [permits], [25 + 10]); // ten seconds without a throttle: full speed
});

limiter('throttles that go on slow it to a sixteenth, and it recovers in steps', async () => {
  const { clock, vpc, cloud, as, lines } = scene();
  const given = await Promise.all(Array.from({ length: 8 }, permit(cloud)));
  vpc.faults.add({ kind: 'throttle', times: 8 });
  for (const one of given) {
    await clock.advance(1000);
    assert.is(await codeOf(send(one)), 'ec2-throttled');
  }
  const permits = crowd(200, permit(as('refill')));
  const afterEachTenSeconds: number[] = [];
  for (let i = 0; i < 5; i++) {
    await clock.advance(10_000);
    afterEachTenSeconds.push(permits.done);
  }
  // At 5/16, 5/8, 5/4, 5/2 and 5 a second: 3.125, 6.25, 12.5, 25 and 50.
  assert.equal(afterEachTenSeconds, [3, 9, 21, 46, 96]);
  assert.is(lines.length, 1);
});

limiter('slowed, cold calls keep to the rate of the account, others to our share', async () => {
  for (const [urgency, done] of [
    ['cold', 10],
    ['refill', 5],
  ] as const) {
    const { after, vpc, cloud, as } = scene({ share: 0.5 });
    vpc.faults.add({ kind: 'throttle', times: 1 });
    await codeOf(assignOne(cloud));
    await after(4000, [crowd(50, permit(as(urgency)))], [done]);
  }
});

limiter('with a thousand waiting, the least urgent that came last is refused', async () => {
  const { clock, as, after } = scene({ share: 0.05 });
  crowd(100, permit(as('cold')));
  const idle = crowd(999, permit(as('idle')));
  const last = crowd(1, permit(as('idle')));
  await clock.advance(0);
  assert.is(last.errors.length, 0);
  const cold = crowd(1, permit(as('cold')));
  const another = crowd(1, permit(as('idle')));
  await clock.advance(0);
  assert.equal([idle.errors.length, last.errors.length, another.errors.length], [0, 1, 1]);
  assert.is(last.errors[0]?.code, 'ec2-throttled');
  assert.match(
    last.errors[0]?.line ?? '',
    /^not sent: AssignPrivateIpAddresses: too many calls wait; raise /,
  );
  await after(4000, [cold], [1]);
});

limiter('ENIs take turns: a thousand calls of one come not before one of another', async () => {
  const { clock, cloud } = scene();
  crowd(100, permit(cloud)); // the bucket is empty
  const many = crowd(900, permit(cloud.as(() => 'cold', 'eni-many')));
  await clock.advance(1000);
  assert.is(many.done, 5);
  const one = crowd(1, permit(cloud.as(() => 'cold', 'eni-one')));
  await clock.advance(400);
  assert.equal([one.done, many.done], [1, 6]);
});

limiter('an ENI that asks for much leaves tokens, with which calls of others go at once', async () => {
  for (const share of [1, 0.05]) {
    const { clock, cloud } = scene({ share });
    const many = crowd(900, permit(cloud.as(() => 'cold', 'eni-many')));
    await clock.advance(0);
    assert.is(many.done, 80);
    const others = crowd(8, i => cloud.as(() => 'cold', `eni-${i}`).permit('assign'));
    await clock.advance(0);
    assert.is(others.done, 8);
    await clock.advance(8 * 4000);
    assert.ok(many.done >= 80, 'what they have used comes back first');
    const more = crowd(8, i => cloud.as(() => 'cold', `eni-${i}`).permit('assign'));
    await clock.advance(0);
    assert.is(more.done, 8);
  }
});

limiter('what is less urgent gets nothing of the tokens that a greedy ENI leaves', async () => {
  const { clock, cloud, as } = scene();
  crowd(200, permit(cloud.as(() => 'cold', 'eni-many')));
  const refill = crowd(1, permit(as('refill')));
  await clock.advance(1000);
  assert.is(refill.done, 0);
});

limiter(
  'with a thousand of one ENI waiting, a call of another is not refused but the last of those',
  async () => {
    const { clock, cloud } = scene();
    crowd(100, permit(cloud));
    const many = crowd(1000, permit(cloud.as(() => 'cold', 'eni-many')));
    const one = crowd(1, permit(cloud.as(() => 'cold', 'eni-one')));
    await clock.advance(0);
    assert.equal([many.errors.length, one.errors.length], [1, 0]);
    await clock.advance(400);
    assert.is(one.done, 1);
  },
);

limiter('what has waited a minute is refused, nothing was sent, and EC2 is not blamed for it', async () => {
  const { clock, calls, as, lines } = scene({ share: 0 });
  const [permits, reads] = [as('refill'), as('refill')].map((cloud, i) =>
    crowd(3, () => (i === 0 ? cloud.permit('assign') : cloud.subnet(SUBNET))),
  );
  await clock.advance(PERMIT_WAIT_MS_MAX - 1);
  assert.equal([permits?.errors.length, reads?.errors.length], [0, 0]);
  await clock.advance(LOOK_AGAIN_MS);
  // Each bucket is never smaller than one call.
  assert.equal([permits?.done, permits?.errors.length, reads?.done, reads?.errors.length], [1, 2, 1, 2]);
  for (const error of [...(permits?.errors ?? []), ...(reads?.errors ?? [])]) {
    assert.is(error.code, 'ec2-throttled');
    assert.match(error.line, /^not sent: \w+: its permit did not come in time; raise --ec2-share/);
  }
  assert.is(calls('DescribeSubnets'), 1);
  assert.equal(lines, []);
});

limiter('a read has a minute for the permits of all its tries', async () => {
  const { clock, vpc, as, calls } = scene({ share: 0.001 });
  vpc.faults.add({ kind: 'lostReply' });
  const read = crowd(1, () => as('refill').subnet(SUBNET)); // a token in 50 seconds
  await clock.advance(PERMIT_WAIT_MS_MAX - 1);
  assert.equal([calls('DescribeSubnets'), read.errors.length], [2, 0]);
  await clock.advance(LOOK_AGAIN_MS);
  assert.equal([calls('DescribeSubnets'), read.errors[0]?.code], [2, 'ec2-throttled']);
});

limiter('a read for which a container waits is given up sooner than a change', async () => {
  const { clock, as } = scene({ share: 0.001 });
  crowd(100, () => as('cold').subnet(SUBNET));
  crowd(100, () => as('cold').permit('unassign'));
  await clock.advance(0);
  const read = crowd(1, () => as('cold').subnet(SUBNET));
  const change = crowd(1, () => as('cold').permit('unassign'));
  await clock.advance(14_999);
  assert.equal([read.errors.length, change.errors.length], [0, 0]);
  await clock.advance(LOOK_AGAIN_MS);
  assert.equal([read.errors[0]?.code, change.errors.length], ['ec2-throttled', 0]);
  await clock.advance(PERMIT_WAIT_MS_MAX - 15_000);
  assert.is(change.errors[0]?.code, 'ec2-throttled');
});

limiter('each API has a bucket of its own', async () => {
  const { after, as, calls } = scene();
  const cloud = as('refill');
  const crowds = [
    permit(cloud),
    () => cloud.permit('unassign'),
    () => cloud.eni(ETH1),
    () => cloud.subnet(SUBNET),
    () => cloud.reservations(SUBNET),
    () => cloud.instanceType(INSTANCE),
    () => cloud.addressLimit('m5.large'),
  ].map(ask => crowd(101, ask));
  await after(0, crowds, Array(7).fill(100));
  assert.is(calls('DescribeNetworkInterfaces'), 100);
});

limiter('a hung call holds up none but its caller', async () => {
  const { clock, vpc, cloud, as, after } = scene();
  vpc.faults.add({ kind: 'hang', times: 61 });
  const hung = crowd(60, () => cloud.eni(ETH1));
  const change = crowd(1, () => assignOne(cloud));
  await clock.advance(0);
  vpc.faults.clear();
  const others = crowd(40, () => as('idle').eni(ETH1));
  await after(0, [hung, change, others], [0, 0, 40]);
});

limiter('each page has a token', async () => {
  const { clock, vpc, as, calls } = scene({ share: 0.05 });
  for (let i = 0; i < 30; i++) vpc.network.createEni({ subnet: SUBNET });
  const seen = { enis: 0 };
  const listing = crowd(1, async () => {
    for await (const page of as('reconcile').enis(SUBNET)) seen.enis += page.length;
  });
  await clock.advance(999);
  assert.equal([calls('DescribeNetworkInterfaces'), seen.enis], [5, 25]);
  await clock.advance(1);
  assert.equal([calls('DescribeNetworkInterfaces'), seen.enis], [6, 30]);
  await clock.advance(10_000);
  assert.equal([listing.done, seen.enis], [1, 32]);
});

limiter('a read is made thrice at most, with growing pauses and a token for each', async () => {
  const { clock, vpc, as, calls } = scene({ share: 0.02 });
  const asked = () => calls('DescribeNetworkInterfaces');
  vpc.faults.add({ kind: 'lostReply', times: 2 });
  const first = crowd(1, () => as('refill').eni(ETH1));
  await clock.advance(399);
  assert.is(asked(), 1);
  await clock.advance(1);
  assert.is(asked(), 2);
  await clock.advance(2099); // the pause is over after 800; at 0.4 tokens a second one takes 2500 ms
  assert.is(asked(), 2);
  await clock.advance(1);
  assert.equal([asked(), first.done], [3, 1]);

  await clock.advance(10_000);
  vpc.faults.add({ kind: 'lostReply', times: 3 });
  const second = codeOf(as('refill').eni(ETH1));
  await clock.advance(10_000);
  assert.is(await second, 'ec2-unknown');
  assert.is(asked(), 6);
});

limiter('a permit is good for one call, whatever EC2 answers', async () => {
  const { clock, vpc, as, calls } = scene();
  const addresses = ips('10.0.1.20');
  const one = await as('refill').permit('assign');
  vpc.faults.add({ kind: 'lostReply', times: 1 });
  const lost = crowd(1, () => one.send(ETH1, addresses, LATER));
  await clock.advance(PERMIT_WAIT_MS_MAX);
  assert.is(lost.errors[0]?.code, 'ec2-unknown');
  assert.is(await codeOf(one.send(ETH1, addresses, LATER)), 'internal');
  const refused = await as('refill').permit('unassign');
  assert.is(await codeOf(refused.send(ETH1, ips('10.0.1.99'), LATER)), 'ec2-not-assigned');
  assert.is(await codeOf(refused.send(ETH1, addresses, LATER)), 'internal');
  assert.equal([calls('AssignPrivateIpAddresses'), calls('UnassignPrivateIpAddresses')], [1, 1]);
});

limiter('a permit expires', async () => {
  const { clock, as, calls } = scene();
  const [inTime, late] = [await as('cold').permit('assign'), await as('cold').permit('assign')];
  await clock.advance(PERMIT_MS);
  assert.is(await codeOf(inTime.send(ETH1, ips('10.0.1.20'), LATER)), 'done');
  await clock.advance(1);
  assert.is(await codeOf(late.send(ETH1, ips('10.0.1.21'), LATER)), 'ec2-throttled');
  assert.is(calls('AssignPrivateIpAddresses'), 1);
});

limiter('a permit that was not used goes to the next that waits, one that was used does not', async () => {
  const { as, after } = scene({ share: 0.05 });
  const permits = await Promise.all(Array.from({ length: 5 }, permit(as('refill'))));
  const waiting = crowd(2, permit(as('refill')));
  await after(0, [waiting], [0]);
  const [unused, used] = permits;
  unused?.[Symbol.dispose]();
  unused?.[Symbol.dispose]();
  await used?.send(ETH1, ips('10.0.1.20'), LATER);
  used?.[Symbol.dispose]();
  await after(0, [waiting], [1]);
  assert.is(await codeOf(unused?.send(ETH1, ips('10.0.1.21'), LATER) ?? Promise.resolve()), 'internal');
});

limiter('two processes with half the account each are never throttled', async () => {
  const { after, before, open, vpc, lines } = scene({ share: 0.5, bucketScale: 1 });
  const crowds = [before(open), before(open)].map(cloud =>
    crowd(500, () => cloud.as(() => 'refill').subnet(SUBNET)),
  );
  await after(45_100, crowds, [500, 500]); // 100 at once, then 900 at 20 a second
  assert.is(vpc.calls.get('DescribeSubnets'), 1000, 'a throttled read would have been repeated');
  assert.equal(lines, []);
});

limiter('two bursts of cold calls get what the account has, and one throttle', async () => {
  const { clock, before, open, vpc, lines } = scene({ share: 0.5, bucketScale: 1 });
  const told = { done: 0, throttled: 0, late: 0 };
  for (const cloud of [before(open), before(open)])
    for (let i = 0; i < 300; i++)
      void (async () => {
        for (;;) {
          const one = await cloud.permit('unassign');
          const code = await codeOf(one.send(ETH1, ips('10.0.1.99'), LATER));
          if (code !== 'ec2-throttled') break;
          told.throttled++;
          if (clock.now > 0) told.late++;
        }
        told.done++;
      })();
  await clock.advance(0);
  // Each had its hundred tokens, and the account no more than that.
  assert.equal(told, { done: 100, throttled: 100, late: 0 });
  await clock.advance(40_000);
  assert.is(told.done + told.throttled, vpc.calls.get('UnassignPrivateIpAddresses'));
  assert.ok(told.done > 100 + 0.9 * 40 * 5, `${told.done} were done`);
  assert.ok(told.late <= 2, `${told.late} throttles after the first burst`);
  assert.ok(lines.length <= 2);
});
limiter.run();
