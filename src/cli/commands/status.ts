/** The command `status`: prints what the ledger has. */
import { STATUSES } from '../../domain/allocation.ts';
import { type LedgerReport, type ReportLine, readReport } from '../../views/report.ts';
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
    const report = await readReport(store, await namedSubnets(store, args));
    print(io.out, options.json, report, text(report));
    await store.close();
    return 0;
  },
});

function text(report: LedgerReport): string {
  const counts = table(
    ['SUBNET', 'CIDR', ...STATUSES.map(status => status.toUpperCase())],
    report.subnets.map(one => [one.id, one.cidr, ...STATUSES.map(status => String(one.counts[status]))]),
  );
  const lines = (title: string, list: readonly ReportLine[], last: string, say: (index: number) => string) =>
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
