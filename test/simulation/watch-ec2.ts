/** Rules about EC2, checked at each change. */
import type { Ipv4 } from '../../src/domain/address.ts';
import type { Allocation } from '../../src/domain/allocation.ts';
import type { EniId, SubnetId } from '../../src/domain/ids.ts';
import type { Process } from '../kit/clock.ts';
import { CALL_TIMEOUT_MS, keyOf, LATE_READ_MS_MAX } from './layout.ts';
import { CHANGES_NOTHING, type Mirror, type Oracle } from './oracle.ts';

/** A call of ours that changes something, as it was when it was sent. */
export interface Call {
  readonly oracle: Oracle;
  readonly process: Process;
  readonly mirror: Mirror;
  readonly kind: 'assign' | 'unassign';
  readonly eni: EniId;
  readonly subnet: SubnetId;
  readonly ips: readonly Ipv4[];
  /** What its sender last wrote of each address. */
  readonly intents: ReadonlyMap<string, Allocation>;
}

/** After so long an embedded ledger knows that an ENI has left its instance: it reads the ENI before each
 *  unassign, and before an assign when its last reading is old. */
const ASKED_MS = LATE_READ_MS_MAX + CALL_TIMEOUT_MS;
/** How long a reading counts while EC2 does not answer. */
const LAST_SHOWN_MS = 600_000;
const KNOWN_AFTER_MS = { unassign: ASKED_MS, assign: ASKED_MS + LAST_SHOWN_MS } as const;

/** A ledger of one instance changes nothing on an ENI that is attached to nothing, or to another one. */
function watchPlace({ oracle, process, mirror, kind, eni }: Call): void {
  if (oracle.eni(eni) === undefined || process.frozenMs > 0 || oracle.isHere(mirror.index, eni)) return;
  oracle.demand(
    oracle.now - (oracle.detachedAt.get(eni)?.at(-1) ?? 0) < KNOWN_AFTER_MS[kind],
    'an embedded ledger changes nothing on an ENI that has left its instance',
  );
}

/** With the life of a signature and the call deadline it is below the grace. */
const DAY_AHEAD_MS_MAX = 5_000;

/** Checks a call when it is sent. */
export function watchSending(call: Call, sent: Set<string>): void {
  const { oracle, process, mirror } = call;
  oracle.note(`${process.id}: ${call.kind} ${call.ips.join(' ')} on ${call.eni} is sent`);
  watchPlace(call);
  oracle.demand(!oracle.harmless.has(process), CHANGES_NOTHING);
  oracle.demand(
    process.dayAheadMs <= DAY_AHEAD_MS_MAX,
    "nothing is changed by a process whose time of day is ahead of EC2's: its signature would live too long",
    () => `${process.id} is ${process.dayAheadMs} ms ahead`,
  );
  for (const ip of call.ips) {
    const key = keyOf(call.subnet, ip);
    const intent = call.intents.get(key);
    const id = `${mirror.index} ${mirror.lives} ${key} #${intent?.generation}`;
    oracle.demand(!sent.has(id), 'an intent has one call');
    sent.add(id);
    const row = mirror.rows.get(key);
    if (row?.generation !== intent?.generation) continue; // checked when it is applied
    const ageMs = oracle.now - (mirror.since.get(key) ?? oracle.now);
    oracle.demand(
      ageMs <= oracle.layout.policy.callDeadlineMs,
      'a call is sent only while its intent is young',
      () => `${key}: ${call.kind} was sent ${ageMs} ms after its intent`,
    );
  }
}

/** Checks a call when EC2 applies it: `before` and `after` are the secondaries of its ENI. */
export function watchApplied(call: Call, before: readonly Ipv4[], after: readonly Ipv4[]): void {
  const { oracle, mirror, eni } = call;
  oracle.note(`EC2 applies ${call.kind} on ${eni} of ${call.process.id}: ${after.join(' ')}`);
  for (const ip of after)
    if (!before.includes(ip)) {
      const key = keyOf(call.subnet, ip);
      oracle.appliedAt.set(`${eni} ${ip}`, oracle.now);
      oracle.placedBy.set(`${eni} ${ip}`, mirror.index);
      if (oracle.takenByOthers.get(key) === eni) oracle.takenByOthers.delete(key);
      watchIntent(call, ip, ['assigning', 'allocated', 'unassigning']);
    }
  for (const ip of before) if (!after.includes(ip)) watchRemoval(call, ip);
}

function watchRemoval(call: Call, ip: Ipv4): void {
  const { oracle, mirror, eni } = call;
  const key = keyOf(call.subnet, ip);
  const holding = oracle.held.get(key);
  oracle.demand(
    holding === undefined || holding.eni !== eni || oracle.hasLeft(holding),
    'no address is taken from under a container',
    () => `${call.process.id} unassigned ${key} from ${eni}, where ${holding?.engine} holds it`,
  );
  oracle.demand(
    oracle.strangers.get(key) !== eni || oracle.maybeOurs.has(`${mirror.index} ${eni} ${ip}`),
    "a stranger's address is never unassigned",
    () => `${call.process.id} unassigned ${key} from ${eni}`,
  );
  oracle.strangers.delete(key);
  watchIntent(call, ip, ['unassigning']);
}

/** The row must be in the very intent that the call is for. A repair's row is held, or was given up since. */
function watchIntent(call: Call, ip: Ipv4, allowed: readonly Allocation['status'][]): void {
  const { oracle, kind, eni } = call;
  const key = keyOf(call.subnet, ip);
  const row = call.mirror.rows.get(key);
  const intent = call.intents.get(key);
  // A read showed another's address and took it for ours: the row has moved on since.
  if (kind === 'assign' && oracle.takenForOurs.delete(`${eni} ${ip}`)) {
    oracle.indistinguishable.add(`${eni} ${ip}`);
    return;
  }
  const isRepair = kind === 'assign' && intent?.status === 'allocated';
  // One of several repairs may be applied late, after the address was given up and unassigned: the next reconcile
  // pass notes it as occupied.
  if (isRepair && row?.status === 'free' && row.leftIface === eni) return;
  oracle.demand(
    row !== undefined &&
      intent !== undefined &&
      row.iface === eni &&
      (isRepair
        ? row.status !== 'assigning'
        : allowed.includes(row.status) && row.generation === intent.generation),
    'EC2 applies a call of ours only while its row is in that intent',
    () =>
      `${kind} of ${key} on ${eni} for #${intent?.generation} ${intent?.status}; the row is #${row?.generation} ${row?.status} on ${row?.iface}`,
  );
}

/** How much longer than its limit a request may take: for the call under way, and for writing its outcome. */
export const REQUEST_SLACK_MS = CALL_TIMEOUT_MS + 15_000;
/** The same for a pool: its ENI is read from EC2, and a read is sent three times. */
export const POOL_SLACK_MS = REQUEST_SLACK_MS + 4 * CALL_TIMEOUT_MS;
