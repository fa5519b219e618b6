/** The command `reconcile`: compares ledger and EC2, and closes the differences. */
import { type Drift, describe, planFor } from '../../domain/drift.ts';
import { checkIdentity, refuseUnproved } from '../../ipam/ec2/account.ts';
import { takeOver } from '../../ipam/ec2/recover.ts';
import { close, compare, costOf } from '../../ipam/sync/reconcile.ts';
import { command, JSON_OPTION } from '../command.ts';
import { LEDGER_SETTINGS } from '../settings/settings.ts';
import { onOff } from '../settings/value-parsers.ts';
import { namedSubnets } from '../subnet-arguments.ts';
import { createProgress, print } from '../terminal/output.ts';

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
    const { context, store, own } = await assemble(config, log);
    const subnets = await namedSubnets(store, args);
    await own();
    await checkIdentity(context);
    await refuseUnproved(context);
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
    const ec2Calls = costOf(drifts);
    const data = { drift: drifts.map(dataOf), ec2Calls, moved, repaired, settled, dryRun };
    const text = dryRun
      ? `${drifts.length} differences, to be closed with ${ec2Calls} EC2 calls; nothing was changed\n`
      : `${drifts.length} differences, ${moved} moves, ${repaired} repaired, ${settled} unfinished ones settled\n`;
    print(io.out, options.json, data, text);
    await store.close();
    return 0;
  },
});

const dataOf = (drift: Drift) => {
  const { subnet, ip, status, iface } = drift.row;
  return { kind: drift.kind, plan: planFor(drift), subnet, ip, status, iface, seenOn: drift.seenOn };
};
