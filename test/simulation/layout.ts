/** The VPC, the ledgers and the settings of one history: drawn from its seed, and so small that addresses run out. */
import { type Cidr, type Ipv4, parseCidr } from '../../src/domain/address.ts';
import type { EniId, InstanceId, SubnetId } from '../../src/domain/ids.ts';
import { TENANT_TAG } from '../../src/domain/tenant.ts';
import type { Policy } from '../../src/ipam/context.ts';
import type { Caller } from '../../src/simulator/model/caller.ts';
import { ACCOUNT_ID } from '../../src/simulator/model/records.ts';
import type { World as VpcDescription } from '../../src/simulator/model/world.ts';
import type { Random } from '../kit/random.ts';
import { POLICY } from '../kit/world.ts';

/** Bounds that EC2 and the clocks keep, in milliseconds. */
export const CALL_TIMEOUT_MS = 10_000;
/** The longest between sending a call and its application. With the call deadline and the skew it is below the
 *  grace. */
export const LATE_CALL_MS_MAX = 900_000;
/** The oldest state that a read shows. */
export const LATE_READ_MS_MAX = 50_000;
/** How far the store's clock is from EC2's at most. */
export const APART_MS_MAX = 150_000;
/** The largest small step of the store's clock, forward or back. */
export const SKEW_MS_MAX = 2_000;

/** The least time between two small steps. */
export const STEPS_APART_MS = 300_000;

/** Types whose ENIs hold 4, 6 and 10 addresses. */
const INSTANCE_TYPES = ['m6g.medium', 't2.medium', 'm5.large'] as const;

/** One ENI of ours. */
export interface Port {
  readonly eni: EniId;
  readonly subnet: SubnetId;
  readonly instance: InstanceId;
  /** Which ledger serves it. */
  readonly ledger: number;
}

export interface Layout {
  readonly policy: Policy;
  readonly ports: readonly Port[];
  /** Servers of each ledger. */
  readonly servers: readonly number[];
  /** The instance of each embedded ledger; null: the ledger is central. */
  readonly owners: readonly (InstanceId | null)[];
  readonly cidrs: ReadonlyMap<SubnetId, Cidr>;
  readonly unnamedRefusals: boolean;
  readonly pace: Pace;
  /** Engines reach the servers through an agent of their host, with its certificate. */
  readonly hasAgents: boolean;
  /** Of the tenant, in every ledger; null: there is none. */
  readonly quota: number | null;
  readonly vpc: VpcDescription;
}

/** An account with which some subnets are shared. */
const OTHER_ACCOUNT = '210987654321';
/** Clients that do not belong to the ledgers. */
export const WRONG_PLACES: readonly Caller[] = [
  { account: ACCOUNT_ID, region: 'us-east-1' },
  { account: OTHER_ACCOUNT, region: null },
];
/** How many calls EC2 takes, and how the servers share them. */
export interface Pace {
  /** Of EC2's token buckets; null: they are off. */
  readonly bucketScale: number | null;
  /** The part of the account's calls for calls that no request waits for. */
  readonly share: number;
  /** Servers of one ledger take their turns from it. */
  readonly isShared: boolean;
}
const UNPACED: Pace = { bucketScale: null, share: 1, isShared: false };
/** One in so many histories has this many servers on its first ledger. */
const CROWDS_OF = 100;
const CROWD = 24;

export const STRANGER = 'eni-0f' as EniId;
/** In the same subnet; it has no IPv4 address. */
const WITHOUT_IPV4 = 'eni-0e' as EniId;
/** The server's own host has an ENI too, in a subnet without containers, so that the account always shows one. */
const HOST = { id: 'eni-0d', subnet: 'subnet-0d', primary: '10.0.9.4' };
const HOST_SUBNET = { id: HOST.subnet, cidr: '10.0.9.0/28' };
const SUBNETS = ['subnet-01', 'subnet-02'] as SubnetId[];
const CIDRS = ['10.0.1.0/28', '10.0.2.0/28'];
const INSTANCES = ['i-0a', 'i-0b'] as InstanceId[];

export function drawLayout(random: Random): Layout {
  const subnets = random.chance(0.3) ? 2 : 1;
  const isEmbedded = random.chance(0.25);
  const ledgers = isEmbedded ? INSTANCES.length : random.chance(0.15) ? 2 : 1;
  const portCount = random.between(2, 4);
  const ports = Array.from(
    { length: portCount },
    (_, i): Port => ({
      eni: `eni-0${i + 1}` as EniId,
      subnet: SUBNETS[i === 2 && subnets === 2 ? 1 : 0] as SubnetId,
      instance: INSTANCES[i % 2] as InstanceId,
      ledger: isEmbedded ? i % 2 : ledgers === 2 && i === 1 ? 1 : 0,
    }),
  );
  const type = random.pick(INSTANCE_TYPES) ?? 'm5.large';
  const isShared = random.chance(0.5);
  const stranger = {
    id: STRANGER,
    ...(isShared ? { owner: OTHER_ACCOUNT } : {}),
    subnet: SUBNETS[0] ?? '',
    primary: '10.0.1.10',
    secondaries: ['10.0.1.11'],
  };
  const port = (one: Port, i: number) => ({
    id: one.eni,
    subnet: one.subnet,
    primary: `10.0.${one.subnet === SUBNETS[0] ? 1 : 2}.${4 + i}`,
    attachment: { instance: one.instance, deviceIndex: 1 + Math.floor(i / 2) },
    ...(i === 0 && random.chance(0.3) ? { secondaries: ['10.0.1.12'] } : {}),
  });
  return {
    policy: drawPolicy(random),
    ports,
    servers: Array.from({ length: ledgers }, (_, i) => (i === 0 && !isEmbedded ? random.between(1, 3) : 1)),
    owners: Array.from({ length: ledgers }, (_, i) => (isEmbedded ? (INSTANCES[i] ?? null) : null)),
    cidrs: new Map(SUBNETS.slice(0, subnets).map((id, i) => [id, parseCidr(CIDRS[i] ?? '')])),
    unnamedRefusals: random.chance(0.3),
    pace: UNPACED,
    hasAgents: false,
    quota: null,
    vpc: {
      subnets: [
        ...SUBNETS.slice(0, subnets).map((id, i) => ({
          id,
          cidr: CIDRS[i] ?? '',
          sharedWith: isShared ? [OTHER_ACCOUNT] : [],
        })),
        HOST_SUBNET,
      ],
      instances: INSTANCES.map(id => ({ id, type })),
      enis: [
        ...ports.map(port),
        stranger,
        HOST,
        ...(random.chance(0.3) ? [{ id: WITHOUT_IPV4, subnet: SUBNETS[0] ?? '', primary: null }] : []),
      ],
    },
  };
}

/** The layout with few calls to share, or many servers that share them. */
export function drawPace(layout: Layout, random: Random): Layout {
  const isEmbedded = layout.owners.some(owner => owner !== null);
  const isCrowded = !isEmbedded && random.below(CROWDS_OF) === 0;
  const pace = {
    bucketScale: random.pick([null, null, 1, 0.1, 0.05]) ?? null,
    share: random.pick([1, 0.5, 0.05, 0.01]) ?? 1,
    isShared: !isEmbedded && (isCrowded || random.chance(0.7)),
  };
  return { ...layout, pace, servers: isCrowded ? [CROWD, ...layout.servers.slice(1)] : layout.servers };
}

const AGENTS = 0.4;

/** The layout in which hosts of central servers have agents. Not with a crowd of servers, whose reads of the ENIs in use
 *  would be most of the events. */
export const drawAgents = (layout: Layout, random: Random): Layout => ({
  ...layout,
  hasAgents:
    layout.owners.every(owner => owner === null) && !layout.servers.includes(CROWD) && random.chance(AGENTS),
});

/** The tenant that ENIs may have. */
export const TENANT = 'red';
const TENANTS = 0.35;
const TENANT_ENIS = 0.7;
/** Fewer addresses than most ENIs take. */
export const QUOTA_MAX = 5;

/** The layout in which some of the ENIs have a tenant with a small quota. */
export function drawTenants(layout: Layout, random: Random): Layout {
  if (!random.chance(TENANTS)) return layout;
  const tagged = new Set<string | undefined>(
    layout.ports.filter(() => random.chance(TENANT_ENIS)).map(port => port.eni),
  );
  const enis = (layout.vpc.enis ?? []).map(eni =>
    tagged.has(eni.id) ? { ...eni, tags: { [TENANT_TAG]: TENANT } } : eni,
  );
  return { ...layout, quota: random.between(0, QUOTA_MAX), vpc: { ...layout.vpc, enis } };
}

const WARM_POOLS = [
  { warmMin: 0, warmMax: 0 },
  { warmMin: 0, warmMax: 3 },
  { warmMin: 1, warmMax: 2 },
  { warmMin: 2, warmMax: 6 },
  { warmMin: 9, warmMax: 9 },
];
const drawPolicy = (random: Random): Policy => ({
  ...POLICY,
  quarantineMs: random.chance(0.5) ? 120_000 : 600_000,
  requestTimeoutMs: random.chance(0.5) ? 30_000 : 120_000,
  strictReuse: random.chance(0.3),
  confirmMoves: random.chance(0.7),
  ...random.pick(WARM_POOLS),
});

/** Identifies an address within all subnets. */
export const keyOf = (subnet: SubnetId, ip: Ipv4): string => `${subnet} ${ip}`;
