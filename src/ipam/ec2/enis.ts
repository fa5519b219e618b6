/** The ENIs of the ledger: reads, caches and adopts them. */
import { IpamError, isError } from '../../domain/error.ts';
import type { EniId, InstanceId, SubnetId } from '../../domain/ids.ts';
import type { LedgerEni, LedgerSubnet } from '../../store/store.ts';
import { type IpamContext, inTurnOf } from '../context.ts';
import { refuseForeign } from './account.ts';
import { arrivedOn, isReturned, noteObserved, noteReturned, refreshed, survey, toLedger } from './survey.ts';
import { withTenants } from './tenants.ts';

/** An ENI and the subnet it is in. */
export interface Home {
  readonly eni: LedgerEni;
  readonly subnet: LedgerSubnet;
}

export interface Enis {
  /** Returns the ENI from the ledger, or from EC2 if the ledger does not have it. Writes nothing. EC2 is asked in the
   *  turn of `host`, since any host may name any ENI. */
  look(id: EniId, host?: string): Promise<Home>;
  /** Returns the ENI from the cache; null if it is not there. The cache has ENIs of this ledger only. */
  recall(id: EniId): Home | null;
  /** Returns the ENI if it belongs to this ledger, else null. Embedded, an ENI of this instance is adopted at the
   *  first request. A central server does not ask EC2: a request may name any ENI, and only Docker's RequestPool
   *  and an operator adopt one. */
  own(id: EniId): Promise<Home | null>;
  /** Returns the ENI if it belongs to this ledger and was not on its instance when EC2 last showed it, else null.
   *  Makes no EC2 call. */
  away(id: EniId): Promise<Home | null>;
  /** Makes the ENI one of this ledger's: writes its subnet to the ledger, and marks the addresses on it that the
   *  ledger did not put there as occupied. Makes EC2 calls only the first time. */
  adopt(id: EniId): Promise<Home>;
  /** Reads the ENI from EC2. With `unlessYoung` a read within the last minute is enough. */
  refresh(id: EniId, how?: { unlessYoung: true }): Promise<Home>;
  /** Drops the ENI from the cache, since EC2 shows it changed. */
  forget(id: EniId): void;
  /** Records that Docker has released its last pool on the ENI. Does nothing if the ENI is not this ledger's. */
  released(id: EniId): Promise<void>;
  /** Clears the record of `released`, since Docker uses the ENI again. */
  wanted(home: Home): Promise<Home>;
  /** Returns all ENIs of the store, and updates the cache. */
  readAll(): Promise<LedgerEni[]>;
  /** Returns the number of this ledger's ENIs in the subnet. It may be up to a minute old. */
  countIn(subnet: SubnetId): Promise<number>;
}

/** ENIs that are not known to be the ledger's take one turn together: a request may name any. */
const STRANGERS = 'ENIs that are not known';

/** How long a read of an ENI counts as young, in milliseconds. */
const YOUNG_MS = 60_000;

/** The primary address, in the ledger, of an ENI that is known from the ancestor's rows only. */
const PRIMARY_UNREAD = '0.0.0.0';

function nullWhenGone(error: unknown): null {
  if (isError(error, 'ec2-not-found')) return null;
  throw error;
}

/** The error of a request for an ENI that is not this ledger's. */
export const notOurs = (id: EniId, { host: { instance } }: Pick<IpamContext, 'host'>): IpamError =>
  instance === null
    ? new IpamError('conflict', `${id} is not an ENI of this ledger`, {
        hint: `create its network anew, or run \`ec2-ipam adopt ${id}\` on the server`,
      })
    : new IpamError(
        'conflict',
        `${id} is not attached to ${instance}, and this server serves only its ENIs`,
        {
          hint: 'attach it here, or use a central server for ENIs of several instances',
        },
      );

/** Returns the ENIs of the ledger that this process may assign to and unassign from. */
export const oursIn = (enis: readonly LedgerEni[], instance: InstanceId | null): LedgerEni[] =>
  enis.filter(eni => eni.ours && (instance === null || eni.instance === instance));

export function createEnis(context: IpamContext): Enis {
  const { store } = context;
  const strangers = context.cloud.as(() => 'cold', STRANGERS);
  const ours = new Map<EniId, Home>();
  const adopting = new Map<EniId, Promise<Home>>();
  const surveying = new Map<SubnetId, Promise<LedgerSubnet>>();
  const readAt = new Map<EniId, number>();
  let counts: { readonly at: number; readonly of: ReadonlyMap<SubnetId, number> } | null = null;

  const subnetOf = async (id: SubnetId): Promise<LedgerSubnet | null> =>
    (await store.subnets()).find(subnet => subnet.id === id) ?? null;

  /** Returns the subnet, and surveys it first if it is new to the ledger. Concurrent requests share one survey. */
  function knownOrSurveyed(asking: IpamContext, id: SubnetId): Promise<LedgerSubnet> {
    const look = async () => (await subnetOf(id)) ?? (await survey(asking, id)).subnet;
    const underWay = surveying.get(id) ?? look().finally(() => surveying.delete(id));
    surveying.set(id, underWay);
    return underWay;
  }

  async function look(id: EniId, host?: string): Promise<Home> {
    const known = ours.get(id);
    if (known !== undefined) return known;
    const cloud = host === undefined ? strangers : context.cloud.as(() => 'cold', host);
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
    if (context.host.instance === null) return null;
    const seen = await strangers.eni(id).catch(nullWhenGone);
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
    // The ledger's record of the attachment may be old: EC2 is asked before a request is refused.
    if (eni === null || subnet === null || isElsewhere(eni) || eni.primary === PRIMARY_UNREAD)
      return await refresh(id);
    return remember({ eni, subnet });
  }

  async function refresh(id: EniId, how?: { unlessYoung: true }): Promise<Home> {
    const known = ours.get(id);
    const age = context.clock() - (readAt.get(id) ?? Number.NEGATIVE_INFINITY);
    if (how?.unlessYoung && known !== undefined && age < YOUNG_MS) return known;
    const asking = inTurnOf(context, id);
    const [before, noted] = [await store.onEni(id), await store.eni(id)];
    const shown = await asking.cloud.eni(id);
    const [observed = shown] = await withTenants(asking, [shown], noted === null ? [] : [noted]);
    readAt.set(id, context.clock());
    refuseElsewhere(observed);
    await refuseForeign(asking, observed);
    const [addressLimit, subnet] = await Promise.all([
      observed.instance === null ? null : addressLimitOf(asking, observed.instance),
      knownOrSurveyed(asking, observed.subnet),
    ]);
    const mayBeUsed = noted?.ours && !isReturned(asking, noted, observed);
    await (mayBeUsed ? noteObserved(asking, [observed]) : noteReturned(asking, [observed], before.now));
    await store.move(arrivedOn(observed, before.rows, before.now));
    const eni = refreshed(noted, observed, addressLimit, before.now);
    await store.saveEnis([eni]);
    await store.adopt(id);
    return remember({ eni: (await store.eni(id)) ?? eni, subnet });
  }

  const isElsewhere = (eni: Pick<LedgerEni, 'instance'>): boolean =>
    context.host.instance !== null && eni.instance !== context.host.instance;

  /** Embedded: throws if the ENI is on another instance, since it belongs to the ledger there. */
  function refuseElsewhere(eni: Pick<LedgerEni, 'id' | 'instance'>): void {
    if (!isElsewhere(eni)) return;
    throw new IpamError(
      'bad-request',
      `${eni.id} is attached to ${eni.instance ?? 'no instance'}, and this server serves only the ENIs of ${context.host.instance}`,
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
    return ours.get(home.eni.id) === home ? remember(now) : now; // else it was released again during the write
  }

  async function readAll(): Promise<LedgerEni[]> {
    const all = await store.enis();
    const of = new Map<SubnetId, number>();
    // Another process may have recorded that an ENI has left, or has come back.
    for (const eni of all) if (isElsewhere(eni)) ours.delete(eni.id);
    for (const eni of oursIn(all, context.host.instance)) {
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

/** Returns how many IPv4 addresses, including the primary, each ENI of the instance may hold; null if EC2 does not
 *  say. The number depends on the instance type only and never changes, so EC2 is asked once. */
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
