// Goal: the simulated VPC fails only as it was told to, and throttles as EC2 does. Method: the pure model, with a clock
// that stands still until it is advanced.
import type { EniId } from '../../../src/domain/ids.ts';
import type { Outcome, Vpc } from '../../../src/simulator/model/vpc.ts';
import { addressesOf, ETH0, ETH1, ETH2, ips, SUBNET, simulated, times } from '../../kit/simulated.ts';
import { assert, suite } from '../../kit/uvu.ts';

const assign = (vpc: Vpc, eni: EniId, ...texts: string[]) =>
  vpc.write('AssignPrivateIpAddresses', eni, network => network.assign({ eni, ips: ips(...texts) }));
const secondariesRead = (vpc: Vpc, eni: EniId): string => {
  const outcome = vpc.read('DescribeNetworkInterfaces', (network, at) => network.eni(eni, at));
  return outcome.kind === 'answer' ? outcome.value.secondaries.join(' ') : kindOf(outcome);
};
const kindOf = (outcome: Outcome<unknown>): string =>
  outcome.kind === 'refusal' ? outcome.error.code : outcome.kind;

const faults = suite('faults of a VPC');
faults('a lost reply: was applied, a hang and an error were not', () => {
  const vpc = simulated();
  vpc.faults.add({ kind: 'lostReply', times: 1 });
  assert.is(kindOf(assign(vpc, ETH1, '10.0.1.20')), 'dropped');
  vpc.faults.add({ kind: 'hang', times: 1 });
  assert.is(kindOf(assign(vpc, ETH1, '10.0.1.21')), 'never');
  vpc.faults.add({ kind: 'error', code: 'Unavailable', message: 'Come back.', times: 1 });
  assert.is(kindOf(assign(vpc, ETH1, '10.0.1.22')), 'Unavailable');
  assert.is(addressesOf(vpc.network, ETH1), '10.0.1.20');
  assert.equal(vpc.faults.list, [], 'each struck once');
});

faults('a lost reply: may be an error that lies', () => {
  const vpc = simulated();
  vpc.faults.add({ kind: 'lostReply', code: 'InternalError', message: 'Oops.' });
  assert.is(kindOf(assign(vpc, ETH1, '10.0.1.20')), 'InternalError');
  assert.is(addressesOf(vpc.network, ETH1), '10.0.1.20');
});

faults('a late call: is applied when its time comes, on what it finds then', () => {
  const vpc = simulated();
  vpc.faults.add({ kind: 'applyLate', ms: 60_000, times: 2 });
  assert.is(kindOf(assign(vpc, ETH1, '10.0.1.20')), 'dropped');
  assert.is(kindOf(assign(vpc, ETH1, '10.0.1.21')), 'dropped');
  vpc.network.assign({ eni: ETH0, ips: ips('10.0.1.21') });
  vpc.advance(59_999);
  assert.is(vpc.lateCalls, 2);
  assert.is(addressesOf(vpc.network, ETH1), '');
  vpc.advance(5000);
  assert.is(addressesOf(vpc.network, ETH1), '10.0.1.20', 'the other one is taken by now');
  assert.is(vpc.lateCalls, 0);
  const entry = { at: 1_060_000, action: 'AssignPrivateIpAddresses', eni: ETH1, ips: ips('10.0.1.20') };
  assert.equal(vpc.network.journalAfter(0).mutations.at(-1), entry);
});

faults('a watcher: is told of each change as it is made, of a late one when its time has come', () => {
  const vpc = simulated();
  const told: string[] = [];
  vpc.network.watch(eni => told.push(`${eni} ${addressesOf(vpc.network, eni)}`));
  assign(vpc, ETH1, '10.0.1.20');
  assert.equal(told.splice(0), [`${ETH1} 10.0.1.20`]);
  vpc.faults.add({ kind: 'applyLate', ms: 60_000, times: 1 });
  assign(vpc, ETH1, '10.0.1.21');
  assert.equal(told, []);
  vpc.advance(60_000);
  assert.is(vpc.lateCalls, 0);
  assert.equal(told.splice(0), [`${ETH1} 10.0.1.20 10.0.1.21`]);
  vpc.network.assign({ eni: ETH0, ips: ips('10.0.1.20'), allowReassignment: true });
  assert.equal(told, [`${ETH1} 10.0.1.21`, `${ETH0} 10.0.1.20`], 'the one that it was taken from first');
});

faults('a late read: shows an older state, also of what was not there yet', () => {
  const vpc = simulated();
  vpc.advance(10_000);
  assign(vpc, ETH1, '10.0.1.20');
  const { id } = vpc.network.createEni({ subnet: SUBNET });
  vpc.faults.add({ kind: 'readLag', ms: 5000, action: 'DescribeNetworkInterfaces' });
  vpc.advance(4999);
  assert.is(secondariesRead(vpc, ETH1), '');
  assert.is(secondariesRead(vpc, id), 'InvalidNetworkInterfaceID.NotFound');
  vpc.advance(1);
  assert.is(secondariesRead(vpc, ETH1), '10.0.1.20');
  assert.is(secondariesRead(vpc, id), '');
  vpc.network.deleteEni(id);
  assert.is(secondariesRead(vpc, id), '', 'and what is gone is shown still');
});

faults('a late read: shows a state that was long-lived, however old', () => {
  const vpc = simulated();
  assign(vpc, ETH1, '10.0.1.20');
  vpc.advance(400_000);
  assign(vpc, ETH1, '10.0.1.21');
  vpc.faults.add({ kind: 'readLag', ms: 5000 });
  assert.is(secondariesRead(vpc, ETH1), '10.0.1.20');
});

faults('a fault: strikes only its action, its ENI, its share and so many calls', () => {
  const vpc = simulated();
  vpc.faults.add({ kind: 'throttle', action: 'AssignPrivateIpAddresses', eni: ETH2, times: 1 });
  assert.is(kindOf(assign(vpc, ETH1, '10.0.1.20')), 'answer');
  assert.is(secondariesRead(vpc, ETH2), '');
  assert.is(kindOf(assign(vpc, ETH2, '10.0.2.20')), 'RequestLimitExceeded');
  assert.is(kindOf(assign(vpc, ETH2, '10.0.2.20')), 'answer');
  vpc.buckets.scale = null;
  vpc.faults.add({ kind: 'throttle', chance: 0.25 });
  const read = times(1000, () => secondariesRead(vpc, ETH2));
  const struck = read.filter(text => text.startsWith('Request'));
  assert.ok(struck.length > 200 && struck.length < 300, `struck ${struck.length} of 1000`);
});

faults('latency: adds to whatever else happens', () => {
  const vpc = simulated();
  vpc.faults.add({ kind: 'latency', ms: 250 });
  vpc.faults.add({ kind: 'throttle', times: 1 });
  const outcomes = [assign(vpc, ETH1, '10.0.1.20'), assign(vpc, ETH1, '10.0.1.20')];
  assert.equal(outcomes.map(kindOf), ['RequestLimitExceeded', 'answer']);
  for (const outcome of outcomes) assert.is(outcome.kind !== 'never' && outcome.afterMs, 250);
});
faults.run();

const throttling = suite('throttling of a VPC');
const throttled = (calls: Outcome<unknown>[]): number =>
  calls.filter(one => kindOf(one) === 'RequestLimitExceeded').length;

throttling('assign and unassign: have 100 tokens each and get 5 a second', () => {
  const vpc = simulated();
  assert.is(throttled(times(130, () => assign(vpc, ETH1))), 30);
  const unassign = () => vpc.write('UnassignPrivateIpAddresses', ETH1, network => network.unassign(ETH1, []));
  assert.is(throttled(times(110, unassign)), 10);
  vpc.advance(2000);
  assert.is(throttled(times(20, () => assign(vpc, ETH1))), 10);
  vpc.advance(3_600_000);
  assert.is(throttled(times(130, () => assign(vpc, ETH1))), 30, 'the bucket does not overflow');
  assert.is(vpc.calls.get('AssignPrivateIpAddresses'), 280, 'throttled calls are calls');
});

throttling('a dry run: takes a token of its action, with and without the right', () => {
  const vpc = simulated();
  const dryRun = () => vpc.dryRun('AssignPrivateIpAddresses');
  assert.is(kindOf(dryRun()), 'DryRunOperation');
  vpc.denied.add('AssignPrivateIpAddresses');
  assert.is(throttled(times(129, dryRun)), 30);
  vpc.denied.clear();
  assert.is(throttled(times(1, () => assign(vpc, ETH1))), 1);
});

throttling('describes: have 100 tokens and get 20 a second; sweeping ones 50 and 10', () => {
  const vpc = simulated();
  const describe = (sweeping: boolean) => () => vpc.read('DescribeNetworkInterfaces', () => null, sweeping);
  assert.is(throttled(times(130, describe(false))), 30);
  assert.is(throttled(times(60, describe(true))), 10);
  vpc.advance(1000);
  assert.is(throttled(times(30, describe(false))), 10);
  assert.is(throttled(times(30, describe(true))), 20);
});

throttling('buckets: can be scaled and turned off', () => {
  const vpc = simulated({ bucketScale: 0.1 });
  assert.is(throttled(times(20, () => assign(vpc, ETH1))), 10);
  vpc.buckets.scale = null;
  assert.is(throttled(times(1000, () => assign(vpc, ETH1))), 0);
});
throttling.run();
