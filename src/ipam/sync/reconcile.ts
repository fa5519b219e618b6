/** Compares a subnet of the ledger with EC2, and makes the moves that close the differences. */
import type { CloudEni } from '../../cloud/cloud.ts';
import type { Ipv4 } from '../../domain/address.ts';
import type { Allocation, Change } from '../../domain/allocation.ts';
import { type Drift, describe, driftOf, type Sighting } from '../../domain/drift.ts';
import { attachmentsAfter, DETACHED } from '../../domain/eni-departure.ts';
import type { EniId, SubnetId } from '../../domain/ids.ts';
import { CHANGES_MAX, type LedgerEni } from '../../store/store.ts';
import { type IpamContext, urgently } from '../context.ts';
import { isProvedBy, learnIdentity, seesAnother } from '../ec2/account.ts';
import { type Enis, oursIn } from '../ec2/enis.ts';
import { repair } from '../ec2/recover.ts';
import { arrivedOn, isReturned, noteReturned, refreshed, sightingsOn } from '../ec2/survey.ts';
import { withTenants } from '../ec2/tenants.ts';
import { unassignUnreached } from '../ec2/unassign.ts';
import type { Evidence } from './holders.ts';

/** Held addresses that one pass assigns again. */
const REPAIRS_MAX = 200;
/** Addresses that one pass unassigns, of each kind. */
const TAKEN_OFF_MAX = 50;

const IN_USE = ['ready', 'allocated', 'occupied', 'assigning', 'unassigning'] as const;

/** The kinds of difference that rest on the absence of an address. */
const ABSENCES: readonly Drift['kind'][] = ['astray', 'missing', 'unseen', 'vacated'];

/** What a comparison reads from EC2: all ENIs of the subnet, or this ledger's ENIs by their ids. */
export type Scope = 'whole' | 'own';

/** A reading of the ledger and then of EC2. No server has moved a row that is unchanged after that. */
interface View {
  readonly scope: Scope;
  readonly rows: readonly Allocation[];
  readonly now: number;
  readonly enis: ReadonlyMap<EniId, CloudEni>;
  /** The ENIs of the ledger on any instance, as EC2 shows them now. */
  readonly known: readonly LedgerEni[];
  /** The ENIs that this process may change. Embedded, only those that EC2 has shown. */
  readonly ours: ReadonlySet<EniId>;
  /** Whether the client is proved to be of the ledger's account and Region, so that an absence counts. */
  readonly isProved: boolean;
  /** The ENIs of the ledger whose record differs from what EC2 shows, as EC2 shows them. */
  readonly changed: readonly LedgerEni[];
  /** Embedded: those of them that have come back to this instance. */
  readonly returned: readonly CloudEni[];
}

async function view(context: IpamContext, subnet: SubnetId, scope: Scope): Promise<View> {
  const { store, cloud } = context;
  const { instance } = context.host;
  const known = await store.enis();
  const { rows, now } = await store.withStatus(subnet, IN_USE);
  const enis = new Map<EniId, CloudEni>();
  if (scope === 'whole')
    for await (const page of cloud.enis(subnet)) for (const eni of page) enis.set(eni.id, eni);
  else {
    const ids = known.filter(eni => eni.ours && eni.subnet === subnet).map(eni => eni.id);
    for (const eni of await cloud.enisById(ids)) enis.set(eni.id, eni);
  }
  const ourEnis = known.flatMap(eni => (eni.ours ? (enis.get(eni.id) ?? []) : []));
  for (const eni of await withTenants(context, ourEnis, known)) enis.set(eni.id, eni);
  const changed = known.flatMap(eni => {
    const seen = enis.get(eni.id);
    return eni.ours && seen !== undefined ? asShown(eni, seen, now) : [];
  });
  const returned = changed.flatMap(({ id }) => {
    const seen = enis.get(id);
    const before = known.find(eni => eni.id === id) ?? null;
    return seen !== undefined && isReturned(context, before, seen) ? [seen] : [];
  });
  const current = known.filter(eni => eni.ours).map(eni => changed.find(one => one.id === eni.id) ?? eni);
  const ours = oursIn(current, instance).filter(eni => instance === null || enis.has(eni.id));
  const shown = known.find(eni => eni.ours && enis.has(eni.id));
  const seen = shown && enis.get(shown.id);
  if (seen !== undefined) await learnIdentity(context, seen);
  const [any] = current.filter(eni => eni.subnet === subnet);
  const isProved =
    (await isProvedBy(context, enis.values())) || (any !== undefined && (await seesAnother(context, any.id)));
  return {
    scope,
    rows,
    now,
    enis,
    known: current,
    isProved,
    changed,
    returned,
    ours: new Set(ours.map(eni => eni.id)),
  };
}

/** Returns the ENI as EC2 shows it, if the ledger's record differs. The address limit is kept only on the same
 *  instance: another one may be of another type. */
function asShown(eni: LedgerEni, seen: CloudEni, readAt: number): LedgerEni[] {
  const limit = eni.instance === seen.instance ? eni.addressLimit : null;
  const now = refreshed(eni, seen, limit, readAt);
  const same =
    now.instance === eni.instance &&
    now.attachment === eni.attachment &&
    now.prefixes === eni.prefixes &&
    now.mac === eni.mac &&
    now.tenant === eni.tenant &&
    now.primary === eni.primary;
  return same ? [] : [now];
}

/** Returns the differences. `left` are the ENIs that are proved to have left the instance of this ledger. */
async function driftIn(
  context: IpamContext,
  subnet: SubnetId,
  seen: View,
  left: ReadonlySet<EniId> = new Set(),
): Promise<Drift[]> {
  const sightings = new Map<Ipv4, Sighting>([...seen.enis.values()].flatMap(sightingsOn));
  const scene = {
    ours: (eni: EniId) => seen.ours.has(eni),
    hasLeft: (eni: EniId) => left.has(eni),
    isWhole: seen.scope === 'whole',
  };
  const judge = (row: Allocation): Drift[] => {
    const at = sightings.get(row.ip) ?? null;
    const drift = driftOf(row, at, scene, context.policy, seen.now);
    return drift === null ? [] : [drift];
  };
  const drifts = [...seen.rows.flatMap(judge), ...arrivals(seen)];
  const known = new Set<Ipv4>(seen.rows.map(row => row.ip));
  const others = [...sightings.keys()].filter(ip => !known.has(ip));
  for (let from = 0; from < others.length; from += CHANGES_MAX) {
    const { rows } = await context.store.get(subnet, others.slice(from, from + CHANGES_MAX));
    drifts.push(...rows.filter(row => row.status === 'free').flatMap(judge));
  }
  return seen.isProved ? drifts : drifts.filter(({ kind }) => !ABSENCES.includes(kind));
}

/** Returns the addresses that assigns without an answer have put on our ENIs. */
function arrivals({ rows, now, enis, ours }: View): Drift[] {
  const asked = rows.filter(row => row.status === 'assigning');
  if (asked.length === 0) return [];
  return [...enis.values()]
    .filter(eni => ours.has(eni.id))
    .flatMap(eni => arrivedOn(eni, asked, now))
    .map(change => ({ kind: 'arrived', row: change.row, seenOn: change.row.iface, change }));
}

/** Returns the differences between the ledger and EC2. Changes nothing but the record of the ledger's account. */
export async function compare(context: IpamContext, subnet: SubnetId): Promise<Drift[]> {
  return await driftIn(context, subnet, await view(context, subnet, 'whole'));
}

export interface Closed {
  readonly moved: number;
  readonly repaired: number;
}

/** Closes the differences by moves and EC2 calls. A row that has changed since the comparison stays as it is. */
export async function close(context: IpamContext, drifts: readonly Drift[]): Promise<Closed> {
  const made = await makeMoves(context, drifts);
  const rowsOf = (kind: Drift['kind']) => drifts.filter(drift => drift.kind === kind).map(drift => drift.row);
  const astray = (await unassignUnreached(context, rowsOf('astray').slice(0, TAKEN_OFF_MAX))).freed.length;
  // Shuffled, so that each gets its turn if there are more than one pass repairs.
  const missing = shuffled(rowsOf('missing'), context.random);
  // Urgent, since the container of a missing address has no network.
  const urgent = urgently(context, () => 'cold');
  const repaired = await repair(urgent, missing.slice(0, REPAIRS_MAX));
  return { moved: made.length + astray, repaired };
}

const shuffled = <T>(items: readonly T[], random: () => number): T[] =>
  items
    .map(item => ({ item, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);

/** Makes the moves of the differences that need no EC2 call first. Returns the rows that moved. */
async function makeMoves(context: IpamContext, drifts: readonly Drift[]): Promise<Allocation[]> {
  for (const drift of drifts)
    if (drift.kind !== 'unseen' && drift.kind !== 'seen') {
      context.observer?.drifted(drift.kind);
      context.log('warn', `drift: ${describe(drift)}`);
    }
  const changes = drifts.flatMap((drift): Change[] => (drift.change === null ? [] : [drift.change]));
  const made: Allocation[] = [];
  for (let from = 0; from < changes.length; from += CHANGES_MAX)
    made.push(...(await context.store.move(changes.slice(from, from + CHANGES_MAX))));
  return made;
}

/** Reads the whole subnet before a request is refused, and records which addresses others have taken or left.
 *  Returns how many rows changed. Makes no change in EC2: that is left to the next pass. */
export async function checkSubnet(context: IpamContext, subnet: SubnetId): Promise<number> {
  const drifts = await compare(context, subnet);
  return (await makeMoves(context, drifts.filter(isByOthers))).length;
}
const isByOthers = ({ kind }: Drift): boolean => ['foreign', 'seen', 'unseen', 'vacated'].includes(kind);

/** Returns the most EC2 calls that closing the differences takes. */
export function costOf(drifts: readonly Drift[]): number {
  const enis = (kind: Drift['kind']) =>
    new Set(drifts.filter(drift => drift.kind === kind).map(drift => drift.row.iface ?? drift.seenOn)).size;
  return enis('astray') + enis('missing');
}

export interface Pass {
  /** Something of this ledger's differed, or is still to be settled. */
  readonly differed: boolean;
  /** EC2 has shown the client no ENI of the ledger, and none of its account. */
  readonly isBlind: boolean;
}

/** Makes one pass over a subnet: records how its ENIs are attached, ends the holdings whose end is proved, and
 *  closes the differences. */
export async function reconcile(
  context: IpamContext,
  enis: Enis,
  proof: Evidence,
  subnet: SubnetId,
  scope: Scope = 'whole',
): Promise<Pass> {
  const seen = await view(context, subnet, scope);
  // Requests are served on them as soon as the ledger has them here.
  await noteReturned(context, seen.returned, seen.now);
  if (seen.changed.length > 0) await context.store.saveEnis(seen.changed);
  await context.store.noteAttachments(shownIn(seen), seen.now);
  for (const { id } of seen.changed) enis.forget(id);
  const left = await proof.weigh(weighed(context, seen), seen.enis, seen.now);
  // A central ledger keeps an ENI that is attached to no instance.
  const stranded = context.host.instance === null ? new Set<EniId>() : left;
  const gone = seen.known.filter(eni => stranded.has(eni.id) && !seen.enis.has(eni.id));
  // Recorded as detached, so that no call is made for them unless EC2 shows them here again.
  if (gone.length > 0)
    await context.store.saveEnis(
      gone.map(eni => ({
        ...eni,
        ...attachmentsAfter(eni, DETACHED, seen.now),
        instance: null,
        attachment: null,
      })),
    );
  for (const { id } of gone) enis.forget(id);
  const drifts = await driftIn(context, subnet, seen, stranded);
  await close(context, drifts);
  context.observer?.reconciled(subnet);
  const differed = seen.changed.length > 0 || !drifts.every(isByOthers) || !seen.rows.every(isShownOn(seen));
  return { differed, isBlind: !seen.isProved && !seen.known.some(({ id }) => seen.enis.has(id)) };
}

/** Returns whether the row is on an ENI of ours that EC2 has shown, or is not for this ledger to settle. */
const isShownOn =
  ({ ours }: View) =>
  ({ status, iface }: Allocation): boolean =>
    status === 'occupied' || iface === null || ours.has(iface);

/** Returns the ENIs of the ledger that EC2 has shown, with their attachments. */
const shownIn = ({ known, enis }: View) =>
  known.flatMap(({ id }) => {
    const seen = enis.get(id);
    return seen === undefined ? [] : [{ id, attachment: seen.attachment }];
  });

/** Returns the rows whose ENI is checked for an end: the held ones; embedded, also the others that have to be
 *  settled when their ENI has left. */
function weighed({ host: { instance } }: IpamContext, { rows, known, ours }: View): Allocation[] {
  const ids = new Set(known.map(eni => eni.id));
  return rows.filter(
    ({ status, iface }) =>
      iface !== null &&
      ids.has(iface) &&
      (status === 'allocated' || (instance !== null && status !== 'occupied' && !ours.has(iface))),
  );
}
