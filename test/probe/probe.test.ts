// Goal: a probe tries all that it says, within its bounds, and leaves nothing on the ENI, wherever it is killed.
// Method: the simulator in this process, in virtual time.
import type { Change } from '../../src/cloud/verbatim.ts';
import { CALLS_MAX, CHANGES_MAX, PACE_MS } from '../../src/probe/meter.ts';
import { planOf } from '../../src/probe/probe.ts';
import { STEPS } from '../../src/probe/steps.ts';
import { ip } from '../kit/simulated.ts';
import { assert, suite } from '../kit/uvu.ts';
import { ASSIGN, DESCRIBE, ENI_A, ENI_B, ROOMY, SMALL, SUBNET, UNASSIGN, withEnis } from '../kit/vpcs.ts';
import { carriedOn, type Site, site } from './probing.ts';

const IPV6 = 'the subnet has no IPv6 CIDR of /64';
const probing = suite('a probe');

/** Runs a probe, and sees that it kept its bounds and left nothing. */
async function probed(s: Site, withPrefixes = false) {
  const { facts, meter } = await s.gather(withPrefixes);
  const outcome = await s.tryOut(facts, meter, { withPrefixes });
  assert.is(outcome.unclean, null);
  assert.is(carriedOn(s), 0);
  assert.is(meter.calls, s.sentAt.length);
  assert.ok(meter.calls <= CALLS_MAX && meter.changes <= CHANGES_MAX);
  assert.is(meter.changes, s.journal.length);
  for (const [index, at] of s.sentAt.entries())
    assert.ok(index === 0 || at - (s.sentAt[index - 1] ?? 0) >= PACE_MS, `call ${index} came too soon`);
  return { facts, meter, ...outcome };
}

for (const withPrefixes of [false, true])
  probing(
    `${withPrefixes ? 'with' : 'without'} prefixes: tries every step, and the simulator does as expected`,
    async () => {
      const s = site();
      const { tried, leftOut, meter, inDoubt } = await probed(s, withPrefixes);
      const steps = STEPS.filter(step => withPrefixes || !step.ofPrefixes);
      assert.equal(
        leftOut.map(one => one.why),
        withPrefixes ? [IPV6, IPV6] : [],
      );
      assert.is(tried.length, steps.length - leftOut.length);
      for (const one of tried) assert.equal(one.seen ?? null, one.expected, one.name);
      assert.equal(
        tried.flatMap(one => one.shownAfterMs ?? []),
        Array(withPrefixes ? 5 : 3).fill(1000),
      );
      assert.not.ok(inDoubt);
      assert.is(meter.changes, withPrefixes ? 13 : 11);
      assert.is((s.vpc.calls.get(ASSIGN) ?? 0) + (s.vpc.calls.get(UNASSIGN) ?? 0), meter.changes);
    },
  );

probing('with IPv6: tries a /80 of the subnet too, and takes it off', async () => {
  const s = site();
  s.ipv6Cidr = '2001:db8:1:2::/64';
  const { tried, leftOut, meter } = await probed(s, true);
  assert.equal(leftOut, []);
  const v6 = s.journal.filter(one => one.kind === 'ipv6-prefixes');
  assert.is(v6.map(one => one.verb).join(' '), 'assign unassign');
  assert.match(v6[0]?.names.join(' ') ?? '', /^2001:db8:1:2:f[0-9a-f]{3}::\/80$/);
  assert.equal(
    tried.slice(-2).map(one => one.shownAfterMs),
    [1000, 1000],
  );
  assert.is(meter.changes, 15);
});

probing('leaves out what would need the calls of the clean-up', async () => {
  const s = site();
  s.ipv6Cidr = '2001:db8:1:2::/64';
  late(s, 4500);
  const { leftOut } = await probed(s, true);
  assert.equal(
    leftOut.map(({ name, why }) => `${name}: ${why}`),
    ['an IPv6 prefix', 'an IPv6 prefix, off the ENI'].map(name => `${name}: no more calls are allowed`),
  );
});

probing('keeps enough calls for the clean-up, however late descriptions are', async () => {
  for (let lagMs = 500; lagMs <= 8000; lagMs += 500) {
    const s = site();
    s.ipv6Cidr = '2001:db8:1:2::/64';
    late(s, lagMs);
    await probed(s, true);
  }
});

probing('takes the answers for what the program does', async () => {
  const { tried } = await probed(site());
  const ours = 'done taken taken invalid invalid limit invalid taken done not-assigned not-found not-found';
  assert.is(tried.map(one => one.ours.replace('ec2-', '')).join(' '), ours);
});

probing('never sets AllowReassignment, and asks for no address of another ENI but its primary', async () => {
  const s = site(withEnis(ROOMY, { id: 'eni-0c', primary: '10.0.1.7', secondaries: ['10.0.1.8'] }));
  const { facts } = await probed(s);
  assert.equal(facts.neighbour, { eni: ENI_B, primary: '10.0.1.5' });
  assert.not.ok(s.journal.some(({ names }) => names.includes('10.0.1.8')));
  assert.is(s.vpc.network.carrier(SUBNET, ip('10.0.1.5')), ENI_B);
});

/** Descriptions show the ENI as it was so many milliseconds ago. */
function late(s: Site, ms: number): void {
  s.time.now += 60_000; // by then they show the ENI
  s.vpc.faults.add({ kind: 'readLag', ms, action: DESCRIBE });
}

probing('says how late descriptions are', async () => {
  const s = site();
  late(s, 1500);
  const { tried } = await probed(s);
  assert.equal(
    tried.flatMap(one => one.shownAfterMs ?? []),
    [2000, 1000, 2000],
  );
});

probing('waits no longer than four descriptions for one, and cleans up all the same', async () => {
  const s = site();
  late(s, 7500);
  const { tried } = await probed(s, true);
  assert.is(tried[0]?.shownAfterMs, null);
});

for (const [what, eni, says] of [
  [
    'has a secondary',
    { secondaries: ['10.0.1.9'] },
    /has secondary addresses, such as 10\.0\.1\.9: nothing was/,
  ],
  [
    'has a prefix',
    { prefixes: ['10.0.1.32/28'] },
    /has prefixes, such as 10\.0\.1\.32\/28: nothing was changed/,
  ],
  ['is managed by AWS', { requesterManaged: true }, /is managed by a service of AWS: nothing was changed/],
  ['has no IPv4 address', { primary: null }, /has no IPv4 address/],
] as const)
  probing(`refuses an ENI that ${what}, after one call`, async () => {
    const s = site(withEnis(ROOMY, { id: 'eni-0c', ...eni } as never));
    const error = await s.gather(false, 'eni-0c' as never).then(
      () => null,
      (thrown: Error & { line: string }) => thrown,
    );
    assert.match(error?.line ?? '', says);
    assert.not.match(error?.line ?? '', /\n/);
    assert.is(s.sentAt.length, 1);
    assert.equal(s.journal, []);
  });

probing('leaves out what the subnet or the ENI does not allow, and says why', async () => {
  const alone = { ...ROOMY, enis: [{ id: ENI_A, subnet: SUBNET, primary: '10.0.1.4' }] };
  const { leftOut } = await probed(site(alone));
  assert.is(
    leftOut.map(({ name }) => name).join('; '),
    ['an address that is taken', 'over the limit', 'a mixed batch: one free, one taken'].join('; '),
  );
  const small = await site(SMALL).gather(true);
  const why = planOf(small.facts, true).flatMap(({ call }) => (typeof call === 'string' ? call : []));
  assert.equal(why, [
    'the subnet has too few free addresses',
    ...Array(2).fill('no /28 of the subnet is free'),
    IPV6,
    IPV6,
  ]);
});

probing('a change that has no answer: ends the trials, is in doubt, and is taken off again', async () => {
  const s = site();
  s.vpc.faults.add({ kind: 'lostReply', action: ASSIGN, times: 1 });
  const { tried, leftOut, inDoubt } = await probed(s);
  assert.is(tried.length, 1);
  assert.ok(inDoubt);
  assert.ok(leftOut.every(({ why }) => why === 'a call before it had no answer'));
});

probing('a right that is missing: is shown in the words of EC2, and ends the trials', async () => {
  const s = site();
  s.vpc.denied.add(ASSIGN);
  const { tried, leftOut } = await probed(s);
  assert.is(tried.length, 1);
  assert.equal(tried[0]?.seen, {
    code: 'UnauthorizedOperation',
    text: 'You are not authorized to perform this operation.',
  });
  assert.is(leftOut[0]?.why, 'EC2 refused what the others need');
});

probing('a signal: ends the trials, and what is on the ENI is taken off', async () => {
  const s = site();
  const stop = new AbortController();
  const { facts, meter } = await s.gather();
  s.onChange = (_change, when) => void (when === 'after' && stop.abort());
  const { tried, unclean } = await s.tryOut(facts, meter, { signal: stop.signal });
  assert.is(tried.length, 1);
  assert.is(unclean, null);
  assert.is(carriedOn(s), 0);
});

probing('reads that fail: the clean-up goes on, and says when it does not know', async () => {
  const s = site();
  const { facts, meter } = await s.gather();
  s.onChange = (_change, when) => {
    if (when === 'after') s.vpc.faults.add({ kind: 'throttle', action: DESCRIBE });
  };
  const { unclean } = await s.tryOut(facts, meter);
  assert.match(unclean ?? '', /^EC2 did not show eni-0a often enough|is not known to be clean/);
  s.vpc.faults.clear();
  s.onChange = () => {};
  assert.is(await s.undo(), null);
  assert.is(carriedOn(s), 0);
});

/** Kills the program at its change of this number: after its journal entry, or after EC2 has carried it out. */
async function killed(s: Site, number: number, at: 'before' | 'after'): Promise<boolean> {
  const { facts, meter } = await s.gather(true);
  let changes = 0;
  const death = new Promise<true>(resolve => {
    s.onChange = (_change: Change, when) => {
      if (when === 'before') changes++;
      if (changes !== number || when !== at) return;
      resolve(true);
      return new Promise<void>(() => {});
    };
  });
  const isDead = await Promise.race([
    death,
    s.tryOut(facts, meter, { withPrefixes: true }).then(() => false),
  ]);
  s.onChange = () => {};
  return isDead;
}

for (const lagMs of [0, 3000, 9000])
  probing(
    `killed after any journal entry, or after its call, descriptions ${lagMs} ms late: undo leaves nothing`,
    async () => {
      let number = 1;
      for (let goesOn = true; goesOn; number++)
        for (const at of ['before', 'after'] as const) {
          const s = site();
          s.vpc.network.assign({ eni: ENI_B, ips: [ip('10.0.1.99')] });
          if (lagMs > 0) late(s, lagMs);
          goesOn = await killed(s, number, at);
          assert.is(await s.undo(), null, `change ${number}, ${at}`);
          assert.is(carriedOn(s), 0, `change ${number}, ${at}`);
          assert.is(carriedOn(s, ENI_B), 1);
        }
      assert.is(number - 2, 13);
    },
  );

probing('undo takes off what the journal names, and nothing else', async () => {
  const s = site();
  await killed(s, 1, 'after');
  s.vpc.network.assign({ eni: ENI_A, ips: [ip('10.0.1.200')] });
  assert.is(await s.undo(), null);
  assert.equal(s.vpc.network.eni(ENI_A).secondaries, ['10.0.1.200']);
});
probing.run();
