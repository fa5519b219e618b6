/** The ENIs that we know, and how one becomes ours. */
import { IpamError, isError } from '../../domain/error.ts';
import type { EniId, InstanceId, SubnetId } from '../../domain/ids.ts';
import type { LedgerEni, LedgerSubnet } from '../../store/store.ts';
import type { IpamContext } from '../context.ts';
import { refuseForeign } from './identity.ts';
import { arrivedOn, noteObserved, refreshed, survey, toLedger } from './survey.ts';

/** An ENI and the subnet it is in. */
export interface Home {
  readonly eni: LedgerEni;
  readonly subnet: LedgerSubnet;
}

export interface Enis {
  /** What is known of the ENI, from the ledger or else from EC2; writes nothing. */
  look(id: EniId): Promise<Home>;
  /** The ENI if it is known to be this ledger's already. */
  recall(id: EniId): Home | null;
  /** The ENI if it belongs to this ledger; embedded, one that is attached to this instance does from the first contact
   *  on. Null: it does not. On a central server that asks EC2 nothing: whoever asks may name any ENI, and only Docker's
   *  RequestPool and an operator make one this ledger's. */
  own(id: EniId): Promise<Home | null>;
  /** The ENI if it is one of this ledger's that was not on its instance when EC2 last showed it. Asks EC2 nothing. */
  away(id: EniId): Promise<Home | null>;
  /** The ENI as one of this ledger's: its subnet is in the ledger, and everything on it that the ledger did
   *  not put there is written down as occupied. Costs EC2 calls only the first time. */
  adopt(id: EniId): Promise<Home>;
  /** Reads the ENI from EC2 anew; `unlessYoung`: what was read within a minute will do. */
  refresh(id: EniId, how?: { unlessYoung: true }): Promise<Home>;
  /** EC2 shows the ENI otherwise than it was: what is remembered of it is looked up again. */
  forget(id: EniId): void;
  /** Docker has released its last pool on the ENI: nobody is expected to ask. Nothing happens to an ENI that is not
   *  this ledger's. */
  released(id: EniId): Promise<void>;
  /** Docker asks for something on the ENI, so that it may be expected to ask again. */
  wanted(home: Home): Promise<Home>;
  /** All ENIs as the ledger has them now; what is remembered of them is brought up to date. */
  readAll(): Promise<LedgerEni[]>;
  /** How many ENIs of this ledger the subnet has; about. */
  countIn(subnet: SubnetId): Promise<number>;
}

/** What was read of an ENI is young for so long. */
const YOUNG_MS = 60_000;

/** What stands for the primary address of an ENI of which the ancestor's rows alone tell. */
const PRIMARY_UNREAD = '0.0.0.0';

function nullWhenGone(error: unknown): null {
  if (isError(error, 'ec2-not-found')) return null;
  throw error;
}

/** The refusal of a request on an ENI that is not this ledger's. */
export const notOurs = (id: EniId, { instance }: Pick<IpamContext, 'instance'>): IpamError =>
  instance === null
    ? new IpamError('conflict', `${id} is not an ENI of this ledger`, {
        hint: `create its network anew, or run \`ec2-ipam adopt ${id}\` on the server`,
      })
    : new IpamError('conflict', `${id} is not attached to ${instance}, whose ENIs alone are served here`, {
        hint: 'attach it here, or use a central server for ENIs of several instances',
      });

/** The ENIs of the ledger that this process may assign on and unassign from. */
export const oursIn = (enis: readonly LedgerEni[], instance: IpamContext['instance']): LedgerEni[] =>
  enis.filter(eni => eni.ours && (instance === null || eni.instance === instance));

export function createEnis(context: IpamContext): Enis {
  const { store, cloud } = context;
  const ours = new Map<EniId, Home>();
  const adopting = new Map<EniId, Promise<Home>>();
  const surveying = new Map<SubnetId, Promise<LedgerSubnet>>();
  const readAt = new Map<EniId, number>();
  let counts: { readonly at: number; readonly of: ReadonlyMap<SubnetId, number> } | null = null;

  const subnetOf = async (id: SubnetId): Promise<LedgerSubnet | null> =>
    (await store.subnets()).find(subnet => subnet.id === id) ?? null;

  /** Many networks may be made at once in a subnet that is new to the ledger: they share one survey. */
  function knownOrSurveyed(id: SubnetId): Promise<LedgerSubnet> {
    const look = async () => (await subnetOf(id)) ?? (await survey(context, id)).subnet;
    const underWay = surveying.get(id) ?? look().finally(() => surveying.delete(id));
    surveying.set(id, underWay);
    return underWay;
  }

  async function look(id: EniId): Promise<Home> {
    const known = ours.get(id);
    if (known !== undefined) return known;
    const eni = (await store.eni(id)) ?? toLedger(await cloud.eni(id), null);
    const subnet = (await subnetOf(eni.subnet)) ?? (await cloud.subnet(eni.subnet));
    return { eni, subnet };
  }

  async function adopt(id: EniId): Promise<Home> {
    const known = ours.get(id);
    if (known !== undefined) return known;
    const underWay = adopting.get(id) ?? adoptNow(id).finally(() => adopting.delete(id));
    adopting.set(id, underWay);
    return underWay;
  }

  async function own(id: EniId): Promise<Home | null> {
    const known = ours.get(id);
    if (known !== undefined) return known;
    if ((await store.eni(id))?.ours) return await adopt(id);
    if (context.instance === null) return null;
    const seen = await cloud.eni(id).catch(nullWhenGone);
    return seen === null || isElsewhere(seen) ? null : await adopt(id);
  }

  async function away(id: EniId): Promise<Home | null> {
    const eni = await store.eni(id);
    if (!eni?.ours || !isElsewhere(eni)) return null;
    const subnet = await subnetOf(eni.subnet);
    return subnet === null ? null : { eni, subnet };
  }

  async function adoptNow(id: EniId): Promise<Home> {
    const eni = await store.eni(id);
    const subnet = eni?.ours ? await subnetOf(eni.subnet) : null;
    // What the ledger says of the attachment may be old: EC2 decides before anybody is refused.
    if (eni === null || subnet === null || isElsewhere(eni) || eni.primary === PRIMARY_UNREAD)
      return await refresh(id);
    return remember({ eni, subnet });
  }

  async function refresh(id: EniId, how?: { unlessYoung: true }): Promise<Home> {
    const known = ours.get(id);
    const age = context.clock() - (readAt.get(id) ?? Number.NEGATIVE_INFINITY);
    if (how?.unlessYoung && known !== undefined && age < YOUNG_MS) return known;
    const [before, noted] = [await store.onEni(id), await store.eni(id)];
    const observed = await cloud.eni(id);
    readAt.set(id, context.clock());
    refuseElsewhere(observed);
    await refuseForeign(context, observed);
    const [addressLimit, subnet] = await Promise.all([
      observed.instance === null ? null : addressLimitOf(context, observed.instance),
      knownOrSurveyed(observed.subnet),
    ]);
    await noteObserved(context, [observed]);
    await store.move(arrivedOn(observed, before.rows, before.now));
    const eni = refreshed(noted, observed, addressLimit, before.now);
    await store.saveEnis([eni]);
    await store.adopt(id);
    return remember({ eni: (await store.eni(id)) ?? eni, subnet });
  }

  const isElsewhere = (eni: Pick<LedgerEni, 'instance'>): boolean =>
    context.instance !== null && eni.instance !== context.instance;

  /** Embedded, a ledger is one instance's: the ENI of another one belongs to the ledger there. */
  function refuseElsewhere(eni: Pick<LedgerEni, 'id' | 'instance'>): void {
    if (!isElsewhere(eni)) return;
    throw new IpamError(
      'bad-request',
      `${eni.id} is attached to ${eni.instance ?? 'no instance'}, and this driver serves the ENIs of ${context.instance} only`,
      { hint: 'attach it here, or use a central server for ENIs of several instances' },
    );
  }

  function remember(home: Home): Home {
    if (!ours.has(home.eni.id)) counts = null;
    ours.set(home.eni.id, home);
    return home;
  }

  const forget = (id: EniId): void => void ours.delete(id);

  const recall = (id: EniId): Home | null => ours.get(id) ?? null;

  async function released(id: EniId): Promise<void> {
    const eni = ours.get(id)?.eni ?? (await store.eni(id));
    if (!eni?.ours || isElsewhere(eni)) return;
    await store.setReleased(id, true);
    ours.delete(id);
  }

  async function wanted(home: Home): Promise<Home> {
    if (home.eni.releasedAt === null) return home;
    await store.setReleased(home.eni.id, false);
    const now = { ...home, eni: { ...home.eni, releasedAt: null } };
    return ours.get(home.eni.id) === home ? remember(now) : now; // it may have been released again meanwhile
  }

  async function readAll(): Promise<LedgerEni[]> {
    const all = await store.enis();
    const of = new Map<SubnetId, number>();
    // Another process may have noted that one has left, or has come back.
    for (const eni of all) if (isElsewhere(eni)) ours.delete(eni.id);
    for (const eni of oursIn(all, context.instance)) {
      of.set(eni.subnet, (of.get(eni.subnet) ?? 0) + 1);
      const known = ours.get(eni.id);
      if (known !== undefined) ours.set(eni.id, { ...known, eni });
    }
    counts = { at: context.clock(), of };
    return all;
  }

  async function countIn(subnet: SubnetId): Promise<number> {
    if (counts === null || context.clock() - counts.at >= YOUNG_MS) await readAll();
    return counts?.of.get(subnet) ?? 0;
  }

  return { look, recall, own, away, adopt, refresh, forget, released, wanted, readAll, countIn };
}

/** IPv4 addresses that each ENI of the instance may hold, its primary included; null when EC2 does not say. That is
 *  the instance type's, never changes, and so is asked of EC2 once. */
async function addressLimitOf({ store, cloud }: IpamContext, instance: InstanceId): Promise<number | null> {
  const type = await cloud.instanceType(instance);
  if (type === null) return null;
  const fact = `address limit of ${type}`;
  const known = await store.fact(fact);
  if (known !== null) return Number(known);
  const limit = await cloud.addressLimit(type);
  if (limit !== null) await store.noteFact(fact, String(limit));
  return limit;
}
