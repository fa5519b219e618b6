/**
 * The protocol between ledger and EC2. An intent is written first; its writer sends one call, once and only
 * while the intent is young, and settles it by that call's own answer. An intent whose call had no answer is
 * left as it is: after the grace no call of ours can still change EC2, and whoever comes by takes it over,
 * only forward, to an Unassign. A process that dies or freezes anywhere in here leaves a row that says so.
 */
import type { CloudEni } from '../cloud/cloud.ts';
import type { Ipv4 } from '../domain/address.ts';
import type { Allocation, Change, MoveName } from '../domain/allocation.ts';
import { IpamError, isError, isRefusal } from '../domain/error.ts';
import type { EniId } from '../domain/ids.ts';
import { oursIn } from './enis.ts';
import type { Machine } from './machine.ts';

/** Calls that name addresses, before the caller makes one by count instead. */
export const ASSIGN_CALLS_MAX = 4;
/** Addresses in one call. EC2 documents no bound of its own, and what an ENI may hold comes from EC2; where EC2 does not
 *  tell that, a batch that it refuses is halved down to one address in as many calls as a request makes. */
export const CALL_ADDRESSES_MAX = 128;
/** Intents taken over in one go. */
const TAKE_OVER_MAX = 200;

export interface Assigned {
  readonly ready: readonly Allocation[];
  /** Found to be taken by somebody else. */
  readonly taken: readonly Allocation[];
  /** Why none is ready: EC2's refusal of the whole call, or that it did not answer. */
  readonly error: IpamError | null;
  /** Calls that EC2 refused for an address without a word or a sight of which. */
  readonly unexplained: number;
}

const change =
  (move: MoveName, more: Partial<Change> = {}) =>
  (row: Allocation): Change => ({ row, move, ...more });
const ipsOf = (rows: readonly Allocation[]): Ipv4[] => rows.map(row => row.ip);

/** Runs one EC2 call; answers its error, or null. What is not EC2's error is a bug and thrown. */
async function outcome(call: Promise<unknown>): Promise<IpamError | null> {
  try {
    await call;
    return null;
  } catch (error) {
    if (error instanceof IpamError) return error;
    throw error;
  }
}

/** Intents of this process, and when it is too late to send their call. */
interface Written {
  readonly intents: Allocation[];
  readonly sendBefore: number;
}

/** Writes intents. Their age counts from before they are written. */
async function write(
  machine: Machine,
  changes: readonly Change[],
): Promise<Written & { moved: Allocation[] }> {
  const sendBefore = machine.clock() + machine.policy.callDeadlineMs;
  const moved = await machine.store.move(changes);
  return { moved, intents: moved.filter(row => row.status.endsWith('assigning')), sendBefore };
}

/** Puts free rows on the ENI: the first `count` of those given that nobody else moves meanwhile. The caller has had the
 *  turn for the first call, since which rows it should be is decided after that. Those that EC2 refuses because somebody else has them become occupied, and the rest is asked for
 *  again, so that one foreign address never blocks the others. */
export async function assign(
  machine: Machine,
  eni: EniId,
  rows: readonly Allocation[],
  count = rows.length,
): Promise<Assigned> {
  const { store, cloud, log } = machine;
  const taken: Allocation[] = [];
  let unexplained = 0;
  let written = await intend(machine, eni, rows, Math.min(count, CALL_ADDRESSES_MAX));
  for (let calls = 0; calls < ASSIGN_CALLS_MAX && written.intents.length > 0; calls++) {
    const { intents } = written;
    const ips = ipsOf(intents);
    const error = await outcome(cloud.assign(eni, ips, written.sendBefore));
    log(error === null ? 'info' : 'warn', 'assign', { eni, ips, ...(error ? { error: error.line } : {}) });
    if (error === null)
      return { ready: await store.move(intents.map(change('assigned'))), taken, error, unexplained };
    if (!isRefusal(error)) return { ready: [], taken, error, unexplained };
    if (!isError(error, 'ec2-taken', 'ec2-unfit')) {
      await store.move(intents.map(change('refused')));
      return { ready: [], taken, error, unexplained };
    }
    const before = taken.length;
    const noTurn = intents.length > 1 ? await outcome(cloud.turn('assign')) : null;
    written = await partTaken(machine, eni, intents, error, { taken, mayCallAgain: noTurn === null });
    if (noTurn !== null) return { ready: [], taken, error: noTurn, unexplained };
    if (taken.length === before || (intents.length === 1 && error.addresses.length === 0)) unexplained++;
  }
  await store.move(written.intents.map(change('refused')));
  return { ready: [], taken, error: null, unexplained };
}

/** Writes the intents of an assign. Others who look for free addresses at the same time find the same ones. */
async function intend(
  machine: Machine,
  eni: EniId,
  rows: readonly Allocation[],
  count: number,
): Promise<Written> {
  const { intents, sendBefore } = await write(
    machine,
    rows.slice(0, count).map(change('assign', { iface: eni })),
  );
  for (let from = count; intents.length < count && from < rows.length; ) {
    const next = rows.slice(from, from + count - intents.length);
    from += next.length;
    intents.push(...(await write(machine, next.map(change('assign', { iface: eni })))).intents);
  }
  return { intents, sendBefore };
}

/** After a refusal for some address of the batch: writes down whose it is and answers the new intents for
 *  the next call, which are all the others where EC2 says which one it was, else half of them. */
async function partTaken(
  machine: Machine,
  eni: EniId,
  intents: readonly Allocation[],
  refusal: IpamError,
  { taken, mayCallAgain }: { taken: Allocation[]; mayCallAgain: boolean },
): Promise<Written> {
  const carriers = await carriersOf(machine, intents);
  const named = new Set<Ipv4>(refusal.addresses);
  const guilty = intents.filter(row => named.has(row.ip) || carriers.has(row.ip) || intents.length === 1);
  const innocent = intents.filter(row => !guilty.includes(row));
  const next = guilty.length > 0 ? innocent : innocent.slice(0, Math.ceil(innocent.length / 2));
  const again = mayCallAgain ? next : [];
  const written = await write(machine, [
    ...guilty.map(row => {
      const carrier = carriers.get(row.ip);
      return change('taken', { iface: carrier?.id ?? null, refused: carrier === undefined })(row);
    }),
    ...again.map(change('assign again')),
    ...innocent.slice(again.length).map(change('refused')),
  ]);
  for (const row of written.moved) if (row.status === 'occupied') taken.push(row);
  if (guilty.length > 0) machine.log('info', 'taken by others', { eni, ips: ipsOf(guilty) });
  return written;
}

/** Which of the rows EC2 shows on an ENI; none when it does not answer, since this only saves calls. */
async function carriersOf(
  machine: Machine,
  rows: readonly Allocation[],
): Promise<ReadonlyMap<Ipv4, CloudEni>> {
  const [first] = rows;
  if (first === undefined) return new Map();
  try {
    return await machine.cloud.carriers(first.subnet, ipsOf(rows));
  } catch (error) {
    if (error instanceof IpamError) return new Map();
    throw error;
  }
}

export interface Unassigned {
  /** Those that are free now. */
  readonly freed: readonly Allocation[];
  /** Why others are not: what EC2 said last. Null: it took off all that was still ready. */
  readonly error: IpamError | null;
}

/** Takes ready rows off their ENIs, one call for each. */
export async function unassign(machine: Machine, rows: readonly Allocation[]): Promise<Unassigned> {
  const freed: Allocation[] = [];
  let error: IpamError | null = null;
  for (const [eni, batch] of batchesByEni(rows)) {
    await machine.cloud.turn('unassign');
    const result = await unassignFrom(machine, eni, batch);
    freed.push(...result.freed);
    error = result.error ?? error;
  }
  return { freed, error };
}

/** Takes ready rows off the ENI; the caller has had the turn, since which rows it should be is decided after it. */
export const unassignFrom = (
  machine: Machine,
  eni: EniId,
  rows: readonly Allocation[],
): Promise<Unassigned> =>
  callUnassign(machine, eni, rows.slice(0, CALL_ADDRESSES_MAX).map(change('unassign')), 'kept');

/** Writes the intents, for which there has been a turn, sends their call and settles them; halves a batch that is refused for an address in it.
 *  `otherwise`: what a definite refusal for another reason makes of them; null leaves them for later, and says that a
 *  call for them before this one may have had no answer. */
async function callUnassign(
  machine: Machine,
  eni: EniId,
  changes: readonly Change[],
  otherwise: 'kept' | null,
): Promise<Unassigned> {
  const { store, cloud, log } = machine;
  const { intents, sendBefore } = await write(machine, changes);
  if (intents.length === 0) return { freed: [], error: null };
  const ips = ipsOf(intents);
  const error = await outcome(cloud.unassign(eni, ips, sendBefore));
  log(error === null ? 'info' : 'warn', 'unassign', { eni, ips, ...(error ? { error: error.line } : {}) });
  const gone =
    isError(error, 'ec2-not-found') || (isError(error, 'ec2-not-assigned') && intents.length === 1);
  if (error === null || gone) {
    const unsure = otherwise === null;
    const freed = await store.move(intents.map(change('unassigned', { unsure })));
    return { freed, error: null };
  }
  if (isError(error, 'ec2-not-assigned')) {
    const middle = Math.ceil(intents.length / 2);
    const halves = [intents.slice(0, middle), intents.slice(middle)];
    const results: Unassigned[] = [];
    for (const half of halves) {
      await cloud.turn('unassign');
      results.push(await callUnassign(machine, eni, half.map(change('unassign again')), otherwise));
    }
    return {
      freed: results.flatMap(result => result.freed),
      error: results.find(result => result.error !== null)?.error ?? null,
    };
  }
  if (isRefusal(error) && otherwise !== null) await store.move(intents.map(change(otherwise)));
  return { freed: [], error };
}

/** Takes over the intents that nobody settled within the grace, and those that nobody has called for yet;
 *  answers how many are free now. */
export async function takeOver(machine: Machine): Promise<number> {
  const { store, policy, instance } = machine;
  const open = await store.intents(policy.graceMs, TAKE_OVER_MAX);
  // An ENI that has left this instance may be another ledger's by now: what EC2 shows settles its rows.
  const here = instance === null ? null : new Set(oursIn(await store.enis(), instance).map(eni => eni.id));
  const rows = open.rows.filter(({ iface }) => here === null || (iface !== null && here.has(iface)));
  if (rows.length > 0) machine.log('warn', 'take over', { ips: ipsOf(rows) });
  return await takeOff(machine, rows);
}

/** Makes intents for which no call can be under way any more this process's own, and takes their addresses off;
 *  answers how many are free now. */
export async function takeOff(machine: Machine, rows: readonly Allocation[]): Promise<number> {
  let freed = 0;
  for (const [eni, batch] of batchesByEni(rows)) {
    const again = (row: Allocation) =>
      change(row.status === 'assigning' ? 'take over' : 'unassign again')(row);
    await machine.cloud.turn('unassign');
    freed += (await callUnassign(machine, eni, batch.map(again), null)).freed.length;
  }
  return freed;
}

/** Assigns held addresses again that are missing from their ENI, with one call for each ENI, and more where EC2
 *  takes some of them only. They stay allocated whatever comes. Answers how many are back. */
export async function repair(machine: Machine, rows: readonly Allocation[]): Promise<number> {
  let repaired = 0;
  for (const [eni, batch] of batchesByEni(rows)) {
    try {
      repaired += await repairOn(machine, eni, batch);
    } catch (error) {
      if (!isError(error, 'ec2-throttled')) throw error;
      machine.log('warn', 'a repair had no turn, and is tried again', { eni, error: error.line });
    }
  }
  return repaired;
}

/** Of a batch that is refused, those are asked for again that EC2 does not name, or half and half, so that neither
 *  one that somebody else has nor the limit of the ENI keeps the others away. */
async function repairOn(machine: Machine, eni: EniId, rows: readonly Allocation[]): Promise<number> {
  const { store, cloud, log } = machine;
  await cloud.turn('assign');
  const sendBefore = machine.clock() + machine.policy.callDeadlineMs;
  const missed = await store.move(rows.map(change('missed')));
  if (missed.length === 0) return 0;
  const error = await outcome(cloud.assign(eni, ipsOf(missed), sendBefore));
  log('warn', 'drift: held addresses were missing from their ENI', {
    eni,
    ips: ipsOf(missed),
    ...(error === null ? { repaired: true } : { error: error.line }),
  });
  if (error === null) return (await store.move(missed.map(change('found')))).length;
  if (!isError(error, 'ec2-taken', 'ec2-unfit', 'ec2-limit')) return 0;
  const others = missed.filter(row => !error.addresses.includes(row.ip));
  if (others.length < missed.length) return await repairOn(machine, eni, others);
  if (missed.length === 1) return 0;
  const middle = Math.ceil(missed.length / 2);
  const first = await repairOn(machine, eni, missed.slice(0, middle));
  return first + (await repairOn(machine, eni, missed.slice(middle)));
}

/** Rows grouped by the ENI they name, at most one call's worth in each. */
function batchesByEni(rows: readonly Allocation[]): [EniId, Allocation[]][] {
  const byEni = new Map<EniId, Allocation[]>();
  for (const row of rows) {
    if (row.iface === null) continue;
    byEni.set(row.iface, [...(byEni.get(row.iface) ?? []), row]);
  }
  return [...byEni].flatMap(([eni, all]) => {
    const batches: [EniId, Allocation[]][] = [];
    for (let i = 0; i < all.length; i += CALL_ADDRESSES_MAX)
      batches.push([eni, all.slice(i, i + CALL_ADDRESSES_MAX)]);
    return batches;
  });
}
