import type { EniId } from '../../domain/ids.ts';
import { refuse } from './ec2-error.ts';
import type { Network } from './network.ts';
import { ACCOUNT_ID, type Eni, type Subnet } from './records.ts';

/** Whose credentials a call is made with, and in which Region it is made. */
export interface Caller {
  readonly account: string;
  /** Null: that of the VPC. */
  readonly region: string | null;
}

export const OWNER: Caller = { account: ACCOUNT_ID, region: null };

/** What EC2 shows a caller of another account: in a shared subnet that subnet and its own ENIs, and to the subnet's
 *  owner the participants' too. In another Region there is nothing of it.
 *  https://docs.aws.amazon.com/vpc/latest/userguide/vpc-share-limitations.html */
export class View {
  readonly #network: Network;
  readonly #caller: Caller;
  readonly #isElsewhere: boolean;

  constructor(network: Network, region: string, caller: Caller = OWNER) {
    this.#network = network;
    this.#caller = caller;
    this.#isElsewhere = caller.region !== null && caller.region !== region;
  }

  showsSubnet = ({ owner, sharedWith }: Subnet): boolean =>
    !this.#isElsewhere && (owner === this.#caller.account || sharedWith.includes(this.#caller.account));

  showsEni = (eni: Eni): boolean =>
    !this.#isElsewhere &&
    (eni.owner === this.#caller.account || this.#network.subnet(eni.subnet).owner === this.#caller.account);

  /** Throws what EC2 says to one who may not change the ENI. */
  checkOwner(id: EniId): void {
    const eni = this.#network.eni(id);
    if (!this.showsEni(eni)) throw refuse.noSuchEni(id);
    if (eni.owner !== this.#caller.account) throw refuse.notYours();
  }
}
