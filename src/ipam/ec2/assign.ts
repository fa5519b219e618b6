/** Assigns addresses to an ENI, and settles calls that EC2 refused or did not answer. */
import type { CloudEni, Permit } from '../../cloud/cloud.ts';
import type { Ipv4 } from '../../domain/address.ts';
import { type Allocation, type Change, LATE_READS_MS } from '../../domain/allocation.ts';
import { IpamError, isError, isRefusal } from '../../domain/error.ts';
import type { EniId } from '../../domain/ids.ts';
import { atQuota, type Limited, roomOf } from '../../domain/tenant.ts';
import { ANSWERED_WITHIN_MS } from '../../domain/unanswered.ts';
import type { IpamContext } from '../context.ts';
import {
  type Answered,
  answered,
  CALL_ADDRESSES_MAX,
  change,
  type Ec2Call,
  ipsOf,
  newEc2Call,
  noAnswer,
  outcome,
  resultOf,
  type Written,
  write,
} from './intents.ts';
import { refuseElsewhere } from './located.ts';

/** Calls that one request makes: seven, by which halving finds one refused address among 64, and one more. */
export const ASSIGN_CALLS_MAX = 8;
/** Addresses that EC2 may refuse one by one for an unknown reason. After that the reason is not the address, and
 *  the request fails. */
export const REJECTED_MAX = 3;
/** The longest wait, in milliseconds, until EC2 shows an address that came from another ENI on its new one. */
export const CONFIRM_MS_MAX = 2_000;
/** The pause after the first read, in milliseconds. It doubles with each read. */
const CONFIRM_PAUSE_MS = 100;
/** The time without an answer, in milliseconds, after which the ENI is read. */
const FOLLOW_UP_AFTER_MS = 1_000;

export interface Assigned {
  readonly ready: readonly Allocation[];
  /** The rows whose addresses EC2 says are on another ENI. */
  readonly taken: readonly Allocation[];
  /** Why no address is ready: EC2's last error, or that it did not answer, or the tenant's quota. Null if other
   *  requests or foreign ENIs have every address that was tried. */
  readonly error: IpamError | null;
  readonly calls: number;
  /** How many addresses EC2 refused one by one for an unknown reason. */
  readonly rejected: number;
  /** The rows of the call that had no answer. */
  readonly unanswered: readonly Allocation[];
  /** The tenant of the ENI if it is at its quota, so that no call was made; else null. */
  readonly full: Limited | null;
}

/** The permits of an assign. */
export interface Permits {
  /** Of the first call. */
  readonly first: Permit;
  /** Waits for that of a further call, no longer than those wait who need the address. */
  readonly next: () => Promise<Permit>;
}

/** Assigns free rows to the ENI: the first `count` candidates that no other request changes first. If EC2 refuses a
 *  batch because of an address, the next call leaves that address out, so that one foreign address never blocks a
 *  subnet. Makes at most `callsMax` calls. */
export async function assign(
  context: IpamContext,
  eni: EniId,
  permits: Permits,
  candidates: readonly Allocation[],
  count = candidates.length,
  callsMax = ASSIGN_CALLS_MAX,
): Promise<Assigned> {
  const taken: Allocation[] = [];
  let [calls, rejected] = [0, 0];
  let error: IpamError | null = null;
  const size = Math.min(count, CALL_ADDRESSES_MAX);
  let next: Candidates = { first: candidates, later: [], size };
  const ended = (ready: readonly Allocation[] = [], unanswered: readonly Allocation[] = []): Assigned => ({
    ...{ ready, taken, calls, rejected, unanswered, full: null },
    error: isError(error, 'ec2-taken') ? null : error,
  });
  while (calls < callsMax && rejected < REJECTED_MAX) {
    const granted = calls === 0 ? permits.first : await resultOf(permits.next());
    if (granted instanceof IpamError) {
      error = granted;
      return ended();
    }
    using one = granted;
    await refuseElsewhere(context, eni);
    const call = newEc2Call();
    const { intents, left, sendBefore, full } = await intend(context, eni, next, call);
    if (intents.length === 0 && full !== null) return { ...ended(), error: atQuota(full), full };
    if (intents.length === 0) return ended();
    const answer = await callAssign(context, eni, one, { intents, sendBefore, call });
    calls++;
    ({ error } = answer);
    if (error === null) return ended(answer.ready);
    if (!isRefusal(error)) return ended([], intents);
    if (!isAboutAddresses(error)) return ended();
    taken.push(...answer.guilty.filter(row => row.status === 'occupied'));
    if (isError(error, 'ec2-invalid') && intents.length === 1) rejected++;
    next = nextAfter(answer, error, left, next, size);
    if (next.first.length === 0) return ended();
  }
  return ended();
}

interface Candidates {
  readonly first: readonly Allocation[];
  /** The rows after those: first the ones that no call has named yet, then those of a refused batch. */
  readonly later: readonly Allocation[];
  readonly size: number;
}

/** Returns the candidates after a refusal that is about an address: half of the batch while the cause is unknown,
 *  else the rows without the cause. */
function nextAfter(
  { guilty, innocent }: Answer,
  error: IpamError,
  left: readonly Allocation[],
  { later }: Candidates,
  size: number,
): Candidates {
  const middle = Math.ceil(innocent.length / 2);
  if (guilty.length === 0)
    return {
      first: innocent.slice(0, middle),
      later: [...left, ...later, ...innocent.slice(middle)],
      size: middle,
    };
  const isAlone = innocent.length === 0;
  const others = isAlone ? [...left, ...later] : [...innocent, ...left];
  return {
    first: others,
    later: isAlone ? [] : later,
    size: isAlone && isError(error, 'ec2-invalid') ? 1 : size,
  };
}

/** Writes the intents of an assign. Tries further rows for those that another request has taken first: concurrent
 *  requests choose the same free rows. `left` are the candidates that were not tried. `full` is the tenant of the ENI
 *  if its quota lets no further intent through. */
async function intend(
  context: IpamContext,
  eni: EniId,
  { first, size }: Candidates,
  call: Ec2Call,
): Promise<Written & { left: readonly Allocation[]; full: Limited | null }> {
  const chosen = first.slice(0, size);
  const { intents, sendBefore } = await write(context, chosen.map(change('assign', { iface: eni })), call);
  let full = intents.length < size ? await tenantAtQuota(context, eni) : null;
  let from = chosen.length;
  while (full === null && intents.length < size && from < first.length) {
    const next = first.slice(from, from + size - intents.length);
    from += next.length;
    intents.push(...(await write(context, next.map(change('assign', { iface: eni })), call)).intents);
    if (intents.length < size) full = await tenantAtQuota(context, eni);
  }
  return { intents, sendBefore, left: first.slice(from), full };
}

/** Returns the tenant of the ENI if it is at its quota, else null. */
export async function tenantAtQuota({ store }: IpamContext, eni: EniId): Promise<Limited | null> {
  const tenant = await store.tenantOf(eni);
  return roomOf(tenant) < 1 ? tenant : null;
}

/** The result of one call. */
interface Answer {
  readonly error: IpamError | null;
  readonly ready: readonly Allocation[];
  /** After a refusal that is about an address: the rows that caused it. They are occupied or skipped now. */
  readonly guilty: readonly Allocation[];
  /** The other rows of the batch. They are free again. */
  readonly innocent: readonly Allocation[];
}
const isAboutAddresses = (error: IpamError): boolean => isError(error, 'ec2-taken', 'ec2-invalid');

/** Sends the call of the intents, once. Returns ec2-unknown if it has no answer in time. A late answer still
 *  settles the intents, and so does a read that shows them on the ENI. */
async function callAssign(
  context: IpamContext,
  eni: EniId,
  permit: Permit,
  { intents, sendBefore, call }: Written & { readonly call: Ec2Call },
): Promise<Answer> {
  const sentAt = context.clock();
  const waiting = new AbortController();
  let isAnswered = false;
  const settled = outcome(permit.send(eni, ipsOf(intents), sendBefore)).then(answer => {
    isAnswered = true;
    const error = unlessOfOthers(answer, intents);
    return settleAssign(context, eni, intents, { error, sentAt, ...answered(call, error) });
  });
  context.followUps?.sent(settled);
  settled.catch(error => context.log('warn', 'assign not settled yet', { eni, error }));
  try {
    const silent = silence(context, eni, intents, sentAt, waiting.signal);
    return await Promise.race([settled, silent.then(none => (isAnswered ? settled : none))]);
  } finally {
    waiting.abort();
  }
}

/** Returns EC2's refusal. One that calls only other addresses taken proves nothing of these: its reason is not known. */
function unlessOfOthers(error: IpamError | null, intents: readonly Allocation[]): IpamError | null {
  if (!isError(error, 'ec2-taken') || error.addresses.length === 0) return error;
  if (intents.some(row => error.addresses.includes(row.ip))) return error;
  return new IpamError('ec2-invalid', error.message, { cause: error });
}

/** Resolves after ANSWERED_WITHIN_MS, or earlier with the rows that a read shows on the ENI. */
async function silence(
  context: IpamContext,
  eni: EniId,
  intents: readonly Allocation[],
  sentAt: number,
  signal: AbortSignal,
): Promise<Answer> {
  const { wait, followUps } = context;
  await wait(FOLLOW_UP_AFTER_MS, signal);
  if (signal.aborted) return silent(eni);
  followUps?.watch(eni, sentAt);
  const over = wait(ANSWERED_WITHIN_MS - FOLLOW_UP_AFTER_MS, signal).then((): Allocation[] => []);
  const ips = new Set(ipsOf(intents));
  const seen = followUps?.next(eni).then(rows => rows.filter(row => ips.has(row.ip))) ?? over;
  const ready = await Promise.race([seen, over]);
  if (ready.length === 0) await over;
  return ready.length === 0 ? silent(eni) : { error: null, ready, guilty: [], innocent: [] };
}

const silent = (eni: EniId): Answer => ({ error: noAnswer(eni), ready: [], guilty: [], innocent: [] });

/** Moves the intents by EC2's answer to their call. */
async function settleAssign(
  context: IpamContext,
  eni: EniId,
  intents: readonly Allocation[],
  { error, sentAt, ec2 }: { error: IpamError | null; sentAt: number; ec2: Answered['ec2'] },
): Promise<Answer> {
  const { store, log, followUps } = context;
  const none = { error, ready: [], guilty: [], innocent: [] };
  const ips = ipsOf(intents);
  if (error === null) log('info', 'assigned', { eni, ips });
  else log('warn', 'assign failed', { eni, ips, error: error.line });
  if (error === null) return { ...none, ready: await assigned(context, eni, intents, ec2) };
  if (!isRefusal(error)) {
    followUps?.watch(eni, sentAt);
    return none;
  }
  const { guilty, carriers } = await guiltyOf(context, intents, error);
  const blamed = (row: Allocation): Change =>
    isError(error, 'ec2-invalid')
      ? change('skipped', { refused: true, ec2 })(row)
      : change('taken', {
          iface: carriers.get(row.ip)?.id ?? null,
          refused: !carriers.has(row.ip),
          ec2,
        })(row);
  const moved = await store.move([
    ...guilty.map(blamed),
    ...intents.filter(row => !guilty.includes(row)).map(change('refused', { ec2 })),
  ]);
  if (moved.length < intents.length) await disown(context, eni, intents, moved);
  const why = isError(error, 'ec2-invalid') ? 'refused by EC2, skipped for 10 minutes' : 'taken by others';
  if (guilty.length > 0) log('info', why, { eni, ips: ipsOf(guilty) });
  const after = (row: Allocation) => moved.find(one => one.ip === row.ip) ?? row;
  return {
    ...none,
    guilty: guilty.map(after),
    innocent: moved.filter(row => !guilty.some(one => one.ip === row.ip)),
  };
}

/** Makes the intents ready after a successful call. An address that was on another ENI within LATE_READS_MS becomes
 *  ready only when EC2 shows it here: until then packets may still go to the former ENI. The others become ready at
 *  once. */
async function assigned(
  context: IpamContext,
  eni: EniId,
  intents: readonly Allocation[],
  ec2: Answered['ec2'],
): Promise<readonly Allocation[]> {
  const { store, policy, log, followUps } = context;
  const isFromElsewhere = ({ leftIface, leftAt, movedAt }: Allocation) =>
    leftIface !== null && leftIface !== eni && leftAt !== null && movedAt - leftAt < LATE_READS_MS;
  const arriving = policy.confirmMoves ? intents.filter(isFromElsewhere) : [];
  const others = intents.filter(row => !arriving.includes(row));
  const ready = others.length > 0 ? await store.move(others.map(change('assigned', { ec2 }))) : [];
  if (arriving.length === 0) return ready;
  const confirmed = confirm(context, eni, arriving, ec2);
  if (others.length === 0) return await confirmed;
  followUps?.sent(confirmed);
  confirmed.catch(error => log('warn', 'assign not settled yet', { eni, error }));
  return ready;
}

/** Makes each intent ready when EC2 shows it on the ENI, and the rest after CONFIRM_MS_MAX. */
async function confirm(
  context: IpamContext,
  eni: EniId,
  intents: readonly Allocation[],
  ec2: Answered['ec2'],
): Promise<readonly Allocation[]> {
  const { store, cloud, clock, wait, log } = context;
  const until = clock() + CONFIRM_MS_MAX;
  const over = new AbortController();
  const tooLate = wait(CONFIRM_MS_MAX, over.signal);
  const ready: Allocation[] = [];
  let left = intents;
  for (let pauseMs = CONFIRM_PAUSE_MS; left.length > 0; pauseMs *= 2) {
    const look = cloud.eni(eni).catch(error => {
      if (error instanceof IpamError) return null;
      throw error;
    });
    const shown = new Set<Ipv4>((await Promise.race([look, tooLate]))?.secondaries);
    const isLate = clock() >= until;
    const arrived = left.filter(row => isLate || shown.has(row.ip));
    left = left.filter(row => !arrived.includes(row));
    if (arrived.length > 0) ready.push(...(await store.move(arrived.map(change('assigned', { ec2 })))));
    if (isLate) log('info', 'assigned, not yet shown by EC2', { eni, ips: ipsOf(arrived) });
    if (left.length > 0) await wait(Math.min(pauseMs, Math.max(until - clock(), 0)));
  }
  over.abort();
  return ready;
}

/** Returns the rows that caused the refusal: those that EC2 names, those that a read shows on an ENI, or the only
 *  row of the call. */
async function guiltyOf(context: IpamContext, intents: readonly Allocation[], refusal: IpamError) {
  const none = new Map<Ipv4, CloudEni>();
  if (!isAboutAddresses(refusal)) return { guilty: [], carriers: none };
  const carriers = isError(refusal, 'ec2-taken') ? await carriersOf(context, intents) : none;
  const named = new Set<Ipv4>(refusal.addresses);
  const guilty = intents.filter(row => named.has(row.ip) || carriers.has(row.ip) || intents.length === 1);
  return { guilty, carriers };
}

/** Marks rows as occupied that a read made ready although EC2 refused their call: the address on the ENI is
 *  foreign. A container that has got one keeps it. */
async function disown(
  context: IpamContext,
  eni: EniId,
  intents: readonly Allocation[],
  moved: readonly Allocation[],
): Promise<void> {
  const others = intents.filter(row => !moved.some(one => one.ip === row.ip));
  const [first] = others;
  if (first === undefined) return;
  const { rows } = await context.store.get(first.subnet, ipsOf(others));
  const seen = rows.filter(
    row =>
      row.iface === eni && others.some(one => one.ip === row.ip && one.generation + 1 === row.generation),
  );
  const changes = seen
    .filter(row => row.status === 'ready')
    .map(change('usurped', { iface: eni, primary: false }));
  const usurped = await context.store.move(changes);
  if (usurped.length > 0)
    context.log('warn', 'read contradicted by a refusal, addresses not ours', {
      eni,
      ips: ipsOf(usurped),
    });
}

/** Returns the ENIs on which EC2 shows the rows. Empty if EC2 does not answer in time: the result only saves calls.
 */
async function carriersOf(
  { cloud, wait }: IpamContext,
  rows: readonly Allocation[],
): Promise<ReadonlyMap<Ipv4, CloudEni>> {
  const none = new Map<Ipv4, CloudEni>();
  const [first] = rows;
  if (first === undefined) return none;
  const over = new AbortController();
  const shown = cloud.carriers(first.subnet, ipsOf(rows)).catch(error => {
    if (error instanceof IpamError) return none;
    throw error;
  });
  const late = wait(ANSWERED_WITHIN_MS, over.signal).then(() => none);
  return await Promise.race([shown, late]).finally(() => over.abort());
}
