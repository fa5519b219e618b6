/** The command `status`: prints what the ledger has. */
import { formatCidr, formatRange, sizeOf } from '../../domain/address.ts';
import { type Allocation, INTENTS, STATUSES, type Status } from '../../domain/allocation.ts';
import { suspects } from '../../domain/suspects.ts';
import type { Tenant } from '../../domain/tenant.ts';
import { type LedgerSighting, wordsOf } from '../../domain/witness.ts';
import { ENDED_BY_EVIDENCE } from '../../ipam/sync/witnessed.ts';
import type { LedgerSubnet, Store } from '../../store/store.ts';
import { command, JSON_OPTION } from '../command.ts';
import { STORE_SETTINGS } from '../settings/settings.ts';
import { namedSubnets } from '../subnet-arguments.ts';
import { ago, print, table } from '../terminal/output.ts';
import { type Held, heldRanges } from './hold.ts';
import { tenantTable } from './tenant.ts';

export const status = command({
  name: 'status',
  summary: 'counts, holders, suspects and known drift of the ledger; asks EC2 nothing',
  usage: '[SUBNET…]',
  args: { min: 0, max: 100 },
  settings: STORE_SETTINGS,
  options: { json: JSON_OPTION },
  async run({ args, config, log, io, options, assemble }) {
    const { store } = await assemble(config, log);
    const report = await reportOf(store, await namedSubnets(store, args));
    print(io.out, options.json, report, text(report));
    await store.close();
    return 0;
  },
});

interface Line {
  readonly subnet: string;
  readonly ip: string;
  readonly eni: string | null;
  readonly container: string | null;
  readonly sinceMs: number;
}
interface Report {
  readonly subnets: readonly {
    id: string;
    vpc: string;
    cidr: string;
    counts: Readonly<Record<Status, number>>;
  }[];
  readonly holders: readonly Line[];
  readonly suspects: readonly (Line & { why: string })[];
  /** Held, and in use in no view of the host since `unseenMs`. */
  readonly unseen: readonly (Line & { unseenMs: number; readings: number })[];
  /** In use on the host, and not held: given to nobody. */
  readonly withheld: readonly (Line & { finding: string })[];
  /** How many holdings ended by evidence of the host. */
  readonly endedByEvidence: number;
  /** What operators hold. */
  readonly reserved: readonly (Pick<Held, 'subnet' | 'why'> & {
    addresses: string;
    count: number;
    sinceMs: number;
  })[];
  readonly drift: readonly (Line & { what: string })[];
  readonly tenants: readonly Tenant[];
  /** The hosts whose containers were read, when that was, and why it was not complete. */
  readonly hosts: readonly { instance: string; readMs: number; incomplete: string | null }[];
  readonly servers: readonly { id: string; seenMs: number; stopped: boolean }[];
}

async function reportOf(store: Store, subnets: readonly LedgerSubnet[]): Promise<Report> {
  const tally = await store.tally();
  const held: Allocation[] = [];
  const unsettled: Allocation[] = [];
  const reserved: Held[] = [];
  for (const { id } of subnets) {
    const { rows } = await store.withStatus(id, ['allocated', ...INTENTS]);
    held.push(...rows.filter(row => row.status === 'allocated'));
    unsettled.push(...rows.filter(row => row.status !== 'allocated'));
    reserved.push(...heldRanges((await store.withStatus(id, ['reserved'])).rows));
  }
  const { rows: servers, now } = await store.servers();
  const { sightingOf, withheld } = await sightingsOf(store, subnets, held);
  const lineOf = (row: Allocation): Line => ({
    subnet: row.subnet,
    ip: row.ip,
    eni: row.iface,
    container: row.holder ?? sightingOf(row)?.name ?? null,
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
      seenMs: now - server.seenAt,
      stopped: server.stoppedAt !== null,
    })),
  };
}

async function hostsOf(store: Store): Promise<Report['hosts']> {
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

function text(report: Report): string {
  const counts = table(
    ['SUBNET', 'CIDR', ...STATUSES.map(status => status.toUpperCase())],
    report.subnets.map(one => [one.id, one.cidr, ...STATUSES.map(status => String(one.counts[status]))]),
  );
  const lines = (title: string, list: readonly Line[], last: string, say: (index: number) => string) =>
    list.length === 0
      ? ''
      : `\n${title}\n${table(
          ['ADDRESS', 'SUBNET', 'ENI', 'CONTAINER', 'FOR', last],
          list.map((line, i) => [
            line.ip,
            line.subnet,
            line.eni ?? '-',
            line.container ?? '-',
            ago(line.sinceMs),
            say(i),
          ]),
        )}`;
  return [
    report.subnets.length === 0 ? 'the ledger has no subnet; run `ec2-ipam init SUBNET`\n' : counts,
    report.tenants.length === 0 ? '' : `\nTenants\n${tenantTable(report.tenants)}`,
    lines('Holders', report.holders, '', () => ''),
    lines(
      'Suspects: held, but perhaps without a container',
      report.suspects,
      'WHY',
      i => report.suspects[i]?.why ?? '',
    ),
    lines('Not seen: held, but in use nowhere on the host', report.unseen, 'NOT SEEN FOR', i => {
      const one = report.unseen[i];
      return one === undefined ? '' : `${ago(one.unseenMs)}, ${one.readings} readings`;
    }),
    lines(
      'Withheld: in use on the host, but not held',
      report.withheld,
      'BY',
      i => report.withheld[i]?.finding ?? '',
    ),
    report.endedByEvidence === 0
      ? ''
      : `\nHoldings ended by evidence of the host: ${report.endedByEvidence}\n`,
    report.reserved.length === 0
      ? ''
      : `\nReserved by operators\n${table(
          ['ADDRESSES', 'SUBNET', 'COUNT', 'FOR', 'WHY'],
          report.reserved.map(one => [
            one.addresses,
            one.subnet,
            String(one.count),
            ago(one.sinceMs),
            one.why,
          ]),
        )}`,
    report.hosts.length === 0
      ? ''
      : `\nHosts read by their witness\n${table(
          ['HOST', 'READ', 'NOT COMPLETE'],
          report.hosts.map(one => [
            one.instance || 'this one',
            `${ago(one.readMs)} ago`,
            one.incomplete ?? '-',
          ]),
        )}`,
    lines('Drift', report.drift, 'WHAT', i => report.drift[i]?.what ?? ''),
  ].join('');
}
