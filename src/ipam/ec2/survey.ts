/** Reads a subnet and its ENIs from EC2 and writes them to the ledger. A repeat refreshes the rows; no address
 *  changes its holder. */
import type { CloudEni } from '../../cloud/cloud.ts';
import {
  type Cidr,
  contains,
  covers,
  formatCidr,
  fromNumber,
  type Ipv4,
  isReserved,
  sizeOf,
} from '../../domain/address.ts';
import {
  type Allocation,
  type Change,
  isIntent,
  mayShowPast,
  mayStillLeave,
} from '../../domain/allocation.ts';
import { isSettled, type Sighting } from '../../domain/drift.ts';
import { attachmentsAfter } from '../../domain/eni-departure.ts';
import { IpamError } from '../../domain/error.ts';
import type { SubnetId } from '../../domain/ids.ts';
import { CHANGES_MAX, type LedgerEni, type LedgerSubnet, type NewAllocation } from '../../store/store.ts';
import type { IpamContext } from '../context.ts';
import { withTenants } from './tenants.ts';

/** Rows in one write, so that neither memory nor a statement grows with the subnet. */
const ADD_CHUNK = 4096;
/** Writes that run at the same time. */
const ADDS_AT_ONCE = 2;
const READ_CHUNK = 500;
/** The pauses until a call for an address of an ENI is looked at again. They double from the first to the last. */
const LOOK_AGAIN_MIN_MS = 50;
const LOOK_AGAIN_MAX_MS = 1_000;

export interface Survey {
  readonly subnet: LedgerSubnet;
  readonly enis: number;
  /** Rows that were not in the ledger before. */
  readonly added: number;
  readonly free: number;
  /** EC2's count of available addresses. Fewer than `free` means that others use the subnet too. */
  readonly available: number;
}
export type Progress = (what: string, done: number, total: number | null) => void;

export async function survey(
  context: IpamContext,
  id: SubnetId,
  range: Cidr | null = null,
  progress: Progress = () => {},
): Promise<Survey> {
  const { store, cloud } = context;
  const observed = await cloud.subnet(id);
  const whole = observed.cidr;
  if (range !== null && !covers(whole, range))
    throw new IpamError(
      'bad-request',
      `${formatCidr(range)} is not inside ${id}, which is ${formatCidr(whole)}`,
    );
  const reserved = await prefixReservations(context, id);
  const { now: readAt } = await store.intents(0, 0);
  const found = new Map<Ipv4, Sighting>();
  const enis: CloudEni[] = [];
  for await (const page of cloud.enis(id)) {
    for (const eni of page) {
      enis.push(eni);
      for (const [ip, at] of sightingsOn(eni)) found.set(ip, at);
    }
    progress('network interfaces read', enis.length, null);
  }
  const row = (ip: Ipv4): NewAllocation => {
    const at = found.get(ip);
    if (isReserved(whole, ip)) return { subnet: id, ip, status: 'reserved', iface: null, primary: false };
    if (at !== undefined) return { subnet: id, ip, status: 'occupied', iface: at.eni, primary: at.primary };
    const status = reserved.some(cidr => contains(cidr, ip)) ? 'reserved' : 'free';
    return { subnet: id, ip, status, iface: null, primary: false };
  };

  const subnet: LedgerSubnet = { id, vpc: observed.vpc, cidr: whole };
  const scope = range ?? whole;
  let added = 0;
  let written = 0;
  const chunks = chunksOf(scope);
  const addChunks = async (): Promise<void> => {
    for (const chunk of chunks) {
      const fresh = await store.add(chunk.map(row));
      added += fresh;
      written += chunk.length;
      progress('addresses written', written, sizeOf(scope));
    }
  };
  await Promise.all(Array.from({ length: ADDS_AT_ONCE }, addChunks));
  await store.saveSubnet(subnet);
  await noteObserved(context, enis);
  const records = await store.enis();
  const known = new Map(records.map(eni => [eni.id, eni]));
  const isOurs = ({ id: eni }: CloudEni) => known.get(eni)?.ours === true;
  const ours = await withTenants(context, enis.filter(isOurs), records);
  await noteReturned(
    context,
    ours.filter(eni => isReturned(context, known.get(eni.id) ?? null, eni)),
    readAt,
  );
  await store.saveEnis(
    [...ours, ...enis.filter(eni => !isOurs(eni))].map(eni => {
      const before = known.get(eni.id) ?? null;
      return refreshed(before, eni, before?.addressLimit ?? null, readAt);
    }),
  );
  await reservePrefixes(context, id, scope, reserved);
  const free = (await store.tally()).find(one => one.subnet === id && one.status === 'free')?.count ?? 0;
  return { subnet, enis: enis.length, added, free, available: observed.available };
}

function* chunksOf(scope: Cidr): Generator<Ipv4[]> {
  for (let from = scope.first; from <= scope.last; from += ADD_CHUNK) {
    const length = Math.min(ADD_CHUNK, scope.last - from + 1);
    yield Array.from({ length }, (_, i) => fromNumber(from + i));
  }
}

/** Returns the CIDR reservations of type prefix, whose single addresses EC2 does not assign. Returns none without
 *  the right to read them: EC2 then refuses their addresses one by one. */
async function prefixReservations({ cloud, log }: IpamContext, subnet: SubnetId): Promise<Cidr[]> {
  try {
    const reservations = await cloud.reservations(subnet);
    return reservations.filter(one => one.type === 'prefix').map(one => one.cidr);
  } catch (error) {
    if (!(error instanceof IpamError)) throw error;
    log('warn', 'CIDR reservations not read, taken as none', { subnet, error: error.line });
    return [];
  }
}

/** Marks the free addresses of prefix reservations as reserved. They may be older in the ledger than the
 *  reservation. */
async function reservePrefixes(
  context: IpamContext,
  subnet: SubnetId,
  scope: Cidr,
  reserved: readonly Cidr[],
): Promise<void> {
  for (const cidr of reserved) {
    const first = Math.max(cidr.first, scope.first);
    const last = Math.min(cidr.last, scope.last);
    for (let from = first; from <= last; from += READ_CHUNK) {
      const length = Math.min(READ_CHUNK, last - from + 1);
      const ips = Array.from({ length }, (_, i) => fromNumber(from + i));
      const { rows } = await context.store.get(subnet, ips);
      const free = rows.filter(row => row.status === 'free');
      await context.store.move(free.map(row => ({ row, move: 'reserve' })));
    }
  }
}

// From what EC2 shows to rows of the ledger.

export const toLedger = (observed: CloudEni, addressLimit: number | null): LedgerEni => ({
  id: observed.id,
  subnet: observed.subnet,
  primary: observed.primary,
  instance: observed.instance,
  attachment: observed.attachment,
  attachmentSeenAt: null,
  earlierAttachment: null,
  claimsEndBefore: null,
  tenant: observed.tenant,
  mac: observed.mac,
  addressLimit,
  prefixes: observed.prefixes.length,
  ours: false,
  releasedAt: null,
});

/** Returns the ledger's record of the ENI after EC2 has shown it as `seen`, in a read that began at `readAt` by the
 *  store's clock. A late read, of an attachment that has ended, changes nothing. `addressLimit` is that of the type
 *  of the instance that the ENI is attached to. */
export function refreshed(
  known: LedgerEni | null,
  seen: CloudEni,
  addressLimit: number | null,
  readAt: number,
): LedgerEni {
  const fresh = toLedger(seen, addressLimit);
  if (known === null) return { ...fresh, attachmentSeenAt: readAt };
  const attachments = attachmentsAfter(known, seen, readAt);
  if (attachments === null) return known;
  const { ours, releasedAt } = known;
  return { ...fresh, ours, releasedAt, ...attachments };
}

/** Returns every address that EC2 shows on the ENI, including those inside its prefixes. */
export function sightingsOn(eni: CloudEni): [Ipv4, Sighting][] {
  const inPrefixes = eni.prefixes.flatMap(({ first, last }) =>
    Array.from({ length: last - first + 1 }, (_, i) => fromNumber(first + i)),
  );
  const seconds = [...inPrefixes, ...eni.secondaries];
  return [
    ...seconds.map((ip): [Ipv4, Sighting] => [ip, { eni: eni.id, primary: false }]),
    [eni.primary, { eni: eni.id, primary: true }],
  ];
}

/** Returns the moves of the rows whose assign to this ENI is proved by what EC2 shows. The rows must have been read
 *  before EC2 was. A call is sent once, so presence proves that it was applied. EC2 applies a call as a whole: if
 *  only a part of a batch is present, those addresses are foreign, and none of the batch is returned. Nor is a row
 *  that left this ENI so recently that the read may be older than its call. */
export function arrivedOn(
  eni: CloudEni,
  rows: readonly Allocation[],
  now: number,
): (Change & { row: Allocation })[] {
  const isThere = (row: Allocation) => eni.secondaries.includes(row.ip) && !mayShowPast(row, eni.id, now);
  const asked = rows.filter(row => row.status === 'assigning' && row.iface === eni.id);
  const batches = [...Map.groupBy(asked, row => row.token).values()];
  return batches
    .filter(batch => batch.every(isThere))
    .flat()
    .map(row => ({ row, move: 'assigned' }));
}

/** Marks the addresses that EC2 shows on ENIs of one subnet, and that the ledger did not put there, as occupied.
 *  Returns the rows that changed. The ledger is read after EC2. A row that an unassign of ours has just freed stays
 *  as it is: the read of EC2 may be older than the unassign. */
export async function noteObserved(context: IpamContext, enis: readonly CloudEni[]): Promise<Allocation[]> {
  const sightings = new Map<Ipv4, Sighting>(enis.flatMap(sightingsOn));
  const ips = [...sightings.keys()];
  const [subnet] = enis.map(eni => eni.subnet);
  const noted: Allocation[] = [];
  for (let from = 0; subnet !== undefined && from < ips.length; from += CHANGES_MAX) {
    const { rows, now } = await context.store.get(subnet, ips.slice(from, from + CHANGES_MAX));
    const changes = rows.flatMap(row => {
      const at = sightings.get(row.ip);
      return at === undefined || mayStillLeave(row, at.eni, context.policy, now) ? [] : noteOf(row, at, now);
    });
    if (changes.length > 0) noted.push(...(await context.store.move(changes)));
  }
  return noted;
}

/** As `noteObserved`, for an ENI that is about to be used. A call of ours for an address that is on it may be under way for
 *  another ENI: then its answer is awaited, since a refused assign and an unassign make the address free, and EC2 would grant
 *  an assign of it to the ENI that has it. */
async function noteAll(context: IpamContext, eni: CloudEni): Promise<void> {
  const { store, policy, clock, wait } = context;
  const until = clock() + policy.callDeadlineMs;
  for (let pauseMs = LOOK_AGAIN_MIN_MS; ; pauseMs = Math.min(pauseMs * 2, LOOK_AGAIN_MAX_MS)) {
    await noteObserved(context, [eni]);
    const { rows, now } = await store.get(eni.subnet, eni.secondaries);
    const mayBeFree = (row: Allocation) =>
      (row.status === 'free' && !mayStillLeave(row, eni.id, policy, now)) ||
      (isIntent(row) && row.iface !== eni.id && now - row.movedAt < policy.callDeadlineMs);
    if (!rows.some(mayBeFree) || clock() >= until) return;
    await wait(pauseMs);
  }
}

/** Embedded: whether the ENI, which EC2 shows on this instance, has been away since it was recorded: others may have put
 *  addresses on it. It may have come back before any read showed it elsewhere. */
export const isReturned = (
  { host: { instance } }: IpamContext,
  known: Pick<LedgerEni, 'instance' | 'attachment'> | null,
  seen: Pick<CloudEni, 'instance' | 'attachment'>,
): boolean =>
  instance !== null &&
  seen.instance === instance &&
  (known?.instance !== instance || known.attachment !== seen.attachment);

/** Notes what ENIs that have come back bring along, and what they have lost, as a read has shown them that began at
 *  `readAt` by the store's clock. Call it before they are recorded as they are now. */
export const noteReturned = async (
  context: IpamContext,
  enis: readonly CloudEni[],
  readAt: number,
): Promise<void> =>
  void (await Promise.all(
    enis.map(async eni => {
      await noteLost(context, eni, readAt);
      await noteAll(context, eni);
    }),
  ));

/** Marks the ready addresses that EC2 does not show on the ENI as occupied: another ledger may have taken them off for a
 *  call of its own, and have given them. They become free when no ENI has them. */
async function noteLost({ store }: IpamContext, eni: CloudEni, readAt: number): Promise<void> {
  const { rows } = await store.onEni(eni.id);
  const shown = new Set(sightingsOn(eni).map(([ip]) => ip));
  const lost = rows.filter(row => row.status === 'ready' && !shown.has(row.ip) && isSettled(row, readAt));
  if (lost.length > 0) await store.move(lost.map(row => ({ row, move: 'usurped', iface: null })));
}

/** Returns the change that brings a row in line with what EC2 shows. None if the address is ours there, if a
 *  container holds it (a read never ends a holding), or if the row says so already. */
function noteOf(row: Allocation, { eni, primary }: Sighting, now: number): Change[] {
  if (row.status === 'free') return [{ row, move: 'foreign', iface: eni, primary }];
  if (row.status === 'ready' && primary && (row.iface === eni || isSettled(row, now)))
    return [{ row, move: 'usurped', iface: eni, primary }];
  const isUpToDate =
    row.iface === eni && row.primary === primary && row.absentSince === null && row.refusedAt === null;
  if (row.status === 'occupied' && !isUpToDate) return [{ row, move: 'seen', iface: eni, primary }];
  return [];
}
