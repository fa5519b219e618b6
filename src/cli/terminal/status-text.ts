/** What `ec2-ipam status` prints, for people. */
import { STATUSES } from '../../domain/allocation.ts';
import { shortId } from '../../domain/container.ts';
import { DEAD_AFTER_MS } from '../../domain/suspects.ts';
import type { Tenant } from '../../domain/tenant.ts';
import type { LedgerReport, ReportLine } from '../../views/report.ts';
import { ago } from './output.ts';
import { type Cell, type Line, type Style, tableLines, wrapped } from './styled.ts';

/** A subnet that is so full is a problem. */
const FULL_PERCENT = 85;

/** The report as lines, problems first. `columns` is the width that there is. Of a list with more than `rowsMax`
 *  addresses only the first are laid out, which may be tens of thousands. */
export function statusLines(
  report: LedgerReport,
  columns: number,
  rowsMax = Number.POSITIVE_INFINITY,
): Line[] {
  // On a terminal there is no room for what is the same in each line.
  const hasSubnet = columns === Number.POSITIVE_INFINITY || report.subnets.length > 1;
  const section = (
    title: string,
    style: Style,
    head: readonly string[],
    rows: readonly (readonly Cell[])[],
  ) =>
    rows.length === 0
      ? []
      : [[], ...wrapped([{ text: title, style }], columns), ...tableLines(head, rows, columns)];
  const held = <T extends ReportLine>(title: string, style: Style, list: readonly T[], ...last: Last<T>[]) =>
    section(
      title,
      style,
      ['ADDRESS', ...(hasSubnet ? ['SUBNET'] : []), 'ENI', 'CONTAINER', 'FOR', ...last.map(([name]) => name)],
      list
        .slice(0, rowsMax)
        .map(one => [
          ...[one.ip, ...(hasSubnet ? [one.subnet] : []), one.eni ?? '-', nameOf(one), ago(one.sinceMs)],
          ...last.map(([, say]) => say(one)),
        ]),
    );
  const lines = [
    ...held('Suspects: held, but perhaps without a container', 'red', report.suspects, [
      'WHY',
      one => one.why,
    ]),
    ...held('Not seen: held, but in use nowhere on the host', 'yellow', report.unseen, [
      'NOT SEEN FOR',
      one => `${ago(one.unseenMs)}, ${one.readings} readings`,
    ]),
    ...held('Withheld: in use on the host, but not held', 'red', report.withheld, ['BY', one => one.finding]),
    ...held('Drift', 'yellow', report.drift, ['WHAT', one => one.what]),
    ...section('Servers that went away', 'yellow', ['SERVER', 'VERSION', 'SEEN'], goneServers(report)),
    [],
    ...subnetLines(report, columns),
    ...section(
      'Reserved by operators',
      'bold',
      ['ADDRESSES', 'SUBNET', 'COUNT', 'FOR', 'WHY'],
      report.reserved.map(one => [one.addresses, one.subnet, String(one.count), ago(one.sinceMs), one.why]),
    ),
    ...section('Tenants', 'bold', TENANT_HEAD, report.tenants.map(tenantCells)),
    ...section(
      'Hosts read by their witness',
      'bold',
      ['HOST', 'READ', 'NOT COMPLETE'],
      report.hosts.map(one => [
        one.instance || 'this one',
        `${ago(one.readMs)} ago`,
        one.incomplete === null ? '-' : { text: one.incomplete, style: 'yellow' },
      ]),
    ),
    ...(report.endedByEvidence === 0
      ? []
      : [
          [],
          ...wrapped(
            [{ text: `Holdings ended by evidence of the host: ${report.endedByEvidence}` }],
            columns,
          ),
        ]),
    ...held('Holders', 'bold', report.holders),
  ];
  return lines.slice(1); // the blank line before the first section
}

type Last<T> = readonly [name: string, say: (one: T) => string];

const nameOf = ({ container, containerId }: ReportLine): string =>
  container ?? (containerId === null ? '-' : shortId(containerId));

const goneServers = ({ servers }: LedgerReport): Cell[][] =>
  servers
    .filter(({ stopped, seenMs }) => !stopped && seenMs > DEAD_AFTER_MS)
    .map(({ id, version, seenMs }) => [id, version ?? '-', `${ago(seenMs)} ago`]);

/** The counts as a table. Where it is too wide, each subnet has lines of its own. */
function subnetLines({ subnets }: LedgerReport, columns: number): Line[] {
  if (subnets.length === 0)
    return wrapped([{ text: 'the ledger has no subnet; run `ec2-ipam init SUBNET`' }], columns);
  const rows = subnets.map(({ id, cidr, counts }): [string, string, ...Cell[]] => [
    id,
    cidr,
    usedCell(counts),
    ...STATUSES.map(status => String(counts[status])),
  ]);
  const head = ['SUBNET', 'CIDR', 'USED', ...STATUSES.map(status => status.toUpperCase())];
  const lines = tableLines(head, rows, columns);
  if (lines.length === rows.length + 1) return lines;
  return rows.flatMap(([id, cidr, used, ...counts]) => [
    ...wrapped([{ text: id, style: 'bold' }, { text: cidr }, pieceOf(used), { text: 'used' }], columns),
    ...wrapped([{ text: named(counts) }], columns, '  '),
  ]);
}
const named = (counts: readonly Cell[]): string =>
  STATUSES.flatMap((status, i) => (counts[i] === '0' ? [] : [`${counts[i]} ${status}`])).join(', ');
const pieceOf = (cell: Cell = '') => (typeof cell === 'string' ? { text: cell } : cell);

function usedCell(counts: LedgerReport['subnets'][number]['counts']): Cell {
  const { free, ready, reserved } = counts;
  const usable = STATUSES.reduce((sum, status) => sum + counts[status], 0) - reserved;
  if (usable === 0) return '-';
  const percent = Math.round((1 - (free + ready) / usable) * 100);
  return { text: `${percent}%`, style: percent >= FULL_PERCENT ? 'red' : 'green' };
}

export const TENANT_HEAD = ['TENANT', 'QUOTA', 'USED', 'LEFT', 'PROFILE'];

export const tenantCells = ({ name, quota, used, profile }: Tenant): string[] => [
  name,
  quota === null ? 'not declared' : String(quota),
  String(used),
  quota === null ? '-' : String(Math.max(quota - used, 0)),
  profile ?? '-',
];
