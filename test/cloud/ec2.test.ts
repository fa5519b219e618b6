// Goal: the Cloud over the AWS SDK reads and changes what EC2 has, and tells a refusal from no answer. Method:
// the strict simulator over HTTP on loopback, with its faults; for what no EC2 sends, an answer made by hand.
import process from 'node:process';
import { setTimeout as wait } from 'node:timers/promises';
import type { Ec2Client, Sender } from '../../src/cloud/cloud.ts';
import { createEc2Client } from '../../src/cloud/ec2.ts';
import type { Ec2Options } from '../../src/cloud/ec2-call.ts';
import { createEc2Time, type Ec2Time } from '../../src/cloud/ec2-time.ts';
import { metadataAt, metadataDisabled } from '../../src/cloud/imds.ts';
import { formatCidr, type Ipv4 } from '../../src/domain/address.ts';
import { type ErrorCode, isError } from '../../src/domain/error.ts';
import type { EniId, InstanceId, SubnetId } from '../../src/domain/ids.ts';
import type { Log } from '../../src/domain/log.ts';
import { type Listening, listen } from '../../src/http/listen.ts';
import { type Fault, METADATA } from '../../src/simulator/model/faults.ts';
import type { Vpc } from '../../src/simulator/model/vpc.ts';
import { buildVpc } from '../../src/simulator/model/world.ts';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { failureOf } from '../kit/failures.ts';
import { assert, suite } from '../kit/uvu.ts';

const SUBNET = 'subnet-0a1' as SubnetId;
const ENI = 'eni-0a' as EniId;
const OTHER = 'eni-0b' as EniId;
const INSTANCE = 'i-0a' as InstanceId;
const LATER = Number.POSITIVE_INFINITY;
const KEYS = [
  'AWS_ENDPOINT_URL_EC2',
  'AWS_REGION',
  'AWS_CONFIG_FILE',
  'AWS_SHARED_CREDENTIALS_FILE',
] as const;
const TIMEOUT_MS = 300;
const ASSIGN = 'AssignPrivateIpAddresses';

const VPC = {
  subnets: [
    {
      id: SUBNET,
      cidr: '10.0.1.0/24',
      reservations: [
        { cidr: '10.0.1.64/28', type: 'prefix' },
        { cidr: '10.0.1.128/28', type: 'explicit' },
      ],
    },
  ],
  instances: [{ id: INSTANCE, type: 'm5.large' }],
  enis: [
    {
      id: ENI,
      subnet: SUBNET,
      primary: '10.0.1.4',
      prefixes: ['10.0.1.64/28'],
      attachment: { instance: INSTANCE, deviceIndex: 1 },
    },
    { id: OTHER, subnet: SUBNET, primary: '10.0.1.5', secondaries: ['10.0.1.6'] },
  ],
};

let vpc: Vpc;
let server: Listening;
/** Answers instead of the simulator. */
let byHand: ((request: Request) => Response | Promise<Response> | null) | null = null;
const environment = Object.fromEntries(KEYS.map(key => [key, process.env[key]]));

const ips = (...last: number[]): Ipv4[] => last.map(number => `10.0.1.${number}` as Ipv4);
/** More than one filter takes. */
const MANY = ips(...Array.from({ length: 250 }, (_, i) => i + 4));
/** An answer of EC2 has come just now. */
function knownTime(): Ec2Time {
  const time = freshTime();
  time.heard({ date: new Date().toUTCString() });
  return time;
}
const freshTime = (log: Log = () => {}): Ec2Time => createEc2Time(() => performance.now(), Date.now, log);
const cloud = (options: Partial<Ec2Options> = {}): Ec2Client =>
  createEc2Client({
    region: 'eu-central-1',
    credentials: { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'secret' },
    deadlineClock: () => 0,
    log: () => {},
    metadata: metadataDisabled,
    time: knownTime(),
    requestTimeoutMs: TIMEOUT_MS,
    ...options,
  });

const countsOf = (names: readonly string[]): Map<string, number> => {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
};

const xml = (body: string, status = 200): Response =>
  new Response(body, { status, headers: { 'content-type': 'text/xml' } });

const ec2 = suite('ec2');
ec2.before.each(async () => {
  vpc = buildVpc(VPC, { now: () => Date.now(), random: () => 0.5, bucketScale: null });
  const app = createSimulator(vpc, { wait: ms => wait(ms), wallClock: () => Date.now(), instance: INSTANCE });
  const fetch: typeof app.fetch = async (request, ...rest) =>
    (await byHand?.(request)) ?? app.fetch(request, ...rest);
  server = await listen({ fetch }, { kind: 'http', host: '127.0.0.1', port: 0 });
  process.env.AWS_ENDPOINT_URL_EC2 = server.address;
  byHand = null;
});
ec2.after.each(async () => {
  await server.close(0);
  for (const key of KEYS) {
    if (environment[key] === undefined) delete process.env[key];
    else process.env[key] = environment[key];
  }
});

ec2('an ENI is read with its addresses, its prefixes and its attachment', async () => {
  const eni = await cloud().eni(ENI);
  assert.equal(
    {
      ...eni,
      prefixes: eni.prefixes.map(formatCidr),
      attachment: typeof eni.attachment,
      attachedAt: eni.attachedAt === vpc.network.eni(ENI).attachment?.attachedAt,
      attachedForMs: (eni.attachedForMs ?? -1) >= 0 && (eni.attachedForMs ?? 60_000) < 60_000,
    },
    {
      id: ENI,
      owner: '123456789012',
      subnet: SUBNET,
      vpc: 'vpc-0a1b2c3d4e5f60718',
      primary: '10.0.1.4',
      secondaries: [],
      prefixes: ['10.0.1.64/28'],
      instance: INSTANCE,
      attachment: 'string',
      attachedAt: true,
      attachedForMs: true,
    },
  );
  const unattached = await cloud().eni(OTHER);
  assert.equal(
    [unattached.secondaries, unattached.instance, unattached.attachment],
    [['10.0.1.6'], null, null],
  );
});

ec2('a subnet is read with its reservations', async () => {
  const subnet = await cloud().subnet(SUBNET);
  assert.is(formatCidr(subnet.cidr), '10.0.1.0/24');
  assert.ok(subnet.available > 0 && subnet.available < 251);
  const reservations = await cloud().reservations(SUBNET);
  assert.equal(
    reservations.map(one => `${formatCidr(one.cidr)} ${one.type}`),
    ['10.0.1.64/28 prefix', '10.0.1.128/28 explicit'],
  );
});

ec2('the ENIs of a subnet come page by page', async () => {
  const tokens: (string | null)[] = [];
  byHand = async request => {
    const form = new URLSearchParams(await request.text());
    tokens.push(form.get('NextToken'));
    const [id, next] = tokens.length === 1 ? [ENI, '<nextToken>more</nextToken>'] : [OTHER, ''];
    return xml(
      `<DescribeNetworkInterfacesResponse><networkInterfaceSet><item><networkInterfaceId>${id}</networkInterfaceId><subnetId>${SUBNET}</subnetId><privateIpAddress>10.0.1.4</privateIpAddress></item></networkInterfaceSet>${next}</DescribeNetworkInterfacesResponse>`,
    );
  };
  const pages: EniId[][] = [];
  for await (const page of cloud().enis(SUBNET)) pages.push(page.map(one => one.id));
  assert.equal(pages, [[ENI], [OTHER]]);
  assert.equal(tokens, [null, 'more']);
});

const described = (id: string, rest: string) =>
  `<item><networkInterfaceId>${id}</networkInterfaceId><subnetId>${SUBNET}</subnetId>${rest}</item>`;
const address = (ip: string) => `<item><privateIpAddress>${ip}</privateIpAddress></item>`;
ec2('lists leave out ENIs without an IPv4 address, and what cannot be read', async () => {
  const all = [
    described(
      'eni-0e1',
      '<ipv6AddressesSet><item><ipv6Address>2600::1</ipv6Address></item></ipv6AddressesSet>',
    ),
    described('eni-0e2', '<interfaceType>efa-only</interfaceType>'),
    described('eni-0e3', '<privateIpAddress>10.0.1</privateIpAddress>'),
    described('nobody', '<privateIpAddress>10.0.1.9</privateIpAddress>'),
    described('eni-0e4', `<privateIpAddressesSet>${address('10.0.1.8')}</privateIpAddressesSet>`),
    described(
      ENI,
      `<privateIpAddress>10.0.1.4</privateIpAddress>
       <privateIpAddressesSet>${address('10.0.1.6')}${address('x')}<item/></privateIpAddressesSet>
       <ipv4PrefixSet><item><ipv4Prefix>10.0.1.17/28</ipv4Prefix></item></ipv4PrefixSet>`,
    ),
  ];
  byHand = () =>
    xml(
      `<DescribeNetworkInterfacesResponse><networkInterfaceSet>${all.join('')}</networkInterfaceSet></DescribeNetworkInterfacesResponse>`,
    );
  const logged: string[] = [];
  const log: Ec2Options['log'] = (level, message, fields) =>
    void logged.push(`${level} ${message} ${fields?.eni}`);
  const one = cloud({ log });
  for (let reads = 0; reads < 2; reads++) {
    const seen = [];
    for await (const page of one.enis(SUBNET)) seen.push(...page);
    assert.equal(
      seen.map(eni => [eni.id, eni.primary, eni.secondaries, eni.prefixes]),
      [[ENI, '10.0.1.4', ips(6), []]],
    );
    assert.equal([...(await one.carriers(SUBNET, ips(4, 6, 8, 9))).keys()], ips(4, 6));
  }
  const eni = 'warn an ENI cannot be read, and is left out';
  const part = 'warn an address of an ENI cannot be read, and is left out';
  assert.equal(logged, [
    `${eni} eni-0e3`,
    `${eni} nobody`,
    `${eni} eni-0e4`,
    `${part} ${ENI}`,
    `${part} ${ENI}`,
    `${part} ${ENI}`,
  ]);
});

ec2('an ENI without an IPv4 address that is asked for by id is an error that says so', async () => {
  vpc.network.createEni({ id: 'eni-0e' as EniId, subnet: SUBNET, primary: null });
  const line = await failureOf(cloud().eni('eni-0e' as EniId), 'bad-request');
  assert.is(line, 'eni-0e has no IPv4 address: it is an EFA-only or IPv6-only ENI; use an ENI that has one');
});

ec2('a subnet without an IPv4 CIDR is an error that says so', async () => {
  byHand = () =>
    xml(
      `<DescribeSubnetsResponse><subnetSet><item><subnetId>${SUBNET}</subnetId></item></subnetSet></DescribeSubnetsResponse>`,
    );
  assert.match(
    await failureOf(cloud().subnet(SUBNET), 'bad-request'),
    /has no IPv4 CIDR: it is an IPv6-only/,
  );
});

ec2('carriers are found for more addresses than one filter takes', async () => {
  const carriers = await cloud().carriers(SUBNET, MANY);
  assert.equal(
    [...carriers].map(([ip, { id }]) => `${ip} ${id}`),
    ['10.0.1.4 eni-0a', '10.0.1.5 eni-0b', '10.0.1.6 eni-0b'],
  );
  assert.is(vpc.calls.get('DescribeNetworkInterfaces'), 2);
});

ec2('ENIs are read by id, many at a time, and one that is gone does not hide the others', async () => {
  const ids = Array.from({ length: 250 }, (_, i) => `eni-${(i + 100).toString(16)}` as EniId);
  const found = await cloud().enisById([ENI, ...ids, OTHER]);
  assert.equal(
    found.map(one => one.id),
    [ENI, OTHER],
  );
  assert.is(vpc.calls.get('DescribeNetworkInterfaces'), 2);
  assert.equal(await cloud().enisById([]), []);
});

ec2('an instance has a type, and a type has a limit', async () => {
  assert.is(await cloud().instanceType(INSTANCE), 'm5.large');
  assert.is(await cloud().addressLimit('m5.large'), 10);
});

ec2('type and limit are null where EC2 does not say, and an error where it does not answer', async () => {
  const asked = [() => cloud().instanceType(INSTANCE), () => cloud().addressLimit('m5.large')];
  assert.is(await cloud().instanceType('i-0ffff' as InstanceId), null);
  assert.is(await cloud().addressLimit('x9.unheard-of'), null);
  for (const ask of asked) {
    vpc.faults.add({
      kind: 'error',
      code: 'UnauthorizedOperation',
      message: 'You are not authorized.',
      times: 1,
    });
    assert.is(await ask(), null);
    vpc.faults.add({ kind: 'lostReply', times: 1 });
    await failureOf(ask(), 'ec2-unknown');
  }
});

ec2('addresses are assigned and unassigned by name', async () => {
  await cloud().assign(ENI, ips(20, 21), LATER);
  assert.equal((await cloud().eni(ENI)).secondaries, ips(20, 21));
  await cloud().unassign(ENI, ips(20, 21), LATER);
  assert.equal((await cloud().eni(ENI)).secondaries, []);
});

ec2("EC2's refusals keep their meaning, and a mutation is sent once", async () => {
  const taken: unknown = await cloud()
    .assign(ENI, ips(6, 20), LATER)
    .catch(error => error);
  assert.ok(isError(taken, 'ec2-taken'));
  assert.equal(taken.addresses, ips(6));
  await failureOf(cloud().assign(ENI, ips(20, 21, 22, 23, 24, 25, 26, 27, 28, 29), LATER), 'ec2-limit');
  await failureOf(cloud().unassign(ENI, ips(20), LATER), 'ec2-not-assigned');
  await failureOf(cloud().eni('eni-0ffff' as EniId), 'ec2-not-found');
  await failureOf(cloud().subnet('subnet-0ffff' as SubnetId), 'ec2-not-found');
  vpc.faults.add({ kind: 'throttle' });
  await failureOf(cloud().assign(ENI, ips(20), LATER), 'ec2-throttled');
  assert.is(vpc.calls.get(ASSIGN), 3);
});

ec2('each request goes through the door once: every page, and every part of a long list', async () => {
  const passed: string[] = [];
  const door: Sender = (action, send) => {
    passed.push(action);
    return send();
  };
  const behind = cloud().sendingBy(door);
  for await (const page of behind.enis(SUBNET)) assert.is(page.length, 2);
  await behind.eni(ENI);
  await behind.carriers(SUBNET, MANY);
  await behind.subnet(SUBNET);
  await behind.reservations(SUBNET);
  await behind.instanceType(INSTANCE);
  await behind.addressLimit('m5.large');
  await behind.assign(ENI, ips(20), LATER);
  await behind.unassign(ENI, ips(20), LATER);
  vpc.faults.add({ kind: 'lostReply', times: 1 });
  await failureOf(behind.eni(ENI), 'ec2-unknown');
  assert.equal(countsOf(passed), new Map(vpc.calls));
  assert.is(passed.length, 11);
});

ec2('a lost reply, a hung call and a late one are unknown, never refused', async () => {
  vpc.faults.add({ kind: 'lostReply', times: 1 });
  await failureOf(cloud().assign(ENI, ips(20), LATER), 'ec2-unknown');
  vpc.faults.add({ kind: 'hang', times: 1 });
  const startedAt = performance.now();
  await failureOf(cloud().assign(ENI, ips(21), LATER), 'ec2-unknown');
  assert.ok(performance.now() - startedAt < 5 * TIMEOUT_MS, 'the timeout is of the request');
  vpc.faults.add({ kind: 'latency', ms: 20 * TIMEOUT_MS, times: 1 });
  await failureOf(cloud().unassign(ENI, ips(20), LATER), 'ec2-unknown');
  assert.is(vpc.calls.get(ASSIGN), 2);
});

/** The SDK's own agents hold 50 sockets. */
const HUNG = 60;
ec2('hung calls do not hold up others, however many', async () => {
  vpc.faults.add({ kind: 'hang', times: 2 * HUNG });
  const one = cloud({ requestTimeoutMs: 30_000 });
  for (let i = 0; i < HUNG; i++) {
    one.eni(ENI).catch(() => {});
    one.unassign(ENI, ips(20), LATER).catch(() => {});
  }
  const arrived = () => [...vpc.calls.values()].reduce((sum, calls) => sum + calls, 0);
  for (let looks = 0; arrived() < 2 * HUNG; looks++) {
    assert.ok(looks < 1000, `${arrived()} of ${2 * HUNG} calls arrived`);
    await wait(5);
  }
  assert.is((await one.eni(ENI)).id, ENI);
  await one.assign(ENI, ips(20), LATER);
});

const STALLED = () =>
  new Response(new ReadableStream({ start: stream => stream.enqueue(new TextEncoder().encode('<Assign')) }), {
    headers: { 'content-type': 'text/xml' },
  });
const refusing = (status: number, code: string) => () =>
  xml(
    `<Response><Errors><Error><Code>${code}</Code><Message>m</Message></Error></Errors></Response>`,
    status,
  );
const html = (status: number) => () =>
  new Response('<html><body><p>No.<br></body></html>', { status, headers: { 'content-type': 'text/html' } });
const answers: [what: string, code: ErrorCode, answer: () => Response][] = [
  ['an answer that stops in the middle', 'ec2-unknown', STALLED],
  ['status 500', 'ec2-unknown', refusing(500, 'InternalError')],
  ['status 503', 'ec2-unknown', refusing(503, 'Unavailable')],
  ['status 503 that says throttled', 'ec2-throttled', refusing(503, 'RequestLimitExceeded')],
  ['a code that nobody knows', 'ec2-refused', refusing(400, 'NeverHeardOfIt')],
  ["a proxy's page with status 403", 'ec2-unknown', html(403)],
  ["a proxy's page with status 502", 'ec2-unknown', html(502)],
  ["a proxy's page with status 200", 'ec2-unknown', html(200)],
  ['an empty answer with status 400', 'ec2-unknown', () => new Response('', { status: 400 })],
  ['an empty answer with status 404', 'ec2-unknown', () => new Response('', { status: 404 })],
];
for (const [what, code, answer] of answers)
  ec2(`${what} is ${code}`, async () => {
    byHand = answer;
    await failureOf(cloud().assign(ENI, ips(20), LATER), code);
  });

ec2('a mutation is sent once, also when a connection that was in use before breaks under it', async () => {
  const one = cloud();
  await one.eni(ENI);
  await one.assign(ENI, ips(20), LATER);
  vpc.faults.add({ kind: 'lostReply', times: 1 });
  await failureOf(one.assign(ENI, ips(21), LATER), 'ec2-unknown');
  // A second sending would come at once, on a connection that stands before this read's answer.
  await one.eni(ENI);
  await one.unassign(ENI, ips(20), LATER);
  assert.is(vpc.calls.get(ASSIGN), 2);
});

ec2('where nothing listens, nothing was sent', async () => {
  await server.close(0);
  const line = await failureOf(cloud().assign(ENI, ips(20), LATER), 'ec2-unreachable');
  assert.match(line, /^AssignPrivateIpAddresses was not sent: EC2 can't be reached: ECONNREFUSED/);
});

ec2('past its time a mutation is not sent', async () => {
  const late = cloud({ deadlineClock: () => 1000 });
  for (const asked of [() => late.assign(ENI, ips(20), 1000), () => late.unassign(OTHER, ips(6), 1000)])
    assert.match(await failureOf(asked(), 'ec2-unreachable'), /^not sent: /);
  assert.is(vpc.calls.size, 0);
  await cloud({ deadlineClock: () => 999 }).assign(ENI, ips(20), 1000);
});

ec2("while our clock is ahead of EC2's nothing is changed, and reads go on", async () => {
  const lines: string[] = [];
  const one = cloud({ time: freshTime((level, message) => void lines.push(`${level} ${message}`)) });
  for (const aheadMs of [-10_000, -1_200_000]) {
    vpc.dayAheadMs = aheadMs;
    for (const asked of [() => one.assign(ENI, ips(20), LATER), () => one.unassign(OTHER, ips(6), LATER)])
      assert.match(
        await failureOf(asked(), 'ec2-unreachable'),
        /^not sent: \w+: this machine's clock is \d+ s ahead of EC2's; set this machine's clock right/,
      );
    assert.is((await one.eni(ENI)).id, ENI);
  }
  assert.is(vpc.calls.get(ASSIGN) ?? 0, 0);
  assert.is(vpc.calls.get('UnassignPrivateIpAddresses') ?? 0, 0);
  assert.is(lines.length, 1, lines.join('; '));
  vpc.dayAheadMs = 0;
  await one.assign(ENI, ips(20), LATER); // it asks EC2 itself before it refuses
  assert.is(lines.length, 2, lines.join('; '));
});

ec2('a clock that is behind is no matter, however far', async () => {
  vpc.dayAheadMs = 1_200_000;
  const one = cloud({ time: freshTime() });
  await one.assign(ENI, ips(20), LATER);
  await one.unassign(ENI, ips(20), LATER);
});

ec2('credentials and date that EC2 calls expired are worth another try', async () => {
  const one = cloud();
  for (const code of ['ExpiredToken', 'RequestExpired']) {
    vpc.faults.add({ kind: 'error', code, message: 'Request has expired.', times: 1 });
    await failureOf(one.assign(ENI, ips(20), LATER), 'ec2-unreachable');
  }
  await one.assign(ENI, ips(20), LATER);
});

/** A client to whom nothing says who and where we are but the instance's metadata, served by the simulator. */
function onlyMetadata(options: Partial<Ec2Options> = {}): Ec2Client {
  for (const key of ['AWS_REGION', 'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY']) delete process.env[key];
  process.env.AWS_CONFIG_FILE = process.env.AWS_SHARED_CREDENTIALS_FILE = '/nonexistent';
  process.env.AWS_EC2_METADATA_SERVICE_ENDPOINT = server.address;
  return cloud({ region: null, credentials: null, metadata: metadataAt(server.address), ...options });
}

ec2('region and credentials are found in the metadata of the instance', async () => {
  const here = onlyMetadata({ metadata: metadataDisabled });
  await here.assign(ENI, ips(20), LATER);
  assert.equal((await here.eni(ENI)).secondaries, ips(20));
});

/** Long enough for the SDK to give up, which it does after a second where it is not told otherwise. */
const LATE_MS = 1_300;
ec2('metadata that are late are waited for', async () => {
  const here = onlyMetadata();
  vpc.faults.add({ kind: 'latency', ms: LATE_MS, action: METADATA });
  assert.is((await here.eni(ENI)).id, ENI);
});

const broken: [what: string, fault: Fault, code: ErrorCode][] = [
  ['do not answer', { kind: 'hang' }, 'ec2-unreachable'],
  ['answer with an error', { kind: 'error', code: '500', message: 'no' }, 'ec2-unreachable'],
  ['are empty', { kind: 'error', code: '200', message: '' }, 'ec2-unreachable'],
  ['refuse their own tokens', { kind: 'error', code: '401', message: '' }, 'ec2-unreachable'],
  ['are turned off', { kind: 'error', code: '403', message: '' }, 'ec2-denied'],
  ['have no role', { kind: 'error', code: '404', message: '' }, 'ec2-denied'],
];
for (const [what, fault, code] of broken)
  for (const region of [null, 'eu-central-1'])
    ec2(`metadata that ${what} for ${region ?? 'the region and'} credentials: ${code}`, async () => {
      const metadata = metadataAt(server.address, TIMEOUT_MS);
      const here = onlyMetadata({ region, metadata, metadataTimeoutMs: TIMEOUT_MS });
      vpc.faults.add({ ...fault, action: METADATA });
      const line = await failureOf(here.assign(ENI, ips(20), LATER), code);
      assert.match(line, /^AssignPrivateIpAddresses was not sent: .*; /);
      assert.is(vpc.calls.size, 0);
      vpc.faults.clear();
      await here.assign(ENI, ips(20), LATER);
    });

ec2('credentials of a role that have ended are read anew', async () => {
  const here = onlyMetadata({ region: 'eu-central-1' });
  await here.eni(ENI);
  let reads = 0;
  byHand = request => {
    if (request.url.endsWith('/security-credentials/simulated-role')) reads++;
    return null;
  };
  await here.eni(ENI);
  assert.is(reads, 0, 'they are kept');
  vpc.faults.add({ kind: 'error', code: 'ExpiredToken', message: 'The token has expired.', times: 1 });
  await failureOf(here.eni(ENI), 'ec2-unreachable');
  assert.is(reads, 1);
});

for (const [what, path] of [
  ['region', '/placement/region'],
  ['credentials', '/security-credentials/simulated-role'],
])
  ec2(`time that passes while the ${what} are waited for counts`, async () => {
    let now = 0;
    byHand = request => {
      if (request.url.endsWith(path ?? '')) now = 1000;
      return null;
    };
    const slow = onlyMetadata({ deadlineClock: () => now });
    await failureOf(slow.assign(ENI, ips(20), 1000), 'ec2-unreachable');
    assert.is(now, 1000, 'the metadata was not asked');
    assert.is(vpc.calls.size, 0);
  });

ec2("the region is the environment's, then the instance's", async () => {
  onlyMetadata();
  const scopes: string[] = [];
  byHand = request => {
    const scope = request.headers.get('authorization')?.match(/Credential=[^/]+\/\d+\/([^/]+)\//)?.[1];
    if (scope !== undefined) scopes.push(scope);
    return null;
  };
  await cloud({ region: null, metadata: metadataAt(server.address) }).eni(ENI);
  process.env.AWS_REGION = 'ap-south-1';
  await cloud({ region: null }).eni(ENI);
  await cloud({ region: 'sa-east-1' }).eni(ENI);
  assert.equal(scopes, ['eu-central-1', 'ap-south-1', 'sa-east-1']);
});

ec2('without a region anywhere nothing is sent, and the operator reads what to set', async () => {
  onlyMetadata();
  process.env.AWS_EC2_METADATA_DISABLED = 'true';
  const line = await failureOf(cloud({ region: null }).assign(ENI, ips(20), LATER), 'ec2-denied');
  assert.match(line, /no AWS region is known; set AWS_REGION$/);
  assert.is(vpc.calls.size, 0);
});
ec2.run();
