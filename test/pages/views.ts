/** Views as a small ledger gives them, with names that try to be markup. */
import type { AddressView } from '../../src/views/address.ts';
import type { EniView } from '../../src/views/eni.ts';
import type { HealthView } from '../../src/views/health.ts';
import type { HostsView } from '../../src/views/hosts.ts';
import type { Overview, SubnetSummary } from '../../src/views/overview.ts';
import type { SearchView } from '../../src/views/search.ts';
import type { Cell, Counts } from '../../src/views/shapes.ts';
import type { SubnetMap } from '../../src/views/subnet-map.ts';

export const SUBNET = 'subnet-0a1b2c3d4e5f60001';
export const ENI = 'eni-0a1b2c3d4e5f60001';
const INSTANCE = 'i-0a1b2c3d4e5f60001';
export const HOSTILE = `<img src=x onerror="alert(1)">'&`;
export const CONTAINER = '3f2a9c1d4e5b'.padEnd(64, '6');
const NOW = Date.UTC(2026, 10, 26, 9, 15, 4);

const cell = (last: number, more: Partial<Cell> = {}): Cell => ({
  ...{ subnet: SUBNET, address: `10.0.1.${last}`, status: 'free', generation: 0, since: NOW - 60_000 },
  ...{ eni: null, instance: null, container: null, containerId: null, restsUntil: null, reservedFor: null },
  ...{ missingSince: null, primary: false },
  ...more,
});

/** All 256 of a /24, with one of each kind. */
function cells(): Cell[] {
  const special: Record<number, Partial<Cell>> = {
    4: { status: 'occupied', primary: true, eni: ENI },
    5: { status: 'allocated', eni: ENI, container: HOSTILE, containerId: CONTAINER, generation: 7 },
    6: { status: 'ready', eni: ENI },
    7: { status: 'ready', eni: ENI, restsUntil: NOW + 20_000 },
    8: { status: 'allocated', eni: ENI, container: 'db', missingSince: NOW - 90_000 },
    9: { status: 'assigning', eni: ENI },
    10: { status: 'unassigning', eni: ENI },
    11: { restsUntil: NOW + 500_000 },
    20: { status: 'reserved', reservedFor: HOSTILE },
  };
  const aws = (last: number): Partial<Cell> => (last < 4 || last === 255 ? { status: 'reserved' } : {});
  return Array.from({ length: 256 }, (_, last) => cell(last, special[last] ?? aws(last)));
}

const noCounts = (): Counts => ({
  ...{ free: 0, ready: 0, allocated: 0, occupied: 0, reserved: 0, assigning: 0, unassigning: 0 },
});
const countsOf = (all: readonly Cell[]) => {
  const counts = noCounts();
  for (const { status } of all) counts[status]++;
  return counts;
};

const summary = (more: Partial<SubnetSummary> = {}): SubnetSummary => ({
  ...{ id: SUBNET, vpc: 'vpc-0a1b2c3d4e5f60001', cidr: '10.0.1.0/24', size: 256, counts: countsOf(cells()) },
  ...{ full: 0.9, fullInMs: 3 * 3_600_000 + 1 },
  ...more,
});

export const overview = (more: Partial<Overview> = {}): Overview => ({
  now: NOW,
  lastEvent: '5.7',
  problems: [
    {
      ...{
        kind: 'drift',
        text: `${HOSTILE} is held, but not on its ENI`,
        subnet: SUBNET,
        address: '10.0.1.8',
      },
      ...{ eni: ENI, instance: null, since: NOW - 90_000 },
    },
  ],
  problemsLeft: 3,
  subnets: [summary()],
  reserved: [
    {
      ...{ subnet: SUBNET, addresses: '10.0.1.20', first: '10.0.1.20', count: 1, why: HOSTILE },
      since: NOW - 1000,
    },
  ],
  ...more,
});

export const map = (): SubnetMap => ({
  ...{ now: NOW, lastEvent: '5.7', subnet: summary(), block: '10.0.1.0/24', cells: cells(), bars: [] },
  enis: [{ id: ENI, instance: INSTANCE, tenant: null, ours: true }],
});

/** A /16: 256 bars. */
export function largeMap(): SubnetMap {
  const bars = Array.from({ length: 256 }, (_, third) => {
    const allocated = (third * 37) % 200;
    const counts = { ...noCounts(), allocated, ready: third % 7, free: 256 - allocated - (third % 7) };
    return { cidr: `10.0.${third}.0/24`, counts, reservedByOperators: third % 5, missing: third % 3 };
  });
  return {
    ...{ now: NOW, lastEvent: '5.7', subnet: summary({ cidr: '10.0.0.0/16', size: 65_536 }), block: null },
    ...{ cells: [], bars, enis: [] },
  };
}

const call = {
  ...{ id: 'c1', at: NOW - 5000, action: 'assign', eni: ENI, addresses: ['10.0.1.5'], server: 'abcd1234' },
  ...{ tookMs: 251.3, result: HOSTILE },
};

export const address = (): AddressView => ({
  ...{ now: NOW, lastEvent: '5.7', cell: cells()[5] as Cell, instance: INSTANCE, isAws: false },
  ...{ restedSince: NOW - 99_000, restedFrom: ENI, leftAt: null, leftEni: null, absentSince: null },
  ...{ usedBy: HOSTILE, unseenSince: null },
  holdings: [
    {
      ...{ since: NOW - 60_000, until: null, isHeld: true, eni: ENI, instance: INSTANCE, container: HOSTILE },
      ...{
        containerId: CONTAINER,
        request: 'r1',
        server: 'abcd1234',
        endedBy: null,
        endRequest: null,
        endServer: null,
      },
    },
  ],
  calls: [call],
});

export const eni = (): EniView => ({
  ...{ now: NOW, lastEvent: '5.7', id: ENI, subnet: SUBNET, instance: INSTANCE, tenant: HOSTILE },
  ...{
    primary: '10.0.1.4',
    mac: '02:00:00:00:00:01',
    attachment: 'eni-attach-1',
    ours: true,
    releasedAt: null,
  },
  ...{ limit: 50, prefixes: 0, room: 40, marks: { low: 2, high: 6 }, usable: 1, resting: 1 },
  counts: countsOf(cells().filter(one => one.eni === ENI)),
  addresses: cells().filter(one => one.eni === ENI),
  moves: [cells()[5] as Cell],
  calls: [call],
});

export const hosts = (): HostsView => ({
  now: NOW,
  hosts: [
    {
      ...{ instance: INSTANCE, state: 'enrolled', enrolledAt: NOW - 9000, expiresAt: NOW + 9000 },
      ...{ revokedAt: null, seenAt: NOW - 100, readAt: NOW - 3000, incomplete: HOSTILE },
      ...{ tenants: [HOSTILE], enis: [ENI] },
    },
  ],
  tenants: [{ name: HOSTILE, quota: null, profile: null, used: 4 }],
});

const took = { count: 12, p50Ms: 1.234, p99Ms: 88.1 };
export const health = (): HealthView => ({
  ...{ now: NOW, version: '1.0.0', runtime: 'node 24' },
  servers: [
    {
      ...{
        id: 'abcd1234',
        state: 'running',
        startedAt: NOW - 9000,
        seenAt: NOW,
        stoppedAt: null,
        version: '1.0.0',
        isThis: true,
      },
    },
    {
      ...{ id: 'dead1234', state: 'away', startedAt: NOW - 9000, seenAt: NOW - 8000, stoppedAt: null },
      ...{ version: null, isThis: false },
    },
  ],
  ec2: {
    last: 'ec2-throttled',
    actions: [{ action: 'AssignPrivateIpAddresses', tokens: 4.5, took, throttled: 2, failed: 0 }],
  },
  store: { commits: took, movesPerCommit: 1.5 },
  requests: [{ method: 'RequestAddress', took, failed: 1 }],
  warm: { hits: 5, misses: 1, earlyReuses: 0 },
  intents: { sent: 1, inDoubt: 0, overdue: 1, oldestMs: 61_000 },
  withheld: 1,
  reconciled: [{ subnet: SUBNET, at: NOW - 30_000 }],
});

export const search = (query: string): SearchView => ({
  query,
  found: [
    { kind: 'container', name: HOSTILE, subnet: SUBNET, address: '10.0.1.5', eni: ENI, instance: INSTANCE },
  ],
  hasMore: true,
});
