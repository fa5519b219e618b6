/** A client of a simulated VPC in this process. */
import type { Ipv4 } from '../domain/address.ts';
import { IpamError } from '../domain/error.ts';
import type { EniId, InstanceId, SubnetId } from '../domain/ids.ts';
import { TENANT_TAG, tenantNamed } from '../domain/tenant.ts';
import { type Caller, createView, OWNER, type View } from '../simulator/model/caller.ts';
import {
  type DescribeEnis,
  describeEnis,
  type EniPage,
  FILTER_VALUES_MAX,
  isSweeping,
} from '../simulator/model/describe.ts';
import { refuse } from '../simulator/model/ec2-error.ts';
import type { Network } from '../simulator/model/network.ts';
import { type Eni, profileArn } from '../simulator/model/records.ts';
import type { Outcome, Vpc } from '../simulator/model/vpc.ts';
import {
  type CidrReservation,
  type CloudEni,
  type CloudSubnet,
  type Ec2Client,
  SEND_AT_ONCE,
  type Sender,
} from './cloud.ts';
import { CLOCK_AHEAD_MS_MAX, clockAhead } from './ec2-time.ts';
import { nullWhenRefused, refusal, withoutIpv4 } from './refusals.ts';

export interface MemoryCloudOptions {
  /** Resolves after so many milliseconds of whatever clock the program runs on. */
  readonly wait: (ms: number) => Promise<void>;
  /** Against which `sendBefore` is held, in milliseconds. */
  readonly deadlineClock: () => number;
  /** How far the process's time of day is ahead of EC2's, in milliseconds; absent: not at all. */
  readonly dayAheadMs?: () => number;
  /** After this long without an answer a call's outcome is unknown. Default 10,000. */
  readonly callTimeoutMs?: number;
  /** ENIs per page, 5 to 1000. Default 1000. */
  readonly pageSize?: number;
  /** Whose client it is by now. Default: that of the account and Region of the VPC. */
  readonly caller?: () => Caller;
}

const CALL_TIMEOUT_MS = 10_000;
const PAGE_SIZE = 1000;
const SOME_ENI_PAGE_SIZE = 5;

/** Returns a client whose calls are refused, throttled, delayed and lost as over HTTP. */
export const createMemoryClient = (vpc: Vpc, options: MemoryCloudOptions): Ec2Client =>
  clientSendingBy(SEND_AT_ONCE, vpc, options);

function clientSendingBy(sender: Sender, vpc: Vpc, options: MemoryCloudOptions): Ec2Client {
  const {
    wait,
    deadlineClock,
    dayAheadMs = () => 0,
    callTimeoutMs = CALL_TIMEOUT_MS,
    pageSize = PAGE_SIZE,
  } = options;
  const { caller = () => OWNER } = options;
  const viewOf = (network: Network): View => createView(network, vpc.region, caller());

  async function answerOf<T>(action: string, outcome: Outcome<T>): Promise<T> {
    const afterMs = outcome.kind === 'never' ? callTimeoutMs : Math.min(outcome.afterMs, callTimeoutMs);
    if (afterMs > 0) await wait(afterMs);
    if (outcome.kind === 'never' || outcome.afterMs > callTimeoutMs)
      throw unknown(`EC2 did not answer ${action} within ${callTimeoutMs} ms`);
    if (outcome.kind === 'dropped') throw unknown(`the connection was lost before EC2 answered ${action}`);
    if (outcome.kind === 'refusal') throw refusal(outcome.error.code, outcome.error.message);
    return outcome.value;
  }

  const read = <T>(action: string, look: (network: Network, at?: number) => T, sweeping = false) =>
    sender(action, async () => answerOf(action, vpc.read(action, look, sweeping)));
  const write = <T>(action: string, eni: EniId, change: (network: Network) => T) =>
    sender(action, async () => {
      const asked = caller(); // it may be applied when the caller is another one
      const checked = (network: Network): T => {
        createView(network, vpc.region, asked).checkOwner(eni);
        return change(network);
      };
      return answerOf(action, vpc.write(action, eni, checked));
    });

  function checkClocks(action: string, sendBefore: number): void {
    if (deadlineClock() >= sendBefore)
      throw new IpamError('ec2-unreachable', `${action} was not sent: its intent is too old`);
    const aheadMs = dayAheadMs();
    if (aheadMs > CLOCK_AHEAD_MS_MAX) throw clockAhead(action, aheadMs);
  }

  const describe = (request: DescribeEnis) =>
    read(
      'DescribeNetworkInterfaces',
      (network, at) => describeEnis(network, request, at, viewOf(network)),
      isSweeping(request),
    );

  async function* enis(subnet: SubnetId): AsyncGenerator<readonly CloudEni[]> {
    let nextToken: string | null = null;
    do {
      const page = await describe({
        filters: [{ name: 'subnet-id', values: [subnet] }],
        maxResults: pageSize,
        ...(nextToken === null ? {} : { nextToken }),
      });
      yield page.enis.flatMap(eni => cloudEni(eni, vpc.now()) ?? []);
      nextToken = page.nextToken;
    } while (nextToken !== null);
  }

  const client: Ec2Client = {
    sendingBy: another => clientSendingBy(another, vpc, options),
    enis,

    region: async () => caller().region ?? vpc.region,

    async someEni({ owner, vpc: inVpc, but }) {
      const filters = [
        ...(owner === undefined ? [] : [{ name: 'owner-id', values: [owner] }]),
        ...(inVpc === undefined ? [] : [{ name: 'vpc-id', values: [inVpc] }]),
      ];
      for (let nextToken: string | null | undefined; nextToken !== null; ) {
        const more = nextToken === undefined ? {} : { nextToken };
        const page: EniPage = await describe({ filters, maxResults: SOME_ENI_PAGE_SIZE, ...more });
        const found = page.enis.find(({ id }) => id !== but);
        if (found !== undefined) return { id: found.id, owner: found.owner };
        nextToken = page.nextToken;
      }
      return null;
    },

    async eni(id) {
      const { enis } = await describe({ ids: [id] });
      const eni = enis[0];
      if (eni === undefined) throw new IpamError('internal', `${id} was described as nothing`);
      const shown = cloudEni(eni, vpc.now());
      if (shown === null) throw withoutIpv4(id);
      return shown;
    },

    async enisById(ids) {
      const found: CloudEni[] = [];
      for (let from = 0; from < ids.length; from += FILTER_VALUES_MAX) {
        const page = await describe({
          filters: [{ name: 'network-interface-id', values: ids.slice(from, from + FILTER_VALUES_MAX) }],
          maxResults: PAGE_SIZE,
        });
        found.push(...page.enis.flatMap(eni => cloudEni(eni, vpc.now()) ?? []));
      }
      return found;
    },

    async carriers(subnet, ips) {
      const carriers = new Map<Ipv4, CloudEni>();
      // One of EC2's filter values is the subnet's.
      for (let from = 0; from < ips.length; from += FILTER_VALUES_MAX - 1) {
        const asked = new Set(ips.slice(from, from + FILTER_VALUES_MAX - 1));
        const page = await describe({
          filters: [
            { name: 'subnet-id', values: [subnet] },
            { name: 'addresses.private-ip-address', values: [...asked] },
          ],
          maxResults: PAGE_SIZE,
        });
        for (const eni of page.enis.flatMap(eni => cloudEni(eni, vpc.now()) ?? []))
          for (const ip of [eni.primary, ...eni.secondaries]) if (asked.has(ip)) carriers.set(ip, eni);
      }
      return carriers;
    },

    subnet: (id: SubnetId): Promise<CloudSubnet> =>
      read('DescribeSubnets', (network, at) => {
        const subnet = network.subnet(id, at);
        const { vpc, cidr } = subnet;
        if (!viewOf(network).showsSubnet(subnet)) throw refuse.noSuchSubnet(id);
        return { id, vpc, cidr, available: network.available(id) };
      }),

    reservations: (subnet: SubnetId): Promise<readonly CidrReservation[]> =>
      read('GetSubnetCidrReservations', network =>
        network.reservations(subnet).map(({ cidr, type }) => ({ cidr, type })),
      ),

    instance: (id: InstanceId) =>
      read('DescribeInstances', (network, at) => {
        const { state, profile } = network.instance(id, at);
        return {
          id,
          isRunning: state === 'running',
          primary: network.enisOf(id, at)[0]?.primary ?? null,
          profile: profile === null ? null : profileArn(profile),
        };
      }),

    async profiles(instances) {
      const profiles = new Map<InstanceId, string | null>();
      const asked = new Set(instances);
      const look = (network: Network, at?: number) =>
        [...network.instances(at)].filter(one => asked.has(one.id));
      for (const { id, profile } of await read('DescribeInstances', look))
        profiles.set(id, profile === null ? null : profileArn(profile));
      return profiles;
    },

    instanceType: (id: InstanceId): Promise<string | null> =>
      read('DescribeInstances', (network, at) => network.instance(id, at).type as string | null).catch(
        nullWhenRefused,
      ),

    addressLimit: (type: string): Promise<number | null> =>
      read(
        'DescribeInstanceTypes',
        ({ instanceTypes }) => instanceTypes.get(type)?.addressesPerEni ?? null,
      ).catch(nullWhenRefused),

    async assign(eni, ips, sendBefore) {
      checkClocks('AssignPrivateIpAddresses', sendBefore);
      await write('AssignPrivateIpAddresses', eni, network => network.assign({ eni, ips }));
    },

    async unassign(eni, ips, sendBefore) {
      checkClocks('UnassignPrivateIpAddresses', sendBefore);
      await write('UnassignPrivateIpAddresses', eni, network => network.unassign(eni, ips));
    },
  };
  return client;
}

const unknown = (message: string) =>
  new IpamError('ec2-unknown', message, { hint: 'the call may have been applied; it is settled by reading' });

/** Null: it has no IPv4 address. */
function cloudEni(eni: Eni, now: number): CloudEni | null {
  if (eni.primary === null) return null;
  return {
    id: eni.id,
    owner: eni.owner,
    subnet: eni.subnet,
    vpc: eni.vpc,
    primary: eni.primary,
    mac: eni.mac,
    secondaries: eni.secondaries,
    prefixes: eni.prefixes,
    instance: eni.attachment?.instance ?? null,
    attachment: eni.attachment?.id ?? null,
    attachedAt: eni.attachment?.attachedAt ?? null,
    attachedForMs: eni.attachment ? Math.max(0, now - eni.attachment.attachedAt) : null,
    tenant: tenantNamed(eni.tags[TENANT_TAG] ?? ''),
  };
}
