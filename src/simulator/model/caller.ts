/** What EC2 shows to a client, by the account and Region of its credentials. */
import type { EniId } from '../../domain/ids.ts';
import { refuse } from './ec2-error.ts';
import type { Network } from './network.ts';
import { ACCOUNT_ID, type Eni, type Subnet } from './records.ts';

/** The credentials of a call. */
export interface Caller {
  readonly account: string;
  /** Null: the Region of the VPC. */
  readonly region: string | null;
}

export const OWNER: Caller = { account: ACCOUNT_ID, region: null };

export interface View {
  showsSubnet(subnet: Subnet): boolean;
  showsEni(eni: Eni): boolean;
  /** Throws EC2's refusal when the caller may not change the ENI. */
  checkOwner(id: EniId): void;
}

/** In a shared subnet another account sees the subnet and its own ENIs. The owner of the subnet sees the ENIs of the
 *  participants too. A client in another Region sees nothing.
 *  https://docs.aws.amazon.com/vpc/latest/userguide/vpc-share-limitations.html */
export function createView(network: Network, region: string, caller: Caller = OWNER): View {
  const { account } = caller;
  const isHere = caller.region === null || caller.region === region;
  const showsEni = (eni: Eni): boolean =>
    isHere && (eni.owner === account || network.subnet(eni.subnet).owner === account);
  return {
    showsSubnet: ({ owner, sharedWith }) => isHere && (owner === account || sharedWith.includes(account)),
    showsEni,
    checkOwner(id) {
      const eni = network.eni(id);
      if (!showsEni(eni)) throw refuse.noSuchEni(id);
      if (eni.owner !== account) throw refuse.notYours();
    },
  };
}
