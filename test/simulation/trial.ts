/** At rest one assign fails while containers start on its ENI: none of them may wait for it, whatever room the
 *  ENI has. */
import { type Allocation, isIntent, isSkipped, mayShowPast } from '../../src/domain/allocation.ts';
import type { Fault } from '../../src/simulator/model/faults.ts';
import { keyOf, LATE_CALL_MS_MAX, type Port } from './layout.ts';
import { isUsed, offerOn } from './rest.ts';
import { UNHEARD } from './vpc-operations.ts';
import type { Place, World } from './world.ts';

/** The longest that a start may take when a call has no answer. */
const START_MS_MAX = 4_000;
/** A row that has stood for so long was read since. */
const STOOD_MS = 3_000;
/** The part of the histories that end with it: it needs another rest, which takes as long as many operations. */
export const TRIED = 0.15;
/** The same for the trial of an ENI on which EC2 refuses all, after which nothing has to be settled. */
export const REFUSED = 0.1;
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

/** Containers start on one ENI, on which EC2 refuses each assign for a reason that nobody knows, and then on another ENI of
 *  its subnet. */
export async function tryRefusals(world: World): Promise<void> {
  const { random, oracle, ec2, clock } = world;
  const places = world.places().filter(({ network }) => network.subPool === '');
  const refused = random.pick(places);
  const [code, message] = random.pick(UNHEARD) ?? UNHEARD[0];
  if (refused === undefined) return;
  const { eni, subnet } = refused.network.port;
  oracle.note(`> trial: EC2 refuses assigns on ${eni}: ${code}`);
  ec2.addFault({ kind: 'error', code, message, action: 'AssignPrivateIpAddresses', eni });
  world.count('one ENI refused');
  clock.isCalm = true;
  const starts = random.between(1, STARTS_MAX);
  for (let i = 0; i < starts && oracle.violation === null; i++) await startRefused(world, refused, code);
  const others = places.filter(({ network: { port } }) => port.eni !== eni && port.subnet === subnet);
  for (const other of others) {
    if (oracle.violation !== null) break;
    const { port } = other.network;
    // What EC2 has refused on one ENI may be given on another.
    const must = mustStart(world, port, true);
    if ((await hasStarted(world, other, world.layout.policy.requestTimeoutMs)) || !must) continue;
    oracle.demand(
      !mustStart(world, port, true),
      'an ENI on which EC2 refuses all keeps no other from its addresses',
      () => `none for ${port.eni}: ${oracle.answers.get(port.eni)}`,
    );
  }
  clock.isCalm = false;
}

/** The request ends in time, with an address that was there or with what EC2 says. */
async function startRefused(world: World, place: Place, code: string): Promise<void> {
  const { eni } = place.network.port;
  const { answers } = world.oracle;
  const must = mustStart(world, place.network.port);
  answers.delete(eni);
  if (await hasStarted(world, place, world.layout.policy.requestTimeoutMs)) return;
  world.oracle.demand(
    !must || (answers.get(eni) ?? '').includes(code),
    "a request is refused with EC2's own words, when nobody knows them",
    () => `${eni}: ${answers.get(eni)}`,
  );
}

async function hasStarted(world: World, { engine, network }: Place, withinMs: number): Promise<boolean> {
  const before = engine.containers.length;
  void engine.run(network, null);
  await world.pass(withinMs);
  return engine.containers.length > before || world.oracle.violation !== null;
}

async function start(world: World, { engine, network }: Place): Promise<void> {
  const could = mustStart(world, network.port);
  if (await hasStarted(world, { engine, network }, START_MS_MAX)) return;
  // The batch that was lost may have had the last addresses.
  world.oracle.demand(
    !(could && mustStart(world, network.port)),
    'a call without an answer delays no start',
    () => `none within ${START_MS_MAX} ms for ${network.port.eni}`,
  );
  await world.pass(world.layout.policy.requestTimeoutMs);
}

/** Whether a start on the ENI must succeed: there is room and a free address, or an address that was assigned
 *  there and is not noted yet. `evenRefused`: also one that EC2 has refused for an unknown reason. */
function mustStart(world: World, port: Port, evenRefused = false): boolean {
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
  return free.some(row => isGood(world, row, now) && (evenRefused || !isSkipped(row, now)));
}

/** Whether nothing in the row's past keeps it from being given on any ENI. */
function isGood({ layout: { policy } }: World, row: Allocation, now: number): boolean {
  const isLongAgo = (at: number | null, ms: number) => at === null || now - at > ms;
  return (
    isLongAgo(row.restedSince, Math.max(policy.quarantineMs, policy.cooldownMs)) &&
    isLongAgo(row.leftAt, policy.graceMs)
  );
}
