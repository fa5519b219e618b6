/** The command `reconcile`: compares ledger and EC2, and closes the differences. */
import { type Drift, describe, planFor } from '../../domain/drift.ts';
import { checkIdentity, refuseBlind } from '../../ipam/ec2/identity.ts';
import { takeOver } from '../../ipam/ec2/recover.ts';
import { close, compare, costOf } from '../../ipam/sync/reconcile.ts';
import { command, JSON_OPTION } from '../command.ts';
import { LEDGER_SETTINGS } from '../settings/settings.ts';
import { onOff } from '../settings/value-parsers.ts';
import { createProgress, printJson } from '../terminal/output.ts';
import { namedSubnets } from './subnets.ts';

export const reconcile = command({
  name: 'reconcile',
  summary: 'compare ledger and EC2, print the drift and close it',
  usage: '[SUBNET…]',
  args: { min: 0, max: 100 },
  settings: LEDGER_SETTINGS,
  options: {
    'dry-run': { kind: onOff, fallback: 'off', help: 'print the drift only' },
    json: JSON_OPTION,
  },
  async run({ args, config, log, io, options, assemble }) {
    const { context, store, own } = assemble(config, log);
    const subnets = await namedSubnets(store, args);
    await own();
    await checkIdentity(context);
    await refuseBlind(context);
    const dryRun = options['dry-run'];
    const drifts: Drift[] = [];
    let moved = 0;
    let repaired = 0;
    const bar = createProgress(io.err, 'reconcile');
    for (const [i, subnet] of subnets.entries()) {
      bar.show('subnets compared', i, subnets.length);
      const found = await compare(context, subnet.id);
      drifts.push(...found);
      bar.end();
      // Printed before it is closed, since that may take long.
      if (!options.json) for (const drift of found) io.out.write(`${describe(drift)}: ${planFor(drift)}\n`);
      if (dryRun) continue;
      const closed = await close(context, found);
      moved += closed.moved;
      repaired += closed.repaired;
    }
    const settled = dryRun ? 0 : await takeOver(context);
    if (options.json)
      printJson(io.out, {
        drift: drifts.map(({ kind, row, seenOn, change }) => ({
          kind,
          plan: planFor({ kind, row, seenOn, change }),
          subnet: row.subnet,
          ip: row.ip,
          status: row.status,
          iface: row.iface,
          seenOn,
        })),
        ec2Calls: costOf(drifts),
        moved,
        repaired,
        settled,
        dryRun,
      });
    else
      io.out.write(
        dryRun
          ? `${drifts.length} differences, to be closed with ${costOf(drifts)} EC2 calls; nothing was changed\n`
          : `${drifts.length} differences, ${moved} moves, ${repaired} repaired, ${settled} unfinished ones settled\n`,
      );
    await store.close();
    return 0;
  },
});
