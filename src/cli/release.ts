import { parseIpv4 } from '../domain/address.ts';
import { IpamError } from '../domain/error.ts';
import { parseSubnetId } from '../domain/ids.ts';
import { order } from '../ipam/order.ts';
import { command } from './command.ts';
import { onOff } from './kinds.ts';
import { ago } from './output.ts';
import { namedSubnets } from './subnets.ts';
import { LEDGER_SETTINGS } from './uses.ts';

export const release = command({
  name: 'release',
  summary: "give up a holder's address on an operator's order",
  usage: 'SUBNET ADDRESS',
  args: { min: 2, max: 2 },
  settings: LEDGER_SETTINGS,
  options: {
    yes: { kind: onOff, fallback: 'off', help: 'do not ask' },
    'dry-run': { kind: onOff, fallback: 'off', help: 'show the holder only' },
  },
  async run({ args: [subnetArg = '', ipArg = ''], config, log, io, options, assemble }) {
    const subnet = parseSubnetId(subnetArg);
    const ip = parseIpv4(ipArg);
    const { store } = assemble(config, log);
    await namedSubnets(store, [subnet]);
    const { rows, now } = await store.get(subnet, [ip]);
    const [row] = rows;
    if (row === undefined) throw new IpamError('bad-request', `${ip} is not in the ledger of ${subnet}`);
    const ours = (await store.enis()).some(eni => eni.id === row.iface && eni.ours);
    const { move, refusal } = order(row, ours);
    const holder = row.holder === null ? '' : ` by ${row.holder}`;
    io.out.write(
      `${ip} is ${row.status}${holder} on ${row.iface ?? 'no ENI'} since ${ago(now - row.movedAt)}\n`,
    );
    if (move === null) throw new IpamError('conflict', refusal);
    if (options['dry-run']) return 0;
    if (
      !options.yes &&
      !/^y(es)?$/i.test(
        (await io.ask(`Give it up? Traffic of a container that still has it goes astray. [y/N] `)) ?? '',
      )
    ) {
      io.err.write('nothing was changed\n');
      return 1;
    }
    const [moved] = await store.move([{ row, move }]);
    await store.close();
    if (moved === undefined)
      throw new IpamError('conflict', `${ip} changed while you were asked`, { hint: 'look again' });
    io.out.write(`${ip} is ${moved.status} on ${moved.iface}\n`);
    return 0;
  },
});
