import { IpamError } from '../../domain/error.ts';
import { parseSubnetId } from '../../domain/ids.ts';
import type { LedgerSubnet, Store } from '../../store/store.ts';

/** The ledger's subnets that were named, or all of them. Throws bad-request for one that is not in the ledger,
 *  and when the schema has to be brought up to date first. */
export async function namedSubnets(store: Store, args: readonly string[]): Promise<LedgerSubnet[]> {
  const outdated = await store.outdated();
  if (outdated !== null) throw new IpamError('unavailable', outdated);
  const known = await store.subnets();
  if (args.length === 0) return known;
  return args.map(arg => {
    const id = parseSubnetId(arg);
    const subnet = known.find(one => one.id === id);
    if (subnet === undefined)
      throw new IpamError('bad-request', `${id} is not in the ledger`, {
        hint: `run \`ec2-ipam init ${id}\` first`,
      });
    return subnet;
  });
}
