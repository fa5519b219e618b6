/** The command `recycle`: unassigns idle addresses. */
import type { Allocation } from '../../domain/allocation.ts';
import { checkIdentity } from '../../ipam/ec2/account.ts';
import { idle, unassignIdle } from '../../ipam/sync/drain.ts';
import { command, JSON_OPTION } from '../command.ts';
import { LEDGER_SETTINGS } from '../settings/settings.ts';
import { duration, onOff, wholeNumber } from '../settings/value-parsers.ts';
import { namedSubnets } from '../subnet-arguments.ts';
import { ago, createProgress, print, table } from '../terminal/output.ts';

export const recycle = command({
  name: 'recycle',
  summary: 'unassign addresses that are ready but idle, many per call',
  usage: 'SUBNET…',
  args: { min: 1, max: 100 },
  settings: LEDGER_SETTINGS,
  options: {
    limit: { kind: wholeNumber(1, 10_000), fallback: '100', help: 'most addresses that are unassigned' },
    idle: { kind: duration('0s', '8760h'), fallback: '15m', help: 'how long an address must have been idle' },
    'dry-run': { kind: onOff, fallback: 'off', help: 'print the plan only' },
    json: JSON_OPTION,
  },
  async run({ args, config, log, io, options, assemble }) {
    const dryRun = options['dry-run'];
    const { context, store, own } = await assemble(config, log);
    const subnets = await namedSubnets(store, args);
    await own();
    if (!dryRun) await checkIdentity(context);
    const plan: Allocation[] = [];
    for (const subnet of subnets)
      plan.push(...(await idle(context, subnet.id, options.idle, options.limit - plan.length)));
    const now = (await store.intents(0, 0)).now;
    if (!options.json)
      io.out.write(
        table(
          ['ADDRESS', 'SUBNET', 'ENI', 'IDLE'],
          plan.map(row => [row.ip, row.subnet, row.iface ?? '-', ago(now - row.movedAt)]),
        ),
      );
    const bar = createProgress(io.err, 'recycle');
    let freed = 0;
    let done = 0;
    for (const eni of dryRun ? [] : new Set(plan.map(row => row.iface))) {
      const rows = plan.filter(row => row.iface === eni);
      freed += await unassignIdle(context, rows);
      done += rows.length;
      bar.show('addresses', done, plan.length);
    }
    bar.end();
    const data = { plan: plan.map(({ ip, subnet, iface }) => ({ ip, subnet, iface })), freed, dryRun };
    const text = dryRun ? `would unassign ${plan.length}\n` : `unassigned ${freed} of ${plan.length}\n`;
    print(io.out, options.json, data, text);
    await store.close();
    return !dryRun && freed < plan.length ? 1 : 0;
  },
});
