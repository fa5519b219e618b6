/** Compares the ledger with EC2 and makes the moves that close the drift. What is unknown is let be. */
import type { CloudEni } from '../../cloud/cloud.ts';
import type { Ipv4 } from '../../domain/address.ts';
import type { Allocation, Change } from '../../domain/allocation.ts';
import { type Drift, describe, driftOf, type Sighting } from '../../domain/drift.ts';
import { attachmentsAfter, DETACHED } from '../../domain/evidence.ts';
import type { EniId, SubnetId } from '../../domain/ids.ts';
import { CHANGES_MAX, type LedgerEni } from '../../store/store.ts';
import { type IpamContext, urgently } from '../context.ts';
import { type Enis, oursIn } from '../ec2/enis.ts';
import { isProvedBy, learnIdentity, seesAnother } from '../ec2/identity.ts';
import { repair } from '../ec2/recover.ts';
import { arrivedOn, refreshed, sightingsOn } from '../ec2/survey.ts';
import { unassign } from '../ec2/unassign.ts';
import type { Evidence } from './holders.ts';

/** EC2's budget of one pass. Held addresses assigned again, at most two calls for each ENI. */
const REPAIRS_MAX = 200;
/** Addresses taken off, many per call. */
const TAKEN_OFF_MAX = 50;

const IN_USE = ['ready', 'allocated', 'occupied', 'assigning', 'unassigning'] as const;

/** Differences that rest on what EC2 does not show. */
const ABSENCES: readonly Drift['kind'][] = ['astray', 'missing', 'unseen', 'vacated'];

/** What is read of EC2 for a comparison: all ENIs of the subnet, or this ledger's own by their ids. */
export type Scope = 'whole' | 'own';

/** The ledger, and then EC2: a row that still stands as it was read has not been moved by us in between. */
interface View {
  readonly scope: Scope;
  readonly rows: readonly Allocation[];
  readonly now: number;
  readonly enis: ReadonlyMap<EniId, CloudEni>;
  /** ENIs of the ledger, wherever they are attached, as EC2 shows them now. */
  readonly known: readonly LedgerEni[];
  /** ENIs that this process may change. Embedded, only those that EC2 has shown. */
  readonly ours: ReadonlySet<EniId>;
  /** What EC2 does not show is not there: the client is of the ledger's account and Region. */
  readonly isProved: boolean;
  /** ENIs of the ledger that EC2 shows otherwise than the ledger has them, as they are now. */
  readonly changed: readonly LedgerEni[];
}

async function view(context: IpamContext, subnet: SubnetId, scope: Scope): Promise<View> {
  const { store, cloud, instance } = context;
  const known = await store.enis();
  const { rows, now } = await store.withStatus(subnet, IN_USE);
  const enis = new Map<EniId, CloudEni>();
  if (scope === 'whole')
    for await (const page of cloud.enis(subnet)) for (const eni of page) enis.set(eni.id, eni);
  else {
    const ids = known.filter(eni => eni.ours && eni.subnet === subnet).map(eni => eni.id);
    for (const eni of await cloud.enisById(ids)) enis.set(eni.id, eni);
  }
  const changed = known.flatMap(eni => {
    const seen = enis.get(eni.id);
    return eni.ours && seen !== undefined ? asShown(eni, seen, now) : [];
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
    ours: new Set(ours.map(eni => eni.id)),
  };
}

/** The ENI as EC2 shows it, if that is not how the ledger has it. Another instance may hold other numbers. */
function asShown(eni: LedgerEni, seen: CloudEni, readAt: number): LedgerEni[] {
  const limit = eni.instance === seen.instance ? eni.addressLimit : null;
  const now = refreshed(eni, seen, limit, readAt);
  const same =
    now.instance === eni.instance &&
    now.attachment === eni.attachment &&
    now.prefixes === eni.prefixes &&
    now.primary === eni.primary;
  return same ? [] : [now];
}

/** `left`: ENIs of the ledger that have left its instance, as is proven. */
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

/** What calls without an answer have put on our ENIs. */
function arrivals({ rows, now, enis, ours }: View): Drift[] {
  const asked = rows.filter(row => row.status === 'assigning');
  if (asked.length === 0) return [];
  return [...enis.values()]
    .filter(eni => ours.has(eni.id))
    .flatMap(eni => arrivedOn(eni, asked, now))
    .map(change => ({ kind: 'arrived', row: change.row, seenOn: change.row.iface, change }));
}

/** How ledger and EC2 differ. Changes nothing. */
export async function compare(context: IpamContext, subnet: SubnetId): Promise<Drift[]> {
  return await driftIn(context, subnet, await view(context, subnet, 'whole'));
}

export interface Closed {
  readonly moved: number;
  readonly repaired: number;
}

/** Makes the moves that close the drift, each only if its row still stands as it was compared. */
export async function close(context: IpamContext, drifts: readonly Drift[]): Promise<Closed> {
  const made = await makeMoves(context, drifts);
  const rowsOf = (kind: Drift['kind']) => drifts.filter(drift => drift.kind === kind).map(drift => drift.row);
  const astray = (await unassign(context, rowsOf('astray').slice(0, TAKEN_OFF_MAX))).freed.length;
  // Of more than one pass repairs, each has its turn.
  const missing = shuffled(rowsOf('missing'), context.random);
  // A container waits for them.
  const urgent = urgently(context, () => 'cold');
  const repaired = await repair(urgent, missing.slice(0, REPAIRS_MAX));
  return { moved: made.length + astray, repaired };
}

const shuffled = <T>(items: readonly T[], random: () => number): T[] =>
  items
    .map(item => ({ item, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);

/** Makes the moves that need no EC2 call to be made first. */
async function makeMoves(context: IpamContext, drifts: readonly Drift[]): Promise<Allocation[]> {
  for (const drift of drifts)
    if (drift.kind !== 'unseen' && drift.kind !== 'seen') context.log('warn', `drift: ${describe(drift)}`);
  const changes = drifts.flatMap((drift): Change[] => (drift.change === null ? [] : [drift.change]));
  const made: Allocation[] = [];
  for (let from = 0; from < changes.length; from += CHANGES_MAX)
    made.push(...(await context.store.move(changes.slice(from, from + CHANGES_MAX))));
  return made;
}

/** Reads the whole subnet for a request that would be refused else, and writes down what others have taken or left;
 *  returns how many rows changed. What needs a call waits for the next pass. */
export async function glance(context: IpamContext, subnet: SubnetId): Promise<number> {
  const drifts = await compare(context, subnet);
  return (await makeMoves(context, drifts.filter(isByOthers))).length;
}
const isByOthers = ({ kind }: Drift): boolean => ['foreign', 'seen', 'unseen', 'vacated'].includes(kind);

/** EC2 calls that closing the drift costs at most. */
export function costOf(drifts: readonly Drift[]): number {
  const enis = (kind: Drift['kind']) =>
    new Set(drifts.filter(drift => drift.kind === kind).map(drift => drift.row.iface ?? drift.seenOn)).size;
  return enis('astray') + enis('missing');
}

/** One pass over a subnet: notes how its ENIs are attached now, gives up the holders whose end is proven, closes
 *  the drift. Answers whether something of this ledger's differed, or is still to be settled. */
export async function reconcile(
  context: IpamContext,
  enis: Enis,
  proof: Evidence,
  subnet: SubnetId,
  scope: Scope = 'whole',
): Promise<boolean> {
  const seen = await view(context, subnet, scope);
  if (seen.changed.length > 0) await context.store.saveEnis(seen.changed);
  await context.store.noteAttachments(shownIn(seen), seen.now);
  for (const { id } of seen.changed) enis.forget(id);
  const left = await proof.weigh(weighed(context, seen), seen.enis, seen.now);
  // A central ledger is the account's, and so is an ENI of it that is attached to nothing.
  const stranded = context.instance === null ? new Set<EniId>() : left;
  const gone = seen.known.filter(eni => stranded.has(eni.id) && !seen.enis.has(eni.id));
  // From now on no call is made for it, unless EC2 shows it here again.
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
  return seen.changed.length > 0 || !drifts.every(isByOthers) || !seen.rows.every(isShownOn(seen));
}

/** Whether the row is on an ENI of ours that EC2 has shown, or is not this ledger's to settle. */
const isShownOn =
  ({ ours }: View) =>
  ({ status, iface }: Allocation): boolean =>
    status === 'occupied' || iface === null || ours.has(iface);

/** The ENIs of the ledger that EC2 has shown, and how they are attached. */
const shownIn = ({ known, enis }: View) =>
  known.flatMap(({ id }) => {
    const seen = enis.get(id);
    return seen === undefined ? [] : [{ id, attachment: seen.attachment }];
  });

/** The rows by which it is weighed whether their ENI has come to an end: those that somebody holds; embedded, also all
 *  others that are still to be settled when it has left. */
function weighed({ instance }: IpamContext, { rows, known, ours }: View): Allocation[] {
  const ids = new Set(known.map(eni => eni.id));
  return rows.filter(
    ({ status, iface }) =>
      iface !== null &&
      ids.has(iface) &&
      (status === 'allocated' || (instance !== null && status !== 'occupied' && !ours.has(iface))),
  );
}
