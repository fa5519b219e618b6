/** At rest one assign fails while containers start on its ENI: none of them may wait for it, whatever room the
 *  ENI has. */
import { type Allocation, isIntent, isSkipped, mayShowPast } from '../../src/domain/allocation.ts';
import type { Fault } from '../../src/simulator/model/faults.ts';
import { keyOf, LATE_CALL_MS_MAX, type Port } from './layout.ts';
import { isUsed, offerOn } from './rest.ts';
import type { Place, World } from './world.ts';

/** The longest that a start may take when a call has no answer. */
const START_MS_MAX = 4_000;
/** A row that has stood for so long was read since. */
const STOOD_MS = 3_000;
/** The part of the histories that end with it: it needs another rest, which takes as long as many operations. */
export const TRIED = 0.15;
const STARTS_MAX = 5;

const INTERNAL = { code: 'InternalError', message: 'an error' };
const FAULTS: readonly Fault[] = [
  { kind: 'hang' },
  { kind: 'latency', ms: 60_000 },
  { kind: 'applyLate', ms: LATE_CALL_MS_MAX },
  { kind: 'applyLate', ms: 1_500, ...INTERNAL },
  { kind: 'error', ...INTERNAL },
  { kind: 'lostReply', ...INTERNAL },
  { kind: 'lostReply' },
];

/** Containers start on one ENI of ours. */
export async function tryDoubt(world: World): Promise<void> {
  const { random, oracle, ec2, clock } = world;
  const chosen = random.pick(world.places().filter(({ network }) => network.subPool === ''));
  const fault = random.pick(FAULTS);
  if (chosen === undefined || fault === undefined) return;
  const { eni } = chosen.network.port;
  oracle.note(`> trial: an assign on ${eni} meets ${fault.kind}`);
  ec2.addFault({ ...fault, action: 'AssignPrivateIpAddresses', eni, times: 1 });
  world.count('one call in doubt');
  clock.isCalm = true;
  const starts = random.between(1, STARTS_MAX);
  for (let i = 0; i < starts && oracle.violation === null; i++) await start(world, chosen);
  clock.isCalm = false;
}

async function start(world: World, { engine, network }: Place): Promise<void> {
  const could = mustStart(world, network.port);
  const before = engine.containers.length;
  void engine.run(network, null);
  await world.pass(START_MS_MAX);
  if (engine.containers.length > before || world.oracle.violation !== null) return;
  // The batch that was lost may have had the last addresses.
  world.oracle.demand(
    !(could && mustStart(world, network.port)),
    'a call without an answer delays no start',
    () => `none within ${START_MS_MAX} ms for ${network.port.eni}`,
  );
  await world.pass(world.layout.policy.requestTimeoutMs);
}

/** Whether a start on the ENI must succeed: there is room and a free address, or an address that was assigned
 *  there and is not noted yet. */
function mustStart(world: World, port: Port): boolean {
  const { oracle } = world;
  const { eni, ledger, subnet } = port;
  const offer = offerOn(world, port);
  if (offer === null) return false;
  const { now, here, free, hasRoom } = offer;
  const carried = oracle.secondaries(eni);
  const since = oracle.mirrors[ledger]?.since;
  const hasStood = (row: Allocation) => oracle.now - (since?.get(keyOf(subnet, row.ip)) ?? 0) >= STOOD_MS;
  const isReady = (row: Allocation) =>
    row.status === 'ready' && isGood(world, row, now) && hasStood(row) && !isUsed(world, row);
  if (here.some(isReady)) return true;
  const asked = here.filter(row => row.status === 'assigning' && hasStood(row));
  const isSeen = (row: Allocation) => carried.includes(row.ip) && !mayShowPast(row, eni, now);
  if (asked.length > 0 && asked.every(isSeen)) return true;
  if (!hasRoom(here.filter(row => !isIntent(row)))) return false;
  return free.some(row => isGood(world, row, now) && !isSkipped(row, now));
}

/** Whether nothing in the row's past keeps it from being given on any ENI. */
function isGood({ layout: { policy } }: World, row: Allocation, now: number): boolean {
  const isLongAgo = (at: number | null, ms: number) => at === null || now - at > ms;
  return (
    isLongAgo(row.restedSince, Math.max(policy.quarantineMs, policy.cooldownMs)) &&
    isLongAgo(row.leftAt, policy.graceMs)
  );
}
