/** Rules about the ledger, checked at each change. */
import { type Ipv4, isReserved } from '../../src/domain/address.ts';
import {
  type Allocation,
  type Change,
  isIntent,
  MOVES,
  type MoveName,
  ofItsClaim,
} from '../../src/domain/allocation.ts';
import type { EniId } from '../../src/domain/ids.ts';
import type { Process } from '../kit/clock.ts';
import { keyOf, LATE_READ_MS_MAX, SKEW_MS_MAX } from './layout.ts';
import { CHANGES_NOTHING, type Holding, type Mirror, ONLY_POOLED, type Oracle } from './oracle.ts';

/** Moves that only note what EC2 says. */
const OBSERVATIONS: readonly MoveName[] = ['foreign', 'seen', 'unseen', 'vacated'];

/** One row that a statement changed. */
export interface Moved {
  readonly oracle: Oracle;
  readonly mirror: Mirror;
  readonly process: Process;
  readonly change: Change;
  readonly key: string;
  readonly before: Allocation;
  readonly after: Allocation;
  /** Rows that the same commit moved to the same status on the same ENI. */
  readonly together: number;
  /** By the store's clock. */
  readonly storeNow: number;
}

export function watchMove(moved: Moved): void {
  const { oracle, mirror, process, change, key, before, after } = moved;
  oracle.note(
    `${process.id}: ${change.move} ${after.ip} ${before.status}→${after.status} on ${after.iface ?? before.iface} #${after.generation}`,
  );
  const rule = MOVES[change.move];
  oracle.demand(
    before.status === rule.from && after.status === rule.to && after.generation === before.generation + 1,
    'every change of a row is a move of the table',
  );
  const seen = change.row;
  oracle.demand(
    before.status === seen.status && before.iface === seen.iface && before.generation === seen.generation,
    'a row moves only if it still stands as it was read',
    () =>
      `${key}: ${change.move} of #${seen.generation} ${seen.status} applied to #${before.generation} ${before.status}`,
  );
  const isRefused = change.move === 'taken' && change.refused === true;
  const wasThere = () => oracle.network.journalAfter(0).mutations.some(({ ips }) => ips.includes(after.ip));
  oracle.demand(
    !isRefused || wasThere(),
    "a refusal is taken for somebody else's address only where somebody has had it",
  );
  const eni = before.iface ?? change.iface ?? null;
  oracle.demand(
    eni === null || oracle.mayUse(mirror, eni) || OBSERVATIONS.includes(change.move),
    ONLY_POOLED,
  );
  const isFreed = after.status === 'free' && before.status !== 'assigning';
  const isGivenUp = before.status === 'allocated' && after.status !== 'allocated';
  oracle.demand(
    !oracle.misplaced.has(process) || !(isFreed || isGivenUp),
    'a server of another account or Region frees nothing and gives up nobody',
  );
  oracle.demand(!oracle.harmless.has(process), CHANGES_NOTHING);
  if (isGivenUp) watchGivingUp(moved);
  if (after.status === 'allocated' && before.status !== 'allocated') watchClaim(moved);
  if (before.status === 'free' && after.status === 'assigning') watchAssign(moved);
  oracle.demand(!isRefused || oracle.refusedAsTaken.has(key), 'what nobody has is not taken for occupied');
  // EC2 has refused it for certain.
  if (before.status === 'assigning' && (after.status === 'free' || after.status === 'occupied'))
    oracle.maybeOurs.delete(`${mirror.index} ${before.iface} ${before.ip}`);
  notePresumed(moved);
  // The server that claimed it may have died before it logged that.
  if (change.move === 'repeat') oracle.unloggedReuses.delete(key);
  if (change.move === 'assigned') watchArrival(moved);
  if (change.move === 'stranded' || change.move === 'abandoned') watchStranding(moved);
  noteRest(moved);
  mirror.rows.set(key, after);
  mirror.since.set(key, oracle.now);
}

/** How long a read may show what others took off. */
const GHOST_MS = LATE_READ_MS_MAX + 20_000;

/** A read shows an address of others where a call of ours for it had no answer: it cannot be told from ours. */
function notePresumed({ oracle, mirror, change, key, after }: Moved): void {
  const { iface } = after;
  if (iface === null) return;
  const place = `${iface} ${after.ip}`;
  const isGhost = (one: string) =>
    oracle.now - (oracle.removedByOthers.get(one) ?? Number.NEGATIVE_INFINITY) < GHOST_MS;
  const isShown = (one: string) => {
    const [eni = '', ip = ''] = one.split(' ');
    return isGhost(one) || oracle.network.carrier(after.subnet, ip as Ipv4) === eni;
  };
  const isStrangers = oracle.strangers.get(key) === iface;
  const isOthers = (oracle.placedBy.get(place) ?? mirror.index) !== mirror.index;
  if (change.move === 'usurped' && oracle.presumedOurs.delete(key)) oracle.strangers.set(key, iface);
  if (change.move !== 'assigned' || !(isStrangers || isOthers || isGhost(place))) return;
  if (![...(oracle.batchOf.get(place) ?? [])].every(isShown)) return;
  oracle.takenForOurs.add(place);
  const isThere = oracle.network.carrier(after.subnet, after.ip) === iface;
  if (!isThere) oracle.takenByOthers.set(key, iface);
  if (!isStrangers) return;
  oracle.presumedOurs.set(key, iface);
  oracle.strangers.delete(key);
}

/** How far off a duration by the store's clock may be: as far as the clock has stepped in this history. */
const steppedMs = ({ clock }: Mirror): number => clock.mostMs - clock.leastMs;

/** It is proof that a holder has ended when its ENI has been detached, or gone, for so long. */
const PROVED_MS = 300_000 - 2 * SKEW_MS_MAX;

function watchGivingUp({ oracle, mirror, key, before }: Moved): void {
  for (const claims of oracle.unanswered.values()) claims.delete(key);
  // It cannot be told from the release by a container that was given the address meanwhile. That of a host which did
  // not have the ENI when it sent it harms nobody else: it can end only what was given to this host.
  const place = `${before.iface} ${before.ip}`;
  const { instance } = ofItsClaim(before);
  // What an old server gave it to is not recorded: then whoever has the ENI may end it.
  const isTrespass =
    oracle.trespasses.has(`${instance} ${place}`) ||
    (instance === null && [...oracle.trespasses].some(one => one.endsWith(` ${place}`)));
  const isStray = oracle.layout.hasAgents ? isTrespass : oracle.strayReleases.has(place);
  if (isStray) oracle.endedAstray.add(oracle.lastClaim(mirror, key));
  const holding = oracle.held.get(key);
  if (holding === undefined || holding.eni !== before.iface || holding.ledger !== mirror.index) return;
  const isAttached = oracle.instanceOf(holding.eni) !== null && oracle.isHere(mirror.index, holding.eni);
  const cuts = (oracle.detachedAt.get(holding.eni) ?? []).filter(at => oracle.now - at >= PROVED_MS);
  oracle.demand(
    isStray || cuts.some(at => !isAttached || holding.since <= at),
    'a holder is given up by its own release or on proof only',
  );
  oracle.provenOver.add(holding);
  oracle.held.delete(key);
}

/** Addresses on an ENI that has left are given up once that is proven; intents, after the grace. */
function watchStranding({ oracle, mirror, before, storeNow }: Moved): void {
  const { iface } = before;
  const cuts = iface === null ? [] : (oracle.detachedAt.get(iface) ?? []);
  oracle.demand(
    oracle.layout.owners[mirror.index] !== null && cuts.some(at => oracle.now - at >= PROVED_MS),
    'what is on an ENI is let go only when it is proven that the ENI has left',
  );
  oracle.demand(
    before.status === 'ready' ||
      storeNow - before.movedAt >= oracle.layout.policy.graceMs - steppedMs(mirror),
    'what is under way on an ENI that has left is let go after the grace',
    () => `${before.ip} ${before.status} on ${iface} for ${storeNow - before.movedAt} ms`,
  );
}

/** Two ledgers may each give an address in good faith when one of them gives it on an ENI that is not there any
 *  more. */
const mayBothHave = (other: Holding, { oracle, mirror, after }: Moved): boolean =>
  oracle.hasLeft(other) ||
  (after.iface !== null && oracle.hasLeft({ ledger: mirror.index, eni: after.iface }));

function watchClaim(moved: Moved): void {
  const { oracle, mirror, process, key, after } = moved;
  const cidr = oracle.layout.cidrs.get(after.subnet);
  const holding = oracle.held.get(key);
  oracle.demand(
    holding === undefined || (holding.ledger !== mirror.index && mayBothHave(holding, moved)),
    'no address is given twice',
    () => `${key} was claimed on ${after.iface} while ${holding?.engine} holds it on ${holding?.eni}`,
  );
  oracle.demand(
    cidr !== undefined && !isReserved(cidr, after.ip) && !after.primary,
    'no primary and no reserved address is given',
  );
  oracle.demand(
    oracle.strangers.get(key) === undefined || oracle.takenByOthers.has(key),
    "a stranger's address is never given",
  );
  if (oracle.layout.hasAgents) watchInstance(moved);
  const isNamed = (oracle.named.get(`${process.id} ${after.iface} ${after.ip}`) ?? 0) > 0;
  const isEarly = !isNamed && !isRested(moved);
  if (isEarly) forbidEarly(moved);
  oracle.unloggedReuses.delete(key);
  if (isEarly) oracle.unloggedReuses.add(key);
  mirror.claims.set(key, (mirror.claims.get(key) ?? 0) + 1);
  if (process.state === 'dead') oracle.lose(mirror, key, `${process.id} died as it claimed it`);
  else oracle.unanswered.get(process)?.add(key);
}

/** A client with a certificate is given addresses on the ENIs of its instance. */
function watchInstance({ oracle, process, key, after: { instance, iface } }: Moved): void {
  oracle.demand(instance !== null && iface !== null, 'a holding records the instance of its client');
  if (instance === null || iface === null || process.frozenMs > 0) return;
  oracle.demand(
    oracle.mayBelieve(iface, instance),
    'an address is given to the instance only that has the ENI',
    () => `${key} on ${iface} was given to ${instance}, which has not had it for a while`,
  );
}

/** How long a read is waited for that shows a moved address on its new ENI. */
const CONFIRM_MS = 2_000;

/** An address that was on another ENI just now is ready once EC2 shows it on its new one, or after CONFIRM_MS. */
function watchArrival({ oracle, mirror, key, before, storeNow }: Moved): void {
  const left = mirror.left.get(key);
  const isMoved =
    left !== undefined && left.eni !== before.iface && storeNow - left.at < STAYS_AWAY_MS - steppedMs(mirror);
  const place = `${before.iface} ${before.ip}`;
  const appliedAt = oracle.appliedAt.get(place);
  if (!oracle.layout.policy.confirmMoves || !isMoved || appliedAt === undefined) return;
  oracle.demand(
    oracle.now - appliedAt >= CONFIRM_MS || (oracle.shownAt.get(place) ?? 0) >= appliedAt,
    'what was on another ENI just now is given once EC2 shows it on its new one',
    () =>
      `${key} left ${left?.eni}, and was ready ${oracle.now - appliedAt} ms after it came to ${before.iface}`,
  );
}

function noteBatch({ oracle: { batchOf }, process, after, storeNow }: Moved): void {
  const batch = `${process.id} ${storeNow} ${after.iface}`;
  const places = batchOf.get(batch) ?? new Set();
  batchOf.set(batch, places.add(`${after.iface} ${after.ip}`));
  batchOf.set(`${after.iface} ${after.ip}`, places);
}

/** After a definite answer. */
const STAYS_AWAY_MS = 300_000;

function watchAssign(moved: Moved): void {
  const { oracle, mirror, process, key, after, storeNow } = moved;
  oracle.maybeOurs.add(`${mirror.index} ${after.iface} ${after.ip}`);
  noteBatch(moved);
  const left = mirror.left.get(key);
  const awayMs = left?.unsure ? oracle.layout.policy.graceMs : STAYS_AWAY_MS;
  oracle.demand(
    left === undefined || left.eni !== after.iface || storeNow - left.at >= awayMs - steppedMs(mirror),
    'an address that was taken off an ENI does not return to it too soon',
    () => `${key} left ${left?.eni} ${storeNow - (left?.at ?? 0)} ms before, unsure: ${left?.unsure}`,
  );
  if (isRested(moved)) return;
  forbidEarly(moved);
  oracle.demand(
    moved.together <= oracle.waiting(process, after.iface),
    'early reuse is of one address, for a waiting request',
    () => `${moved.together} for ${after.iface} by ${process.id}, ${key} among them`,
  );
}

function isRested({ oracle, mirror, key, after, storeNow }: Moved): boolean {
  const { cooldownMs, quarantineMs } = oracle.layout.policy;
  const rest = mirror.gaveUp.get(key);
  if (rest === undefined) return true;
  return storeNow - rest.at >= (rest.eni === after.iface ? cooldownMs : quarantineMs) - steppedMs(mirror);
}

function forbidEarly({ oracle, mirror, key, storeNow }: Moved): void {
  const rest = mirror.gaveUp.get(key);
  oracle.demand(
    !oracle.layout.policy.strictReuse,
    'with strictReuse cooldown and quarantine are always kept',
    () => `${key} was given up on ${rest?.eni} ${storeNow - (rest?.at ?? 0)} ms before`,
  );
}

function noteRest(moved: Moved): void {
  const { mirror, key, before, after, storeNow } = moved;
  const isGivenUp =
    (before.status === 'allocated' && after.status !== 'allocated') ||
    (before.status === 'occupied' && after.status !== 'occupied');
  if (isGivenUp) mirror.gaveUp.set(key, { at: storeNow, eni: before.iface });
  if (before.status === 'unassigning' && after.status === 'free')
    mirror.left.set(key, {
      at: storeNow,
      eni: before.iface,
      unsure: mirror.unansweredCalls.get(key)?.eni === before.iface,
    });
  if (after.missingSince === null && isOver(moved)) mirror.unansweredCalls.delete(key);
}

/** Whether the calls of the row that had no answer can't be applied any more: its intent has been settled, or, where a held
 *  address was repaired, the grace has passed. */
const isOver = ({ oracle, mirror, key, before, after }: Moved): boolean =>
  isIntent(before)
    ? !isIntent(after)
    : oracle.now - (mirror.unansweredCalls.get(key)?.at ?? 0) >=
      oracle.layout.policy.graceMs - steppedMs(mirror);

/** A row that has rested for so long was read before the server decided on early reuse. */
const SURELY_RESTED_MS = 90_000;

interface EarlyReuse {
  readonly eni: EniId;
  readonly ip: string;
  readonly storeNow: number;
  /** The addresses that a process without a container may have been seen to use. */
  readonly mayBeWithheld: ReadonlySet<Ipv4>;
}

/** The server logs that it gave the address before it had rested: no rested one may have been left. */
export function watchEarlyReuse(
  oracle: Oracle,
  mirror: Mirror,
  process: Process,
  { eni, ip, storeNow, mayBeWithheld }: EarlyReuse,
): void {
  const { cooldownMs, quarantineMs } = oracle.layout.policy;
  const row = [...mirror.rows.values()].find(one => one.ip === ip);
  if (row === undefined) return;
  oracle.unloggedReuses.delete(keyOf(row.subnet, row.ip));
  oracle.note(`${process.id}: early reuse of ${ip} for ${eni}`);
  const waiting = oracle.waiting(process, eni);
  oracle.demand(waiting > 0, 'early reuse is of one address, for a waiting request');
  if (process.frozenMs > 0 || (oracle.named.get(`${process.id} ${eni} ${ip}`) ?? 0) > 0) return;
  const better = [...mirror.rows.values()].filter(one => {
    const key = keyOf(one.subnet, one.ip);
    const rest = mirror.gaveUp.get(key);
    const restMs = rest?.eni === eni ? cooldownMs : quarantineMs;
    return (
      one.subnet === row.subnet &&
      one.status === 'ready' &&
      one.iface === eni &&
      !mayBeWithheld.has(one.ip) &&
      oracle.now - (mirror.since.get(key) ?? oracle.now) > SURELY_RESTED_MS &&
      (rest === undefined || storeNow - rest.at > restMs + SURELY_RESTED_MS)
    );
  });
  oracle.demand(
    // Requests that wait together take one each.
    better.length < waiting || better.length === 0 || oracle.ranged(process, eni),
    'early reuse is for want of a rested address only',
    () => `${row.ip} on ${eni} while ${better.map(one => one.ip)} is ready there and rested`,
  );
}

/** What was on an ENI for so long was shown when the ENI was read before its adoption. */
const SURELY_SEEN_MS = LATE_READ_MS_MAX + 60_000;

/** Addresses on the ENI that the ledger did not put there are noted before the ENI is used. */
export function watchAdoption(oracle: Oracle, mirror: Mirror, process: Process, id: EniId): void {
  oracle.note(`${process.id}: adopts ${id}`);
  oracle.demand(!oracle.harmless.has(process), CHANGES_NOTHING);
  oracle.demand(oracle.mayUse(mirror, id), ONLY_POOLED);
  oracle.adopted.add(`${mirror.index} ${id}`);
  const eni = oracle.eni(id);
  if (process.frozenMs > 0 || eni === undefined) return; // its reading may be as old as that
  for (const ip of eni.secondaries) {
    const isInherited = oracle.inherited.has(`${id} ${ip}`);
    if (oracle.strangers.get(keyOf(eni.subnet, ip)) !== id && !isInherited) continue;
    const putAt = oracle.putByOthers.get(`${id} ${ip}`) ?? Number.NEGATIVE_INFINITY;
    oracle.demand(
      oracle.now - putAt < SURELY_SEEN_MS || mirror.rows.get(keyOf(eni.subnet, ip))?.status !== 'free',
      'what an ENI has is written down before any address of it is offered',
      () => `${id} was adopted with ${ip} on it, which the ledger calls free`,
    );
  }
  if (eni.primary === null) return;
  const primary = mirror.rows.get(keyOf(eni.subnet, eni.primary));
  oracle.demand(
    primary === undefined || (primary.primary && primary.iface === id),
    'the primary address of an ENI is known as such before any address of it is offered',
    () => `${id} was adopted, and ${eni.primary} is ${primary?.status} on ${primary?.iface}`,
  );
}
