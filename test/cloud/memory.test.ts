// Goal: the in-process twin answers and refuses like EC2 over the wire, and every refusal of EC2 gets the code
// that our machine branches on. Method: a table of EC2's codes and texts; the same story told to both clouds.
import process from 'node:process';
import type { CloudEni, Ec2Client } from '../../src/cloud/cloud.ts';
import { createMemoryClient } from '../../src/cloud/memory.ts';
import { refusal } from '../../src/cloud/refusals.ts';
import { parseCidr } from '../../src/domain/address.ts';
import type { ErrorCode, IpamError } from '../../src/domain/error.ts';
import type { EniId, InstanceId, SubnetId } from '../../src/domain/ids.ts';
import type { Fault } from '../../src/simulator/model/faults.ts';
import { ACCOUNT_ID } from '../../src/simulator/model/records.ts';
import type { Vpc } from '../../src/simulator/model/vpc.ts';
import { buildVpc } from '../../src/simulator/model/world.ts';
import { createSimulator } from '../../src/simulator/simulator.ts';
import {
  codeOf,
  ETH0,
  ETH1,
  ETH2,
  INSTANCE,
  ip,
  ips,
  SUBNET,
  seeded,
  serve,
  simulated,
} from '../kit/simulated.ts';
import { assert, suite } from '../kit/uvu.ts';
import { LATER, cloud as wired } from './ec2-server.ts';

const IN_TIME = { requestTimeoutMs: 10_000 };

const refusals = suite('refusal');
const INVALID = 'InvalidParameterValue';
const cases: [code: string, message: string, ours: ErrorCode, ...addresses: string[]][] = [
  [INVALID, '[10.0.0.5, 10.0.0.6] assigned, but move is not allowed.', 'ec2-taken', '10.0.0.5', '10.0.0.6'],
  [INVALID, 'The specified address is already in use.', 'ec2-taken'],
  [INVALID, '10.0.0.5 is already assigned.', 'ec2-taken', '10.0.0.5'],
  [INVALID, 'Private IP address 10.0.0.5 is already in use by another interface.', 'ec2-taken', '10.0.0.5'],
  [INVALID, 'The network interface eni-0a is already in use.', 'ec2-invalid'],
  ['InvalidIPAddress.InUse', 'Address 10.0.0.5 is in use.', 'ec2-taken', '10.0.0.5'],
  ['InvalidIPAddress.InUse', 'Something else.', 'ec2-taken'],
  [INVALID, 'Some of the specified addresses are not assigned to interface eni-1', 'ec2-not-assigned'],
  [INVALID, "Address 10.0.0.3 is in subnet's reserved address range", 'ec2-invalid', '10.0.0.3'],
  [INVALID, "Address 10.0.0.3 does not fall within the subnet's address range", 'ec2-invalid', '10.0.0.3'],
  [INVALID, 'invalid value for parameter address: 10.0.0.3', 'ec2-invalid'],
  [INVALID, 'secondary-addresses', 'ec2-invalid'],
  [
    INVALID,
    'Value (10.0.0.3) for parameter privateIpAddress is invalid. The primary IP address of an interface cannot be unassigned.',
    'ec2-invalid',
  ],
  [INVALID, '', 'ec2-invalid'],
  ['InvalidPrivateIpAddress.Nobody.Knows', 'Move is not allowed today.', 'ec2-invalid'],
  ['InvalidIPAddress', 'Whatever.', 'ec2-invalid'],
  ['PrivateIpAddressLimitExceeded', 'Number of private addresses will exceed limit.', 'ec2-limit'],
  ['InsufficientFreeAddressesInSubnet', 'Not enough.', 'ec2-subnet-full'],
  ['InsufficientCidrBlocks', 'Not enough.', 'ec2-subnet-full'],
  [INVALID, "There aren't sufficient free Ipv4 addresses or prefixes", 'ec2-subnet-full'],
  ['InvalidNetworkInterfaceID.NotFound', 'Gone.', 'ec2-not-found'],
  ['InvalidSubnetID.NotFound', 'Gone.', 'ec2-not-found'],
  ['InvalidInstanceID.NotFound', 'Gone.', 'ec2-not-found'],
  ['RequestLimitExceeded', 'Request limit exceeded.', 'ec2-throttled'],
  ['Throttling', 'Rate exceeded', 'ec2-throttled'],
  ['ThrottlingException', 'Rate exceeded', 'ec2-throttled'],
  ['UnauthorizedOperation', 'No.', 'ec2-denied'],
  ['AuthFailure', 'No.', 'ec2-denied'],
  ['InvalidClientTokenId', 'No.', 'ec2-denied'],
  ['ExpiredToken', 'No.', 'ec2-unreachable'],
  ['ExpiredTokenException', 'No.', 'ec2-unreachable'],
  ['RequestExpired', 'Request has expired.', 'ec2-unreachable'],
  ['SignatureDoesNotMatch', 'Signature not yet current: a is still later than b', 'ec2-unreachable'],
  ['SignatureDoesNotMatch', 'The request signature we calculated does not match', 'ec2-denied'],
  ['InternalError', 'Oops.', 'ec2-unknown'],
  ['InternalFailure', 'Oops.', 'ec2-unknown'],
  ['Unavailable', 'Oops.', 'ec2-unknown'],
  ['ServiceUnavailable', 'Oops.', 'ec2-unknown'],
  ['NetworkAddressUsageLimitExceeded', 'Too many.', 'ec2-refused'],
  ['SomethingNew', 'Whatever.', 'ec2-refused'],
];
for (const [code, message, ours, ...addresses] of cases)
  refusals(`${code} "${message}" is ${ours}`, () => {
    const error = refusal(code, message, 'request-1');
    assert.is(error.code, ours);
    assert.equal(error.addresses, addresses);
    assert.match(error.line, message.replace(/\.$/, ''));
    assert.match(error.line, `(${code}, request request-1)`);
  });
refusals('is one line of bounded length, whatever EC2 says', () => {
  const { line } = refusal('InternalError', `a\nb\t${'c'.repeat(5000)}`);
  assert.match(line, /^EC2 failed: a b c+/);
  assert.ok(line.length < 700 && !line.includes('\n'), `${line.length}`);
});
refusals('does not take for an address what only looks like one', () => {
  assert.equal(refusal(INVALID, '[10.0.0.256, x] assigned, but move is not allowed.').addresses, []);
});
refusals.run();

/** A twin that notes what it waited for; `late` sets its clock. */
function twin(vpc: Vpc, callTimeoutMs = 10_000) {
  const waits: number[] = [];
  const clock = { ms: 0 };
  const cloud = createMemoryClient(vpc, {
    wait: async ms => void waits.push(ms),
    deadlineClock: () => clock.ms,
    callTimeoutMs,
    pageSize: 5,
  });
  return { cloud, waits, clock };
}

const memory = suite('memory cloud');
memory('waits out the latency, and gives up at the call timeout though the call was applied', async () => {
  const vpc = simulated();
  const { cloud, waits } = twin(vpc, 500);
  vpc.faults.add({ kind: 'latency', ms: 250, times: 1 });
  vpc.faults.add({ kind: 'latency', ms: 600, times: 1, action: 'UnassignPrivateIpAddresses' });
  await cloud.assign(ETH1, ips('10.0.1.20'), LATER);
  assert.is(await codeOf(cloud.unassign(ETH1, ips('10.0.1.20'), LATER)), 'ec2-unknown');
  assert.equal(waits, [250, 500]);
  assert.equal(vpc.network.eni(ETH1).secondaries, []);
});

const unknowns: [fault: Fault, waited: number[], applied: boolean, later: boolean][] = [
  [{ kind: 'hang' }, [10_000], false, false],
  [{ kind: 'lostReply' }, [], true, true],
  [{ kind: 'applyLate', ms: 60_000 }, [], false, true],
];
for (const [fault, waited, applied, later] of unknowns)
  memory(`${fault.kind} is ec2-unknown, ${applied ? '' : 'not '}applied by then`, async () => {
    const vpc = simulated();
    const { cloud, waits } = twin(vpc);
    const isOn = () => vpc.network.eni(ETH1).secondaries.length === 1;
    vpc.faults.add({ ...fault, times: 1 });
    assert.is(await codeOf(cloud.assign(ETH1, ips('10.0.1.20'), LATER)), 'ec2-unknown');
    assert.equal([waits, isOn()], [waited, applied]);
    vpc.advance(60_000);
    assert.is(isOn(), later);
  });

memory('after sendBefore nothing is sent', async () => {
  const vpc = simulated();
  const { cloud, clock } = twin(vpc);
  clock.ms = 100;
  const calls = [cloud.assign(ETH1, ips('10.0.1.20'), 100), cloud.unassign(ETH1, ips('10.0.1.20'), 100)];
  for (const call of calls) assert.is(await codeOf(call), 'ec2-unreachable');
  assert.is(vpc.calls.size, 0);
  await cloud.assign(ETH1, ips('10.0.1.20'), 101);
});

memory('the ENIs of a subnet come page by page, each once', async () => {
  const vpc = simulated();
  for (let i = 0; i < 20; i++) vpc.network.createEni({ subnet: SUBNET });
  const sizes: number[] = [];
  const ids = new Set<EniId>();
  for await (const page of twin(vpc).cloud.enis(SUBNET)) {
    sizes.push(page.length);
    for (const eni of page) ids.add(eni.id);
  }
  assert.equal(sizes, [5, 5, 5, 5, 2]);
  assert.is(ids.size, 22);
});
memory.run();

const bothClouds = suite('memory cloud and EC2 over the wire');
/** EC2 over the wire is this VPC meanwhile. */
async function onTheWire<T>(vpc: Vpc, work: () => Promise<T>): Promise<T> {
  const served = await serve(createSimulator(vpc, { instance: INSTANCE }));
  const before = process.env.AWS_ENDPOINT_URL_EC2;
  process.env.AWS_ENDPOINT_URL_EC2 = served.url;
  try {
    return await work();
  } finally {
    served.close();
    if (before === undefined) delete process.env.AWS_ENDPOINT_URL_EC2;
    else process.env.AWS_ENDPOINT_URL_EC2 = before;
  }
}
/** Tells the story to both clouds, each on a VPC of its own that luck has made the same. */
async function both<T>(story: (cloud: Ec2Client, vpc: Vpc) => Promise<T>): Promise<T> {
  const [inside, outside] = [simulated({ random: seeded(7) }), simulated({ random: seeded(7) })];
  const told = await story(twin(inside).cloud, inside);
  assert.equal(await onTheWire(outside, () => story(wired(IN_TIME), outside)), told);
  assert.equal(stateOf(outside), stateOf(inside));
  return told;
}
const stateOf = (vpc: Vpc) => [...vpc.network.enis()].map(({ id, secondaries }) => [id, secondaries]);
/** What came of a call, without the request id that only the wire has. */
const outcomeOf = (call: Promise<unknown>): Promise<unknown> =>
  call.then(
    value => ({ value }),
    (error: IpamError) => [error.code, error.line.replace(/, request [0-9a-f-]+/, ''), error.addresses],
  );

const UNKNOWN_ENI = 'eni-0bad' as EniId;
const MANAGED = 'eni-0aa' as EniId;
const EIGHT = ips(...[0, 1, 2, 3, 4, 5, 6, 7].map(last => `10.0.1.4${last}`));
const DENIED: Fault = { kind: 'error', code: 'UnauthorizedOperation', message: 'You are not authorized.' };
const calls: [ends: string, call: (cloud: Ec2Client) => Promise<unknown>, fault?: Fault][] = [
  ['done', cloud => cloud.assign(ETH1, ips('10.0.1.20', '10.0.1.21'), LATER)],
  ['ec2-taken', cloud => cloud.assign(ETH0, ips('10.0.1.20', '10.0.1.22', '10.0.1.99'), LATER)],
  ['ec2-taken', cloud => cloud.assign(ETH1, ips('10.0.1.20'), LATER)],
  ['ec2-invalid', cloud => cloud.assign(ETH1, ips('10.0.1.3'), LATER)],
  ['ec2-invalid', cloud => cloud.assign(ETH1, ips('10.0.2.30'), LATER)],
  ['ec2-invalid', cloud => cloud.assign(ETH1, ips('10.0.1.130'), LATER)],
  ['ec2-limit', cloud => cloud.assign(ETH1, EIGHT, LATER)],
  ['ec2-not-found', cloud => cloud.assign(UNKNOWN_ENI, ips('10.0.1.22'), LATER)],
  ['ec2-denied', cloud => cloud.assign(MANAGED, ips('10.0.1.22'), LATER)],
  ['ec2-not-assigned', cloud => cloud.unassign(ETH1, ips('10.0.1.20', '10.0.1.22'), LATER)],
  ['ec2-invalid', cloud => cloud.unassign(ETH1, ips('10.0.1.11'), LATER)],
  ['done', cloud => cloud.unassign(ETH1, ips('10.0.1.20'), LATER)],
  ['ec2-not-found', cloud => cloud.eni(UNKNOWN_ENI)],
  ['ec2-not-found', cloud => cloud.subnet('subnet-0bad' as SubnetId)],
  ['ec2-throttled', cloud => cloud.assign(ETH1, ips('10.0.1.22'), LATER), { kind: 'throttle' }],
  ['ec2-denied', cloud => cloud.assign(ETH1, ips('10.0.1.22'), LATER), DENIED],
];
bothClouds('refuse the same calls with the same codes, lines and addresses', async () => {
  const told = await both(async (cloud, vpc) => {
    vpc.network.addReservation(SUBNET, parseCidr('10.0.1.128/28'), 'prefix');
    vpc.network.createEni({ subnet: SUBNET, id: MANAGED, primary: ip('10.0.1.99'), requesterManaged: true });
    const outcomes: unknown[] = [];
    for (const [, call, fault] of calls) {
      if (fault !== undefined) vpc.faults.add({ ...fault, times: 1 });
      outcomes.push(await outcomeOf(call(cloud)));
    }
    return outcomes;
  });
  const ends = told.map(outcome => (Array.isArray(outcome) ? outcome[0] : 'done'));
  assert.equal(
    ends,
    calls.map(([expected]) => expected),
  );
});

/** The one tells EC2's time by the model's clock, the other by the Date of its answers. */
const timeless = (eni: CloudEni) => ({ ...eni, attachedForMs: eni.attachedForMs !== null });

bothClouds('describe the same things the same way', async () => {
  await both(async (cloud, vpc) => {
    vpc.network.addReservation(SUBNET, parseCidr('10.0.1.128/28'), 'prefix');
    vpc.network.addReservation(SUBNET, parseCidr('10.0.1.144/28'), 'explicit');
    const made = vpc.network.createEni({ subnet: SUBNET, prefixes: [parseCidr('10.0.1.64/28')] });
    vpc.network.createEni({ subnet: SUBNET, primary: ip('10.0.1.99'), requesterManaged: true });
    vpc.network.createEni({ id: 'eni-0e' as EniId, subnet: SUBNET, primary: null });
    vpc.network.addInstance({ id: 'i-0d4' as InstanceId, type: 'x9.unheard-of', zone: 'eu-central-1a' });
    await cloud.assign(ETH1, ips('10.0.1.198', '10.0.1.199', '10.0.1.200'), LATER); // around the bound of a filter
    const many = Array.from({ length: 250 }, (_, last) => ip(`10.0.1.${last}`));
    const enis: CloudEni[] = [];
    for await (const page of cloud.enis(SUBNET)) enis.push(...page);
    return {
      enis: enis.map(timeless),
      eth2: timeless(await cloud.eni(ETH2)),
      withoutIpv4: await codeOf(cloud.eni('eni-0e' as EniId)),
      made: timeless(await cloud.eni(made.id)),
      byId: (await cloud.enisById([ETH2, UNKNOWN_ENI, made.id])).map(one => one.id),
      none: await cloud.enisById([]),
      subnet: await cloud.subnet(SUBNET),
      reservations: await cloud.reservations(SUBNET),
      carriers: [...(await cloud.carriers(SUBNET, many))].map(([ip, eni]) => [ip, timeless(eni)]).sort(),
      types: [
        await cloud.instanceType(INSTANCE),
        await cloud.instanceType('i-0d4' as InstanceId),
        await cloud.instanceType('i-0bad' as InstanceId),
      ],
      limits: [await cloud.addressLimit('m5.large'), await cloud.addressLimit('x9.unheard-of')],
    };
  });
});

bothClouds('do not know what a failure of EC2 itself did', async () => {
  for (const code of ['InternalError', 'Unavailable', 'ServiceUnavailable'])
    await both(async (cloud, vpc) => {
      vpc.faults.add({ kind: 'lostReply', code, message: 'An internal error has occurred.', times: 1 });
      assert.is(await codeOf(cloud.assign(ETH1, ips('10.0.1.20'), LATER)), 'ec2-unknown', code);
    });
});

const OTHER_ACCOUNT = '210987654321';
bothClouds('a participant of a shared subnet sees its own ENIs, its owner all of them', async () => {
  const vpc = buildVpc(
    {
      subnets: [{ id: SUBNET, cidr: '10.0.1.0/24', sharedWith: [OTHER_ACCOUNT] }],
      enis: [
        { id: ETH1, subnet: SUBNET, primary: '10.0.1.11' },
        { id: ETH2, subnet: SUBNET, primary: '10.0.1.12', owner: OTHER_ACCOUNT },
      ],
    },
    { now: Date.now, random: () => 0.5 },
  );
  const caller = (account: string) => () => ({ account, region: null });
  const cloudsOf = (account: string): Ec2Client[] => [
    createMemoryClient(vpc, { wait: async () => {}, deadlineClock: () => 0, caller: caller(account) }),
    wired({ ...IN_TIME, credentials: { accessKeyId: account, secretAccessKey: 'x' } }),
  ];
  await onTheWire(vpc, async () => {
    for (const cloud of cloudsOf(ACCOUNT_ID)) {
      assert.is((await cloud.eni(ETH2)).owner, OTHER_ACCOUNT);
      assert.equal(await cloud.someEni({ owner: OTHER_ACCOUNT }), { id: ETH2, owner: OTHER_ACCOUNT });
      assert.is(await codeOf(cloud.assign(ETH2, ips('10.0.1.20'), LATER)), 'ec2-denied');
    }
    for (const cloud of cloudsOf(OTHER_ACCOUNT)) {
      assert.is((await cloud.subnet(SUBNET)).id, SUBNET);
      assert.is(await codeOf(cloud.eni(ETH1)), 'ec2-not-found');
      assert.is(await codeOf(cloud.unassign(ETH1, ips('10.0.1.20'), LATER)), 'ec2-not-found');
      assert.equal(await idsOf(cloud), [ETH2]);
      assert.is(await cloud.someEni({ owner: ACCOUNT_ID }), null);
      assert.is(await cloud.someEni({ owner: OTHER_ACCOUNT, but: ETH2 }), null);
      assert.is(await cloud.region(), vpc.region);
    }
  });
});

async function idsOf(cloud: Ec2Client): Promise<EniId[]> {
  const ids: EniId[] = [];
  for await (const page of cloud.enis(SUBNET)) ids.push(...page.map(eni => eni.id));
  return ids;
}
bothClouds.run();
