// Goal: the simulated VPC refuses what EC2 refuses, whole, in EC2's words. Method: the pure model.
import { parseCidr } from '../../../src/domain/address.ts';
import type { EniId, InstanceId, SubnetId } from '../../../src/domain/ids.ts';
import type { Network } from '../../../src/simulator/model/network.ts';
import {
  addressesOf,
  ETH0,
  ETH1,
  ETH2,
  ec2Refuses,
  INSTANCE,
  ip,
  ips,
  refusalOf,
  SUBNET,
  seeded,
  simulated,
} from '../../kit/simulated.ts';
import { assert, suite } from '../../kit/uvu.ts';

const LB = 'eni-0aa' as EniId;
const NO_ENI = 'eni-0bad' as EniId;
const NO_SUBNET = 'subnet-0bad' as SubnetId;
const NO_INSTANCE = 'i-0bad' as InstanceId;
/** 10.0.1.20 is on ETH1, 10.0.1.99 a load balancer's, 10.0.1.128/28 reserved for prefixes. */
function crowded(): Network {
  const { network } = simulated();
  network.assign({ eni: ETH1, ips: ips('10.0.1.20') });
  network.addReservation(SUBNET, parseCidr('10.0.1.128/28'), 'prefix');
  network.createEni({ subnet: SUBNET, id: LB, primary: ip('10.0.1.99'), requesterManaged: true });
  return network;
}

type Act = (network: Network) => unknown;
const assign =
  (eni: EniId, ...texts: string[]): Act =>
  net =>
    net.assign({ eni, ips: ips(...texts) });
const grab =
  (text: string): Act =>
  net =>
    net.assign({ eni: ETH1, ips: ips(text), allowReassignment: true });
const count =
  (count: number, more = {}): Act =>
  net =>
    net.assign({ eni: ETH1, count, ...more });
const unassign =
  (...texts: string[]): Act =>
  net =>
    net.unassign(ETH1, ips(...texts));
const detachDevice = (network: Network, eni: EniId) => network.detach(network.eni(eni).attachment?.id ?? '');
const attachAnother = (network: Network) =>
  network.attach(network.createEni({ subnet: SUBNET }).id, INSTANCE, 3);
const value = (text: string) => `InvalidParameterValue: ${text}`;
const taken = (texts: string) => value(`[${texts}] assigned, but move is not allowed.`);
const absent = (kind: string, name: string, id: string) =>
  `Invalid${kind}ID.NotFound: The ${name} ID '${id}' does not exist`;
const reserved = (text: string) => value(`Address ${text} is in subnet's reserved address range`);
const SAYS = {
  outside: value("Address 10.0.2.20 does not fall within the subnet's address range"),
  prefix: value("Address 10.0.1.130 is in the subnet's CIDR reservation 10.0.1.128/28 of type prefix"),
  full: 'PrivateIpAddressLimitExceeded: Number of private addresses will exceed limit.',
  both: 'InvalidParameterCombination: The parameters privateIpAddresses and secondaryPrivateIpAddressCount may not be used together',
  neither:
    'MissingParameter: The request must contain the parameter privateIpAddresses or secondaryPrivateIpAddressCount',
  count: value('Value (0) for parameter secondaryPrivateIpAddressCount is invalid.'),
  service: 'AuthFailure: You do not have permission to access the specified resource.',
  some: value(`Some of the specified addresses are not assigned to interface ${ETH1}`),
  primary: value(
    'Value (10.0.1.11) for parameter privateIpAddress is invalid. The primary IP address of an interface cannot be unassigned.',
  ),
  inUse: value(`Network interface '${ETH1}' is currently in use.`),
  device0: 'OperationNotPermitted: The network interface at device index 0 cannot be detached.',
  enis: 'AttachmentLimitExceeded: Interface count 4 exceeds the limit for m5.large',
};

const cases: [why: string, act: Act, refusal: string][] = [
  ["another ENI's secondary is taken", assign(ETH0, '10.0.1.21', '10.0.1.20'), taken('10.0.1.20')],
  ["the ENI's own secondary is taken", assign(ETH1, '10.0.1.20', '10.0.1.21'), taken('10.0.1.20')],
  ['and its primary', assign(ETH1, '10.0.1.20', '10.0.1.11'), taken('10.0.1.20, 10.0.1.11')],
  ["a service's address cannot be moved, even with AllowReassignment", grab('10.0.1.99'), taken('10.0.1.99')],
  ['a primary cannot be moved, even with AllowReassignment', grab('10.0.1.10'), taken('10.0.1.10')],
  ["the subnet's own address is AWS's", assign(ETH1, '10.0.1.21', '10.0.1.0'), reserved('10.0.1.0')],
  ["the router's is AWS's", assign(ETH1, '10.0.1.21', '10.0.1.1'), reserved('10.0.1.1')],
  ["the third is AWS's", assign(ETH1, '10.0.1.21', '10.0.1.2'), reserved('10.0.1.2')],
  ["the fourth is AWS's", assign(ETH1, '10.0.1.21', '10.0.1.3'), reserved('10.0.1.3')],
  ["the last is AWS's", assign(ETH1, '10.0.1.21', '10.0.1.255'), reserved('10.0.1.255')],
  ['an address of another subnet is outside', assign(ETH1, '10.0.2.20'), SAYS.outside],
  ['a prefix reservation holds no single addresses', assign(ETH1, '10.0.1.130'), SAYS.prefix],
  [
    'an address is given once',
    assign(ETH1, '10.0.1.21', '10.0.1.21'),
    value('Address 10.0.1.21 is given more than once'),
  ],
  [
    'what is no address',
    assign(ETH1, '10.0.1.021'),
    value('invalid value for parameter address: 10.0.1.021'),
  ],
  ['an m5.large has room for 10 on an ENI, the primary counted', count(9), SAYS.full],
  ['a list and a count together are too much', count(1, { ips: ips('10.0.1.21') }), SAYS.both],
  ['neither is too little', assign(ETH1), SAYS.neither],
  ['a count is one or more', count(0), SAYS.count],
  ['no such ENI', assign(NO_ENI, '10.0.1.21'), absent('NetworkInterface', 'networkInterface', NO_ENI)],
  ['no such subnet', network => network.available(NO_SUBNET), absent('Subnet', 'subnet', NO_SUBNET)],
  ['no such instance', network => network.instance(NO_INSTANCE), absent('Instance', 'instance', NO_INSTANCE)],
  ["a service's ENI is the service's", assign(LB, '10.0.1.21'), SAYS.service],
  ['one address that is not there fails the whole unassign', unassign('10.0.1.20', '10.0.1.21'), SAYS.some],
  ['a primary stays', unassign('10.0.1.20', '10.0.1.11'), SAYS.primary],
  ['an attached ENI cannot be deleted', network => network.deleteEni(ETH1), SAYS.inUse],
  ['device 0 cannot be detached', network => detachDevice(network, ETH0), SAYS.device0],
  ['an m5.large has three ENIs', network => attachAnother(network), SAYS.enis],
];

const refusals = suite('EC2 refuses');
for (const [why, act, refusal] of cases)
  refusals(`refusal: ${why}`, () => {
    const network = crowded();
    const found = refusalOf(() => act(network));
    assert.is(found, refusal);
    assert.is(addressesOf(network, ETH1), '10.0.1.20', 'a refusal changes nothing');
    assert.is(network.carrier(SUBNET, ip('10.0.1.21')), null, 'nor part of a batch');
  });
refusals('refusal: an unnamed one leaves the address out', () => {
  const { network } = simulated({ unnamedRefusals: true });
  assign(ETH1, '10.0.1.20')(network);
  const unnamed = /^InvalidIPAddress\.InUse: The specified address is already in use\.$/;
  ec2Refuses(() => assign(ETH0, '10.0.1.20')(network), unnamed);
});
refusals.run();

const addresses = suite('addresses in a VPC');
addresses('assign: what is assigned is on the ENI, counted, and free again when it was unassigned', () => {
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

addresses('assign by count: gives what nobody has or reserved, to the last one', () => {
  const { network } = simulated({}, { subnets: [{ id: SUBNET, cidr: '10.0.1.0/26' }] });
  network.addReservation(SUBNET, parseCidr('10.0.1.32/28'), 'explicit');
  network.addReservation(SUBNET, parseCidr('10.0.1.48/28'), 'prefix');
  const { id, primary } = network.createEni({ subnet: SUBNET });
  const given = network.assign({ eni: id, count: 27 });
  const all = Array.from({ length: 28 }, (_, index) => `10.0.1.${index + 4}`);
  assert.equal([primary, ...given].sort(), all.sort(), 'a /27 less its reserved four');
  ec2Refuses(() => network.assign({ eni: id, count: 1 }), /^InsufficientFreeAddressesInSubnet/);
  network.assign({ eni: id, ips: ips('10.0.1.40') }); // an explicit reservation gives by name
});

addresses('a prefix: takes one place of the ENI and 16 addresses of the subnet', () => {
  const { network } = simulated();
  const before = network.available(SUBNET);
  const eni = network.createEni({ subnet: SUBNET, prefixes: [parseCidr('10.0.1.64/28')] });
  assert.is(network.available(SUBNET), before - 17);
  ec2Refuses(() => network.assign({ eni: ETH1, ips: ips('10.0.1.70') }), /10\.0\.1\.70/);
  detachDevice(network, ETH2);
  network.attach(eni.id, INSTANCE, 2);
  ec2Refuses(() => network.assign({ eni: eni.id, count: 9 }), /^PrivateIpAddressLimitExceeded/);
  assert.is(network.assign({ eni: eni.id, count: 8 }).length, 8);
});

addresses('a prefix of an ENI that is there: is assigned and unassigned whole, or refused', () => {
  const { network } = simulated();
  const [prefix, other] = [parseCidr('10.0.1.64/28'), parseCidr('10.0.1.80/28')];
  network.assign({ eni: ETH0, ips: ips('10.0.1.85') });
  const before = network.available(SUBNET);
  network.assignPrefixes(ETH1, [prefix]);
  assert.equal(network.eni(ETH1).prefixes, [prefix]);
  assert.is(network.available(SUBNET), before - 16);
  ec2Refuses(() => network.assignPrefixes(ETH1, [prefix]), /^InvalidIPAddress\.InUse/);
  ec2Refuses(() => network.assignPrefixes(ETH1, [other]), /^InvalidIPAddress\.InUse/);
  for (const wrong of ['10.0.1.0/28', '10.0.1.96/29', '10.0.9.0/28'])
    ec2Refuses(() => network.assignPrefixes(ETH1, [parseCidr(wrong)]), /invalid value for parameter prefix/);
  ec2Refuses(() => network.unassignPrefixes(ETH1, [prefix, other]), /not assigned to interface/);
  for (const act of ['assignPrefixes', 'unassignPrefixes'] as const)
    ec2Refuses(() => network[act](ETH1, []), /^MissingParameter/);
  assert.is(network.available(SUBNET), before - 16);
  network.assign({ eni: ETH1, count: 8 });
  ec2Refuses(
    () => network.assignPrefixes(ETH1, [parseCidr('10.0.1.112/28')]),
    /^PrivateIpAddressLimitExceeded/,
  );
  network.unassignPrefixes(ETH1, [prefix]);
  assert.equal(network.eni(ETH1).prefixes, []);
  assert.is(network.available(SUBNET), before - 8);
});

addresses('AllowReassignment: moves a secondary', () => {
  const { network } = simulated();
  assign(ETH1, '10.0.1.20', '10.0.1.21')(network);
  network.assign({ eni: ETH0, ips: ips('10.0.1.20'), allowReassignment: true });
  assert.equal([addressesOf(network, ETH1), addressesOf(network, ETH0)], ['10.0.1.21', '10.0.1.20']);
});

addresses('an unattached ENI: has a default limit', () => {
  const { network } = simulated();
  const { id } = network.createEni({ subnet: SUBNET });
  assert.is(network.assign({ eni: id, count: 49 }).length, 49);
  ec2Refuses(() => network.assign({ eni: id, count: 1 }), /^PrivateIpAddressLimitExceeded/);
});

addresses('a terminated instance: leaves its ENIs with addresses, but for those that die with it', () => {
  const { network } = simulated();
  network.assign({ eni: ETH1, ips: ips('10.0.1.20') });
  network.terminate(INSTANCE);
  assert.is(network.instance(INSTANCE).state, 'terminated');
  ec2Refuses(() => network.eni(ETH0), /^InvalidNetworkInterfaceID\.NotFound/);
  assert.is(network.carrier(SUBNET, ip('10.0.1.10')), null);
  assert.is(network.eni(ETH1).attachment, null);
  assert.is(addressesOf(network, ETH1), '10.0.1.20');
});

addresses('an ENI attached anew: has another attachment id', () => {
  const { network } = simulated();
  const first = network.eni(ETH1).attachment?.id ?? '';
  network.detach(first);
  ec2Refuses(() => network.detach(first), /^InvalidAttachmentID\.NotFound/);
  network.attach(ETH1, INSTANCE, 1);
  assert.is.not(network.eni(ETH1).attachment?.id, first);
});

addresses('carriers and ENIs: tell the same story after a thousand random changes', () => {
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
      .flatMap(({ id, primary, secondaries }) =>
        [primary ?? [], ...secondaries].flat().map(ip => [ip, id] as const),
      );
    assert.is(new Set(carried.map(([ip]) => ip)).size, carried.length, `seed ${seed}: one ENI per address`);
    for (const [ip, eni] of carried) assert.is(network.carrier(SUBNET, ip), eni, `seed ${seed}`);
    assert.is(network.available(SUBNET), 251 - carried.length, `seed ${seed}`);
  }
});
addresses.run();
