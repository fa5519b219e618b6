/** The command `init`: reads subnets from EC2 into the ledger. */
import { formatCidr, parseCidr } from '../../domain/address.ts';
import { parseSubnetId } from '../../domain/ids.ts';
import { checkIdentity } from '../../ipam/ec2/account.ts';
import { survey } from '../../ipam/ec2/survey.ts';
import { command, JSON_OPTION } from '../command.ts';
import { LEDGER_SETTINGS } from '../settings/settings.ts';
import { createProgress, print } from '../terminal/output.ts';

export const init = command({
  name: 'init',
  summary: 'read subnets and their ENIs from EC2 and fill the ledger; again: refresh it',
  usage: 'SUBNET[=CIDR]…',
  args: { min: 1, max: 100 },
  settings: LEDGER_SETTINGS,
  options: { json: JSON_OPTION },
  async run({ args, config, log, io, options, assemble }) {
    const wanted = args.map(arg => {
      const [id = '', cidr] = arg.split('=');
      return { id: parseSubnetId(id), range: cidr === undefined ? null : parseCidr(cidr) };
    });
    const { context, store, open } = await assemble(config, log);
    await open();
    await checkIdentity(context);
    for (const { id, range } of wanted) {
      const bar = createProgress(io.err, id);
      const { subnet, enis, added, free, available } = await survey(context, id, range, bar.show);
      bar.end();
      const summary = {
        subnet: id,
        cidr: formatCidr(subnet.cidr),
        range: range && formatCidr(range),
        enis,
        added,
        free,
        available,
      };
      const text = `${id} ${summary.cidr}: ${added} addresses added, ${free} free, ${enis} network interfaces\n`;
      print(io.out, options.json, summary, text);
      if (available < free && range === null)
        io.err.write(
          `warning: EC2 has ${available} addresses of ${id} available and the ledger ${free} free: others use this subnet too; give containers a subnet of their own or an explicit CIDR reservation\n`,
        );
    }
    await store.close();
    return 0;
  },
});
