/** The commands `hold` and `unhold`: operators reserve addresses, so that no container gets them. */
import {
  type AddressRange,
  covers,
  formatRange,
  fromNumber,
  type Ipv4,
  isReserved,
  parseRange,
  sizeOf,
} from '../../domain/address.ts';
import { type Allocation, type Change, REASON_CHARS_MAX } from '../../domain/allocation.ts';
import { IpamError } from '../../domain/error.ts';
import { parseSubnetId } from '../../domain/ids.ts';
import { cleaned } from '../../domain/text.ts';
import { CHANGES_MAX, type LedgerSubnet, type Store } from '../../store/store.ts';
import { command, JSON_OPTION } from '../command.ts';
import { STORE_SETTINGS } from '../settings/settings.ts';
import { type Kind, text } from '../settings/value-parsers.ts';
import { namedSubnets } from '../subnet-arguments.ts';
import { print, table } from '../terminal/output.ts';

/** The most addresses of one call. */
const ADDRESSES_MAX = 4096;

const reason: Kind<string> = {
  metavar: 'TEXT',
  accepts: `a text of at most ${REASON_CHARS_MAX} characters`,
  parse: given => {
    const clean = cleaned(given, REASON_CHARS_MAX + 1).trim();
    return clean === '' || clean.length > REASON_CHARS_MAX ? undefined : clean;
  },
};
const SUBNET_OPTION = {
  kind: text('SUBNET', 'a subnet id'),
  fallback: null,
  help: 'needed only where several subnets of the ledger have these addresses',
} as const;
const SHARED = {
  usage: 'ADDRESS…',
  args: { min: 1, max: 100 },
  settings: STORE_SETTINGS,
} as const;

export const hold = command({
  ...SHARED,
  name: 'hold',
  summary: 'reserve free addresses, so that no container gets them',
  options: {
    why: {
      kind: reason,
      fallback: null,
      help: 'needed: the reason, which `status` shows, and the error of who asks for such an address',
    },
    subnet: SUBNET_OPTION,
    json: JSON_OPTION,
  },
  help: `An ADDRESS is one (10.0.1.20), a range (10.0.1.20-10.0.1.29) or a block (10.0.1.32/28), ${ADDRESSES_MAX} addresses in all
at most. Only free ones are reserved. The others stay as they are, are listed with what they are, and the exit status is
1. An address that is ready is free after \`ec2-ipam recycle\`. Only \`ec2-ipam unhold\` ends it.
`,
  async run({ args, config, log, io, options, assemble }) {
    const { why } = options;
    if (why === null)
      throw new IpamError('bad-request', 'hold needs a reason', { hint: 'add --why "the load balancer"' });
    const { store } = await assemble(config, log);
    const result = await moveAll(store, args, options.subnet, (row, { cidr }) => {
      if (isReserved(cidr, row.ip)) return 'is reserved by AWS';
      if (row.status === 'free') return { row, move: 'hold', reservedFor: why };
      return row.reservedFor === why ? null : wordsOf(row);
    });
    await store.close();
    print(io.out, options.json, { reserved: result.done, left: result.left, why }, said('reserved', result));
    return result.left.length === 0 ? 0 : 1;
  },
});

export const unhold = command({
  ...SHARED,
  name: 'unhold',
  summary: 'end what `hold` has reserved: the addresses are free again',
  options: { subnet: SUBNET_OPTION, json: JSON_OPTION },
  help: `An ADDRESS is one, a range or a block, as for \`hold\`. Addresses that no operator has reserved stay as they are,
are listed with what they are, and the exit status is 1.
`,
  async run({ args, config, log, io, options, assemble }) {
    const { store } = await assemble(config, log);
    const result = await moveAll(store, args, options.subnet, row => {
      if (row.status === 'free') return null;
      return row.reservedFor === null
        ? `${wordsOf(row)}, and no operator has reserved it`
        : { row, move: 'unhold' };
    });
    await store.close();
    print(io.out, options.json, { freed: result.done, left: result.left }, said('freed', result));
    return result.left.length === 0 ? 0 : 1;
  },
});

interface Result {
  /** What is now as it was asked for, some of it before. */
  readonly done: readonly Ipv4[];
  readonly left: readonly { readonly ip: Ipv4; readonly why: string }[];
}

/** Makes the changes that `decide` returns for the rows of the arguments. It returns why a row is left as it is, or null
 *  when the row is as it should be. */
async function moveAll(
  store: Store,
  args: readonly string[],
  subnetArg: string | null,
  decide: (row: Allocation, subnet: LedgerSubnet) => Change | string | null,
): Promise<Result> {
  const ranges = args.map(parseRange);
  const subnets = await namedSubnets(store, subnetArg === null ? [] : [parseSubnetId(subnetArg, '--subnet')]);
  const bySubnet = Map.groupBy(ranges, range => subnetWith(range, subnets));
  const count = ranges.reduce((sum, range) => sum + sizeOf(range), 0);
  if (count > ADDRESSES_MAX)
    throw new IpamError(
      'bad-request',
      `these are ${count} addresses; at most ${ADDRESSES_MAX} are changed at a time`,
    );
  const done: Ipv4[] = [];
  const left: { ip: Ipv4; why: string }[] = [];
  for (const [subnet, ofSubnet] of bySubnet) {
    const ips = [...new Set(ofSubnet.flatMap(addressesIn))];
    for (let from = 0; from < ips.length; from += CHANGES_MAX) {
      const some = ips.slice(from, from + CHANGES_MAX);
      const rows = new Map((await store.get(subnet.id, some)).rows.map(row => [row.ip, row]));
      const decided = some.map(ip => {
        const row = rows.get(ip);
        return { ip, decision: row === undefined ? 'is not in the ledger' : decide(row, subnet) };
      });
      const changes = decided.flatMap(({ decision }) =>
        decision === null || typeof decision === 'string' ? [] : [decision],
      );
      const moved = new Set((changes.length === 0 ? [] : await store.move(changes)).map(row => row.ip));
      for (const { ip, decision } of decided) {
        const why = typeof decision === 'string' ? decision : 'changed meanwhile: try again';
        if (decision === null || moved.has(ip)) done.push(ip);
        else left.push({ ip, why });
      }
    }
  }
  return { done, left };
}

/** Returns the subnet of the ledger that has the range. Throws bad-request when none or several have it. */
function subnetWith(range: AddressRange, subnets: readonly LedgerSubnet[]): LedgerSubnet {
  const [subnet, other] = subnets.filter(({ cidr }) => covers(cidr, range));
  const those = formatRange(range);
  if (subnet === undefined)
    throw new IpamError('bad-request', `no subnet of the ledger has ${those}`, {
      hint: 'see `ec2-ipam status` for its subnets',
    });
  if (other !== undefined)
    throw new IpamError('bad-request', `${subnet.id} and ${other.id} both have ${those}`, {
      hint: 'add --subnet',
    });
  return subnet;
}

const addressesIn = (range: AddressRange): Ipv4[] =>
  Array.from({ length: sizeOf(range) }, (_, i) => fromNumber(range.first + i));

/** What the row is. */
function wordsOf({ status, iface, holder, reservedFor }: Allocation): string {
  const by = holder === null ? '' : ` by ${holder}`;
  const on = iface === null ? '' : ` on ${iface}`;
  return `is ${status}${by}${on}${reservedFor === null ? '' : `: ${reservedFor}`}`;
}

function said(what: string, { done, left }: Result): string {
  const count = `${what} ${done.length} of ${done.length + left.length}\n`;
  return left.length === 0
    ? count
    : `${count}${table(
        ['LEFT', 'IT'],
        left.map(({ ip, why }) => [ip, why]),
      )}`;
}
