/** The command `status`: prints what the ledger has. */
import { formatCidr } from '../../domain/address.ts';
import { type Allocation, INTENTS, STATUSES, type Status } from '../../domain/allocation.ts';
import { suspects } from '../../domain/suspects.ts';
import type { Tenant } from '../../domain/tenant.ts';
import type { LedgerSubnet, Store } from '../../store/store.ts';
import { command, JSON_OPTION } from '../command.ts';
import { STORE_SETTINGS } from '../settings/settings.ts';
import { namedSubnets } from '../subnet-arguments.ts';
import { ago, print, table } from '../terminal/output.ts';
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
  readonly drift: readonly (Line & { what: string })[];
  readonly tenants: readonly Tenant[];
  readonly servers: readonly { id: string; seenMs: number; stopped: boolean }[];
}

async function reportOf(store: Store, subnets: readonly LedgerSubnet[]): Promise<Report> {
  const tally = await store.tally();
  const held: Allocation[] = [];
  const unsettled: Allocation[] = [];
  for (const { id } of subnets) {
    const { rows } = await store.withStatus(id, ['allocated', ...INTENTS]);
    held.push(...rows.filter(row => row.status === 'allocated'));
    unsettled.push(...rows.filter(row => row.status !== 'allocated'));
  }
  const { rows: servers, now } = await store.servers();
  const lineOf = (row: Allocation): Line => ({
    subnet: row.subnet,
    ip: row.ip,
    eni: row.iface,
    container: row.holder,
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
    suspects: suspects(held, servers, now).map(({ row, why }) => ({ ...lineOf(row), why })),
    drift: [
      ...held
        .filter(row => row.missingSince !== null)
        .map(row => ({ ...lineOf(row), what: 'held, but missing from its ENI' })),
      ...unsettled.map(row => ({ ...lineOf(row), what: `${row.status}, not settled yet` })),
    ],
    tenants: await store.tenants(),
    servers: servers.map(server => ({
      id: server.id,
      seenMs: now - server.seenAt,
      stopped: server.stoppedAt !== null,
    })),
  };
}

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
    lines('Drift', report.drift, 'WHAT', i => report.drift[i]?.what ?? ''),
  ].join('');
}
