// Goal: whatever is asked of EC2, the account's rate is kept, the urgent goes first, and no call waits for
// another's answer. Method: the gate before a simulated VPC, both on one virtual clock that only the test
// moves.
import type { Cloud, OpenCloud, Urgency } from '../../src/cloud/cloud.ts';
import { createGate, type GateOptions } from '../../src/cloud/gate.ts';
import { createMemoryCloud } from '../../src/cloud/memory.ts';
import { TURN_MAX_MS } from '../../src/cloud/turns.ts';
import { Clock } from '../kit/clock.ts';
import { codeOf, crowd, ETH1, INSTANCE, ips, SUBNET, simulated } from '../kit/simulated.ts';
import { assert, suite } from '../kit/uvu.ts';

const LATER = Number.POSITIVE_INFINITY;
const LOOK_AGAIN_MS = 100;

/** A gate, or several, before one VPC, whose buckets are off unless `bucketScale` says otherwise. */
function scene(options: { share?: number; bucketScale?: number; callTimeoutMs?: number } = {}) {
  const { share = 1, bucketScale = null, callTimeoutMs = 10_000 } = options;
  const clock = new Clock();
  const vpc = simulated({ now: () => clock.now, bucketScale });
  const lines: Parameters<GateOptions['log']>[] = [];
  const open = createMemoryCloud(vpc, {
    wait: clock.wait,
    deadlineClock: () => clock.now,
    pageSize: 5,
    callTimeoutMs,
  });
  const before = (cloud: OpenCloud): Cloud =>
    createGate(cloud, {
      clock: () => clock.now,
      wait: clock.wait,
      share,
      budget: null,
      log: (...line) => void lines.push(line),
    });
  const cloud = before(open);
  return {
    clock,
    vpc,
    lines,
    open,
    before,
    cloud,
    as: (urgency: Urgency) => cloud.as(() => urgency),
    calls: (action: string) => vpc.calls.get(action) ?? 0,
  };
}

const turn = (cloud: Cloud) => () => cloud.turn('assign');
const gates = suite('gate');

gates('what the bucket holds goes at once, the rest as fast as it fills', async () => {
  const { clock, as } = scene();
  const turns = crowd(200, turn(as('refill')));
  const reads = crowd(200, () => as('refill').subnet(SUBNET));
  await clock.advance(0);
  assert.equal([turns.done, reads.done], [100, 100]);
  await clock.advance(50);
  assert.equal([turns.done, reads.done], [100, 101]);
  await clock.advance(1950);
  assert.equal([turns.done, reads.done], [110, 140]);
  await clock.advance(18_000);
  assert.equal([turns.done, reads.done], [200, 200]);
});

gates('the share makes bucket and rate smaller, but never less than one call at a time', async () => {
  const { clock, as } = scene({ share: 0.05 });
  const turns = crowd(10, turn(as('refill')));
  await clock.advance(0);
  assert.is(turns.done, 5);
  await clock.advance(3999);
  assert.is(turns.done, 5);
  await clock.advance(1);
  assert.is(turns.done, 6);

  const small = scene({ share: 0.002 });
  const one = crowd(2, turn(small.as('recycle')));
  await small.clock.advance(0);
  assert.is(one.done, 1);
});

gates("cold calls draw ahead of the share, as far as the account's bucket goes", async () => {
  const { clock, as } = scene({ share: 0.05 });
  const turns = crowd(102, turn(as('cold')));
  await clock.advance(3999);
  assert.is(turns.done, 100);
  await clock.advance(1);
  assert.is(turns.done, 101);
  await clock.advance(4000);
  assert.is(turns.done, 102);
});

gates('a turn that nobody waits for any more is given to nobody', async () => {
  const { clock, as } = scene({ share: 0.05 });
  crowd(5, turn(as('refill')));
  const late = crowd(1, () => as('refill').turn('assign', clock.now + 1000));
  await clock.advance(1000 + LOOK_AGAIN_MS);
  assert.is(late.errors[0]?.code, 'ec2-throttled');
  await clock.advance(4000);
  assert.is(late.done, 0);
});

gates('what is less urgent waits until the debt of the cold calls is paid', async () => {
  const { clock, as } = scene({ share: 0.05 });
  const cold = crowd(10, turn(as('cold'))); // five more than the share holds
  const refill = crowd(1, turn(as('refill')));
  await clock.advance(23_999);
  assert.equal([cold.done, refill.done], [10, 0]);
  await clock.advance(1);
  assert.is(refill.done, 1);
});

gates('the more urgent goes first, among equals the first that came', async () => {
  const { clock, as } = scene();
  crowd(100, turn(as('cold')));
  const order: string[] = [];
  for (const [urgency, name] of [
    ['recycle', 'e'],
    ['refill', 'b'],
    ['reconcile', 'd'],
    ['cold', 'a'],
    ['refill', 'c'],
  ] as const)
    void as(urgency)
      .turn('assign')
      .then(() => order.push(name));
  await clock.advance(200);
  assert.equal(order, ['a']);
  await clock.advance(800);
  assert.equal(order, ['a', 'b', 'c', 'd', 'e']);
});

gates('one that waits becomes more urgent without losing its place among its new equals', async () => {
  const { clock, cloud, as } = scene({ share: 0.05 });
  crowd(5, turn(as('cold')));
  let urgency: Urgency = 'refill';
  const changing = cloud.as(() => urgency);
  const promoted = crowd(1, turn(changing));
  await clock.advance(1000);
  assert.is(promoted.done, 0);
  urgency = 'cold';
  await clock.advance(LOOK_AGAIN_MS);
  assert.is(promoted.done, 1, 'a cold call draws ahead');

  urgency = 'reconcile';
  const order: string[] = [];
  crowd(94, turn(as('cold')));
  for (const [name, one] of [
    ['first', changing],
    ['second', as('cold')],
  ] as const)
    void one.turn('assign').then(() => order.push(name));
  await clock.advance(0);
  urgency = 'cold';
  await clock.advance(8000);
  assert.equal(order, ['first', 'second']);
});

gates('a throttle empties the bucket and halves its rate, once for those that come together', async () => {
  const { clock, vpc, cloud, as, lines } = scene();
  for (let i = 0; i < 3; i++) await cloud.turn('assign');
  vpc.faults.add({ kind: 'throttle', times: 3 });
  for (let i = 0; i < 3; i++)
    assert.is(await codeOf(cloud.assign(ETH1, ips('10.0.1.20'), LATER)), 'ec2-throttled');
  const turns = crowd(100, turn(as('cold')));
  await clock.advance(9999);
  assert.is(turns.done, 24); // 2.5 a second
  assert.equal(lines, [
    ['warn', 'EC2 throttles; slowing down', { action: 'AssignPrivateIpAddresses', perSecond: 2.5 }],
  ]);
  await clock.advance(2001);
  assert.is(turns.done, 25 + 10, 'ten seconds without a throttle: full speed');
});

gates('throttles that go on slow it to a sixteenth, and it recovers in steps', async () => {
  const { clock, vpc, cloud, as, lines } = scene();
  for (let i = 0; i < 8; i++) await cloud.turn('assign');
  vpc.faults.add({ kind: 'throttle', times: 8 });
  for (let i = 0; i < 8; i++) {
    await clock.advance(1000);
    assert.is(await codeOf(cloud.assign(ETH1, ips('10.0.1.20'), LATER)), 'ec2-throttled');
  }
  const turns = crowd(200, turn(as('refill')));
  const afterEachTenSeconds: number[] = [];
  for (let i = 0; i < 5; i++) {
    await clock.advance(10_000);
    afterEachTenSeconds.push(turns.done);
  }
  // At 5/16, 5/8, 5/4, 5/2 and 5 a second: 3.125, 6.25, 12.5, 25 and 50.
  assert.equal(afterEachTenSeconds, [3, 9, 21, 46, 96]);
  assert.is(lines.length, 1);
});

gates('slowed, a cold call goes as fast as the account fills, and any other as our share does', async () => {
  for (const [urgency, done] of [
    ['cold', 10],
    ['refill', 5],
  ] as const) {
    const { clock, vpc, cloud, as } = scene({ share: 0.5 });
    await cloud.turn('assign');
    vpc.faults.add({ kind: 'throttle', times: 1 });
    await codeOf(cloud.assign(ETH1, ips('10.0.1.20'), LATER));
    const turns = crowd(50, turn(as(urgency)));
    await clock.advance(4000);
    assert.is(turns.done, done, urgency);
  }
});

gates('with a thousand waiting, the least urgent that came last is refused', async () => {
  const { clock, as } = scene({ share: 0.05 });
  crowd(100, turn(as('cold')));
  const recycle = crowd(999, turn(as('recycle')));
  const last = crowd(1, turn(as('recycle')));
  await clock.advance(0);
  assert.is(last.errors.length, 0);
  const cold = crowd(1, turn(as('cold')));
  const another = crowd(1, turn(as('recycle')));
  await clock.advance(0);
  assert.equal([recycle.errors.length, last.errors.length, another.errors.length], [0, 1, 1]);
  assert.is(last.errors[0]?.code, 'ec2-throttled');
  assert.match(
    last.errors[0]?.line ?? '',
    /^not sent: AssignPrivateIpAddresses: too many calls wait; raise /,
  );
  await clock.advance(4000);
  assert.is(cold.done, 1);
});

gates('what has waited a minute is refused, nothing was sent, and EC2 is not blamed for it', async () => {
  const { clock, calls, as, lines } = scene({ share: 0 });
  const [turns, reads] = [as('refill'), as('refill')].map((cloud, i) =>
    crowd(3, () => (i === 0 ? cloud.turn('assign') : cloud.subnet(SUBNET))),
  );
  await clock.advance(TURN_MAX_MS - 1);
  assert.equal([turns?.errors.length, reads?.errors.length], [0, 0]);
  await clock.advance(LOOK_AGAIN_MS);
  // Each bucket is never smaller than one call.
  assert.equal([turns?.done, turns?.errors.length, reads?.done, reads?.errors.length], [1, 2, 1, 2]);
  for (const error of [...(turns?.errors ?? []), ...(reads?.errors ?? [])]) {
    assert.is(error.code, 'ec2-throttled');
    assert.match(error.line, /^not sent: \w+: its turn did not come in time; raise --ec2-share/);
  }
  assert.is(calls('DescribeSubnets'), 1);
  assert.equal(lines, []);
});

gates('a read has a minute for the turns of all its tries', async () => {
  const { clock, vpc, as, calls } = scene({ share: 0.001 });
  vpc.faults.add({ kind: 'lostReply' });
  const read = crowd(1, () => as('refill').subnet(SUBNET)); // a token in 50 seconds
  await clock.advance(TURN_MAX_MS - 1);
  assert.equal([calls('DescribeSubnets'), read.errors.length], [2, 0]);
  await clock.advance(LOOK_AGAIN_MS);
  assert.equal([calls('DescribeSubnets'), read.errors[0]?.code], [2, 'ec2-throttled']);
});

gates('what a container waits for waits for its turns no longer than its request can bear', async () => {
  const { clock, as } = scene({ share: 0.001 });
  crowd(100, () => as('cold').subnet(SUBNET));
  crowd(100, () => as('cold').turn('unassign'));
  await clock.advance(0);
  const read = crowd(1, () => as('cold').subnet(SUBNET));
  const change = crowd(1, () => as('cold').turn('unassign'));
  const told = crowd(1, () => as('cold').turn('unassign', LATER));
  await clock.advance(14_999);
  assert.equal([read.errors.length, change.errors.length], [0, 0]);
  await clock.advance(LOOK_AGAIN_MS);
  assert.equal([read.errors[0]?.code, change.errors[0]?.code], ['ec2-throttled', 'ec2-throttled']);
  assert.is(told.errors.length, 0, 'but for one that says until when');
});

gates('each API has a bucket of its own', async () => {
  const { clock, as, calls } = scene();
  const assigns = crowd(101, turn(as('refill')));
  const unassigns = crowd(101, () => as('refill').turn('unassign'));
  const reads = [
    crowd(101, () => as('refill').eni(ETH1)),
    crowd(101, () => as('refill').subnet(SUBNET)),
    crowd(101, () => as('refill').reservations(SUBNET)),
    crowd(101, () => as('refill').instanceType(INSTANCE)),
    crowd(101, () => as('refill').addressLimit('m5.large')),
  ];
  await clock.advance(0);
  assert.equal([assigns.done, unassigns.done, ...reads.map(read => read.done)], Array(7).fill(100));
  assert.is(calls('DescribeNetworkInterfaces'), 100);
});

gates('a hung call holds up none but its caller', async () => {
  const { clock, vpc, cloud, as } = scene();
  vpc.faults.add({ kind: 'hang', times: 61 });
  const hung = crowd(60, () => cloud.eni(ETH1));
  await cloud.turn('assign');
  const change = crowd(1, () => cloud.assign(ETH1, ips('10.0.1.20'), LATER));
  await clock.advance(0);
  vpc.faults.clear();
  const others = crowd(40, () => as('recycle').eni(ETH1));
  await clock.advance(0);
  assert.equal([hung.done, change.done, others.done], [0, 0, 40]);
});

gates('each page has a token', async () => {
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

gates(
  'a read is repeated twice with growing pauses, each with a token, then there is no answer',
  async () => {
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
  },
);

gates('a change is sent once for each turn that was given, and never without one', async () => {
  const { clock, vpc, cloud, as, calls } = scene();
  const addresses = ips('10.0.1.20');
  assert.is(await codeOf(cloud.assign(ETH1, addresses, LATER)), 'internal');
  await as('refill').turn('unassign');
  assert.is(await codeOf(cloud.assign(ETH1, addresses, LATER)), 'internal');
  await as('refill').turn('assign');
  vpc.faults.add({ kind: 'lostReply', times: 1 });
  const lost = crowd(1, () => cloud.assign(ETH1, addresses, LATER));
  await clock.advance(TURN_MAX_MS);
  assert.is(lost.errors[0]?.code, 'ec2-unknown');
  assert.is(await codeOf(cloud.assign(ETH1, addresses, LATER)), 'internal');
  assert.equal([calls('AssignPrivateIpAddresses'), calls('UnassignPrivateIpAddresses')], [1, 0]);
});

gates('two gates of half the account each are never throttled', async () => {
  const { clock, before, open, vpc, lines } = scene({ share: 0.5, bucketScale: 1 });
  const crowds = [before(open), before(open)].map(cloud =>
    crowd(500, () => cloud.as(() => 'refill').subnet(SUBNET)),
  );
  await clock.advance(45_100); // 100 at once, then 900 at 20 a second
  assert.equal(
    crowds.map(({ done }) => done),
    [500, 500],
  );
  assert.is(vpc.calls.get('DescribeSubnets'), 1000, 'a throttled read would have been repeated');
  assert.equal(lines, []);
});

gates('two bursts of cold calls together get what the account has, and are throttled only once', async () => {
  const { clock, before, open, vpc, lines } = scene({ share: 0.5, bucketScale: 1 });
  const told = { done: 0, throttled: 0, late: 0 };
  for (const cloud of [before(open), before(open)])
    for (let i = 0; i < 300; i++)
      void (async () => {
        for (;;) {
          await cloud.turn('unassign', LATER);
          const code = await codeOf(cloud.unassign(ETH1, ips('10.0.1.99'), LATER));
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
gates.run();
