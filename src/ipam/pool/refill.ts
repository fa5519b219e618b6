/** Assigns addresses to an ENI for one of its pools: for requests that wait, and to keep the pool warm. */
import type { Permit } from '../../cloud/cloud.ts';
import { type Cidr, contains } from '../../domain/address.ts';
import { type Allocation, isRested } from '../../domain/allocation.ts';
import { type IpamError, isError } from '../../domain/error.ts';
import type { EniId } from '../../domain/ids.ts';
import { affordable, batchFor, type Marks, placesTaken, refillOf } from '../../domain/pool-size.ts';
import { askedFor } from '../../domain/unanswered.ts';
import type { IpamContext } from '../context.ts';
import { ASSIGN_CALLS_MAX, assign, isSeenSoon, REJECTED_MAX } from '../ec2/assign.ts';
import type { Enis, Home } from '../ec2/enis.ts';
import { CALL_ADDRESSES_MAX, noAnswer } from '../ec2/intents.ts';
import type { Cache } from './cache.ts';
import { evict, idleElsewhere, steal } from './steal.ts';

/** Batches that may turn out to be other people's altogether, before the request looks around again. */
const ROUNDS_MAX = 8;
/** Free addresses that a refill leaves in the subnet: `warmMin` for each of its ENIs, but no more than this. */
const RESERVE_MAX = 50;
/** Between two looks whether another call may be sent, in milliseconds. */
const LOOK_AGAIN_MS = 250;

export type Filled =
  /** There are ready addresses, `assigned` of them new; or nobody waits, and no more are needed. */
  | { readonly outcome: 'ready'; readonly assigned: number }
  /** The ENI holds as many addresses as it may. */
  | {
      readonly outcome: 'eni full';
      readonly held: number;
      /** By EC2's word, and by what the ledger knows to be there it is not: what has no answer may be there too. */
      readonly inDoubt: boolean;
    }
  /** No free address has rested; `resting` is the one that has rested longest. */
  | { readonly outcome: 'subnet dry'; readonly resting: Allocation | null; readonly byEc2?: true };

export interface FillRequest {
  readonly range: Cidr | null;
  /** How many requests wait for it, by now; with none it is a refill. */
  readonly waiting: () => number;
  readonly marks: () => Marks;
  /** Aborted when nobody waits any longer; undefined: nobody does, by now. */
  readonly signal: () => AbortSignal | undefined;
  /** Waits for requests that come together, which one call then serves. */
  readonly gather: () => Promise<void>;
  /** Leave to assign once. */
  readonly permit: () => Promise<Permit>;
}

/** What is to be done next. */
type Next =
  | Assign
  | { readonly do: 'nothing' }
  | { readonly do: 'wait' }
  | { readonly do: 'evict'; readonly held: number; readonly inFlight: boolean; readonly inDoubt: boolean }
  | { readonly do: 'steal' };

interface Assign {
  readonly do: 'assign';
  readonly count: number;
  readonly free: readonly Allocation[];
}

/** What has been learned since the request began. */
interface Learned {
  eni: Home['eni'];
  /** EC2 takes fewer than it was asked for. */
  most: number;
  calls: number;
  rejected: number;
  /** What EC2 minded last. */
  refusal: IpamError | null;
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

/** Throws EC2's errors other than those that this function is about. */
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
    ...{ calls: 0, rejected: 0, refusal: null, unanswered: new Set() },
  };
  const parts: Parts = { context, enis, cache, home, asked, learned };
  for (let round = 0; round < ROUNDS_MAX && learned.calls < ASSIGN_CALLS_MAX; round++) {
    const next = await nextFor(parts, 'glance');
    const filled = next.do === 'assign' ? await assignNext(parts, round) : await carryOut(parts, next);
    if (filled !== null) return filled;
  }
  if ((await inDoubtOn(parts)).length > 0) throw noAnswer(home.eni.id);
  if (learned.refusal !== null) throw learned.refusal;
  return { outcome: 'subnet dry', resting: null };
}

/** The addresses are chosen once there is a permit, so that requests that came in the meantime are served by the same
 *  call. */
async function assignNext(parts: Parts, round: number): Promise<Filled | null> {
  const { asked } = parts;
  if (round === 0) await asked.gather();
  using permit = await asked.permit();
  const next = await nextFor(parts, 'choose');
  return next.do === 'assign' ? await assignOn(parts, next, permit) : await carryOut(parts, next);
}

/** Rows of calls for the ENI that have had no answer, ours or another server's. */
async function inDoubtOn({ context: { store }, home, learned }: Parts): Promise<readonly Allocation[]> {
  const { rows, now } = await store.onEni(home.eni.id);
  return askedFor(rows, now, learned.unanswered).inDoubt.filter(row => row.status === 'assigning');
}

const isNothingLeft = ({ cache, home, asked }: Parts): boolean =>
  cache.count(home.eni.id, asked.range).usable === 0;

/** What came of it, or null: others changed what it was about, and it has to be looked at again. */
async function carryOut(parts: Parts, next: Exclude<Next, Assign>): Promise<Filled | null> {
  const { context, enis, home, asked } = parts;
  if (next.do === 'nothing') {
    // All that is ready is being claimed: requests that wait would look for it again before that is done.
    if (asked.waiting() > 0 && isNothingLeft(parts)) await asked.gather();
    return { outcome: 'ready', assigned: 0 };
  }
  if (next.do === 'wait') return await untilNextCall(parts);
  if (next.do === 'evict') return await roomOn(parts, next);
  const { range } = asked;
  const count = Math.max(asked.waiting(), 1);
  const wanted = { range, count, which: 'rested' } as const;
  if ((await steal(context, enis, home, wanted, asked.signal())).length > 0) return null;
  const [resting = null] = await freeFor(context, home, range, 'any', 1);
  if (resting === null && (await isHeldInDoubt(parts))) throw noAnswer(home.eni.id);
  return { outcome: 'subnet dry', resting };
}

/** Whether all that could be had on the ENI is what calls without an answer have named: it may be there soon. */
async function isHeldInDoubt(parts: Parts): Promise<boolean> {
  const { context, enis, home, asked } = parts;
  const { range } = asked;
  const isOfUse = ({ ip }: Allocation) => range === null || contains(range, ip);
  if (asked.waiting() === 0 || !(await inDoubtOn(parts)).some(isOfUse)) return false;
  return (await idleElsewhere(context, enis, home, range, 'any')).length === 0;
}

/** What was asked of EC2 has no answer, and nothing more may be asked yet. Each that waits does so for its own time, which
 *  an outage that is over doesn't shorten. */
async function untilNextCall(parts: Parts): Promise<Filled | null> {
  const { context, cache, home, asked } = parts;
  while (asked.waiting() > 0) {
    // Each request says for itself whether it is given early.
    const { resting } = cache.count(home.eni.id, asked.range);
    if (resting > 0 && !context.policy.strictReuse) throw noAnswer(home.eni.id);
    await context.wait(LOOK_AGAIN_MS);
    if ((await nextFor(parts, 'glance')).do !== 'wait') return null;
  }
  return { outcome: 'ready', assigned: 0 };
}

/** The ENI is full, or EC2 says so. */
async function roomOn(
  { context, enis, home, asked, learned }: Parts,
  { held, inFlight, inDoubt }: Extract<Next, { do: 'evict' }>,
): Promise<Filled | null> {
  const isOfUse = (row: Allocation) => asked.range === null || contains(asked.range, row.ip);
  const made = await evict(context, home, isOfUse, asked.waiting(), asked.signal());
  if (made > 0) learned.most = made;
  if (made > 0) return null;
  const now = await enis.refresh(home.eni.id, { unlessYoung: true });
  const changed = roomChanged(learned.eni, now.eni);
  learned.eni = now.eni;
  if (changed) learned.most = Number.POSITIVE_INFINITY;
  if (changed) return null;
  if (inFlight) throw noAnswer(home.eni.id);
  // What has no answer may be what fills it, and EC2 doesn't show it yet.
  if (inDoubt && (await isSeenSoon(context, home.eni.id, asked.signal()))) return null;
  return { outcome: 'eni full', held, inDoubt };
}

async function assignOn(
  { context, enis, cache, learned }: Parts,
  { count, free }: Assign,
  permit: Permit,
): Promise<Filled | null> {
  const { eni } = learned;
  const result = await assign(context, eni.id, permit, free, count, ASSIGN_CALLS_MAX - learned.calls);
  const { ready, error, calls, rejected, unanswered } = result;
  for (const row of ready) cache.note(row);
  if (ready.length > 0) return { outcome: 'ready', assigned: ready.length };
  learned.calls += calls;
  learned.rejected += rejected;
  for (const { token } of unanswered) if (token !== null) learned.unanswered.add(token);
  if (error === null || isError(error, 'ec2-unknown')) return null;
  if (isError(error, 'ec2-subnet-full')) return { outcome: 'subnet dry', resting: null, byEc2: true };
  learned.refusal = error;
  if (isError(error, 'ec2-invalid') && learned.rejected < REJECTED_MAX) return null;
  if (!isError(error, 'ec2-limit')) throw error;
  learned.eni = (await enis.refresh(eni.id)).eni;
  learned.most = Math.floor(Math.min(count, CALL_ADDRESSES_MAX) / 2);
  return null;
}

async function nextFor(
  { context, enis, cache, home: { subnet }, asked, learned }: Parts,
  how: 'glance' | 'choose',
): Promise<Next> {
  const { policy, store } = context;
  const { range, waiting, marks } = asked;
  const { eni, most } = learned;
  const { rows, now } = await store.onEni(eni.id);
  const ready = rows.filter(row => row.status === 'ready' && !row.primary);
  cache.learn(eni.id, { now, rows: ready });
  const offered = ready.filter(row => range === null || contains(range, row.ip));
  const usable = offered.filter(row => isRested(row, eni.id, policy, now)).length;
  const { inFlight, inDoubt, next } = askedFor(rows, now, learned.unanswered);
  const held = placesTaken(
    rows.filter(row => !row.primary && !inDoubt.includes(row)),
    eni.prefixes,
  );
  const room = eni.addressLimit === null ? Number.POSITIVE_INFINITY : eni.addressLimit - 1 - held;
  const stock = { usable, resting: offered.length - usable, inFlight: inFlight.length, room };
  const waits = waiting();
  if (waits > 0 && inDoubt.length > 0) watchFor(context, eni.id, inDoubt, now);
  if (waits > 0 && usable === 0 && Math.min(room, most) < 1) {
    const isHidden = room >= 1 && inDoubt.some(row => row.status === 'assigning');
    return { do: 'evict', held, inFlight: inFlight.length > 0, inDoubt: isHidden };
  }
  const batch = waits > 0 ? batchFor(waits, stock, policy, marks()) : refillOf(stock, marks());
  const wanted = Math.min(batch, most, inDoubt.length > 0 ? waits - usable : batch);
  if (wanted < 1) return { do: 'nothing' };
  if (next === 'none') return usable > 0 ? { do: 'nothing' } : { do: 'wait' };
  const reserve = Math.min(policy.warmMin * (await enis.countIn(subnet.id)), RESERVE_MAX);
  if (next === 'one') return await tryOne(context, { eni, subnet }, range, Math.max(reserve, 1));
  // One free address is reason enough to wait for a permit.
  const limit = waits > 0 && how === 'glance' ? 1 : wanted + Math.max(reserve, wanted);
  const free = await freeFor(context, { eni, subnet }, range, 'rested', limit);
  const count = affordable(wanted, Math.max(waits - usable, 0), free.length, reserve);
  if (count > 0) return { do: 'assign', count, free };
  return waits > usable ? { do: 'steal' } : { do: 'nothing' };
}

/** Calls for the ENI have had no answer: one address shows whether EC2 answers again, and leaves the subnet what a refill
 *  would leave. */
async function tryOne(context: IpamContext, home: Home, range: Cidr | null, reserve: number): Promise<Next> {
  const free = await freeFor(context, home, range, 'rested', 1 + reserve);
  if (affordable(1, 0, free.length, reserve) > 0) return { do: 'assign', count: 1, free };
  return { do: free.length === 0 ? 'steal' : 'wait' };
}

/** Rows of the ENI are in doubt: it is read until they are not. All times but the clock's are the store's. */
function watchFor(
  { sights, clock }: IpamContext,
  eni: EniId,
  inDoubt: readonly Allocation[],
  now: number,
): void {
  const newest = Math.max(...inDoubt.map(row => row.movedAt));
  sights?.watch(eni, clock() - Math.max(now - newest, 0));
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
