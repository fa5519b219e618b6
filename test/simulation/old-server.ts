/** What a server of the release before does beside those of the program. It writes neither instances nor ids of calls. */
import type { InstanceId } from '../../src/domain/ids.ts';
import { anyPlace, type Operation, of, on } from './operation.ts';
import { moveTo } from './vpc-operations.ts';
import { watchPromise, watchStart } from './watch-engines.ts';
import type { Place, World } from './world.ts';

/** So long the ENI is away. Then the host of the former holder is read twice before the detachment alone is proof. */
const VISIT_MS = 90_000;

export const OLD_SERVER_OPERATIONS = {
  // It ends the holding of a container, and gives its address to one of the host that has the ENI now.
  'old server gives': on(
    2,
    (world, dice) => (world.layout.hasAgents ? anyPlace(world, dice) : undefined),
    (world, place, [, , which]) =>
      void (which % 4 === 0 ? giveOnVisit(world, place, which >> 2) : give(world, place, which)),
  ),
} satisfies Record<string, Operation>;

/** The ENI visits another host, where an old server gives an address of a container that it had before. */
async function giveOnVisit(world: World, place: Place, which: number): Promise<void> {
  const { port } = place.network;
  const other = world.engines.find(one => one !== place.engine && !one.isLost);
  const isHome = world.oracle.instanceOf(port.eni) === place.engine.host;
  if (other === undefined || !isHome || place.engine.containers.length === 0) return;
  moveTo(world, port, other.host as InstanceId);
  world.clock.effect(null, () => moveTo(world, port, place.engine.host as InstanceId), VISIT_MS);
  const network = other.networks.find(one => one.port.eni === port.eni);
  if (network !== undefined) await give(world, { engine: other, network }, which);
}

async function give(world: World, { engine, network }: Place, which: number): Promise<void> {
  const { oracle, ledgers, engines } = world;
  const { port } = network;
  const { eni, subnet } = port;
  const ledger = ledgers[port.ledger];
  if (ledger === undefined || oracle.instanceOf(eni) !== engine.host) return;
  const held = engines
    .flatMap(({ containers }) => containers)
    .filter(({ ip, holding }) => holding !== null && oracle.holdingOn(port, ip) === holding)
    .filter(({ ip }) => oracle.secondaries(eni).includes(ip));
  const before = of(held, which);
  if (before === undefined) return;
  const { ip, holding } = before;
  before.engine.containers = before.engine.containers.filter(one => one !== before);
  oracle.note(`an old server gives ${ip} on ${eni} to ${engine.host}`);
  oracle.ended(holding);
  const isReleased = await ledger.byOldServer(subnet, ip, 'release');
  oracle.released(holding, isReleased);
  if (!isReleased || !(await ledger.byOldServer(subnet, ip, 'claim'))) return;
  watchPromise(oracle, engine, { port, ip, call: null });
  const holdingNow = watchStart(oracle, engine, network, ip);
  engine.hold(network, ip, false, holdingNow);
}
