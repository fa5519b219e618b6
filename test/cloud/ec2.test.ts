// Goal: the Cloud over the AWS SDK reads and changes what EC2 has, and keeps the meaning of its refusals. Method: the
// strict simulator over HTTP on loopback; for what no EC2 sends, an answer made by hand.
import type { Sender } from '../../src/cloud/cloud.ts';
import type { Ec2Options } from '../../src/cloud/ec2-call.ts';
import { formatCidr } from '../../src/domain/address.ts';
import { isError } from '../../src/domain/error.ts';
import type { EniId, InstanceId, SubnetId } from '../../src/domain/ids.ts';
import { TENANT_TAG } from '../../src/domain/tenant.ts';
import { failureOf } from '../kit/failures.ts';
import { assert } from '../kit/uvu.ts';
import { ASSIGN, ENI_A, ENI_B, SUBNET } from '../kit/vpcs.ts';
import { byHand, cloud, ec2Suite, INSTANCE, ips, LATER, MANY, refuseOnce, vpc, xml } from './ec2-server.ts';

const ec2 = ec2Suite('ec2');

ec2('an ENI is read with its addresses, its prefixes and its attachment', async () => {
  const eni = await cloud().eni(ENI_A);
  assert.equal(
    {
      ...eni,
      prefixes: eni.prefixes.map(formatCidr),
      attachment: typeof eni.attachment,
      attachedAt: eni.attachedAt === vpc.network.eni(ENI_A).attachment?.attachedAt,
      attachedForMs: (eni.attachedForMs ?? -1) >= 0 && (eni.attachedForMs ?? 60_000) < 60_000,
    },
    {
      id: ENI_A,
      owner: '123456789012',
      subnet: SUBNET,
      vpc: 'vpc-0a1b2c3d4e5f60718',
      mac: vpc.network.eni(ENI_A).mac,
      primary: '10.0.1.4',
      secondaries: [],
      prefixes: ['10.0.1.64/28'],
      instance: INSTANCE,
      attachment: 'string',
      attachedAt: true,
      attachedForMs: true,
      tenant: null,
    },
  );
  const { secondaries, instance, attachment } = await cloud().eni(ENI_B);
  assert.equal(
    { secondaries, instance, attachment },
    { secondaries: ips(6), instance: null, attachment: null },
  );
});

ec2('the tenant of an ENI is that of its tag; a tag that names none is logged once', async () => {
  const lines: unknown[][] = [];
  const client = cloud({ log: (...line) => void lines.push(line) });
  const tenantAfter = async (tags: Record<string, string>) => {
    vpc.network.tag(ENI_A, tags);
    return (await client.eni(ENI_A)).tenant;
  };
  assert.is(await tenantAfter({ Name: 'x', [TENANT_TAG]: 'Team-1.eu' }), 'team-1.eu');
  assert.is(await tenantAfter({ [TENANT_TAG]: '' }), null);
  assert.equal(lines, []);
  for (const _ of [1, 2]) assert.is(await tenantAfter({ [TENANT_TAG]: 'a b' }), null);
  assert.is(lines.length, 1);
  assert.match(
    JSON.stringify(lines),
    /names no tenant.*tag ec2-ipam:tenant ..a b.. is not a name of a tenant/,
  );
});

ec2(
  'instance profiles are read of the instances that EC2 shows, in lists of what a filter takes',
  async () => {
    const plain = vpc.network.addInstance({ type: 'm5.large', zone: 'eu-central-1a', profile: 'web' });
    const unknown = Array.from({ length: 201 }, (_, i) => `i-0${i.toString(16)}ff` as InstanceId);
    const profiles = await cloud().profiles([INSTANCE, ...unknown, plain.id]);
    assert.equal(
      [...profiles],
      [
        [INSTANCE, 'arn:aws:iam::123456789012:instance-profile/simulated-role'],
        [plain.id, 'arn:aws:iam::123456789012:instance-profile/web'],
      ],
    );
    assert.is(vpc.calls.get('DescribeInstances'), 2);
  },
);

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

const described = (id: string, rest: string) =>
  `<item><networkInterfaceId>${id}</networkInterfaceId><subnetId>${SUBNET}</subnetId>${rest}</item>`;
const address = (ip: string) => `<item><privateIpAddress>${ip}</privateIpAddress></item>`;
const enisAnswered = (set: string, next = '') =>
  xml(
    `<DescribeNetworkInterfacesResponse><networkInterfaceSet>${set}</networkInterfaceSet>${next}</DescribeNetworkInterfacesResponse>`,
  );
const PRIMARY = '<privateIpAddress>10.0.1.4</privateIpAddress>';

ec2('the ENIs of a subnet come page by page', async () => {
  const tokens: (string | null)[] = [];
  byHand.answer = async request => {
    const form = new URLSearchParams(await request.text());
    tokens.push(form.get('NextToken'));
    const [id, next] = tokens.length === 1 ? [ENI_A, '<nextToken>more</nextToken>'] : [ENI_B, ''];
    return enisAnswered(described(id, PRIMARY), next);
  };
  const pages: EniId[][] = [];
  for await (const page of cloud().enis(SUBNET)) pages.push(page.map(one => one.id));
  assert.equal(pages, [[ENI_A], [ENI_B]]);
  assert.equal(tokens, [null, 'more']);
});

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
      ENI_A,
      `${PRIMARY}
       <privateIpAddressesSet>${address('10.0.1.6')}${address('x')}<item/></privateIpAddressesSet>
       <ipv4PrefixSet><item><ipv4Prefix>10.0.1.17/28</ipv4Prefix></item></ipv4PrefixSet>`,
    ),
  ];
  byHand.answer = () => enisAnswered(all.join(''));
  const logged: string[] = [];
  const log: Ec2Options['log'] = (level, message, fields) =>
    void logged.push(`${level} ${message} ${fields?.eni}`);
  const one = cloud({ log });
  for (let reads = 0; reads < 2; reads++) {
    const seen = [];
    for await (const page of one.enis(SUBNET)) seen.push(...page);
    assert.equal(
      seen.map(eni => [eni.id, eni.primary, eni.secondaries, eni.prefixes]),
      [[ENI_A, '10.0.1.4', ips(6), []]],
    );
    assert.equal([...(await one.carriers(SUBNET, ips(4, 6, 8, 9))).keys()], ips(4, 6));
  }
  const eni = 'warn ENI left out, description not understood';
  const part = 'warn address of an ENI left out, not understood';
  assert.equal(logged, [
    `${eni} eni-0e3`,
    `${eni} nobody`,
    `${eni} eni-0e4`,
    `${part} ${ENI_A}`,
    `${part} ${ENI_A}`,
    `${part} ${ENI_A}`,
  ]);
});

ec2('an ENI without an IPv4 address that is asked for by id is an error that says so', async () => {
  vpc.network.createEni({ id: 'eni-0e' as EniId, subnet: SUBNET, primary: null });
  const line = await failureOf(cloud().eni('eni-0e' as EniId), 'bad-request');
  assert.is(line, 'eni-0e has no IPv4 address: it is an EFA-only or IPv6-only ENI; use an ENI that has one');
});

ec2('a subnet without an IPv4 CIDR is an error that says so', async () => {
  byHand.answer = () =>
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
  const found = await cloud().enisById([ENI_A, ...ids, ENI_B]);
  assert.equal(found.map(one => one.id).join(), `${ENI_A},${ENI_B}`);
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
    refuseOnce('UnauthorizedOperation', 'You are not authorized.');
    assert.is(await ask(), null);
    vpc.faults.add({ kind: 'lostReply', times: 1 });
    await failureOf(ask(), 'ec2-unknown');
  }
});

ec2('addresses are assigned and unassigned by name', async () => {
  await cloud().assign(ENI_A, ips(20, 21), LATER);
  assert.equal((await cloud().eni(ENI_A)).secondaries, ips(20, 21));
  await cloud().unassign(ENI_A, ips(20, 21), LATER);
  assert.equal((await cloud().eni(ENI_A)).secondaries, []);
});

ec2("EC2's refusals keep their meaning, and a mutation is sent once", async () => {
  const taken: unknown = await cloud()
    .assign(ENI_A, ips(6, 20), LATER)
    .catch(error => error);
  assert.ok(isError(taken, 'ec2-taken'));
  assert.equal(taken.addresses, ips(6));
  await failureOf(cloud().assign(ENI_A, ips(20, 21, 22, 23, 24, 25, 26, 27, 28, 29), LATER), 'ec2-limit');
  await failureOf(cloud().unassign(ENI_A, ips(20), LATER), 'ec2-not-assigned');
  await failureOf(cloud().eni('eni-0ffff' as EniId), 'ec2-not-found');
  await failureOf(cloud().subnet('subnet-0ffff' as SubnetId), 'ec2-not-found');
  vpc.faults.add({ kind: 'throttle' });
  await failureOf(cloud().assign(ENI_A, ips(20), LATER), 'ec2-throttled');
  assert.is(vpc.calls.get(ASSIGN), 3);
});

ec2('the given sender sends each request once: every page, and every part of a long list', async () => {
  const passed = new Map<string, number>();
  const sender: Sender = (action, send) => {
    passed.set(action, (passed.get(action) ?? 0) + 1);
    return send();
  };
  const behind = cloud().sendingBy(sender);
  for await (const page of behind.enis(SUBNET)) assert.is(page.length, 2);
  await behind.eni(ENI_A);
  await behind.carriers(SUBNET, MANY);
  await behind.subnet(SUBNET);
  await behind.reservations(SUBNET);
  await behind.instanceType(INSTANCE);
  await behind.addressLimit('m5.large');
  await behind.assign(ENI_A, ips(20), LATER);
  await behind.unassign(ENI_A, ips(20), LATER);
  vpc.faults.add({ kind: 'lostReply', times: 1 });
  await failureOf(behind.eni(ENI_A), 'ec2-unknown');
  assert.equal(passed, new Map(vpc.calls));
  assert.is(
    [...passed.values()].reduce((sum, calls) => sum + calls),
    11,
  );
});
ec2.run();
