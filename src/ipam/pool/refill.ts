/** Refills a pool: assigns addresses to its ENI, for requests that wait and to keep the pool warm. */
import type { Permit } from '../../cloud/cloud.ts';
import { type Cidr, contains } from '../../domain/address.ts';
import { type Allocation, isRested } from '../../domain/allocation.ts';
import { type IpamError, isError } from '../../domain/error.ts';
import type { EniId } from '../../domain/ids.ts';
import {
  affordable,
  batchFor,
  type Marks,
  placesTaken,
  refillOf,
  withinRoom,
} from '../../domain/pool-size.ts';
import { type Limited, roomOf } from '../../domain/tenant.ts';
import { askedFor } from '../../domain/unanswered.ts';
import type { IpamContext } from '../context.ts';
import { ASSIGN_CALLS_MAX, assign, REJECTED_MAX } from '../ec2/assign.ts';
import type { Enis, Home } from '../ec2/enis.ts';
import { isSeenSoon } from '../ec2/in-doubt.ts';
import { CALL_ADDRESSES_MAX, noAnswer } from '../ec2/intents.ts';
import type { Cache } from './cache.ts';
import { evict, idleElsewhere, makeRoomFor, steal } from './steal.ts';

/** Rounds of choosing and assigning in one fill. All addresses of a round may turn out to be foreign. */
const ROUNDS_MAX = 8;
/** A refill leaves `warmMin` free addresses in the subnet for each ENI there, but at most this many. */
const RESERVE_MAX = 50;
/** The pause between two checks whether another call may be sent, in milliseconds. */
const LOOK_AGAIN_MS = 250;

export type Filled =
  /** There are ready addresses, `assigned` of them new; or no request waits and the pool needs none. */
  | { readonly outcome: 'ready'; readonly assigned: number }
  /** The ENI is at its limit. */
  | {
      readonly outcome: 'eni full';
      readonly held: number;
      /** EC2 says that the ENI is full, the ledger does not. The ENI may also carry addresses of an unanswered
       *  call. */
      readonly inDoubt: boolean;
    }
  /** The tenant of the ENI is at its quota. */
  | { readonly outcome: 'tenant full'; readonly tenant: Limited }
  /** No free address has rested; `resting` is the one that has rested longest. */
  | {
      readonly outcome: 'subnet full';
      readonly resting: Allocation | null;
      /** EC2's refusal; the ledger may have free addresses. */
      readonly byEc2?: IpamError;
    };

export interface FillRequest {
  readonly range: Cidr | null;
  /** Returns how many requests wait now. Without any the fill is a refill in the background. */
  readonly waiting: () => number;
  readonly marks: () => Marks;
  /** Returns the signal that is aborted when the last waiting request ends; undefined if none waits now. */
  readonly signal: () => AbortSignal | undefined;
  /** Waits for further requests, which the same call then serves. */
  readonly gather: () => Promise<void>;
  /** Waits for a permit for one assign. */
  readonly permit: () => Promise<Permit>;
}

/** The next step of a fill. */
type Next =
  | Assign
  | { readonly do: 'nothing' }
  | { readonly do: 'wait' }
  | { readonly do: 'evict'; readonly held: number; readonly inFlight: boolean; readonly inDoubt: boolean }
  | { readonly do: 'steal' }
  | { readonly do: 'stay within'; readonly tenant: Limited };

interface Assign {
  readonly do: 'assign';
  readonly count: number;
  readonly free: readonly Allocation[];
}

/** What the calls of this fill have shown. */
interface Learned {
  eni: Home['eni'];
  /** The most addresses for the next call, after EC2 has refused more. */
  most: number;
  /** How many addresses were on the ENI at the last look. */
  placed: number;
  calls: number;
  rejected: number;
  /** EC2's last refusal. */
  refusal: IpamError | null;
  /** The tenant of the ENI as it was when the last round began. */
  tenant: Limited | null;
  /** Tokens of the batches whose call had no answer. */
  readonly unanswered: Set<string>;
}

interface Parts {
  readonly context: IpamContext;
  readonly enis: Enis;
  readonly cache: Cache;
  readonly home: Home;
  readonly asked: FillRequest;
  readonly learned: Learned;
}

/** Assigns addresses until a waiting request can claim one, or the pool is warm. Throws EC2's errors, except those
 *  that `Filled` stands for. */
export async function fill(
  context: IpamContext,
  enis: Enis,
  cache: Cache,
  home: Home,
  asked: FillRequest,
): Promise<Filled> {
  const learned: Learned = {
    eni: home.eni,
    most: Number.POSITIVE_INFINITY,
    ...{ placed: 0, calls: 0, rejected: 0, refusal: null, tenant: null, unanswered: new Set() },
  };
  const parts: Parts = { context, enis, cache, home, asked, learned };
  for (let round = 0; round < ROUNDS_MAX && learned.calls < ASSIGN_CALLS_MAX; round++) {
    const next = await nextFor(parts, 'estimate');
    const filled = next.do === 'assign' ? await assignNext(parts, round) : await carryOut(parts, next);
    if (filled !== null) return filled;
  }
  if ((await inDoubtOn(parts)).length > 0) throw noAnswer(home.eni.id);
  if (learned.refusal !== null) throw learned.refusal;
  return { outcome: 'subnet full', resting: null };
}

/** Chooses the addresses after the wait for a permit, so that the call also serves requests that came during the
 *  wait. */
async function assignNext(parts: Parts, round: number): Promise<Filled | null> {
  const { asked } = parts;
  if (round === 0) await asked.gather();
  using permit = await asked.permit();
  const next = await nextFor(parts, 'choose');
  return next.do === 'assign' ? await assignOn(parts, next, permit) : await carryOut(parts, next);
}

/** Returns the rows of assigns for the ENI that had no answer, of this server or another one. */
async function inDoubtOn({ context: { store }, home, learned }: Parts): Promise<readonly Allocation[]> {
  const { rows, now } = await store.onEni(home.eni.id);
  return askedFor(rows, now, learned.unanswered).inDoubt.filter(row => row.status === 'assigning');
}

const isNothingLeft = ({ cache, home, asked }: Parts): boolean =>
  cache.count(home.eni.id, asked.range).usable === 0;

/** Carries out a step other than an assign. Returns null if another round is needed. */
async function carryOut(parts: Parts, next: Exclude<Next, Assign>): Promise<Filled | null> {
  const { context, enis, home, asked } = parts;
  if (next.do === 'nothing') {
    // The ready addresses are being claimed. Without a pause, waiting requests would fill again before that ends.
    if (asked.waiting() > 0 && isNothingLeft(parts)) await asked.gather();
    return { outcome: 'ready', assigned: 0 };
  }
  if (next.do === 'wait') return await untilNextCall(parts);
  if (next.do === 'evict') return await roomOn(parts, next);
  if (next.do === 'stay within') return await roomWithin(parts, next.tenant);
  const { range } = asked;
  const count = Math.max(asked.waiting(), 1);
  const wanted = { range, count, which: 'rested' } as const;
  if ((await steal(context, enis, home, wanted, asked.signal())).length > 0) return null;
  const [resting = null] = await freeFor(context, home, range, 'any', 1);
  if (resting === null && (await isHeldInDoubt(parts))) throw noAnswer(home.eni.id);
  return { outcome: 'subnet full', resting };
}

/** Returns whether the only addresses that a waiting request may still get are those of unanswered calls. They may
 *  be on the ENI soon. */
async function isHeldInDoubt(parts: Parts): Promise<boolean> {
  const { context, enis, home, asked } = parts;
  const { range } = asked;
  const isUsable = ({ ip }: Allocation) => range === null || contains(range, ip);
  if (asked.waiting() === 0 || !(await inDoubtOn(parts)).some(isUsable)) return false;
  return (await idleElsewhere(context, enis, home, range, 'any')).length === 0;
}

/** Waits until another call for the ENI may be sent, since earlier ones had no answer. Each request waits until its
 *  own deadline. */
async function untilNextCall(parts: Parts): Promise<Filled | null> {
  const { context, cache, home, asked } = parts;
  while (asked.waiting() > 0) {
    // The fill ends here, since each request decides for itself whether it takes an address that still rests.
    const { resting } = cache.count(home.eni.id, asked.range);
    if (resting > 0 && !context.policy.strictReuse) throw noAnswer(home.eni.id);
    await context.wait(LOOK_AGAIN_MS);
    if ((await nextFor(parts, 'estimate')).do !== 'wait') return null;
  }
  return { outcome: 'ready', assigned: 0 };
}

/** Makes room on a full ENI. Returns null if there is room now, else 'eni full'. */
async function roomOn(
  { context, enis, home, asked, learned }: Parts,
  { held, inFlight, inDoubt }: Extract<Next, { do: 'evict' }>,
): Promise<Filled | null> {
  const isUsable = (row: Allocation) => asked.range === null || contains(asked.range, row.ip);
  const made = await evict(context, home, isUsable, asked.waiting(), asked.signal());
  if (made > 0) learned.most = made;
  if (made > 0) return null;
  const now = await enis.refresh(home.eni.id, { unlessYoung: true });
  const changed = roomChanged(learned.eni, now.eni);
  learned.eni = now.eni;
  if (changed) learned.most = Number.POSITIVE_INFINITY;
  if (changed) return null;
  if (inFlight) throw noAnswer(home.eni.id);
  // The ENI may also carry addresses of an unanswered call that EC2 does not show yet.
  if (inDoubt && (await isSeenSoon(context, home.eni.id, asked.signal()))) return null;
  return { outcome: 'eni full', held, inDoubt };
}

/** Makes room for a tenant that is at its quota: takes idle addresses off its own ENIs only. Returns null if there is
 *  room now, else 'tenant full'. */
async function roomWithin({ context, enis, home, asked }: Parts, tenant: Limited): Promise<Filled | null> {
  const isUsable = (row: Allocation) => asked.range === null || contains(asked.range, row.ip);
  const wanted = { isUsable, count: Math.max(asked.waiting(), 1) };
  const made = await makeRoomFor(context, enis, home, tenant, wanted, asked.signal());
  return made > 0 ? null : { outcome: 'tenant full', tenant };
}

async function assignOn(
  { context, enis, cache, asked, learned }: Parts,
  { count, free }: Assign,
  first: Permit,
): Promise<Filled | null> {
  const { eni } = learned;
  const permits = { first, next: asked.permit };
  const result = await assign(context, eni.id, permits, free, count, ASSIGN_CALLS_MAX - learned.calls);
  const { ready, error, calls, rejected, unanswered, full } = result;
  for (const row of ready) cache.note(row);
  if (ready.length > 0) return { outcome: 'ready', assigned: ready.length };
  learned.calls += calls;
  learned.rejected += rejected;
  for (const { token } of unanswered) if (token !== null) learned.unanswered.add(token);
  // The ledger's record of the ENI may have named no tenant when this fill began.
  if (full !== null) learned.eni = { ...eni, tenant: full.name };
  if (full !== null || error === null || isError(error, 'ec2-unknown')) return null;
  if (isError(error, 'ec2-subnet-full')) return { outcome: 'subnet full', resting: null, byEc2: error };
  learned.refusal = error;
  if (isError(error, 'ec2-invalid') && learned.rejected < REJECTED_MAX) return null;
  if (!isError(error, 'ec2-limit')) throw error;
  learned.eni = (await enis.refresh(eni.id)).eni;
  learned.most = Math.floor(Math.min(count, CALL_ADDRESSES_MAX) / 2);
  return null;
}

async function nextFor(
  { context, enis, cache, home: { subnet }, asked, learned }: Parts,
  how: 'estimate' | 'choose',
): Promise<Next> {
  const { policy, store } = context;
  const { range, waiting, marks } = asked;
  const { eni } = learned;
  const { rows, now } = await store.onEni(eni.id);
  const ready = rows.filter(row => row.status === 'ready' && !row.primary);
  cache.learn(eni.id, { now, rows: ready });
  const offered = ready.filter(
    row => (range === null || contains(range, row.ip)) && cache.withheld(row) === null,
  );
  const usable = offered.filter(row => isRested(row, eni.id, policy, now)).length;
  const { inFlight, inDoubt, next } = askedFor(rows, now, learned.unanswered);
  const placesOf = (counts: (row: Allocation) => boolean) =>
    placesTaken(
      rows.filter(row => !row.primary && counts(row)),
      eni.prefixes,
    );
  const taken = placesOf(row => !inDoubt.includes(row));
  const room = eni.addressLimit === null ? Number.POSITIVE_INFINITY : eni.addressLimit - 1 - taken;
  // EC2 counts an address until it has taken it off.
  const held = placesOf(row => row.status !== 'assigning' || !inDoubt.includes(row));
  const placed = placesOf(row => row.status !== 'assigning');
  learned.most = Math.max(learned.most, learned.placed - placed); // as many as have left since it refused
  learned.placed = placed;
  const { most } = learned;
  const stock = { usable, resting: offered.length - usable, inFlight: inFlight.length, room };
  const waits = waiting();
  if (waits > 0 && inDoubt.length > 0) watchFor(context, eni.id, inDoubt, now);
  if (waits > 0 && usable === 0 && Math.min(room, most) < 1) {
    const isHidden = room >= 1 && inDoubt.some(row => row.status === 'assigning');
    return { do: 'evict', held, inFlight: inFlight.length > 0, inDoubt: isHidden };
  }
  // Read again only for the estimate: the ledger refuses an assign beyond the quota.
  if (how === 'estimate') learned.tenant = eni.tenant === null ? null : await store.tenantOf(eni.id);
  const { tenant } = learned;
  if (waits > 0 && usable === 0 && tenant !== null && roomOf(tenant) < 1)
    return { do: 'stay within', tenant };
  const batch = withinRoom(
    waits > 0 ? batchFor(waits, stock, policy, marks()) : refillOf(stock, marks()),
    Math.max(waits - usable, 0),
    roomOf(tenant),
  );
  const wanted = Math.min(batch, most, inDoubt.length > 0 ? waits - usable : batch);
  if (wanted < 1) return { do: 'nothing' };
  if (next === 'none') return usable > 0 ? { do: 'nothing' } : { do: 'wait' };
  const reserve = Math.min(policy.warmMin * (await enis.countIn(subnet.id)), RESERVE_MAX);
  if (next === 'one') return await tryOne(context, { eni, subnet }, range, Math.max(reserve, 1));
  // Before the permit it is enough to know that there is a free address.
  const limit = waits > 0 && how === 'estimate' ? 1 : wanted + Math.max(reserve, wanted);
  const free = await freeFor(context, { eni, subnet }, range, 'rested', limit);
  const count = affordable(wanted, Math.max(waits - usable, 0), free.length, reserve);
  if (count > 0) return { do: 'assign', count, free };
  return waits > usable ? { do: 'steal' } : { do: 'nothing' };
}

/** Chooses one address, since earlier calls for the ENI had no answer: it shows whether EC2 answers again. Leaves
 *  the same reserve in the subnet as a refill. */
async function tryOne(context: IpamContext, home: Home, range: Cidr | null, reserve: number): Promise<Next> {
  const free = await freeFor(context, home, range, 'rested', 1 + reserve);
  if (affordable(1, 0, free.length, reserve) > 0) return { do: 'assign', count: 1, free };
  return { do: free.length === 0 ? 'steal' : 'wait' };
}

/** Has the ENI read until none of its rows is in doubt. `now` and the times of the rows are the store's. */
function watchFor(
  { followUps, clock }: IpamContext,
  eni: EniId,
  inDoubt: readonly Allocation[],
  now: number,
): void {
  const newest = Math.max(...inDoubt.map(row => row.movedAt));
  followUps?.watch(eni, clock() - Math.max(now - newest, 0));
}

const roomChanged = (a: Home['eni'], b: Home['eni']): boolean =>
  a.addressLimit !== b.addressLimit || a.prefixes !== b.prefixes;

async function freeFor(
  context: IpamContext,
  { eni, subnet }: Home,
  range: Cidr | null,
  which: 'rested' | 'any',
  limit: number,
): Promise<readonly Allocation[]> {
  const query = { subnet: subnet.id, eni: eni.id, range, rest: context.policy, which, limit };
  return (await context.store.freeFor(query)).rows;
}
