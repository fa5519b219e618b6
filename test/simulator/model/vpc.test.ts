// Goal: the simulated VPC refuses what EC2 refuses, whole, in EC2's words, and fails only as it was told to.
// Method: the pure model, with a clock that stands still until it is advanced.
import { parseCidr } from '../../../src/domain/address.ts';
import type { EniId, InstanceId, SubnetId } from '../../../src/domain/ids.ts';
import { describeEnis } from '../../../src/simulator/model/describe.ts';
import { Ec2Error } from '../../../src/simulator/model/ec2-error.ts';
import type { Network } from '../../../src/simulator/model/network.ts';
import type { Outcome, Vpc } from '../../../src/simulator/model/vpc.ts';
import { buildVpc } from '../../../src/simulator/model/world.ts';
import { ETH0, ETH1, ETH2, INSTANCE, ip, ips, SUBNET, seeded, simulated } from '../../kit/simulated.ts';
import { assert, suite } from '../../kit/uvu.ts';

const refusalOf = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    if (error instanceof Ec2Error) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'not refused';
};
const addressesOf = (network: Network, eni: EniId): string => network.eni(eni).secondaries.join(' ');
const assign = (vpc: Vpc, eni: EniId, ...texts: string[]) =>
  vpc.write('AssignPrivateIpAddresses', eni, network => network.assign({ eni, ips: ips(...texts) }));
const secondariesRead = (vpc: Vpc, eni: EniId): string => {
  const outcome = vpc.read('DescribeNetworkInterfaces', (network, at) => network.eni(eni, at));
  return outcome.kind === 'answer' ? outcome.value.secondaries.join(' ') : kindOf(outcome);
};
const kindOf = (outcome: Outcome<unknown>): string =>
  outcome.kind === 'refusal' ? outcome.error.code : outcome.kind;

const refusals = suite('vpc refusals');
/** 10.0.1.20 is on ETH1, 10.0.1.99 a load balancer's, 10.0.1.128/28 reserved for prefixes. */
function crowded(): Network {
  const { network } = simulated();
  network.assign({ eni: ETH1, ips: ips('10.0.1.20') });
  network.addReservation(SUBNET, parseCidr('10.0.1.128/28'), 'prefix');
  network.createEni({ subnet: SUBNET, id: LB, primary: ip('10.0.1.99'), requesterManaged: true });
  return network;
}
const LB = 'eni-0aa' as EniId;
const value = 'InvalidParameterValue: ';
const cases: [why: string, act: (network: Network) => unknown, refusal: string][] = [
  [
    "another ENI's secondary is taken",
    network => network.assign({ eni: ETH0, ips: ips('10.0.1.21', '10.0.1.20') }),
    `${value}[10.0.1.20] assigned, but move is not allowed.`,
  ],
  [
    "the ENI's own secondary and primary are taken",
    network => network.assign({ eni: ETH1, ips: ips('10.0.1.20', '10.0.1.21', '10.0.1.11') }),
    `${value}[10.0.1.20, 10.0.1.11] assigned, but move is not allowed.`,
  ],
  [
    "a service's address cannot be moved, even with AllowReassignment",
    network => network.assign({ eni: ETH1, ips: ips('10.0.1.99'), allowReassignment: true }),
    `${value}[10.0.1.99] assigned, but move is not allowed.`,
  ],
  [
    'a primary cannot be moved, even with AllowReassignment',
    network => network.assign({ eni: ETH1, ips: ips('10.0.1.10'), allowReassignment: true }),
    `${value}[10.0.1.10] assigned, but move is not allowed.`,
  ],
  ...['10.0.1.0', '10.0.1.1', '10.0.1.2', '10.0.1.3', '10.0.1.255'].map(
    (ip): [string, (network: Network) => unknown, string] => [
      `${ip} is AWS's own`,
      network => network.assign({ eni: ETH1, ips: ips('10.0.1.21', ip) }),
      `${value}Address ${ip} is in subnet's reserved address range`,
    ],
  ),
  [
    'an address of another subnet is outside',
    network => network.assign({ eni: ETH1, ips: ips('10.0.2.20') }),
    `${value}Address 10.0.2.20 does not fall within the subnet's address range`,
  ],
  [
    'a prefix reservation holds no single addresses',
    network => network.assign({ eni: ETH1, ips: ips('10.0.1.130') }),
    `${value}Address 10.0.1.130 is in the subnet's CIDR reservation 10.0.1.128/28 of type prefix`,
  ],
  [
    'an address is given once',
    network => network.assign({ eni: ETH1, ips: ips('10.0.1.21', '10.0.1.21') }),
    `${value}Address 10.0.1.21 is given more than once`,
  ],
  [
    'what is no address is refused',
    network => network.assign({ eni: ETH1, ips: ips('10.0.1.021') }),
    `${value}invalid value for parameter address: 10.0.1.021`,
  ],
  [
    'an m5.large has room for 10 on an ENI, the primary counted',
    network => network.assign({ eni: ETH1, count: 9 }),
    'PrivateIpAddressLimitExceeded: Number of private addresses will exceed limit.',
  ],
  [
    'a list and a count together are too much',
    network => network.assign({ eni: ETH1, ips: ips('10.0.1.21'), count: 1 }),
    'InvalidParameterCombination: The parameters privateIpAddresses and secondaryPrivateIpAddressCount may not be used together',
  ],
  [
    'neither is too little',
    network => network.assign({ eni: ETH1 }),
    'MissingParameter: The request must contain the parameter privateIpAddresses or secondaryPrivateIpAddressCount',
  ],
  [
    'a count is one or more',
    network => network.assign({ eni: ETH1, count: 0 }),
    `${value}Value (0) for parameter secondaryPrivateIpAddressCount is invalid.`,
  ],
  [
    'an ENI that is not there',
    network => network.assign({ eni: 'eni-0bad' as EniId, ips: ips('10.0.1.21') }),
    "InvalidNetworkInterfaceID.NotFound: The networkInterface ID 'eni-0bad' does not exist",
  ],
  [
    'a subnet that is not there',
    network => network.available('subnet-0bad' as SubnetId),
    "InvalidSubnetID.NotFound: The subnet ID 'subnet-0bad' does not exist",
  ],
  [
    'an instance that is not there',
    network => network.instance('i-0bad' as InstanceId),
    "InvalidInstanceID.NotFound: The instance ID 'i-0bad' does not exist",
  ],
  [
    "a service's ENI is the service's",
    network => network.assign({ eni: LB, ips: ips('10.0.1.21') }),
    'AuthFailure: You do not have permission to access the specified resource.',
  ],
  [
    'one address that is not there fails the whole unassign',
    network => network.unassign(ETH1, ips('10.0.1.20', '10.0.1.21')),
    `${value}Some of the specified addresses are not assigned to interface ${ETH1}`,
  ],
  [
    'a primary stays',
    network => network.unassign(ETH1, ips('10.0.1.20', '10.0.1.11')),
    `${value}Value (10.0.1.11) for parameter privateIpAddress is invalid. The primary IP address of an interface cannot be unassigned.`,
  ],
  [
    'an attached ENI cannot be deleted',
    network => network.deleteEni(ETH1),
    `${value}Network interface '${ETH1}' is currently in use.`,
  ],
  [
    'device 0 cannot be detached',
    network => network.detach(network.eni(ETH0).attachment?.id ?? ''),
    'OperationNotPermitted: The network interface at device index 0 cannot be detached.',
  ],
  [
    'an m5.large has three ENIs',
    network => network.attach(network.createEni({ subnet: SUBNET }).id, INSTANCE, 3),
    'AttachmentLimitExceeded: Interface count 4 exceeds the limit for m5.large',
  ],
];
for (const [why, act, refusal] of cases)
  refusals(why, () => {
    const network = crowded();
    assert.is(
      refusalOf(() => act(network)),
      refusal,
    );
    assert.is(addressesOf(network, ETH1), '10.0.1.20', 'a refusal changes nothing');
    assert.is(network.carrier(SUBNET, ip('10.0.1.21')), null, 'nor part of a batch');
  });
refusals('an unnamed refusal leaves the address out', () => {
  const { network } = simulated({ unnamedRefusals: true });
  network.assign({ eni: ETH1, ips: ips('10.0.1.20') });
  assert.is(
    refusalOf(() => network.assign({ eni: ETH0, ips: ips('10.0.1.20') })),
    'InvalidIPAddress.InUse: The specified address is already in use.',
  );
});
refusals.run();

const addresses = suite('vpc addresses');
addresses('what is assigned is on the ENI, counted, and free again when it was unassigned', () => {
  const { network } = simulated();
  const before = network.available(SUBNET);
  assert.is(before, 256 - 5 - 2, 'five are AWS, two are primaries');
  network.assign({ eni: ETH1, ips: ips('10.0.1.20', '10.0.1.21') });
  assert.is(network.available(SUBNET), before - 2);
  network.unassign(ETH1, ips('10.0.1.20'));
  assert.is(addressesOf(network, ETH1), '10.0.1.21');
  assert.is(network.available(SUBNET), before - 1);
  network.assign({ eni: ETH0, ips: ips('10.0.1.20') });
  assert.is(network.carrier(SUBNET, ip('10.0.1.20')), ETH0);
});

addresses('by count EC2 gives what nobody has or reserved, to the last one', () => {
  const vpc = simulated({}, { subnets: [{ id: SUBNET, cidr: '10.0.1.0/26' }] });
  const { network } = vpc;
  network.addReservation(SUBNET, parseCidr('10.0.1.32/28'), 'explicit');
  network.addReservation(SUBNET, parseCidr('10.0.1.48/28'), 'prefix');
  const { id, primary } = network.createEni({ subnet: SUBNET });
  const given = network.assign({ eni: id, count: 27 });
  const all = Array.from({ length: 28 }, (_, index) => `10.0.1.${index + 4}`);
  assert.equal([primary, ...given].sort(), all.sort(), 'a /27 less its reserved four');
  assert.match(
    refusalOf(() => network.assign({ eni: id, count: 1 })),
    /^InsufficientFreeAddressesInSubnet/,
  );
  network.assign({ eni: id, ips: ips('10.0.1.40') }); // an explicit reservation gives by name
});

addresses('a prefix takes one place of the ENI and 16 addresses of the subnet', () => {
  const { network } = simulated();
  const before = network.available(SUBNET);
  const eni = network.createEni({ subnet: SUBNET, prefixes: [parseCidr('10.0.1.64/28')] });
  assert.is(network.available(SUBNET), before - 17);
  assert.match(
    refusalOf(() => network.assign({ eni: ETH1, ips: ips('10.0.1.70') })),
    /10\.0\.1\.70/,
  );
  network.detach(network.eni(ETH2).attachment?.id ?? '');
  network.attach(eni.id, INSTANCE, 2);
  assert.match(
    refusalOf(() => network.assign({ eni: eni.id, count: 9 })),
    /^PrivateIpAddressLimitExceeded/,
  );
  assert.is(network.assign({ eni: eni.id, count: 8 }).length, 8);
});

addresses('AllowReassignment moves a secondary', () => {
  const { network } = simulated();
  network.assign({ eni: ETH1, ips: ips('10.0.1.20', '10.0.1.21') });
  network.assign({ eni: ETH0, ips: ips('10.0.1.20'), allowReassignment: true });
  assert.is(addressesOf(network, ETH1), '10.0.1.21');
  assert.is(addressesOf(network, ETH0), '10.0.1.20');
});

addresses('an unattached ENI has a default limit', () => {
  const { network } = simulated();
  const { id } = network.createEni({ subnet: SUBNET });
  assert.is(network.assign({ eni: id, count: 49 }).length, 49);
  assert.match(
    refusalOf(() => network.assign({ eni: id, count: 1 })),
    /^PrivateIpAddressLimitExceeded/,
  );
});

addresses(
  'a terminated instance leaves its ENIs with their addresses, but for those that die with it',
  () => {
    const { network } = simulated();
    network.assign({ eni: ETH1, ips: ips('10.0.1.20') });
    network.terminate(INSTANCE);
    assert.is(network.instance(INSTANCE).state, 'terminated');
    assert.match(
      refusalOf(() => network.eni(ETH0)),
      /^InvalidNetworkInterfaceID\.NotFound/,
    );
    assert.is(network.carrier(SUBNET, ip('10.0.1.10')), null);
    assert.is(network.eni(ETH1).attachment, null);
    assert.is(addressesOf(network, ETH1), '10.0.1.20');
  },
);

addresses('an ENI attached anew has another attachment id', () => {
  const { network } = simulated();
  const first = network.eni(ETH1).attachment?.id ?? '';
  network.detach(first);
  assert.match(
    refusalOf(() => network.detach(first)),
    /^InvalidAttachmentID\.NotFound/,
  );
  network.attach(ETH1, INSTANCE, 1);
  assert.is.not(network.eni(ETH1).attachment?.id, first);
});

addresses('carriers and ENIs tell the same story after a thousand random changes', () => {
  for (const seed of [1, 2, 3]) {
    const random = seeded(seed);
    const { network } = simulated({ random });
    for (let step = 0; step < 1000; step++) {
      const eni = [ETH0, ETH1][Math.floor(random() * 2)] ?? ETH0;
      const ip = ips(`10.0.1.${Math.floor(random() * 40)}`);
      refusalOf(() =>
        random() < 0.5
          ? network.assign({ eni, ips: ip, allowReassignment: random() < 0.3 })
          : network.unassign(eni, ip),
      );
    }
    const carried = [...network.enis()]
      .filter(eni => eni.subnet === SUBNET)
      .flatMap(eni => [eni.primary, ...eni.secondaries].map(ip => [ip, eni.id]));
    assert.is(new Set(carried.map(([ip]) => ip)).size, carried.length, `seed ${seed}: one ENI per address`);
    for (const [ip, eni] of carried) assert.is(network.carrier(SUBNET, ip as never), eni, `seed ${seed}`);
    assert.is(network.available(SUBNET), 251 - carried.length, `seed ${seed}`);
  }
});
addresses.run();

const faults = suite('vpc faults');
faults('a lost reply was applied, a hang and an error were not', () => {
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

faults('a lost reply may be an error that lies', () => {
  const vpc = simulated();
  vpc.faults.add({ kind: 'lostReply', code: 'InternalError', message: 'Oops.' });
  assert.is(kindOf(assign(vpc, ETH1, '10.0.1.20')), 'InternalError');
  assert.is(addressesOf(vpc.network, ETH1), '10.0.1.20');
});

faults('a late call is applied when its time comes, on what it finds then', () => {
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
  assert.equal(vpc.network.journal.at(-1), {
    at: 1_060_000,
    action: 'AssignPrivateIpAddresses',
    eni: ETH1,
    ips: ips('10.0.1.20'),
  });
});

faults('whoever watches is told of each change as it is made, of a late one when its time has come', () => {
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

faults('a late read shows an older state, also of what was not there yet', () => {
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

faults('a late read shows a state that was long-lived, however old', () => {
  const vpc = simulated();
  assign(vpc, ETH1, '10.0.1.20');
  vpc.advance(400_000);
  assign(vpc, ETH1, '10.0.1.21');
  vpc.faults.add({ kind: 'readLag', ms: 5000 });
  assert.is(secondariesRead(vpc, ETH1), '10.0.1.20');
});

faults('a fault strikes only its action, its ENI, its share and so many calls', () => {
  const vpc = simulated();
  vpc.faults.add({ kind: 'throttle', action: 'AssignPrivateIpAddresses', eni: ETH2, times: 1 });
  assert.is(kindOf(assign(vpc, ETH1, '10.0.1.20')), 'answer');
  assert.is(secondariesRead(vpc, ETH2), '');
  assert.is(kindOf(assign(vpc, ETH2, '10.0.2.20')), 'RequestLimitExceeded');
  assert.is(kindOf(assign(vpc, ETH2, '10.0.2.20')), 'answer');
  vpc.buckets.scale = null;
  vpc.faults.add({ kind: 'throttle', chance: 0.25 });
  const struck = Array.from({ length: 1000 }, () => secondariesRead(vpc, ETH2)).filter(text =>
    text.startsWith('Request'),
  );
  assert.ok(struck.length > 200 && struck.length < 300, `struck ${struck.length} of 1000`);
});

faults('latency adds to whatever else happens', () => {
  const vpc = simulated();
  vpc.faults.add({ kind: 'latency', ms: 250 });
  vpc.faults.add({ kind: 'throttle', times: 1 });
  const outcomes = [assign(vpc, ETH1, '10.0.1.20'), assign(vpc, ETH1, '10.0.1.20')];
  assert.equal(outcomes.map(kindOf), ['RequestLimitExceeded', 'answer']);
  assert.equal(
    outcomes.map(outcome => outcome.kind !== 'never' && outcome.afterMs),
    [250, 250],
  );
});
faults.run();

const throttling = suite('vpc throttling');
const throttled = (calls: Outcome<unknown>[]): number =>
  calls.filter(one => kindOf(one) === 'RequestLimitExceeded').length;
const times = <T>(count: number, act: () => T): T[] => Array.from({ length: count }, act);

throttling('assign and unassign have 100 tokens each and get 5 a second', () => {
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

throttling('describes have 100 tokens and get 20 a second; sweeping ones 50 and 10', () => {
  const vpc = simulated();
  const describe = (sweeping: boolean) => () => vpc.read('DescribeNetworkInterfaces', () => null, sweeping);
  assert.is(throttled(times(130, describe(false))), 30);
  assert.is(throttled(times(60, describe(true))), 10);
  vpc.advance(1000);
  assert.is(throttled(times(30, describe(false))), 10);
  assert.is(throttled(times(30, describe(true))), 20);
});

throttling('buckets can be scaled and turned off', () => {
  const vpc = simulated({ bucketScale: 0.1 });
  assert.is(throttled(times(20, () => assign(vpc, ETH1))), 10);
  vpc.buckets.scale = null;
  assert.is(throttled(times(1000, () => assign(vpc, ETH1))), 0);
});
throttling.run();

const describing = suite('vpc describe');
/** `count` ENIs with a secondary each. */
function busy(count: number): Network {
  const { network } = simulated({}, { subnets: [{ id: SUBNET, cidr: '10.0.0.0/16' }] });
  for (let i = 0; i < count; i++)
    network.createEni({
      subnet: SUBNET,
      primary: ip(`10.0.${1 + (i >> 7)}.${2 * (i & 127)}`),
      secondaries: ips(`10.0.${1 + (i >> 7)}.${2 * (i & 127) + 1}`),
      tags: { Name: `host ${i}` },
    });
  return network;
}

describing('pages follow on each other, though ENIs come and go between them', () => {
  const network = busy(23);
  const filters = [{ name: 'subnet-id', values: [SUBNET] }];
  const first = describeEnis(network, { filters, maxResults: 10 });
  const shown = first.enis.map(eni => eni.id);
  network.deleteEni(shown[3] as EniId);
  const second = describeEnis(network, { filters, maxResults: 10, nextToken: first.nextToken ?? '' });
  const third = describeEnis(network, { filters, maxResults: 10, nextToken: second.nextToken ?? '' });
  assert.is(third.nextToken, null);
  const all = [first, second, third].flatMap(page => page.enis.map(eni => eni.id));
  assert.is(new Set(all).size, 23);
  assert.equal(all, [...all].sort());
});

describing('a token serves only the filters it was given out for', () => {
  const network = busy(7);
  const { nextToken } = describeEnis(network, { maxResults: 5 });
  const again = (token: string, values: string[]) => () =>
    describeEnis(network, {
      filters: values.length > 0 ? [{ name: 'vpc-id', values }] : [],
      maxResults: 5,
      nextToken: token,
    });
  assert.is(again(nextToken ?? '', [])().enis.length, 2);
  assert.match(refusalOf(again(nextToken ?? '', ['vpc-1'])), /^InvalidParameterValue.*nextToken/);
  assert.match(refusalOf(again('nonsense!', [])), /^InvalidParameterValue.*nextToken/);
});

describing('what is too much for one answer must be paginated, 5 to 1000 a page', () => {
  const network = busy(1001);
  assert.match(
    refusalOf(() => describeEnis(network, {})),
    /^OperationNotPermitted/,
  );
  assert.is(describeEnis(network, { maxResults: 1000 }).enis.length, 1000);
  for (const maxResults of [4, 1001])
    assert.match(
      refusalOf(() => describeEnis(network, { maxResults })),
      /maxResults is invalid/,
    );
});

describing('filters narrow, values widen, and unknown ones are refused', () => {
  const network = busy(9);
  const count = (...filters: [name: string, ...values: string[]][]) =>
    describeEnis(network, { filters: filters.map(([name, ...values]) => ({ name, values })) }).enis.length;
  assert.is(count(['addresses.private-ip-address', '10.0.1.3', '10.0.1.4', '10.0.1.200']), 2);
  assert.is(count(['addresses.private-ip-address', '10.0.1.3'], ['subnet-id', 'subnet-0bad']), 0);
  assert.is(count(['tag:Name', 'host 3', 'host 4']), 2);
  assert.is(count(['tag:Name', 'host ?']), 9);
  assert.is(count(['private-ip-address', '10.0.1.*']), 9);
  assert.is(count(['private-ip-address', '10x0x1x4']), 0);
  assert.is(count(['attachment.instance-id', INSTANCE]), 0);
  assert.is(
    refusalOf(() => count(['colour', 'red'])),
    "InvalidParameterValue: The filter 'colour' is invalid",
  );
  const many = times(201, () => '10.0.1.1');
  assert.match(
    refusalOf(() => count(['private-ip-address', ...many])),
    /^FilterLimitExceeded/,
  );
});

describing('one id that is not there fails the whole call, and ids have no pages', () => {
  const { network } = simulated();
  const ids = [ETH1, 'eni-0bad' as EniId];
  assert.match(
    refusalOf(() => describeEnis(network, { ids })),
    /^InvalidNetworkInterfaceID\.NotFound/,
  );
  assert.match(
    refusalOf(() => describeEnis(network, { ids: [ETH1], maxResults: 5 })),
    /Combination/,
  );
});
describing.run();

const worlds = suite('vpc descriptions');
const complaint = (description: unknown): string => {
  try {
    buildVpc(description, { now: () => 0, random: seeded(1) });
  } catch (error) {
    return (error as { line?: string }).line ?? String(error);
  }
  return 'built';
};
worlds('every complaint comes in one go, each with its place', () => {
  const text = complaint({
    subnets: [{ cidr: '10.0.1.3/24' }],
    enis: [{ subnet: 'net-1', primary: '10.0.1.256' }],
    colour: 'red',
  });
  for (const place of ['subnets.0.cidr', 'enis.0.subnet', 'enis.0.primary', 'colour'])
    assert.match(text, new RegExp(place.replaceAll('.', '\\.')));
});
worlds('what EC2 refuses is a complaint too', () => {
  const description = {
    subnets: [{ id: SUBNET, cidr: '10.0.1.0/24' }],
    enis: [{ subnet: SUBNET, primary: '10.0.1.1' }],
  };
  assert.match(complaint(description), /enis\.0: Address 10\.0\.1\.1 is in subnet's reserved/);
});
worlds('subnets of one VPC do not overlap', () => {
  const subnets = [{ cidr: '10.0.0.0/16' }, { cidr: '10.0.1.0/24' }];
  assert.match(complaint({ subnets }), /subnets\.1: .*conflicts.*InvalidSubnet\.Conflict/);
});
worlds('what is left out is made up as EC2 would, the same for the same seed', () => {
  const description = { subnets: [{ id: SUBNET, cidr: '10.0.1.0/24' }], enis: [{ subnet: SUBNET }] };
  const made = [1, 1, 2].map(seed => {
    const { network } = buildVpc(description, { now: () => 0, random: seeded(seed) });
    return [...network.enis()][0];
  });
  assert.match(made[0]?.id ?? '', /^eni-0[0-9a-f]{16}$/);
  assert.match(made[0]?.mac ?? '', /^02(:[0-9a-f]{2}){5}$/);
  assert.equal(made[0], made[1]);
  assert.is.not(made[0]?.id, made[2]?.id);
});
worlds('an instance type of its own has its own limits', () => {
  const { network } = buildVpc(
    {
      instanceTypes: { 'tiny.one': { enis: 1, addressesPerEni: 2 } },
      subnets: [{ id: SUBNET, cidr: '10.0.1.0/24' }],
      instances: [{ id: INSTANCE, type: 'tiny.one' }],
      enis: [{ id: ETH0, subnet: SUBNET, attachment: { instance: INSTANCE, deviceIndex: 0 } }],
    },
    { now: () => 0, random: seeded(1) },
  );
  network.assign({ eni: ETH0, count: 1 });
  assert.match(
    refusalOf(() => network.assign({ eni: ETH0, count: 1 })),
    /^PrivateIpAddressLimitExceeded/,
  );
});
worlds.run();
