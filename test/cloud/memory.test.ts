// Goal: the in-process twin answers and refuses like EC2 over the wire, and every refusal of EC2 gets the code
// that our machine branches on. Method: a table of EC2's codes and texts; the same story told to both clouds.
import process from 'node:process';
import type { CloudEni, Ec2Client } from '../../src/cloud/cloud.ts';
import { createEc2Client } from '../../src/cloud/ec2.ts';
import { createEc2Time, type Ec2Time } from '../../src/cloud/ec2-time.ts';
import { metadataDisabled } from '../../src/cloud/imds.ts';
import { createMemoryClient } from '../../src/cloud/memory.ts';
import { refusal } from '../../src/cloud/refusals.ts';
import { parseCidr } from '../../src/domain/address.ts';
import { type ErrorCode, IpamError } from '../../src/domain/error.ts';
import type { EniId, InstanceId, SubnetId } from '../../src/domain/ids.ts';
import { ACCOUNT_ID } from '../../src/simulator/model/records.ts';
import type { Vpc } from '../../src/simulator/model/vpc.ts';
import { buildVpc } from '../../src/simulator/model/world.ts';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { ETH0, ETH1, ETH2, INSTANCE, ip, ips, SUBNET, seeded, serve, simulated } from '../kit/simulated.ts';
import { assert, suite } from '../kit/uvu.ts';

const LATER = Number.POSITIVE_INFINITY;

/** An answer of EC2 has come just now. */
function knownTime(): Ec2Time {
  const time = createEc2Time(
    () => performance.now(),
    Date.now,
    () => {},
  );
  time.heard({ date: new Date().toUTCString() });
  return time;
}

const refusals = suite('refusal');
const cases: [code: string, message: string, ours: ErrorCode, addresses?: string[]][] = [
  [
    'InvalidParameterValue',
    '[10.0.0.5, 10.0.0.6] assigned, but move is not allowed.',
    'ec2-taken',
    ['10.0.0.5', '10.0.0.6'],
  ],
  ['InvalidParameterValue', 'The specified address is already in use.', 'ec2-taken'],
  ['InvalidParameterValue', '10.0.0.5 is already assigned.', 'ec2-taken', ['10.0.0.5']],
  ['InvalidIPAddress.InUse', 'Address 10.0.0.5 is in use.', 'ec2-taken', ['10.0.0.5']],
  ['InvalidIPAddress.InUse', 'Something else.', 'ec2-taken'],
  [
    'InvalidParameterValue',
    'Some of the specified addresses are not assigned to interface eni-1',
    'ec2-not-assigned',
  ],
  [
    'InvalidParameterValue',
    "Address 10.0.0.3 is in subnet's reserved address range",
    'ec2-invalid',
    ['10.0.0.3'],
  ],
  [
    'InvalidParameterValue',
    "Address 10.0.0.3 does not fall within the subnet's address range",
    'ec2-invalid',
    ['10.0.0.3'],
  ],
  ['InvalidParameterValue', 'invalid value for parameter address: 10.0.0.3', 'ec2-invalid'],
  ['InvalidParameterValue', 'secondary-addresses', 'ec2-invalid'],
  [
    'InvalidParameterValue',
    'Value (10.0.0.3) for parameter privateIpAddress is invalid. The primary IP address of an interface cannot be unassigned.',
    'ec2-invalid',
  ],
  ['InvalidParameterValue', '', 'ec2-invalid'],
  ['InvalidPrivateIpAddress.Nobody.Knows', 'Move is not allowed today.', 'ec2-invalid'],
  ['InvalidIPAddress', 'Whatever.', 'ec2-invalid'],
  ['PrivateIpAddressLimitExceeded', 'Number of private addresses will exceed limit.', 'ec2-limit'],
  ['InsufficientFreeAddressesInSubnet', 'Not enough.', 'ec2-subnet-full'],
  ['InsufficientCidrBlocks', 'Not enough.', 'ec2-subnet-full'],
  ['InvalidParameterValue', "There aren't sufficient free Ipv4 addresses or prefixes", 'ec2-subnet-full'],
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
for (const [code, message, ours, addresses = []] of cases)
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
  assert.equal(
    refusal('InvalidParameterValue', '[10.0.0.256, x] assigned, but move is not allowed.').addresses,
    [],
  );
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
const codeOf = (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => 'done',
    error => (error instanceof IpamError ? error.code : String(error)),
  );

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

const unknowns: [fault: 'hang' | 'lostReply' | 'applyLate', waited: number[], applied: boolean][] = [
  ['hang', [10_000], false],
  ['lostReply', [], true],
  ['applyLate', [], false],
];
for (const [kind, waited, applied] of unknowns)
  memory(`${kind} is ec2-unknown, ${applied ? '' : 'not '}applied by then`, async () => {
    const vpc = simulated();
    const { cloud, waits } = twin(vpc);
    vpc.faults.add({ kind, ms: 60_000, times: 1 } as never);
    assert.is(await codeOf(cloud.assign(ETH1, ips('10.0.1.20'), LATER)), 'ec2-unknown');
    assert.equal(waits, waited);
    assert.is(vpc.network.eni(ETH1).secondaries.length, applied ? 1 : 0);
    vpc.advance(60_000);
    assert.is(vpc.network.eni(ETH1).secondaries.length, kind === 'hang' ? 0 : 1);
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
/** Tells the story to both clouds, each on a VPC of its own that luck has made the same. */
async function both(story: (cloud: Ec2Client, vpc: Vpc) => Promise<unknown>): Promise<unknown> {
  const [inside, outside] = [simulated({ random: seeded(7) }), simulated({ random: seeded(7) })];
  const served = await serve(createSimulator(outside, { instance: INSTANCE }));
  const before = process.env.AWS_ENDPOINT_URL_EC2;
  process.env.AWS_ENDPOINT_URL_EC2 = served.url;
  try {
    const wired = createEc2Client({
      region: 'eu-central-1',
      credentials: { accessKeyId: 'AKIA', secretAccessKey: 'secret' },
      deadlineClock: () => 0,
      log: () => {},
      metadata: metadataDisabled,
      time: knownTime(),
    });
    const told = await story(twin(inside).cloud, inside);
    assert.equal(await story(wired, outside), told);
    assert.equal(stateOf(outside), stateOf(inside));
    return told;
  } finally {
    served.close();
    if (before === undefined) delete process.env.AWS_ENDPOINT_URL_EC2;
    else process.env.AWS_ENDPOINT_URL_EC2 = before;
  }
}
const stateOf = (vpc: Vpc) => [...vpc.network.enis()].map(({ id, secondaries }) => [id, secondaries]);
/** What came of a call, without the request id that only the wire has. */
const outcomeOf = (call: Promise<unknown>): Promise<unknown> =>
  call.then(
    value => ({ value }),
    (error: IpamError) => [error.code, error.line.replace(/, request [0-9a-f-]+/, ''), error.addresses],
  );

bothClouds('refuse the same calls with the same codes, lines and addresses', async () => {
  const told = await both(async (cloud, vpc) => {
    vpc.network.addReservation(SUBNET, parseCidr('10.0.1.128/28'), 'prefix');
    vpc.network.createEni({
      subnet: SUBNET,
      id: 'eni-0aa' as EniId,
      primary: ip('10.0.1.99'),
      requesterManaged: true,
    });
    const outcomes: unknown[] = [];
    const note = async (call: Promise<unknown>) => void outcomes.push(await outcomeOf(call));
    await note(cloud.assign(ETH1, ips('10.0.1.20', '10.0.1.21'), LATER));
    await note(cloud.assign(ETH0, ips('10.0.1.20', '10.0.1.22', '10.0.1.99'), LATER));
    await note(cloud.assign(ETH1, ips('10.0.1.20'), LATER));
    await note(cloud.assign(ETH1, ips('10.0.1.3'), LATER));
    await note(cloud.assign(ETH1, ips('10.0.2.30'), LATER));
    await note(cloud.assign(ETH1, ips('10.0.1.130'), LATER));
    await note(cloud.assign(ETH1, ips(...[0, 1, 2, 3, 4, 5, 6, 7].map(last => `10.0.1.4${last}`)), LATER));
    await note(cloud.assign('eni-0bad' as EniId, ips('10.0.1.22'), LATER));
    await note(cloud.assign('eni-0aa' as EniId, ips('10.0.1.22'), LATER));
    await note(cloud.unassign(ETH1, ips('10.0.1.20', '10.0.1.22'), LATER));
    await note(cloud.unassign(ETH1, ips('10.0.1.11'), LATER));
    await note(cloud.unassign(ETH1, ips('10.0.1.20'), LATER));
    await note(cloud.eni('eni-0bad' as EniId));
    await note(cloud.subnet('subnet-0bad' as SubnetId));
    vpc.faults.add({ kind: 'throttle', action: 'AssignPrivateIpAddresses', times: 1 });
    await note(cloud.assign(ETH1, ips('10.0.1.22'), LATER));
    vpc.faults.add({
      kind: 'error',
      code: 'UnauthorizedOperation',
      message: 'You are not authorized.',
      times: 1,
    });
    await note(cloud.assign(ETH1, ips('10.0.1.22'), LATER));
    return outcomes;
  });
  assert.equal(
    (told as unknown[]).map(outcome => (Array.isArray(outcome) ? outcome[0] : 'done')),
    [
      'done',
      'ec2-taken',
      'ec2-taken',
      'ec2-invalid',
      'ec2-invalid',
      'ec2-invalid',
      'ec2-limit',
      'ec2-not-found',
      'ec2-denied',
      'ec2-not-assigned',
      'ec2-invalid',
      'done',
      'ec2-not-found',
      'ec2-not-found',
      'ec2-throttled',
      'ec2-denied',
    ],
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
      byId: (await cloud.enisById([ETH2, 'eni-0bad' as EniId, made.id])).map(one => one.id),
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
  const served = await serve(createSimulator(vpc, { instance: INSTANCE }));
  const before = process.env.AWS_ENDPOINT_URL_EC2;
  process.env.AWS_ENDPOINT_URL_EC2 = served.url;
  const cloudsOf = (account: string): Ec2Client[] => [
    createMemoryClient(vpc, {
      wait: async () => {},
      deadlineClock: () => 0,
      caller: () => ({ account, region: null }),
    }),
    createEc2Client({
      region: vpc.region,
      credentials: { accessKeyId: account, secretAccessKey: 'x' },
      deadlineClock: () => 0,
      log: () => {},
      metadata: metadataDisabled,
      time: knownTime(),
    }),
  ];
  try {
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
  } finally {
    served.close();
    if (before === undefined) delete process.env.AWS_ENDPOINT_URL_EC2;
    else process.env.AWS_ENDPOINT_URL_EC2 = before;
  }
});

async function idsOf(cloud: Ec2Client): Promise<EniId[]> {
  const ids: EniId[] = [];
  for await (const page of cloud.enis(SUBNET)) ids.push(...page.map(eni => eni.id));
  return ids;
}
bothClouds.run();
