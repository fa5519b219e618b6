/** The command `adopt`: makes ENIs belong to this ledger. */
import { IpamError } from '../../domain/error.ts';
import { type EniId, parseEniId } from '../../domain/ids.ts';
import type { IpamContext } from '../../ipam/context.ts';
import { checkIdentity } from '../../ipam/ec2/account.ts';
import { createEnis } from '../../ipam/ec2/enis.ts';
import { sightingsOn } from '../../ipam/ec2/survey.ts';
import { command, JSON_OPTION } from '../command.ts';
import { LEDGER_SETTINGS } from '../settings/settings.ts';
import { onOff } from '../settings/value-parsers.ts';
import { namedSubnets } from '../subnet-arguments.ts';
import { print, table } from '../terminal/output.ts';

interface Line {
  readonly eni: EniId;
  readonly subnet: string;
  readonly instance: string | null;
  /** The number of its addresses without the primary. */
  readonly addresses: number;
  /** It belongs to this ledger already. */
  readonly known: boolean;
}

export const adopt = command({
  name: 'adopt',
  summary: 'take over ENIs that an earlier ledger served',
  usage: 'ENI…',
  args: { min: 1, max: 100 },
  settings: LEDGER_SETTINGS,
  options: {
    'dry-run': { kind: onOff, fallback: 'off', help: 'print the plan only' },
    json: JSON_OPTION,
  },
  help: `For a central ledger that was rebuilt. An ENI belongs to a ledger from the network create on; for networks that
exist already, Docker sends none. Addresses on the ENI stay occupied until Docker releases them. Never adopt an ENI
that another ledger serves.
`,
  async run({ args, config, log, io, options, assemble }) {
    const ids = [...new Set(args.map(arg => parseEniId(arg, 'ENI')))];
    const { context, store, own } = await assemble(config, log);
    await namedSubnets(store, []);
    await own();
    await checkIdentity(context);
    const dryRun = options['dry-run'];
    const plan: Line[] = [];
    for (const id of ids) plan.push(await lineOf(context, id));
    if (!options.json)
      io.out.write(
        table(
          ['ENI', 'SUBNET', 'INSTANCE', 'ADDRESSES', 'BECOMES'],
          plan.map(({ eni, subnet, instance, addresses, known }) => [
            eni,
            subnet,
            instance ?? '-',
            String(addresses),
            known ? "this ledger's, as it is" : "this ledger's",
          ]),
        ),
      );
    const enis = createEnis(context);
    for (const { eni } of dryRun ? [] : plan) await enis.refresh(eni);
    const text = dryRun ? `would adopt ${plan.length}; nothing was changed\n` : `adopted ${plan.length}\n`;
    print(io.out, options.json, { adopted: plan, dryRun }, text);
    await store.close();
    return 0;
  },
});

/** Reads the ENI from EC2. All are read before the first is adopted. */
async function lineOf(context: IpamContext, id: EniId): Promise<Line> {
  const seen = await context.cloud.eni(id);
  if (context.host.instance !== null && seen.instance !== context.host.instance)
    throw new IpamError(
      'conflict',
      `${id} is attached to ${seen.instance ?? 'no instance'}, and this ledger is that of ${context.host.instance}`,
      { hint: 'attach it here, or use a central server for ENIs of several instances' },
    );
  return {
    eni: id,
    subnet: seen.subnet,
    instance: seen.instance,
    addresses: sightingsOn(seen).length - 1,
    known: (await context.store.eni(id))?.ours ?? false,
  };
}
