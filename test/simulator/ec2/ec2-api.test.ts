// Goal: the simulator speaks EC2 as the real programs expect it. Method: the AWS SDK and fetch against a served app;
// each case gets a VPC of its own.
import { type _InstanceType, type EC2, paginateDescribeNetworkInterfaces } from '@aws-sdk/client-ec2';
import { parseCidr } from '../../../src/domain/address.ts';
import type { EniId, SubnetId } from '../../../src/domain/ids.ts';
import { assign, clientOf, failureOf, simulatorSuite } from '../../kit/servers/simulator.ts';
import { ETH0, ETH1, ETH2, INSTANCE, ips, SUBNET } from '../../kit/simulated.ts';
import { assert } from '../../kit/uvu.ts';

const faces = simulatorSuite('EC2 of the simulator');

faces('assign: returns what it assigned, by list or count; unassign takes it off', async ({ vpc, ec2 }) => {
  const listed = await assign(ec2, ETH1, '10.0.1.20', '10.0.1.21');
  const addressesIn = ({ AssignedPrivateIpAddresses: all = [] }: typeof listed) =>
    all.map(one => one.PrivateIpAddress ?? '');
  assert.equal(addressesIn(listed), ['10.0.1.20', '10.0.1.21']);
  const byCount = { NetworkInterfaceId: ETH1, SecondaryPrivateIpAddressCount: 2 };
  const chosen = addressesIn(await ec2.assignPrivateIpAddresses(byCount));
  assert.is(chosen.length, 2);
  await ec2.unassignPrivateIpAddresses({ NetworkInterfaceId: ETH1, PrivateIpAddresses: ['10.0.1.20'] });
  assert.equal(vpc.network.eni(ETH1).secondaries, ['10.0.1.21', ...chosen]);
});

faces("time of day: is that of its answers' Date, of refusals too, and may be set", async ({ url, json }) => {
  const aheadMs = -3_600_000;
  await json('PUT', '/date', { aheadMs });
  const { headers, status } = await fetch(`${url}/`, { method: 'POST' });
  assert.is(status, 403);
  const errorMs = Date.parse(headers.get('date') ?? '') - (Date.now() + aheadMs);
  assert.ok(Math.abs(errorMs) < 60_000, `${errorMs} ms off`);
});

faces('an ENI without an IPv4 address: is shown without one, and takes none', async ({ vpc, ec2, json }) => {
  await json('POST', '/enis', { id: 'eni-0e', subnet: SUBNET, primary: null, interfaceType: 'efa-only' });
  const { NetworkInterfaces } = await ec2.describeNetworkInterfaces({ NetworkInterfaceIds: ['eni-0e'] });
  const [eni] = NetworkInterfaces ?? [];
  assert.is(eni?.NetworkInterfaceId, 'eni-0e');
  assert.is(eni?.PrivateIpAddress, undefined);
  assert.equal(eni?.PrivateIpAddresses ?? [], []);
  assert.is((await failureOf(assign(ec2, 'eni-0e', '10.0.1.20'))).status, 400);
  assert.equal(vpc.network.eni('eni-0e' as EniId).secondaries, []);
});

const assignMore = (more: object) => (ec2: EC2) =>
  ec2.assignPrivateIpAddresses({ NetworkInterfaceId: ETH1, ...more });
const INVALID = 'InvalidParameterValue';
const NO_TYPE = { InstanceTypes: ['x9.tiny' as _InstanceType] };
const TAKEN = /^\[10\.0\.1\.10\] assigned, but move is not allowed\.$/;
const LIMIT = 'PrivateIpAddressLimitExceeded';
const NO_ENI = 'InvalidNetworkInterfaceID.NotFound';
const NO_ID = { SubnetIds: ['<net>'] };
const refusals: [why: string, send: (ec2: EC2) => Promise<unknown>, name: string, message: RegExp][] = [
  ['a taken address', ec2 => assign(ec2, ETH1, '10.0.1.10'), INVALID, TAKEN],
  ['too many for the type', assignMore({ SecondaryPrivateIpAddressCount: 10 }), LIMIT, /will exceed limit/],
  ['no such ENI', ec2 => assign(ec2, 'eni-0bad', '10.0.1.20'), NO_ENI, /'eni-0bad' does not exist/],
  [
    'an id that is none',
    ec2 => ec2.describeSubnets(NO_ID),
    'InvalidSubnetID.Malformed',
    /^Invalid id: "<net>"$/,
  ],
  [
    'an unknown parameter',
    assignMore({ Ipv4PrefixCount: 1 }),
    'UnknownParameter',
    /Ipv4PrefixCount is not recognized/,
  ],
  [
    'too small a page',
    ec2 => ec2.describeNetworkInterfaces({ MaxResults: 4 }),
    INVALID,
    /maxResults is invalid/,
  ],
  ['no such instance type', ec2 => ec2.describeInstanceTypes(NO_TYPE), 'InvalidInstanceType', /x9\.tiny/],
];
for (const [why, send, name, message] of refusals)
  faces(`refusal: ${why}`, async ({ ec2 }) => {
    const failure = await failureOf(send(ec2));
    assert.equal([failure.name, failure.status], [name, 400]);
    assert.match(failure.message, message);
  });

faces('a prefix: is assigned and unassigned by its name', async ({ vpc, ec2 }) => {
  const named = { NetworkInterfaceId: ETH1, Ipv4Prefixes: ['10.0.1.64/28'] };
  const { AssignedIpv4Prefixes } = await ec2.assignPrivateIpAddresses(named);
  assert.equal(AssignedIpv4Prefixes, [{ Ipv4Prefix: '10.0.1.64/28' }]);
  assert.is(vpc.network.eni(ETH1).prefixes.length, 1);
  const both = { ...named, PrivateIpAddresses: ['10.0.1.20'] };
  for (const call of [ec2.assignPrivateIpAddresses(both), ec2.unassignPrivateIpAddresses(both)])
    assert.is((await failureOf(call)).name, 'InvalidParameterCombination');
  const none = { ...named, Ipv4Prefixes: ['10.0.1.65/28'] };
  assert.match(
    (await failureOf(ec2.assignPrivateIpAddresses(none))).message,
    /parameter prefix: 10\.0\.1\.65\/28$/,
  );
  await ec2.unassignPrivateIpAddresses(named);
  assert.equal(vpc.network.eni(ETH1).prefixes, []);
});

faces('throttling: is a 503 that the SDK knows as throttling', async ({ vpc, ec2 }) => {
  vpc.faults.add({ kind: 'throttle' });
  const { name, status } = await failureOf(assign(ec2, ETH1, '10.0.1.20'));
  assert.equal([name, status], ['RequestLimitExceeded', 503]);
});

faces('the paginator: sees each of thousands of ENIs once, and its addresses', async ({ vpc, ec2, json }) => {
  const subnet = 'subnet-0f1' as SubnetId;
  await json('POST', '/subnets', { id: subnet, cidr: '10.8.0.0/16' });
  for (let i = 0; i < 2500; i++) vpc.network.assign({ eni: vpc.network.createEni({ subnet }).id, count: 1 });
  const seen: (string | undefined)[] = [];
  const addresses = new Set<string | undefined>();
  const inSubnet = { Filters: [{ Name: 'subnet-id', Values: [subnet] }] };
  for await (const page of paginateDescribeNetworkInterfaces({ client: ec2, pageSize: 1000 }, inSubnet))
    for (const { NetworkInterfaceId, PrivateIpAddresses = [] } of page.NetworkInterfaces ?? []) {
      seen.push(NetworkInterfaceId);
      for (const one of PrivateIpAddresses) addresses.add(one.PrivateIpAddress);
    }
  assert.equal([seen.length, new Set(seen).size, addresses.size], [2500, 2500, 5000]);
});

faces('an ENI: is described whole, and its texts are escaped', async ({ vpc, ec2 }) => {
  const description = `<"&'> \u{1f433} ]]>`;
  const { id, primary } = vpc.network.createEni({
    subnet: SUBNET,
    secondaries: ips('10.0.1.20'),
    prefixes: [parseCidr('10.0.1.64/28')],
    interfaceType: 'lambda',
    description,
    tags: { 'a&b': '<c>' },
  });
  const { NetworkInterfaces } = await ec2.describeNetworkInterfaces({ NetworkInterfaceIds: [id, ETH1] });
  const [made, attached] = NetworkInterfaces ?? [];
  const addresses = made?.PrivateIpAddresses?.map(one => `${one.PrivateIpAddress} ${one.Primary}`);
  assert.equal(addresses, [`${primary} true`, '10.0.1.20 false']);
  assert.equal(made?.Ipv4Prefixes, [{ Ipv4Prefix: '10.0.1.64/28' }]);
  assert.equal([made?.Description, made?.TagSet], [description, [{ Key: 'a&b', Value: '<c>' }]]);
  assert.equal([made?.Status, made?.InterfaceType, made?.Attachment], ['available', 'lambda', undefined]);
  assert.equal([attached?.Status, attached?.MacAddress], ['in-use', '02:0a:1b:2c:3d:01']);
  assert.equal([attached?.Attachment?.InstanceId, attached?.Attachment?.DeviceIndex], [INSTANCE, 1]);
});

faces('filters: reach the model', async ({ vpc, ec2 }) => {
  vpc.network.assign({ eni: ETH1, ips: ips('10.0.1.20') });
  const found = async (Name: string, ...Values: string[]) => {
    const { NetworkInterfaces } = await ec2.describeNetworkInterfaces({ Filters: [{ Name, Values }] });
    return NetworkInterfaces?.map(eni => eni.NetworkInterfaceId);
  };
  assert.equal(await found('addresses.private-ip-address', '10.0.1.20', '10.0.2.11'), [ETH1, ETH2]);
  assert.equal(await found('subnet-id', SUBNET), [ETH0, ETH1]);
  assert.equal(await found('attachment.instance-id', INSTANCE), [ETH0, ETH1, ETH2]);
  assert.equal(await found('network-interface-id', ETH2), [ETH2]);
  assert.equal(await found('vpc-id', 'vpc-0'), []);
});

faces('subnets, reservations, instances and their types: are described', async ({ vpc, ec2 }) => {
  vpc.network.addReservation(SUBNET, parseCidr('10.0.1.128/28'), 'prefix');
  const { Subnets } = await ec2.describeSubnets({ SubnetIds: [SUBNET] });
  assert.equal([Subnets?.[0]?.CidrBlock, Subnets?.[0]?.AvailableIpAddressCount], ['10.0.1.0/24', 249]);
  const reserved = await ec2.getSubnetCidrReservations({ SubnetId: SUBNET });
  const [reservation] = reserved.SubnetIpv4CidrReservations ?? [];
  assert.equal([reservation?.Cidr, reservation?.ReservationType], ['10.0.1.128/28', 'prefix']);
  const { Reservations } = await ec2.describeInstances({ InstanceIds: [INSTANCE] });
  const [instance] = Reservations?.[0]?.Instances ?? [];
  assert.equal([instance?.InstanceType, instance?.State?.Name], ['m5.large', 'running']);
  assert.is(instance?.NetworkInterfaces?.length, 3);
  const { InstanceTypes } = await ec2.describeInstanceTypes({ InstanceTypes: ['m5.large'] });
  const limits = { MaximumNetworkInterfaces: 3, Ipv4AddressesPerInterface: 10 };
  assert.equal(InstanceTypes?.[0]?.NetworkInfo, limits);
});

faces('an ENI: is created, attached, detached and deleted', async ({ vpc, ec2 }) => {
  vpc.network.detach(vpc.network.eni(ETH2).attachment?.id ?? '');
  const created = await ec2.createNetworkInterface({ SubnetId: SUBNET, PrivateIpAddress: '10.0.1.77' });
  const NetworkInterfaceId = created.NetworkInterface?.NetworkInterfaceId ?? '';
  const place = { InstanceId: INSTANCE, DeviceIndex: 2 };
  const { AttachmentId } = await ec2.attachNetworkInterface({ NetworkInterfaceId, ...place });
  assert.is(vpc.network.enisOf(INSTANCE)[2]?.primary, '10.0.1.77');
  await ec2.detachNetworkInterface({ AttachmentId });
  await ec2.deleteNetworkInterface({ NetworkInterfaceId });
  const asked = ec2.describeNetworkInterfaces({ NetworkInterfaceIds: [NetworkInterfaceId] });
  assert.is((await failureOf(asked)).name, 'InvalidNetworkInterfaceID.NotFound');
});

faces('a lost reply: drops the connection after the call was applied', async ({ vpc, ec2 }) => {
  vpc.faults.add({ kind: 'lostReply', times: 1 });
  const failure = await failureOf(assign(ec2, ETH1, '10.0.1.20'));
  assert.is(failure.status, undefined, `an answer came: ${failure.name}`);
  assert.not.match(failure.message, /requestTimeout/);
  assert.equal(vpc.network.eni(ETH1).secondaries, ['10.0.1.20']);
  assert.is(vpc.calls.get('AssignPrivateIpAddresses'), 1, 'the client sent it once');
  await assign(ec2, ETH1, '10.0.1.21');
});

const TIMEOUT_MS = 300;
faces('a hang: is never answered, and the server goes on', async ({ vpc, url }) => {
  const hasty = clientOf(url, TIMEOUT_MS);
  vpc.faults.add({ kind: 'hang', times: 1 });
  assert.is((await failureOf(assign(hasty, ETH1, '10.0.1.20'))).name, 'TimeoutError');
  await assign(hasty, ETH1, '10.0.1.20');
  assert.is(vpc.calls.get('AssignPrivateIpAddresses'), 2);
  hasty.destroy();
});

faces('latency: delays the answer, past the timeout if it must', async ({ vpc, url }) => {
  const hasty = clientOf(url, TIMEOUT_MS);
  vpc.faults.add({ kind: 'latency', ms: 100, times: 1 });
  const before = performance.now();
  await assign(hasty, ETH1, '10.0.1.20');
  assert.ok(performance.now() - before >= 99, 'it came too soon');
  vpc.faults.add({ kind: 'latency', ms: 3 * TIMEOUT_MS, times: 1 });
  assert.is((await failureOf(assign(hasty, ETH1, '10.0.1.21'))).name, 'TimeoutError');
  assert.equal(vpc.network.eni(ETH1).secondaries, ['10.0.1.20', '10.0.1.21']);
  hasty.destroy();
});

faces('a dry run: tells by an error whether the caller has the right', async ({ vpc, ec2 }) => {
  const told = async () => {
    const { name, status, message } = await failureOf(ec2.describeSubnets({ DryRun: true }));
    return [name, status, message];
  };
  const allowed = ['DryRunOperation', 412, 'Request would have succeeded, but DryRun flag is set.'];
  assert.equal(await told(), allowed);
  vpc.denied.add('DescribeInstances');
  assert.equal(await told(), allowed, 'rights go by action');
  vpc.denied.add('DescribeSubnets');
  assert.equal(await told(), [
    'UnauthorizedOperation',
    403,
    'You are not authorized to perform this operation.',
  ]);
  assert.is((await failureOf(ec2.describeSubnets({}))).name, 'UnauthorizedOperation');
  assert.ok((await ec2.describeNetworkInterfaces({ DryRun: false })).NetworkInterfaces);
});

const SIGNED =
  'AWS4-HMAC-SHA256 Credential=AKIA/20261124/eu-central-1/ec2/aws4_request, SignedHeaders=host, Signature=0';
const amzDate = (offsetMs: number): string =>
  new Date(Date.now() + offsetMs).toISOString().replace(/[-:]|\.\d+/g, '');
const DESCRIBE = 'Action=DescribeSubnets&Version=2016-11-15';
// Signed this much ahead of now; null: not at all.
const raw: [why: string, signedMs: number | null, body: string, status: number, code: string][] = [
  ['an unsigned request', null, DESCRIBE, 403, 'MissingAuthenticationToken'],
  ['a signature sixteen minutes old', -960_000, DESCRIBE, 400, 'RequestExpired'],
  ['a signature six minutes ahead', 360_000, DESCRIBE, 400, 'SignatureDoesNotMatch'],
  ['an action that it does not know', 0, 'Action=toString&Version=2016-11-15', 400, 'InvalidAction'],
  ['another version', -240_000, 'Action=DescribeSubnets&Version=2006-06-26', 400, 'NoSuchVersion'],
  ['no action', 0, '', 400, 'MissingParameter'],
];
for (const [why, signedMs, body, status, code] of raw)
  faces(`refusal: ${why}`, async ({ vpc, url }) => {
    const headers: Record<string, string> =
      signedMs === null ? {} : { authorization: SIGNED, 'x-amz-date': amzDate(signedMs) };
    const response = await fetch(`${url}/`, { method: 'POST', headers, body });
    assert.match(await response.text(), new RegExp(`<Code>${code}</Code>`));
    assert.is(response.status, status);
    assert.is(vpc.calls.size, 0);
  });

const CHANGES = ['AssignPrivateIpAddresses', 'UnassignPrivateIpAddresses'];
const more = `NetworkInterfaceId=${ETH1}&PrivateIpAddress.1=10.0.1.20`;
// The SDK has no DryRun for these.
const dry: [why: string, body: string, status: number, code: string][] = [
  ['allowed', `${more}&DryRun=true`, 412, 'DryRunOperation'],
  ['no right', `${more}&DryRun=true`, 403, 'UnauthorizedOperation'],
  ['no boolean', `${more}&DryRun=yes`, 400, 'InvalidParameterValue'],
  ['a parameter that is not known', `${more}&DryRun=true&More=1`, 400, 'UnknownParameter'],
  ['an address that is none', `${more}&PrivateIpAddress.2=x&DryRun=true`, 400, 'InvalidParameterValue'],
];
for (const action of CHANGES)
  for (const [why, body, status, code] of dry)
    faces(`a dry run of ${action}, ${why}: changes nothing`, async ({ vpc, ec2, url }) => {
      if (action === CHANGES[1]) await assign(ec2, ETH1, '10.0.1.20');
      if (status === 403) vpc.denied.add(action);
      const before = vpc.network.journalAfter(0).next;
      const response = await fetch(`${url}/`, {
        method: 'POST',
        headers: { authorization: SIGNED, 'x-amz-date': amzDate(0) },
        body: `Action=${action}&Version=2016-11-15&${body}`,
      });
      assert.match(await response.text(), new RegExp(`<Code>${code}</Code>`));
      assert.is(response.status, status);
      assert.is(vpc.network.journalAfter(0).next, before);
    });
faces.run();
