/** Puts addresses on an ENI, and finds out what became of a call that had no answer. */
import type { CloudEni, Permit } from '../../cloud/cloud.ts';
import { aborted } from '../../domain/abort.ts';
import type { Ipv4 } from '../../domain/address.ts';
import { type Allocation, type Change, LATE_READS_MS } from '../../domain/allocation.ts';
import { IpamError, isError, isRefusal } from '../../domain/error.ts';
import type { EniId } from '../../domain/ids.ts';
import { ANSWERED_WITHIN_MS, askedFor } from '../../domain/unanswered.ts';
import type { IpamContext } from '../context.ts';
import { notOurs } from './enis.ts';
import {
  CALL_ADDRESSES_MAX,
  change,
  ipsOf,
  noAnswer,
  outcome,
  resultOf,
  type Written,
  write,
} from './intents.ts';

/** Calls that one request makes: as many as find the one address of 64 that EC2 minds, and one more. */
export const ASSIGN_CALLS_MAX = 8;
/** Addresses that EC2 refuses each alone, for a reason we don't know, before it is taken to mind something else. */
export const REJECTED_MAX = 3;
/** The longest that an address which was on another ENI just now is looked for on its new one, in milliseconds, and the
 *  pause after the first look, which doubles. */
export const CONFIRM_MS_MAX = 2_000;
const CONFIRM_PAUSE_MS = 100;
/** A call without an answer for so long, in milliseconds, is looked for on its ENI. */
const SIGHT_AFTER_MS = 1_000;
/** Embedded, an ENI that EC2 has shown on this instance is believed to be there for so long, in milliseconds: longer than
 *  from one comparison to the next while addresses come and go. */
const ATTACHED_MS = 90_000;
/** The longest wait for EC2 to show where an ENI is, in milliseconds. */
const LOCATE_MS_MAX = 1_000;
/** The longest wait for one read of an ENI, in milliseconds. */
const SIGHT_MAX_MS = 20_000;

export interface Assigned {
  readonly ready: readonly Allocation[];
  /** Found to be taken by somebody else. */
  readonly taken: readonly Allocation[];
  /** Why none is ready: what EC2 said last, or that it did not answer. Null: others have all that were tried. */
  readonly error: IpamError | null;
  readonly calls: number;
  /** Addresses that EC2 refused alone, for a reason we don't know. */
  readonly rejected: number;
  /** Of the call that had no answer. */
  readonly unanswered: readonly Allocation[];
}

/** Puts free rows on the ENI: the first `count` of the candidates that nobody else moves meanwhile. The first call uses
 *  the caller's permit. When EC2 refuses a batch for an address, those that are found to be the cause are left out and
 *  others tried, so that one foreign address never blocks a subnet: at most `callsMax` calls. */
export async function assign(
  context: IpamContext,
  eni: EniId,
  permit: Permit,
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
    ...{ ready, taken, calls, rejected, unanswered },
    error: isError(error, 'ec2-taken') ? null : error,
  });
  while (calls < callsMax && rejected < REJECTED_MAX) {
    const granted = calls === 0 ? permit : await resultOf(context.cloud.permit('assign'));
    if (granted instanceof IpamError) {
      error = granted;
      return ended();
    }
    using one = granted;
    await refuseElsewhere(context, eni);
    const { intents, left, sendBefore } = await intend(context, eni, next);
    if (intents.length === 0) return ended();
    const answer = await callAssign(context, eni, one, intents, sendBefore);
    calls++;
    ({ error } = answer);
    if (error === null) return ended(answer.ready);
    if (!isRefusal(error)) return ended([], intents);
    if (!isAboutAddresses(error)) return ended();
    taken.push(...answer.guilty.filter(row => row.status === 'occupied'));
    if (isError(error, 'ec2-invalid') && intents.length === 1) rejected++;
    next = nextAfter(answer, error, left, next, size);
  }
  return ended();
}

/** Embedded, throws unless the ENI is on this instance, as EC2 showed a while ago or shows now: on another one it is
 *  another ledger's. Where EC2 does not say soon, what it showed last counts. */
async function refuseElsewhere(context: IpamContext, eni: EniId): Promise<void> {
  const { instance, store, cloud, wait } = context;
  if (instance === null) return;
  const known = await store.eni(eni);
  const { now } = await store.onEni(eni);
  const ageMs = Math.abs(now - (known?.attachmentSeenAt ?? 0));
  const isKnown = known?.instance === instance;
  if (isKnown && ageMs < ATTACHED_MS) return;
  const look = cloud.enisById([eni]).then(async ([seen]) => {
    if (seen?.instance === instance) await store.noteAttachments([seen], now);
    return seen?.instance ?? null;
  });
  const over = new AbortController();
  const late = wait(LOCATE_MS_MAX, over.signal).then(() => noAnswer(eni));
  const shown = await Promise.race([resultOf(look), late]).finally(() => over.abort());
  if (shown === instance) return;
  if (shown instanceof IpamError) {
    if (isKnown) return;
    throw shown;
  }
  if (shown === null && isKnown && ageMs < LATE_READS_MS)
    throw new IpamError('ec2-unreachable', `EC2 does not show ${eni} on ${instance}`, { hint: 'try again' });
  throw notOurs(eni, context);
}

/** Rows to choose from. */
interface Candidates {
  readonly first: readonly Allocation[];
  /** Those that come after them: first what EC2 was not asked for yet, then what was in a batch that it refused. */
  readonly later: readonly Allocation[];
  readonly size: number;
}

/** After a refusal for some address: half of the batch, until there is one that EC2 minds alone; then others. */
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

/** Writes the intents of an assign. Others who look for free addresses at the same time find the same ones.
 *  `left`: rows that it did not need. */
async function intend(
  context: IpamContext,
  eni: EniId,
  { first, size }: Candidates,
): Promise<Written & { left: readonly Allocation[] }> {
  const chosen = first.slice(0, size);
  const { intents, sendBefore } = await write(context, chosen.map(change('assign', { iface: eni })));
  let from = chosen.length;
  while (intents.length < size && from < first.length) {
    const next = first.slice(from, from + size - intents.length);
    from += next.length;
    intents.push(...(await write(context, next.map(change('assign', { iface: eni })))).intents);
  }
  return { intents, sendBefore, left: first.slice(from) };
}

/** What became of one call. */
interface Answer {
  readonly error: IpamError | null;
  readonly ready: readonly Allocation[];
  /** After a refusal for an address: those that are known to be the cause, which are not free any more or skipped. */
  readonly guilty: readonly Allocation[];
  /** The others, which are free again. */
  readonly innocent: readonly Allocation[];
}
const isAboutAddresses = (error: IpamError): boolean => isError(error, 'ec2-taken', 'ec2-invalid');

/** Sends the call of the intents, once. When it has no answer in time the request goes on without it: the answer that
 *  comes later settles them all the same, and so does a read that shows them on the ENI. */
async function callAssign(
  context: IpamContext,
  eni: EniId,
  permit: Permit,
  intents: readonly Allocation[],
  sendBefore: number,
): Promise<Answer> {
  const sentAt = context.clock();
  const waiting = new AbortController();
  let isAnswered = false;
  const settled = outcome(permit.send(eni, ipsOf(intents), sendBefore)).then(error => {
    isAnswered = true;
    return settleAssign(context, eni, intents, { error, sentAt });
  });
  context.sights?.sent(settled);
  settled.catch(error => context.log('warn', 'assign not settled yet', { eni, error }));
  try {
    const silent = silence(context, eni, intents, sentAt, waiting.signal);
    return await Promise.race([settled, silent.then(none => (isAnswered ? settled : none))]);
  } finally {
    waiting.abort();
  }
}

/** Ends when a call should have had its answer; earlier, when a read shows that it was applied. */
async function silence(
  context: IpamContext,
  eni: EniId,
  intents: readonly Allocation[],
  sentAt: number,
  signal: AbortSignal,
): Promise<Answer> {
  const { wait, sights } = context;
  await wait(SIGHT_AFTER_MS, signal);
  if (signal.aborted) return silent(eni);
  sights?.watch(eni, sentAt);
  const over = wait(ANSWERED_WITHIN_MS - SIGHT_AFTER_MS, signal).then((): Allocation[] => []);
  const ips = new Set(ipsOf(intents));
  const seen = sights?.next(eni).then(rows => rows.filter(row => ips.has(row.ip))) ?? over;
  const ready = await Promise.race([seen, over]);
  if (ready.length === 0) await over;
  return ready.length === 0 ? silent(eni) : { error: null, ready, guilty: [], innocent: [] };
}

const silent = (eni: EniId): Answer => ({ error: noAnswer(eni), ready: [], guilty: [], innocent: [] });

/** Throws ec2-unknown while the ENI has as many calls without an answer as it may. */
export async function stopInDoubt({ store }: IpamContext, eni: EniId): Promise<void> {
  const { rows, now } = await store.onEni(eni);
  if (askedFor(rows, now).next === 'none') throw noAnswer(eni);
}

/** EC2 says that the ENI is full: whether a read soon shows there what a call without an answer has put there. */
export async function isSeenSoon(context: IpamContext, eni: EniId, signal?: AbortSignal): Promise<boolean> {
  const { store, sights, wait, clock } = context;
  const { rows, now } = await store.onEni(eni);
  const newest = Math.max(...rows.filter(row => row.status === 'assigning').map(row => row.movedAt));
  if (sights === undefined || !Number.isFinite(newest)) return false;
  sights.watch(eni, clock() - Math.max(now - newest, 0));
  const over = new AbortController();
  const late = wait(SIGHT_MAX_MS, over.signal).then(() => []);
  const ended = signal === undefined ? late : aborted(signal).then(() => []);
  try {
    return (await Promise.race([sights.next(eni), late, ended])).length > 0;
  } finally {
    over.abort();
  }
}

/** Writes down what EC2 answered. */
async function settleAssign(
  context: IpamContext,
  eni: EniId,
  intents: readonly Allocation[],
  { error, sentAt }: { error: IpamError | null; sentAt: number },
): Promise<Answer> {
  const { store, log, sights } = context;
  const none = { error, ready: [], guilty: [], innocent: [] };
  const ips = ipsOf(intents);
  if (error === null) log('info', 'assigned', { eni, ips });
  else log('warn', 'assign failed', { eni, ips, error: error.line });
  if (error === null) return { ...none, ready: await assigned(context, eni, intents) };
  if (!isRefusal(error)) {
    sights?.watch(eni, sentAt);
    return none;
  }
  const { guilty, carriers } = await guiltyOf(context, intents, error);
  const blamed = (row: Allocation): Change =>
    isError(error, 'ec2-invalid')
      ? change('skipped', { refused: true })(row)
      : change('taken', { iface: carriers.get(row.ip)?.id ?? null, refused: !carriers.has(row.ip) })(row);
  const moved = await store.move([
    ...guilty.map(blamed),
    ...intents.filter(row => !guilty.includes(row)).map(change('refused')),
  ]);
  if (moved.length < intents.length) await disown(context, eni, intents, moved);
  const why = isError(error, 'ec2-invalid')
    ? 'EC2 will not have them: skipped for 10 minutes'
    : 'taken by others';
  if (guilty.length > 0) log('info', why, { eni, ips: ipsOf(guilty) });
  const after = (row: Allocation) => moved.find(one => one.ip === row.ip) ?? row;
  return {
    ...none,
    guilty: guilty.map(after),
    innocent: moved.filter(row => !guilty.some(one => one.ip === row.ip)),
  };
}

/** EC2 has put them on the ENI. Those that were on another one just now wait until EC2 shows them here, since for a while
 *  packets may still go to the former one; the others are not kept waiting by them. */
async function assigned(
  context: IpamContext,
  eni: EniId,
  intents: readonly Allocation[],
): Promise<readonly Allocation[]> {
  const { store, policy, log, sights } = context;
  const isFromElsewhere = ({ leftIface, leftAt, movedAt }: Allocation) =>
    leftIface !== null && leftIface !== eni && leftAt !== null && movedAt - leftAt < LATE_READS_MS;
  const arriving = policy.confirmMoves ? intents.filter(isFromElsewhere) : [];
  const others = intents.filter(row => !arriving.includes(row));
  const ready = others.length > 0 ? await store.move(others.map(change('assigned'))) : [];
  if (arriving.length === 0) return ready;
  const confirmed = confirm(context, eni, arriving);
  if (others.length === 0) return await confirmed;
  sights?.sent(confirmed);
  confirmed.catch(error => log('warn', 'assign not settled yet', { eni, error }));
  return ready;
}

/** Makes the intents ready as EC2 shows them on the ENI, and after the longest wait those that it doesn't. */
async function confirm(
  context: IpamContext,
  eni: EniId,
  intents: readonly Allocation[],
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
    if (arrived.length > 0) ready.push(...(await store.move(arrived.map(change('assigned')))));
    if (isLate) log('info', 'given before EC2 shows them on the ENI', { eni, ips: ipsOf(arrived) });
    if (left.length > 0) await wait(Math.min(pauseMs, Math.max(until - clock(), 0)));
  }
  over.abort();
  return ready;
}

/** Of a call that was refused for an address: those that EC2 names or a read shows to be somebody's, or the only one. */
async function guiltyOf(context: IpamContext, intents: readonly Allocation[], refusal: IpamError) {
  const none = new Map<Ipv4, CloudEni>();
  if (!isAboutAddresses(refusal)) return { guilty: [], carriers: none };
  const carriers = isError(refusal, 'ec2-taken') ? await carriersOf(context, intents) : none;
  const named = new Set<Ipv4>(refusal.addresses);
  const guilty = intents.filter(row => named.has(row.ip) || carriers.has(row.ip) || intents.length === 1);
  return { guilty, carriers };
}

/** EC2 has refused the call: what a read showed of its addresses on the ENI meanwhile, so that they became ready, is
 *  somebody else's. Who has been given one keeps it. */
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
    context.log('warn', 'read contradicted by a refusal: addresses not ours', {
      eni,
      ips: ipsOf(usurped),
    });
}

/** Which of the rows EC2 shows on an ENI; none when it does not answer soon, since this only saves calls. */
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
