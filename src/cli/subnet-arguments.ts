/** The arguments SUBNET… of a command, looked up in the ledger. */
import { IpamError } from '../domain/error.ts';
import { parseSubnetId } from '../domain/ids.ts';
import type { LedgerSubnet, Store } from '../store/store.ts';

/** Returns the subnets that the arguments name, or all. Throws bad-request for one that is not in the ledger, and
 *  unavailable when the schema is out of date. */
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
