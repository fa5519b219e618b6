/** Assigns addresses to an ENI for one of its pools: for requests that wait, and to keep the pool warm. */
import { type Cidr, contains } from '../domain/address.ts';
import { type Allocation, isRested } from '../domain/allocation.ts';
import { IpamError, isError } from '../domain/error.ts';
import { affordable, batchFor, type Marks, refillOf } from '../domain/warmth.ts';
import { assignByCount } from './count.ts';
import type { Enis, Home } from './enis.ts';
import type { Hints } from './hints.ts';
import { ASSIGN_CALLS_MAX, assign, CALL_ADDRESSES_MAX } from './intents.ts';
import type { Machine } from './machine.ts';
import { makeRoom, takeBack } from './take-back.ts';

/** Batches that may turn out to be other people's altogether, before the request looks around again. */
const ROUNDS_MAX = 8;
/** Free addresses that a refill leaves in the subnet: `warmMin` for each of its ENIs, but no more than this. */
const RESERVE_MAX = 50;

export type Filled =
  /** There are ready addresses, `assigned` of them new; or nobody waits, and no more are needed. */
  | { readonly outcome: 'ready'; readonly assigned: number }
  /** The ENI holds as many addresses as it may. */
  | { readonly outcome: 'eni full'; readonly held: number }
  /** No free address has rested; `resting` is the one that has rested longest. */
  | { readonly outcome: 'subnet dry'; readonly resting: Allocation | null };

export interface FillRequest {
  readonly range: Cidr | null;
  /** How many requests wait for it, by now; with none it is a refill. */
  readonly waiting: () => number;
  readonly marks: () => Marks;
  /** When nobody waits any longer, on the process's monotonic clock. */
  readonly until: () => number;
}

/** What is to be done next. */
type Next =
  | {
      readonly do: 'assign';
      readonly count: number;
      readonly free: readonly Allocation[];
      readonly held: number;
    }
  | { readonly do: 'nothing' }
  | { readonly do: 'make room'; readonly held: number; readonly unanswered: boolean }
  | { readonly do: 'take back' };

/** Throws EC2's errors other than those that this function is about. */
export async function fill(
  machine: Machine,
  enis: Enis,
  hints: Hints,
  home: Home,
  asked: FillRequest,
): Promise<Filled> {
  let { eni } = home;
  let most = Number.POSITIVE_INFINITY;
  let unexplained = 0;
  const decide = (how: 'glance' | 'choose') =>
    nextFor(machine, enis, hints, { eni, subnet: home.subnet }, asked, { most, how });
  for (let round = 0; round < ROUNDS_MAX; round++) {
    if (round > 0 && machine.clock() >= asked.until()) throw tookTooLong(home);
    let next = await decide('glance');
    if (next.do === 'assign') {
      await machine.cloud.turn('assign', asked.until());
      next = await decide('choose'); // whoever began to wait in the meantime is served by the same call
    }
    if (next.do === 'nothing') return { outcome: 'ready', assigned: 0 };
    if (next.do === 'make room') {
      const isOfUse = (row: Allocation) => asked.range === null || contains(asked.range, row.ip);
      if ((await makeRoom(machine, home, isOfUse, asked.waiting())) > 0) continue;
      const now = await enis.refresh(eni.id, { unlessYoung: true });
      if (roomChanged(eni, now.eni)) ({ eni } = now);
      else if (next.unanswered) throw noAnswer(home);
      else return { outcome: 'eni full', held: next.held };
      continue;
    }
    if (next.do === 'take back') {
      const wanted = { range: asked.range, count: Math.max(asked.waiting(), 1), which: 'rested' } as const;
      if ((await takeBack(machine, enis, home, wanted)).length > 0) continue;
      const [resting = null] = await freeFor(machine, home, asked.range, 'any', 1);
      return { outcome: 'subnet dry', resting };
    }
    const { count, free, held } = next;
    const result = await assign(machine, eni.id, free, count);
    for (const row of result.ready) hints.note(row);
    if (result.ready.length > 0) return { outcome: 'ready', assigned: result.ready.length };
    unexplained += result.unexplained;
    if (isError(result.error, 'ec2-limit')) {
      ({ eni } = await enis.refresh(eni.id));
      if (count === 1) return { outcome: 'eni full', held };
      most = Math.floor(Math.min(count, CALL_ADDRESSES_MAX) / 2);
    } else if (isError(result.error, 'ec2-subnet-full')) return { outcome: 'subnet dry', resting: null };
    else if (result.error !== null) throw result.error;
    else if (unexplained >= ASSIGN_CALLS_MAX && asked.range === null && machine.clock() < asked.until()) {
      const assigned = await assignByCount(machine, eni.id, count);
      if (assigned > 0) return { outcome: 'ready', assigned };
      unexplained = 0;
    }
  }
  return { outcome: 'subnet dry', resting: null };
}

async function nextFor(
  machine: Machine,
  enis: Enis,
  hints: Hints,
  home: Home,
  { range, waiting, marks }: FillRequest,
  { most, how }: { most: number; how: 'glance' | 'choose' },
): Promise<Next> {
  const { policy, store } = machine;
  const { eni, subnet } = home;
  const reading = await store.onEni(eni.id);
  const ready = reading.rows.filter(row => row.status === 'ready' && !row.primary);
  hints.learn(eni.id, { now: reading.now, rows: ready });
  const offered = ready.filter(row => range === null || contains(range, row.ip));
  const usable = offered.filter(row => isRested(row, eni.id, policy, reading.now)).length;
  const inFlight = reading.rows.filter(row => row.status === 'assigning').length;
  const held = reading.rows.filter(row => !row.primary).length;
  const room =
    eni.addressLimit === null ? Number.POSITIVE_INFINITY : eni.addressLimit - 1 - eni.prefixes - held;
  const stock = { usable, resting: offered.length - usable, inFlight, room };
  const waits = waiting();
  if (waits > 0 && usable === 0 && room < 1) return { do: 'make room', held, unanswered: inFlight > 0 };
  const batch = waits > 0 ? batchFor(waits, stock, policy, marks()) : refillOf(stock, marks());
  const wanted = Math.min(batch, most);
  if (wanted < 1) return { do: 'nothing' };
  const reserve = Math.min(policy.warmMin * (await enis.countIn(subnet.id)), RESERVE_MAX);
  // For a request that waits one is enough to have a turn for, of which there may be few.
  const limit = waits > 0 && how === 'glance' ? 1 : wanted + Math.max(reserve, wanted);
  const free = await freeFor(machine, home, range, 'rested', limit);
  const count = affordable(wanted, Math.max(waits - usable, 0), free.length, reserve);
  if (count > 0) return { do: 'assign', count, free, held };
  return waits > usable ? { do: 'take back' } : { do: 'nothing' };
}

const roomChanged = (a: Home['eni'], b: Home['eni']): boolean =>
  a.addressLimit !== b.addressLimit || a.prefixes !== b.prefixes;

const tookTooLong = ({ eni }: Home): IpamError =>
  new IpamError('unavailable', `EC2 took too long to assign an address to ${eni.id}`, { hint: 'try again' });

const noAnswer = ({ eni }: Home): IpamError =>
  new IpamError('ec2-unknown', `EC2 has not answered what was asked of it for ${eni.id}`, {
    hint: 'see the log of the server, and try again',
  });

async function freeFor(
  machine: Machine,
  { eni, subnet }: Home,
  range: Cidr | null,
  which: 'rested' | 'any',
  limit: number,
): Promise<readonly Allocation[]> {
  const query = { subnet: subnet.id, eni: eni.id, range, rest: machine.policy, which, limit };
  return (await machine.store.freeFor(query)).rows;
}
