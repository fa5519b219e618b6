/** A client of EC2, by the AWS SDK. */
import {
  type _InstanceType,
  AssignPrivateIpAddressesCommand,
  DescribeInstancesCommand,
  DescribeInstanceTypesCommand,
  DescribeNetworkInterfacesCommand,
  type DescribeNetworkInterfacesCommandInput,
  DescribeSubnetsCommand,
  GetSubnetCidrReservationsCommand,
  type Subnet,
  UnassignPrivateIpAddressesCommand,
} from '@aws-sdk/client-ec2';
import { type Cidr, type Ipv4, parseCidr } from '../domain/address.ts';
import { IpamError, isError } from '../domain/error.ts';
import {
  type EniId,
  type InstanceId,
  parseEniId,
  parseInstanceId,
  parseSubnetId,
  type SubnetId,
} from '../domain/ids.ts';
import {
  type CidrReservation,
  type CloudEni,
  type CloudSubnet,
  type Ec2Client,
  SEND_AT_ONCE,
  type Sender,
} from './cloud.ts';
import {
  AFTER_SIGNING,
  checkDeadline,
  createEc2Call,
  type Ec2Call,
  type Ec2Options,
  type SendChecks,
  sentBefore,
} from './ec2-call.ts';
import { createEniReader, type EniReader } from './ec2-eni.ts';
import { nullWhenRefused } from './refusals.ts';

const PAGE_SIZE_MAX = 1000;
/** Of a listing of which one ENI will do; EC2 takes no smaller one than 5. */
const SOME_ENI_PAGE_SIZE = 10;
/** EC2 may give short pages; a /16 has 65 full ones. */
const PAGES_MAX = 1000;
/** https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Filter.html: 200 values in one request, of which
 *  one is the subnet. */
const FILTER_VALUES_MAX = 199;
const ENI_IDS_MAX = 200;

/** EC2 itself, or what AWS_ENDPOINT_URL_EC2 puts in its place. */
export const createEc2Client = (options: Ec2Options): Ec2Client =>
  clientSendingBy(SEND_AT_ONCE, {
    call: createEc2Call(options),
    read: createEniReader(options.log, options.time.now),
    checks: options,
  });

interface Parts {
  readonly call: Ec2Call;
  readonly read: EniReader;
  readonly checks: SendChecks;
}

function clientSendingBy(sender: Sender, parts: Parts): Ec2Client {
  const { call, read, checks } = parts;
  const send: Ec2Call = (action, ask) => sender(action, () => call(action, ask));

  const describe = (input: DescribeNetworkInterfacesCommandInput) =>
    send('DescribeNetworkInterfaces', (client, limits) =>
      client.send(new DescribeNetworkInterfacesCommand(input), limits),
    );

  async function* enis(subnet: SubnetId): AsyncGenerator<readonly CloudEni[]> {
    yield* pages('DescribeNetworkInterfaces', async token => {
      const page = await describe({
        Filters: [{ Name: 'subnet-id', Values: [subnet] }],
        MaxResults: PAGE_SIZE_MAX,
        NextToken: token,
      });
      return { items: read.all(page.NetworkInterfaces), token: page.NextToken };
    });
  }

  /** Any answer tells EC2's time, a refusal too. */
  async function learnTime(action: string, eni: EniId): Promise<void> {
    if (checks.time.isSafe) return;
    try {
      await describe({ NetworkInterfaceIds: [eni] });
    } catch (error) {
      if (!(error instanceof IpamError)) throw error;
      if (checks.time.isKnown) return;
      const code = isError(error, 'ec2-denied') ? 'ec2-denied' : 'ec2-unreachable';
      throw new IpamError(code, `not sent: ${action}: EC2 must be read before: ${error.message}`, {
        hint: error.hint,
        cause: error,
      });
    }
  }

  const client: Ec2Client = {
    sendingBy: another => clientSendingBy(another, parts),
    enis,

    region: () => call('the call', client => client.config.region()),

    async someEni({ owner, vpc, but }) {
      const filters = [
        ...(owner === undefined ? [] : [{ Name: 'owner-id', Values: [owner] }]),
        ...(vpc === undefined ? [] : [{ Name: 'vpc-id', Values: [vpc] }]),
      ];
      // Pages may be empty and not the last.
      const each = pages('DescribeNetworkInterfaces', async token => {
        const page = await describe({ Filters: filters, MaxResults: SOME_ENI_PAGE_SIZE, NextToken: token });
        const items = (page.NetworkInterfaces ?? []).map(eni => ({
          id: parseEniId(eni.NetworkInterfaceId ?? ''),
          owner: eni.OwnerId ?? null,
        }));
        return { items, token: page.NextToken };
      });
      for await (const items of each) {
        const found = items.find(({ id }) => id !== but);
        if (found !== undefined) return found;
      }
      return null;
    },

    async eni(id) {
      const { NetworkInterfaces = [] } = await describe({ NetworkInterfaceIds: [id] });
      return read.one(found(NetworkInterfaces[0], id));
    },

    /** By filter: EC2 refuses a whole list of ids for one that it does not know, counts a read without filter and
     *  pages against a smaller bucket, and takes no page size beside ids. */
    async enisById(ids) {
      const found: CloudEni[] = [];
      for (let start = 0; start < ids.length; start += ENI_IDS_MAX) {
        const Values = ids.slice(start, start + ENI_IDS_MAX);
        const each = pages('DescribeNetworkInterfaces', async token => {
          const page = await describe({
            Filters: [{ Name: 'network-interface-id', Values }],
            MaxResults: PAGE_SIZE_MAX,
            NextToken: token,
          });
          return { items: read.all(page.NetworkInterfaces), token: page.NextToken };
        });
        for await (const items of each) found.push(...items);
      }
      return found;
    },

    async carriers(subnet, ips) {
      const carriers = new Map<Ipv4, CloudEni>();
      for (let start = 0; start < ips.length; start += FILTER_VALUES_MAX) {
        const asked = ips.slice(start, start + FILTER_VALUES_MAX);
        const { NetworkInterfaces } = await describe({
          Filters: [
            { Name: 'subnet-id', Values: [subnet] },
            { Name: 'addresses.private-ip-address', Values: [...asked] },
          ],
        });
        for (const eni of read.all(NetworkInterfaces))
          for (const ip of [eni.primary, ...eni.secondaries]) if (asked.includes(ip)) carriers.set(ip, eni);
      }
      return carriers;
    },

    async subnet(id) {
      const { Subnets = [] } = await send('DescribeSubnets', (client, limits) =>
        client.send(new DescribeSubnetsCommand({ SubnetIds: [id] }), limits),
      );
      const subnet = found(Subnets[0], id);
      return {
        id: parseSubnetId(subnet.SubnetId ?? ''),
        vpc: subnet.VpcId ?? '',
        cidr: cidrOf(subnet, id),
        available: subnet.AvailableIpAddressCount ?? 0,
      } satisfies CloudSubnet;
    },

    async reservations(subnet) {
      const all: CidrReservation[] = [];
      const action = 'GetSubnetCidrReservations';
      const each = pages(action, async token => {
        const page = await send(action, (client, limits) =>
          client.send(new GetSubnetCidrReservationsCommand({ SubnetId: subnet, NextToken: token }), limits),
        );
        const items = (page.SubnetIpv4CidrReservations ?? []).map(one => ({
          cidr: parseCidr(one.Cidr ?? '', `CIDR reservation of ${subnet}`),
          type: one.ReservationType === 'prefix' ? ('prefix' as const) : ('explicit' as const),
        }));
        return { items, token: page.NextToken };
      });
      for await (const items of each) all.push(...items);
      return all;
    },

    async instance(id) {
      const { Reservations = [] } = await send('DescribeInstances', (client, limits) =>
        client.send(new DescribeInstancesCommand({ InstanceIds: [id] }), limits),
      );
      const shown = found(Reservations[0]?.Instances?.[0], id);
      return {
        id,
        isRunning: shown.State?.Name === 'running',
        primary: (shown.PrivateIpAddress ?? null) as Ipv4 | null,
        profile: shown.IamInstanceProfile?.Arn ?? null,
      };
    },

    /** By filter, as `enisById`, and so few that one page has them all. */
    async profiles(instances) {
      const profiles = new Map<InstanceId, string | null>();
      for (let start = 0; start < instances.length; start += FILTER_VALUES_MAX) {
        const Values = instances.slice(start, start + FILTER_VALUES_MAX);
        const { Reservations = [] } = await send('DescribeInstances', (client, limits) =>
          client.send(new DescribeInstancesCommand({ Filters: [{ Name: 'instance-id', Values }] }), limits),
        );
        for (const { InstanceId: id, IamInstanceProfile: profile } of Reservations.flatMap(
          ({ Instances = [] }) => Instances,
        ))
          profiles.set(parseInstanceId(id ?? ''), profile?.Arn ?? null);
      }
      return profiles;
    },

    async instanceType(instance) {
      const answer = await send('DescribeInstances', (client, limits) =>
        client.send(new DescribeInstancesCommand({ InstanceIds: [instance] }), limits),
      ).catch(nullWhenRefused);
      return answer?.Reservations?.[0]?.Instances?.[0]?.InstanceType ?? null;
    },

    async addressLimit(type) {
      const answer = await send('DescribeInstanceTypes', (client, limits) =>
        client.send(new DescribeInstanceTypesCommand({ InstanceTypes: [type as _InstanceType] }), limits),
      ).catch(nullWhenRefused);
      return answer?.InstanceTypes?.[0]?.NetworkInfo?.Ipv4AddressesPerInterface ?? null;
    },

    async assign(eni, ips, sendBefore) {
      const action = 'AssignPrivateIpAddresses';
      checkDeadline(action, sendBefore, checks.deadlineClock);
      await learnTime(action, eni);
      const command = new AssignPrivateIpAddressesCommand({
        NetworkInterfaceId: eni,
        PrivateIpAddresses: [...ips],
      });
      command.middlewareStack.addRelativeTo(sentBefore(action, sendBefore, checks), AFTER_SIGNING);
      const { AssignedPrivateIpAddresses = [] } = await send(action, (client, limits) =>
        client.send(command, limits),
      );
      const assigned = new Set<string | undefined>(
        AssignedPrivateIpAddresses.map(one => one.PrivateIpAddress),
      );
      const absent = ips.filter(ip => !assigned.has(ip));
      if (absent.length > 0)
        throw new IpamError('ec2-unknown', `EC2 assigned on ${eni}, but did not say ${absent.join(', ')}`);
    },

    async unassign(eni, ips, sendBefore) {
      const action = 'UnassignPrivateIpAddresses';
      checkDeadline(action, sendBefore, checks.deadlineClock);
      await learnTime(action, eni);
      await send(action, async (client, limits) => {
        const command = new UnassignPrivateIpAddressesCommand({
          NetworkInterfaceId: eni,
          PrivateIpAddresses: [...ips],
        });
        command.middlewareStack.addRelativeTo(sentBefore(action, sendBefore, checks), AFTER_SIGNING);
        await client.send(command, limits);
      });
    },
  };
  return client;
}

/** The items of each page, until EC2 names no next one. */
async function* pages<T>(
  action: string,
  ask: (token: string | undefined) => Promise<{ items: T[]; token: string | undefined }>,
): AsyncGenerator<T[]> {
  let next: string | undefined;
  for (let asked = 0; asked < PAGES_MAX; asked++) {
    const { items, token } = await ask(next);
    yield items;
    if (token === undefined || token === '') return;
    next = token;
  }
  throw new IpamError('ec2-unknown', `${action} did not end after ${PAGES_MAX} pages`);
}

function found<T>(item: T | undefined, id: EniId | SubnetId | InstanceId): T {
  if (item === undefined)
    throw new IpamError('ec2-not-found', `EC2 does not show ${id}`, {
      hint: 'check the id, the region and the account',
    });
  return item;
}

function cidrOf({ CidrBlock = '' }: Subnet, id: SubnetId): Cidr {
  if (CidrBlock === '')
    throw new IpamError('bad-request', `${id} has no IPv4 CIDR: it is an IPv6-only subnet`, {
      hint: 'use an ENI in a subnet with IPv4 addresses',
    });
  return parseCidr(CidrBlock, `CIDR of ${id}`);
}
