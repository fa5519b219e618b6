/** What `ec2-ipam status` says of the ledger. It lists all holders. */
import { formatCidr, formatRange, sizeOf } from '../domain/address.ts';
import { type Allocation, containerIdOf, INTENTS, STATUSES, type Status } from '../domain/allocation.ts';
import { type LedgerSighting, wordsOf } from '../domain/sighting.ts';
import { suspects } from '../domain/suspects.ts';
import type { Tenant } from '../domain/tenant.ts';
import { ENDED_BY_EVIDENCE } from '../domain/witness.ts';
import type { LedgerSubnet, Store } from '../store/store.ts';
import { type ReservedRange, reservedRanges } from './parts/reserved-ranges.ts';

export interface ReportLine {
  readonly subnet: string;
  readonly ip: string;
  readonly eni: string | null;
  readonly container: string | null;
  readonly containerId: string | null;
  readonly sinceMs: number;
}
export interface LedgerReport {
  readonly subnets: readonly {
    id: string;
    vpc: string;
    cidr: string;
    counts: Readonly<Record<Status, number>>;
  }[];
  readonly holders: readonly ReportLine[];
  readonly suspects: readonly (ReportLine & { why: string })[];
  /** Held, and in use in no view of the host since `unseenMs`. */
  readonly unseen: readonly (ReportLine & { unseenMs: number; readings: number })[];
  /** In use on the host, and not held: given to nobody. */
  readonly withheld: readonly (ReportLine & { finding: string })[];
  /** How many holdings ended by evidence of the host. */
  readonly endedByEvidence: number;
  /** What operators have reserved. */
  readonly reserved: readonly (Pick<ReservedRange, 'subnet' | 'why'> & {
    addresses: string;
    count: number;
    sinceMs: number;
  })[];
  readonly drift: readonly (ReportLine & { what: string })[];
  readonly tenants: readonly Tenant[];
  /** The hosts whose containers were read, when that was, and why it was not complete. */
  readonly hosts: readonly { instance: string; readMs: number; incomplete: string | null }[];
  readonly servers: readonly { id: string; version: string | null; seenMs: number; stopped: boolean }[];
}

export async function readReport(store: Store, subnets: readonly LedgerSubnet[]): Promise<LedgerReport> {
  const tally = await store.tally();
  const held: Allocation[] = [];
  const unsettled: Allocation[] = [];
  const reserved: ReservedRange[] = [];
  for (const { id } of subnets) {
    const { rows } = await store.withStatus(id, ['allocated', ...INTENTS]);
    held.push(...rows.filter(row => row.status === 'allocated'));
    unsettled.push(...rows.filter(row => row.status !== 'allocated'));
    reserved.push(...reservedRanges((await store.withStatus(id, ['reserved'])).rows));
  }
  const { rows: servers, now } = await store.servers();
  const { sightingOf, withheld } = await sightingsOf(store, subnets, held);
  const lineOf = (row: Allocation): ReportLine => ({
    subnet: row.subnet,
    ip: row.ip,
    eni: row.iface,
    container: row.holder ?? sightingOf(row)?.name ?? null,
    containerId: containerIdOf(row),
    sinceMs: now - row.movedAt,
  });
  const count = (id: string, status: Status) =>
    tally.find(one => one.subnet === id && one.status === status)?.count ?? 0;
  return {
    subnets: subnets.map(({ id, vpc, cidr }) => ({
      id,
      vpc,
      cidr: formatCidr(cidr),
      counts: Object.fromEntries(STATUSES.map(status => [status, count(id, status)])) as Record<
        Status,
        number
      >,
    })),
    holders: held.map(lineOf),
    suspects: suspects(held, servers, now).map(({ row, why }) => {
      const words = wordsOf(row, sightingOf(row), now);
      return { ...lineOf(row), why: words === null ? why : `${why}; ${words}` };
    }),
    unseen: held.flatMap(row => {
      const sighting = sightingOf(row);
      if (sighting?.unseenSince == null) return [];
      const { unseenSince, unseenReadings: readings } = sighting;
      return [{ ...lineOf(row), unseenMs: now - unseenSince, readings }];
    }),
    withheld: withheld.map(({ row, finding }) => ({ ...lineOf(row), finding })),
    endedByEvidence: Number((await store.fact(ENDED_BY_EVIDENCE)) ?? 0),
    reserved: reserved.map(range => {
      const { subnet, why, since } = range;
      return { subnet, addresses: formatRange(range), count: sizeOf(range), why, sinceMs: now - since };
    }),
    drift: [
      ...held
        .filter(row => row.missingSince !== null)
        .map(row => ({ ...lineOf(row), what: 'held, but missing from its ENI' })),
      ...unsettled.map(row => ({ ...lineOf(row), what: `${row.status}, not settled yet` })),
    ],
    tenants: await store.tenants(),
    hosts: await hostsOf(store),
    servers: servers.map(server => ({
      id: server.id,
      version: server.version,
      seenMs: now - server.seenAt,
      stopped: server.stoppedAt !== null,
    })),
  };
}

async function hostsOf(store: Store): Promise<LedgerReport['hosts']> {
  const { now, rows } = await store.witnesses();
  return rows
    .toSorted((a, b) => (a.instance < b.instance ? -1 : 1))
    .flatMap(({ instance, readAt, incomplete }) =>
      readAt === null ? [] : [{ instance, readMs: Math.max(now - readAt, 0), incomplete }],
    );
}

/** What the hosts have shown of the held rows, and which addresses are withheld. */
async function sightingsOf(store: Store, subnets: readonly LedgerSubnet[], held: readonly Allocation[]) {
  const ids = new Set(subnets.map(({ id }) => id));
  const enis = (await store.enis()).filter(({ subnet }) => ids.has(subnet)).map(({ id }) => id);
  const { rows: sightings } = await store.sightings(enis);
  const byHolding = new Map(sightings.map(one => [holdingOf(one), one]));
  const sightingOf = (row: Allocation): LedgerSighting | undefined => byHolding.get(holdingOf(row));
  const heldNow = new Set(held.map(holdingOf));
  const used = sightings.filter(one => one.usedSince !== null && !heldNow.has(holdingOf(one)));
  const withheld: { row: Allocation; finding: string }[] = [];
  for (const [subnet, ofSubnet] of Map.groupBy(used, one => one.subnet)) {
    const { rows } = await store.get(
      subnet,
      ofSubnet.map(({ ip }) => ip),
    );
    for (const row of rows) {
      const sighting = sightingOf(row);
      if (sighting?.usedSince != null) withheld.push({ row, finding: sighting.finding ?? '' });
    }
  }
  return { sightingOf, withheld };
}
const holdingOf = ({ subnet, ip, generation }: Pick<Allocation, 'subnet' | 'ip' | 'generation'>): string =>
  `${subnet} ${ip} ${generation}`;
