// Goal: the simulator's faces speak EC2, IMDSv2 and JSON as the real programs expect them. Method: the AWS SDK
// and fetch against a served app; each case gets a VPC of its own.
import { Agent } from 'node:http';
import process from 'node:process';
import {
  AssignPrivateIpAddressesCommand,
  AttachNetworkInterfaceCommand,
  CreateNetworkInterfaceCommand,
  DeleteNetworkInterfaceCommand,
  DescribeInstancesCommand,
  DescribeInstanceTypesCommand,
  DescribeNetworkInterfacesCommand,
  DescribeSubnetsCommand,
  DetachNetworkInterfaceCommand,
  EC2Client,
  type EC2ClientConfig,
  GetSubnetCidrReservationsCommand,
  paginateDescribeNetworkInterfaces,
  UnassignPrivateIpAddressesCommand,
} from '@aws-sdk/client-ec2';
import { parseCidr } from '../../src/domain/address.ts';
import type { EniId } from '../../src/domain/ids.ts';
import type { Mutation } from '../../src/simulator/model/records.ts';
import type { Vpc } from '../../src/simulator/model/vpc.ts';
import { simulatorApp } from '../../src/simulator/simulator.ts';
import { ETH0, ETH1, ETH2, INSTANCE, ips, type Served, SUBNET, serve, simulated } from '../kit/simulated.ts';
import { assert, suite } from '../kit/uvu.ts';

const REQUEST_TIMEOUT_MS = 300;

interface Simulation {
  readonly vpc: Vpc;
  readonly url: string;
  readonly ec2: EC2Client;
  readonly json: (method: string, path: string, body?: unknown) => Promise<never>;
}

/** Runs `body` with a served VPC, then closes it. */
const withSimulator =
  (body: (simulation: Simulation) => Promise<void>, vpc = simulated()) =>
  async () => {
    const served: Served = await serve(simulatorApp(vpc, { instance: INSTANCE }));
    const ec2 = clientOf(served.url);
    const json = async (method: string, path: string, sent?: unknown) => {
      const init = { method, ...(sent === undefined ? {} : { body: JSON.stringify(sent) }) };
      return (await (await fetch(`${served.url}/simulator${path}`, init)).json()) as never;
    };
    try {
      await body({ vpc, url: served.url, ec2, json });
    } finally {
      ec2.destroy();
      served.close();
    }
  };
const clientOf = (endpoint: string, more: EC2ClientConfig = {}): EC2Client =>
  new EC2Client({
    endpoint,
    region: 'eu-central-1',
    credentials: { accessKeyId: 'AKIA', secretAccessKey: 'secret' },
    maxAttempts: 1,
    // Deno sends a request again by itself when a connection that was kept alive drops.
    requestHandler: {
      requestTimeout: REQUEST_TIMEOUT_MS,
      throwOnRequestTimeout: true,
      httpAgent: new Agent({ keepAlive: false }),
    },
    ...more,
  });

interface Failure {
  name: string;
  message: string;
  status: number | undefined;
}
const failureOf = (call: Promise<unknown>): Promise<Failure> =>
  call.then(
    () => ({ name: 'none', message: '', status: 200 }),
    error => ({ name: error.name, message: error.message, status: error.$metadata?.httpStatusCode }),
  );
const assign = (eni: string, ...addresses: string[]) =>
  new AssignPrivateIpAddressesCommand({ NetworkInterfaceId: eni, PrivateIpAddresses: addresses });

const ec2 = suite('simulator ec2');
ec2(
  'assign answers what it assigned, by list and by count, and unassign takes it off',
  withSimulator(async ({ vpc, ec2 }) => {
    const listed = await ec2.send(assign(ETH1, '10.0.1.20', '10.0.1.21'));
    assert.equal(
      listed.AssignedPrivateIpAddresses?.map(one => one.PrivateIpAddress),
      ['10.0.1.20', '10.0.1.21'],
    );
    const counted = await ec2.send(
      new AssignPrivateIpAddressesCommand({ NetworkInterfaceId: ETH1, SecondaryPrivateIpAddressCount: 2 }),
    );
    const chosen = counted.AssignedPrivateIpAddresses?.map(one => one.PrivateIpAddress) ?? [];
    assert.is(chosen.length, 2);
    await ec2.send(
      new UnassignPrivateIpAddressesCommand({ NetworkInterfaceId: ETH1, PrivateIpAddresses: ['10.0.1.20'] }),
    );
    assert.equal(vpc.network.eni(ETH1).secondaries, ['10.0.1.21', ...chosen]);
  }),
);

ec2(
  "its time of day is that of its answers' Date, of refusals too, and may be set",
  withSimulator(async ({ url, json }) => {
    const aheadMs = -3_600_000;
    await json('PUT', '/date', { aheadMs });
    const { headers, status } = await fetch(`${url}/`, { method: 'POST' });
    assert.is(status, 403);
    const errorMs = Date.parse(headers.get('date') ?? '') - (Date.now() + aheadMs);
    assert.ok(Math.abs(errorMs) < 60_000, `${errorMs} ms off`);
  }),
);

ec2(
  'an ENI without an IPv4 address is described without one, and takes none',
  withSimulator(async ({ vpc, ec2, json }) => {
    await json('POST', '/enis', { id: 'eni-0e', subnet: SUBNET, primary: null, interfaceType: 'efa-only' });
    const { NetworkInterfaces: [eni] = [] } = await ec2.send(
      new DescribeNetworkInterfacesCommand({ NetworkInterfaceIds: ['eni-0e'] }),
    );
    assert.is(eni?.NetworkInterfaceId, 'eni-0e');
    assert.is(eni?.PrivateIpAddress, undefined);
    assert.equal(eni?.PrivateIpAddresses ?? [], []);
    assert.is((await failureOf(ec2.send(assign('eni-0e', '10.0.1.20')))).status, 400);
    assert.equal(vpc.network.eni('eni-0e' as EniId).secondaries, []);
  }),
);

const refusals: [why: string, send: (ec2: EC2Client) => Promise<unknown>, name: string, message: RegExp][] = [
  [
    'a taken address',
    ec2 => ec2.send(assign(ETH1, '10.0.1.10')),
    'InvalidParameterValue',
    /^\[10\.0\.1\.10\] assigned, but move is not allowed\.$/,
  ],
  [
    'too many for the type',
    ec2 =>
      ec2.send(
        new AssignPrivateIpAddressesCommand({ NetworkInterfaceId: ETH1, SecondaryPrivateIpAddressCount: 10 }),
      ),
    'PrivateIpAddressLimitExceeded',
    /will exceed limit/,
  ],
  [
    'an ENI that is not there',
    ec2 => ec2.send(assign('eni-0bad', '10.0.1.20')),
    'InvalidNetworkInterfaceID.NotFound',
    /'eni-0bad' does not exist/,
  ],
  [
    'an id that is none',
    ec2 => ec2.send(new DescribeSubnetsCommand({ SubnetIds: ['<net>'] })),
    'InvalidSubnetID.Malformed',
    /^Invalid id: "<net>"$/,
  ],
  [
    'a parameter that it does not know',
    ec2 => ec2.send(new AssignPrivateIpAddressesCommand({ NetworkInterfaceId: ETH1, Ipv4PrefixCount: 1 })),
    'UnknownParameter',
    /Ipv4PrefixCount is not recognized/,
  ],
  [
    'a dry run',
    ec2 => ec2.send(new DescribeSubnetsCommand({ DryRun: true })),
    'UnsupportedOperation',
    /dry runs/,
  ],
  [
    'too small a page',
    ec2 => ec2.send(new DescribeNetworkInterfacesCommand({ MaxResults: 4 })),
    'InvalidParameterValue',
    /maxResults is invalid/,
  ],
  [
    'an instance type that is not there',
    ec2 => ec2.send(new DescribeInstanceTypesCommand({ InstanceTypes: ['x9.tiny' as never] })),
    'InvalidInstanceType',
    /x9\.tiny/,
  ],
];
for (const [why, send, name, message] of refusals)
  ec2(
    `refuses ${why}`,
    withSimulator(async ({ ec2 }) => {
      const failure = await failureOf(send(ec2));
      assert.is(failure.name, name);
      assert.match(failure.message, message);
      assert.is(failure.status, 400);
    }),
  );

ec2(
  'throttling is a 503 that the SDK knows as throttling',
  withSimulator(async ({ vpc, ec2 }) => {
    vpc.faults.add({ kind: 'throttle' });
    const failure = await failureOf(ec2.send(assign(ETH1, '10.0.1.20')));
    assert.equal([failure.name, failure.status], ['RequestLimitExceeded', 503]);
  }),
);

ec2(
  'the paginator sees each of thousands of ENIs once, with its addresses',
  withSimulator(async ({ ec2 }) => {
    const seen: string[] = [];
    const addresses = new Set<string | undefined>();
    const pages = paginateDescribeNetworkInterfaces(
      { client: ec2, pageSize: 1000 },
      { Filters: [{ Name: 'subnet-id', Values: [WIDE] }] },
    );
    for await (const { NetworkInterfaces = [] } of pages)
      for (const eni of NetworkInterfaces) {
        seen.push(eni.NetworkInterfaceId ?? '');
        for (const one of eni.PrivateIpAddresses ?? []) addresses.add(one.PrivateIpAddress);
      }
    assert.is(seen.length, 2500);
    assert.is(new Set(seen).size, 2500);
    assert.is(addresses.size, 5000);
  }, wide(2500)),
);
const WIDE = 'subnet-0f1';
/** A /16 with so many ENIs of two addresses. */
function wide(count: number): Vpc {
  const vpc = simulated({}, { subnets: [{ id: 'subnet-0f1', cidr: '10.8.0.0/16' }] });
  const subnet = 'subnet-0f1' as never;
  for (let i = 0; i < count; i++) vpc.network.assign({ eni: vpc.network.createEni({ subnet }).id, count: 1 });
  return vpc;
}

ec2(
  'an ENI is described whole, and its texts are escaped',
  withSimulator(async ({ vpc, ec2 }) => {
    const description = `<"&'> \u{1f433} ]]>`;
    const tags = { 'a&b': '<c>' };
    const { id, primary } = vpc.network.createEni({
      subnet: SUBNET,
      secondaries: ips('10.0.1.20'),
      prefixes: [parseCidr('10.0.1.64/28')],
      interfaceType: 'lambda',
      description,
      tags,
    });
    const { NetworkInterfaces = [] } = await ec2.send(
      new DescribeNetworkInterfacesCommand({ NetworkInterfaceIds: [id, ETH1] }),
    );
    const [made, attached] = NetworkInterfaces;
    assert.equal(
      made?.PrivateIpAddresses?.map(one => [one.PrivateIpAddress, one.Primary]),
      [
        [primary, true],
        ['10.0.1.20', false],
      ],
    );
    assert.equal(made?.Ipv4Prefixes, [{ Ipv4Prefix: '10.0.1.64/28' }]);
    assert.equal([made?.Description, made?.TagSet], [description, [{ Key: 'a&b', Value: '<c>' }]]);
    assert.equal([made?.Status, made?.InterfaceType, made?.Attachment], ['available', 'lambda', undefined]);
    assert.equal([attached?.Status, attached?.MacAddress], ['in-use', '02:0a:1b:2c:3d:01']);
    assert.equal([attached?.Attachment?.InstanceId, attached?.Attachment?.DeviceIndex], [INSTANCE, 1]);
  }),
);

ec2(
  'filters reach the model',
  withSimulator(async ({ vpc, ec2 }) => {
    vpc.network.assign({ eni: ETH1, ips: ips('10.0.1.20') });
    const found = async (Name: string, ...Values: string[]) => {
      const command = new DescribeNetworkInterfacesCommand({ Filters: [{ Name, Values }] });
      return (await ec2.send(command)).NetworkInterfaces?.map(eni => eni.NetworkInterfaceId);
    };
    assert.equal(await found('addresses.private-ip-address', '10.0.1.20', '10.0.2.11'), [ETH1, ETH2]);
    assert.equal(await found('subnet-id', SUBNET), [ETH0, ETH1]);
    assert.equal(await found('attachment.instance-id', INSTANCE), [ETH0, ETH1, ETH2]);
    assert.equal(await found('network-interface-id', ETH2), [ETH2]);
    assert.equal(await found('vpc-id', 'vpc-0'), []);
  }),
);

ec2(
  'subnets, reservations, instances and their types are described',
  withSimulator(async ({ vpc, ec2 }) => {
    vpc.network.addReservation(SUBNET, parseCidr('10.0.1.128/28'), 'prefix');
    const { Subnets } = await ec2.send(new DescribeSubnetsCommand({ SubnetIds: [SUBNET] }));
    assert.equal([Subnets?.[0]?.CidrBlock, Subnets?.[0]?.AvailableIpAddressCount], ['10.0.1.0/24', 249]);
    const reserved = await ec2.send(new GetSubnetCidrReservationsCommand({ SubnetId: SUBNET }));
    const [reservation] = reserved.SubnetIpv4CidrReservations ?? [];
    assert.equal([reservation?.Cidr, reservation?.ReservationType], ['10.0.1.128/28', 'prefix']);
    const { Reservations } = await ec2.send(new DescribeInstancesCommand({ InstanceIds: [INSTANCE] }));
    const [instance] = Reservations?.[0]?.Instances ?? [];
    assert.equal([instance?.InstanceType, instance?.State?.Name], ['m5.large', 'running']);
    assert.is(instance?.NetworkInterfaces?.length, 3);
    const types = await ec2.send(new DescribeInstanceTypesCommand({ InstanceTypes: ['m5.large'] }));
    assert.equal(types.InstanceTypes?.[0]?.NetworkInfo, {
      MaximumNetworkInterfaces: 3,
      Ipv4AddressesPerInterface: 10,
    } as never);
  }),
);

ec2(
  'an ENI is created, attached, detached and deleted',
  withSimulator(async ({ vpc, ec2 }) => {
    vpc.network.detach(vpc.network.eni(ETH2).attachment?.id ?? '');
    const { NetworkInterface } = await ec2.send(
      new CreateNetworkInterfaceCommand({ SubnetId: SUBNET, PrivateIpAddress: '10.0.1.77' }),
    );
    const id = NetworkInterface?.NetworkInterfaceId ?? '';
    const { AttachmentId } = await ec2.send(
      new AttachNetworkInterfaceCommand({ NetworkInterfaceId: id, InstanceId: INSTANCE, DeviceIndex: 2 }),
    );
    assert.is(vpc.network.enisOf(INSTANCE)[2]?.primary, '10.0.1.77');
    await ec2.send(new DetachNetworkInterfaceCommand({ AttachmentId }));
    await ec2.send(new DeleteNetworkInterfaceCommand({ NetworkInterfaceId: id }));
    const failure = await failureOf(
      ec2.send(new DescribeNetworkInterfacesCommand({ NetworkInterfaceIds: [id] })),
    );
    assert.is(failure.name, 'InvalidNetworkInterfaceID.NotFound');
  }),
);

ec2(
  'a lost reply drops the connection after the call was applied',
  withSimulator(async ({ vpc, ec2 }) => {
    vpc.faults.add({ kind: 'lostReply', times: 1 });
    const failure = await failureOf(ec2.send(assign(ETH1, '10.0.1.20')));
    assert.is(failure.status, undefined, `an answer came: ${failure.name}`);
    assert.not.match(failure.message, /requestTimeout/);
    assert.equal(vpc.network.eni(ETH1).secondaries, ['10.0.1.20']);
    assert.is(vpc.calls.get('AssignPrivateIpAddresses'), 1, 'the client sent it once');
    await ec2.send(assign(ETH1, '10.0.1.21'));
  }),
);

ec2(
  'a hang never answers, and the server goes on',
  withSimulator(async ({ vpc, ec2 }) => {
    vpc.faults.add({ kind: 'hang', times: 1 });
    assert.is((await failureOf(ec2.send(assign(ETH1, '10.0.1.20')))).name, 'TimeoutError');
    await ec2.send(assign(ETH1, '10.0.1.20'));
    assert.is(vpc.calls.get('AssignPrivateIpAddresses'), 2);
  }),
);

ec2(
  'latency delays the answer, past the timeout if it must',
  withSimulator(async ({ vpc, ec2 }) => {
    vpc.faults.add({ kind: 'latency', ms: 100, times: 1 });
    const before = performance.now();
    await ec2.send(assign(ETH1, '10.0.1.20'));
    assert.ok(performance.now() - before >= 99, 'it came too soon');
    vpc.faults.add({ kind: 'latency', ms: 3 * REQUEST_TIMEOUT_MS, times: 1 });
    assert.is((await failureOf(ec2.send(assign(ETH1, '10.0.1.21')))).name, 'TimeoutError');
    assert.equal(vpc.network.eni(ETH1).secondaries, ['10.0.1.20', '10.0.1.21']);
  }),
);

const SIGNED =
  'AWS4-HMAC-SHA256 Credential=AKIA/20261124/eu-central-1/ec2/aws4_request, SignedHeaders=host, Signature=0';
const amzDate = (offsetMs: number): string =>
  new Date(Date.now() + offsetMs).toISOString().replace(/[-:]|\.\d+/g, '');
// Signed this much ahead of now; null: not at all.
const raw: [why: string, signedMs: number | null, body: string, status: number, code: string][] = [
  [
    'an unsigned request',
    null,
    'Action=DescribeSubnets&Version=2016-11-15',
    403,
    'MissingAuthenticationToken',
  ],
  [
    'a signature sixteen minutes old',
    -960_000,
    'Action=DescribeSubnets&Version=2016-11-15',
    400,
    'RequestExpired',
  ],
  [
    'a signature six minutes ahead',
    360_000,
    'Action=DescribeSubnets&Version=2016-11-15',
    400,
    'SignatureDoesNotMatch',
  ],
  ['an action that it does not know', 0, 'Action=toString&Version=2016-11-15', 400, 'InvalidAction'],
  ['another version', -240_000, 'Action=DescribeSubnets&Version=2006-06-26', 400, 'NoSuchVersion'],
  ['no action', 0, '', 400, 'MissingParameter'],
];
for (const [why, signedMs, body, status, code] of raw)
  ec2(
    `refuses ${why}`,
    withSimulator(async ({ vpc, url }) => {
      const headers: Record<string, string> =
        signedMs === null ? {} : { authorization: SIGNED, 'x-amz-date': amzDate(signedMs) };
      const response = await fetch(`${url}/`, { method: 'POST', headers, body });
      assert.match(await response.text(), new RegExp(`<Code>${code}</Code>`));
      assert.is(response.status, status);
      assert.is(vpc.calls.size, 0);
    }),
  );
ec2.run();

const imds = suite('simulator imds');
const withMetadata = (body: (get: (path: string) => Promise<Response>, vpc: Vpc) => Promise<void>) =>
  withSimulator(async ({ vpc, url }) => {
    const token = await (await newToken(url, '60')).text();
    await body(
      path => fetch(`${url}/latest/${path}`, { headers: { 'x-aws-ec2-metadata-token': token } }),
      vpc,
    );
  });
const newToken = (url: string, ttl: string, more: Record<string, string> = {}): Promise<Response> =>
  fetch(`${url}/latest/api/token`, {
    method: 'PUT',
    headers: { 'x-aws-ec2-metadata-token-ttl-seconds': ttl, ...more },
  });

imds(
  'tokens live 1 to 21,600 seconds, and not at all behind a proxy',
  withSimulator(async ({ url }) => {
    for (const [ttl, status] of [
      ['1', 200],
      ['21600', 200],
      ['0', 400],
      ['21601', 400],
      ['', 400],
      ['1e3', 400],
    ] as const)
      assert.is((await newToken(url, ttl)).status, status, `ttl ${ttl}`);
    assert.is((await newToken(url, '60', { 'x-forwarded-for': '10.0.0.1' })).status, 403);
    assert.is((await fetch(`${url}/latest/api/token`)).status, 405);
  }),
);
imds(
  'without a token, or with a wrong or an old one, nothing is told',
  withSimulator(async ({ vpc, url }) => {
    const get = async (headers: Record<string, string>) =>
      (await fetch(`${url}/latest/meta-data/mac`, { headers })).status;
    const token = await (await newToken(url, '60')).text();
    assert.is(await get({}), 401);
    assert.is(await get({ 'x-aws-ec2-metadata-token': 'nonsense' }), 401);
    assert.is(await get({ 'x-aws-ec2-metadata-token': token }), 200);
    vpc.advance(60_000);
    assert.is(await get({ 'x-aws-ec2-metadata-token': token }), 401);
  }),
);
const MAC1 = '02:0a:1b:2c:3d:01';
const pages: [path: string, text: string][] = [
  ['meta-data/instance-id', INSTANCE],
  ['meta-data/mac', '02:0a:1b:2c:3d:00'],
  ['meta-data/placement/', 'availability-zone\nregion'],
  ['meta-data/placement/region', 'eu-central-1'],
  ['meta-data/placement/availability-zone', 'eu-central-1a'],
  ['meta-data/network/interfaces/macs/', `02:0a:1b:2c:3d:00/\n${MAC1}/\n02:0a:1b:2c:3d:02/`],
  [`meta-data/network/interfaces/macs/${MAC1}/interface-id`, ETH1],
  [`meta-data/network/interfaces/macs/${MAC1}/device-number`, '1'],
  [`meta-data/network/interfaces/macs/${MAC1}/subnet-id`, SUBNET],
  [`meta-data/network/interfaces/macs/${MAC1}/subnet-ipv4-cidr-block`, '10.0.1.0/24'],
  [`meta-data/network/interfaces/macs/${MAC1}/local-ipv4s`, '10.0.1.11\n10.0.1.20'],
  [`meta-data/network/interfaces/macs/${MAC1}/vpc-id`, 'vpc-0a1b2c3d4e5f60718'],
  ['meta-data/iam/security-credentials/', 'simulated-role'],
];
imds(
  'files hold a value, folders list their names, folders among them with a slash',
  withMetadata(async (get, vpc) => {
    vpc.network.assign({ eni: ETH1, ips: ips('10.0.1.20') });
    for (const [path, text] of pages) {
      const response = await get(path);
      assert.is(await response.text(), text, path);
      assert.is(response.status, 200, path);
    }
    for (const path of ['meta-data/colour', 'meta-data/mac/', 'meta-data/mac/x', 'meta-data/toString'])
      assert.is((await get(path)).status, 404, path);
  }),
);
imds(
  'an ENI without an IPv4 address has none in the metadata either',
  withMetadata(async (get, vpc) => {
    const type = vpc.network.instanceTypes.get('m5.large');
    vpc.network.instanceTypes.set('m5.large', { enis: 5, addressesPerEni: type?.addressesPerEni ?? 10 });
    for (const [index, interfaceType] of ['interface', 'efa-only'].entries()) {
      const { id, mac } = vpc.network.createEni({ subnet: SUBNET, primary: null, interfaceType });
      vpc.network.attach(id, INSTANCE, 3 + index);
      const at = (name: string) => get(`meta-data/network/interfaces/macs/${mac}/${name}`);
      assert.is(await (await at('interface-id')).text(), id);
      assert.is((await at('local-ipv4s')).status, 404);
      assert.is((await at('subnet-ipv4-cidr-block')).status, index === 0 ? 404 : 200, interfaceType);
    }
  }),
);
imds(
  'a detached ENI is gone from the metadata',
  withMetadata(async (get, vpc) => {
    vpc.network.detach(vpc.network.eni(ETH1).attachment?.id ?? '');
    assert.is((await get(`meta-data/network/interfaces/macs/${MAC1}/interface-id`)).status, 404);
  }),
);
imds(
  'the identity document names the instance',
  withMetadata(async get => {
    const document = (await (await get('dynamic/instance-identity/document')).json()) as Record<
      string,
      string
    >;
    assert.equal(
      [document.instanceId, document.region, document.instanceType, document.privateIp],
      [INSTANCE, 'eu-central-1', 'm5.large', '10.0.1.10'],
    );
  }),
);
imds(
  "the SDK's own chain finds credentials here and signs with them",
  withSimulator(async ({ url }) => {
    const saved = { ...process.env };
    for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) delete process.env[name];
    Object.assign(process.env, {
      AWS_EC2_METADATA_SERVICE_ENDPOINT: url,
      AWS_CONFIG_FILE: '/dev/null',
      AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
    });
    const client = new EC2Client({ endpoint: url, region: 'eu-central-1', maxAttempts: 1 });
    try {
      const { Subnets } = await client.send(new DescribeSubnetsCommand({}));
      assert.is(Subnets?.length, 2);
      const { accessKeyId } = await client.config.credentials();
      assert.is(accessKeyId, 'ASIASIMULATEDSIMULAT');
    } finally {
      client.destroy();
      for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) delete process.env[name];
      for (const [name, text] of Object.entries(saved)) if (name.startsWith('AWS_')) process.env[name] = text;
    }
  }),
);
imds.run();

const admin = suite('simulator admin');
admin(
  'every path of the help text is there',
  withSimulator(async ({ url }) => {
    const help = await (await fetch(`${url}/simulator`)).text();
    const routes = [...help.matchAll(/^ {2}(GET|POST|PUT|DELETE) +(\/simulator\/\S+)/gm)];
    assert.ok(routes.length >= 15, help);
    for (const [, method = '', path = ''] of routes) {
      const id = path.includes('instances') ? 'i-0bad' : 'eni-0bad';
      const target = path.replace('ID', id).replace(/\?.*/, '');
      const body = method === 'POST' || method === 'PUT' ? { body: '{}' } : {};
      const response = await fetch(`${url}${target}`, { method, ...body });
      assert.ok([200, 400].includes(response.status), `${method} ${path}: ${response.status}`);
    }
  }),
);
admin(
  'a world is built, changed and shown',
  withSimulator(async ({ vpc, json }) => {
    await json('POST', '/subnets', {
      id: 'subnet-0c3',
      cidr: '10.0.3.0/24',
      reservations: [{ cidr: '10.0.3.128/28', type: 'prefix' }],
    });
    await json('POST', '/instances', { id: 'i-0c3', type: 't3.small' });
    await json('POST', '/enis', {
      id: 'eni-0c3',
      subnet: 'subnet-0c3',
      primary: '10.0.3.10',
      mac: '02:00:00:00:00:03',
    });
    await json('POST', '/enis/eni-0c3/attach', { instance: 'i-0c3', deviceIndex: 1 });
    await json('POST', '/enis/eni-0c3/assign', { ips: ['10.0.3.20'] });
    await json('POST', '/enis/eni-0c3/assign', { count: 2 });
    await json('POST', '/enis/eni-0c3/unassign', { ips: ['10.0.3.20'] });
    const { subnets, enis } = (await json('GET', '/state')) as unknown as State;
    assert.equal(subnets.find(one => one.id === 'subnet-0c3')?.reservations?.[0]?.cidr, '10.0.3.128/28');
    const eni = enis.find(one => one.id === 'eni-0c3');
    assert.equal([eni?.primary, eni?.mac, eni?.secondaries.length], ['10.0.3.10', '02:00:00:00:00:03', 2]);
    await json('POST', '/enis/eni-0c3/detach', {});
    await json('PUT', '/instances/i-0c3/state', { state: 'terminated' });
    await json('DELETE', '/enis/eni-0c3');
    assert.is([...vpc.network.enis()].length, 3);
    assert.is(vpc.network.instance('i-0c3' as never).state, 'terminated');
  }),
);
interface State {
  subnets: { id: string; reservations?: { cidr: string }[] }[];
  enis: { id: string; primary: string; mac: string; secondaries: string[] }[];
}
admin(
  'a foreign address is taken and given back by its owner',
  withSimulator(async ({ vpc, ec2, json }) => {
    const { id } = (await json('POST', '/foreign', { subnet: SUBNET, ip: '10.0.1.99' })) as { id: string };
    assert.match((await failureOf(ec2.send(assign(ETH1, '10.0.1.99')))).message, /^\[10\.0\.1\.99\]/);
    await json('DELETE', `/enis/${id}`);
    await ec2.send(assign(ETH1, '10.0.1.99'));
    assert.equal(vpc.network.eni(ETH1).secondaries, ['10.0.1.99']);
  }),
);
admin(
  'faults, buckets and the clock are set from outside',
  withSimulator(async ({ vpc, ec2, json }) => {
    await json('POST', '/faults', { kind: 'throttle', action: 'AssignPrivateIpAddresses', times: 1 });
    assert.is((await failureOf(ec2.send(assign(ETH1, '10.0.1.20')))).name, 'RequestLimitExceeded');
    await json('POST', '/faults', { kind: 'applyLate', ms: 1000 });
    await json('DELETE', '/faults');
    assert.equal(vpc.faults.list, []);
    await json('PUT', '/buckets', { scale: 0 });
    assert.is((await failureOf(ec2.send(assign(ETH1, '10.0.1.20')))).name, 'RequestLimitExceeded');
    await json('PUT', '/buckets', { scale: null });
    await ec2.send(assign(ETH1, '10.0.1.20'));
    assert.equal(await json('POST', '/advance', { ms: 5000 }), { now: 1_005_000, lateCalls: 0 } as never);
    assert.equal(await json('GET', '/calls'), { AssignPrivateIpAddresses: 3 } as never);
  }),
);
admin(
  'the journal goes on from where one has read',
  withSimulator(async ({ ec2, json }) => {
    const { next } = (await json('GET', '/journal')) as Journal;
    await ec2.send(assign(ETH1, '10.0.1.20'));
    const { mutations } = (await json('GET', `/journal?after=${next}`)) as Journal;
    assert.equal(mutations, [
      { at: 1_000_000, action: 'AssignPrivateIpAddresses', eni: ETH1, ips: ips('10.0.1.20') },
    ]);
  }),
);
interface Journal {
  next: number;
  mutations: Mutation[];
}
admin(
  'a body that is not right changes nothing and gets every complaint',
  withSimulator(async ({ vpc, url }) => {
    const post = async (path: string, body: string): Promise<string> => {
      const response = await fetch(`${url}/simulator${path}`, { method: 'POST', body });
      assert.is(response.status, 400, path);
      return response.text();
    };
    const text = await post('/subnets', '{"cidr":"10.0.3.0","zone":3,"colour":"red"}');
    for (const place of ['cidr', 'zone', 'colour']) assert.match(text, new RegExp(`${place}: `));
    assert.match(await post('/subnets', '{'), /not JSON/);
    assert.match(await post('/subnets', `"${'x'.repeat(1 << 20)}"`), /longer than 1048576 bytes/);
    assert.match(await post('/faults', '{"kind":"fire"}'), /kind: /);
    assert.match(await post('/faults', '{"kind":"applyLate","ms":930000}'), /ms: /);
    assert.match(
      await post('/enis', `{"subnet":"${SUBNET}","primary":"10.0.1.1"}`),
      /reserved address range/,
    );
    assert.match(await post('/advance', '{"ms":-1}'), /ms: /);
    assert.is([...vpc.network.subnets()].length, 2);
    assert.equal(vpc.faults.list, []);
  }),
);
admin.run();
