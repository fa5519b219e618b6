/** Rules about EC2, held against every change of it. */
import type { Ipv4 } from '../../src/domain/address.ts';
import type { Allocation } from '../../src/domain/allocation.ts';
import type { EniId, SubnetId } from '../../src/domain/ids.ts';
import type { Process } from '../kit/clock.ts';
import { CALL_TIMEOUT_MS, keyOf, LATE_READ_MS_MAX } from './layout.ts';
import type { Mirror, Oracle } from './oracle.ts';
import { hasLeft } from './watch-enis.ts';

/** A call of ours that changes something, as it was when it was sent. */
export interface Call {
  readonly process: Process;
  readonly mirror: Mirror;
  readonly kind: 'assign' | 'unassign';
  readonly eni: EniId;
  readonly subnet: SubnetId;
  readonly ips: readonly Ipv4[];
  /** What its sender last wrote of each address. */
  readonly intents: ReadonlyMap<string, Allocation>;
}

/** An embedded ledger knows after so long that an ENI has left its instance: it asks before it takes anything off, and
 *  before it puts anything on where it has not been told for a while. */
const ASKED_MS = LATE_READ_MS_MAX + CALL_TIMEOUT_MS;
const KNOWN_AFTER_MS = { unassign: ASKED_MS, assign: ASKED_MS + 120_000 } as const;

/** A ledger of one instance changes nothing on an ENI that is attached to nothing, or to another one. */
function watchPlace(oracle: Oracle, call: Call, now: number): void {
  const isThere = [...oracle.network().enis()].some(eni => eni.id === call.eni);
  if (!isThere || call.process.frozenMs > 0 || oracle.isHere(call.mirror.index, call.eni)) return;
  oracle.demand(
    now - (oracle.cuts.get(call.eni)?.at(-1) ?? 0) <
      KNOWN_AFTER_MS[call.kind === 'unassign' ? 'unassign' : 'assign'],
    'an embedded ledger changes nothing on an ENI that has left its instance',
    () => `${call.kind} of ${call.ips.join(' ')} on ${call.eni} by ${call.process.id}`,
  );
}

/** Together with the life of a signature and the call deadline below the grace. */
const DAY_AHEAD_MS_MAX = 5_000;

/** Held against a call when it leaves. */
export function watchSending(oracle: Oracle, call: Call, now: number, sent: Set<string>): void {
  watchPlace(oracle, call, now);
  oracle.note(`${call.process.id}: ${call.kind} ${call.ips.join(' ')} on ${call.eni} is sent`);
  oracle.demand(
    call.process.dayAheadMs <= DAY_AHEAD_MS_MAX,
    "nothing is changed by a process whose time of day is ahead of EC2's: its signature would live too long",
    () => `${call.process.id} is ${call.process.dayAheadMs} ms ahead`,
  );
  for (const ip of call.ips) {
    const key = keyOf(call.subnet, ip);
    const intent = call.intents.get(key);
    const id = `${call.mirror.index} ${key} #${intent?.generation}`;
    oracle.demand(
      !sent.has(id),
      'an intent has one call',
      () => `${id} was sent again by ${call.process.id}`,
    );
    sent.add(id);
    const row = call.mirror.rows.get(key);
    if (row?.generation !== intent?.generation) continue; // seen when it is applied
    const ageMs = now - (call.mirror.since.get(key) ?? now);
    oracle.demand(
      ageMs <= oracle.layout.policy.callDeadlineMs,
      'a call is sent only while its intent is young',
      () => `${key}: ${call.kind} was sent ${ageMs} ms after its intent`,
    );
  }
}

/** Held against a call when EC2 applies it: `before` and `after` are the secondaries of its ENI. */
export function watchApplied(
  oracle: Oracle,
  call: Call,
  before: readonly Ipv4[],
  after: readonly Ipv4[],
  now: number,
): void {
  for (const ip of after)
    if (!before.includes(ip)) {
      const key = keyOf(call.subnet, ip);
      oracle.applied.set(`${call.eni} ${ip}`, now);
      oracle.placedBy.set(`${call.eni} ${ip}`, call.mirror.index);
      if (oracle.stolen.get(key) === call.eni) oracle.stolen.delete(key);
      watchIntent(oracle, call, ip, ['assigning', 'allocated', 'unassigning']);
    }
  for (const ip of before) if (!after.includes(ip)) watchRemoval(oracle, call, ip);
}

function watchRemoval(oracle: Oracle, call: Call, ip: Ipv4): void {
  const key = keyOf(call.subnet, ip);
  const holding = oracle.held.get(key);
  oracle.demand(
    holding === undefined || holding.eni !== call.eni || hasLeft(oracle, holding),
    'no address is taken from under a container',
    () => `${call.process.id} unassigned ${key} from ${call.eni}, where ${holding?.engine} holds it`,
  );
  oracle.demand(
    oracle.strangers.get(key) !== call.eni || oracle.blurred.has(`${call.eni} ${ip}`),
    "a stranger's address is never unassigned",
    () => `${call.process.id} unassigned ${key} from ${call.eni}`,
  );
  oracle.strangers.delete(key);
  watchIntent(oracle, call, ip, ['unassigning']);
}

/** The row must be in the very intent that the call is for. A repair's row is held, or was given up since. */
function watchIntent(oracle: Oracle, call: Call, ip: Ipv4, allowed: readonly Allocation['status'][]): void {
  const key = keyOf(call.subnet, ip);
  const row = call.mirror.rows.get(key);
  const intent = call.intents.get(key);
  // A read showed somebody else's address instead, so that its row went on before the call came.
  if (call.kind === 'assign' && oracle.mistaken.delete(`${call.eni} ${ip}`)) {
    oracle.untold.add(`${call.eni} ${ip}`);
    return;
  }
  const isRepair = call.kind === 'assign' && intent?.status === 'allocated';
  // Of several repairs one may be applied late, when another has long been made and the address was given up and taken off:
  // the next comparison finds it lingering.
  if (isRepair && row?.status === 'free' && row.leftIface === call.eni) return;
  oracle.demand(
    row !== undefined &&
      intent !== undefined &&
      row.iface === call.eni &&
      (isRepair
        ? row.status !== 'assigning'
        : allowed.includes(row.status) && row.generation === intent.generation),
    'EC2 applies a call of ours only while its row is in that intent',
    () =>
      `${call.kind} of ${key} on ${call.eni} for #${intent?.generation} ${intent?.status}; the row is #${row?.generation} ${row?.status} on ${row?.iface}`,
  );
}

/** Others have taken the address off the ENI. */
export function watchStolen(
  oracle: Oracle,
  { subnet, eni, ip, now }: { subnet: SubnetId; eni: EniId; ip: Ipv4; now: number },
): void {
  const key = keyOf(subnet, ip);
  if (oracle.strangers.get(key) !== eni) oracle.stolen.set(key, eni);
  else {
    oracle.strangers.delete(key);
    oracle.ghosts.set(`${eni} ${ip}`, now);
  }
}

/** How far a request may go past its longest wait: the call that is under way then, and what it takes to
 *  write down what came of it. */
export const REQUEST_SLACK_MS = CALL_TIMEOUT_MS + 15_000;
/** The same for a pool: its ENI is read from EC2, and a read is sent three times. */
export const POOL_SLACK_MS = REQUEST_SLACK_MS + 4 * CALL_TIMEOUT_MS;
