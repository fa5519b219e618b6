/** What a server of the release before does beside those of the program. It writes neither instances nor ids of calls. */
import { anyPlace, type Operation, of, on } from './operation.ts';
import { watchPromise, watchStart } from './watch-engines.ts';
import type { Place, World } from './world.ts';

export const OLD_SERVER_OPERATIONS = {
  // It ends the holding of a container, and gives its address to one of the host that has the ENI now.
  'old server gives': on(
    2,
    (world, dice) => (world.layout.hasAgents ? anyPlace(world, dice) : undefined),
    (world, place, [, , which]) => void give(world, place, which),
  ),
} satisfies Record<string, Operation>;

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
