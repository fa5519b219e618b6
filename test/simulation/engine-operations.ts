/** What engines do, and faults of engines. */
import { fromNumber } from '../../src/domain/address.ts';
import type { InstanceId } from '../../src/domain/ids.ts';
import { LATENCY_MS_MAX } from '../kit/clock.ts';
import type { Connection } from './connection.ts';
import type { Container, Engine, Network } from './engine.ts';
import { keyOf, SKEW_MS_MAX, STRANGER } from './layout.ts';
import {
  anyConnection,
  anyContainer,
  anyEngine,
  anyPlace,
  type Dice,
  type Operation,
  of,
  on,
  runningPlaces,
  spread,
} from './operation.ts';
import type { Server } from './server.ts';
import { giveUp } from './server-operations.ts';
import type { Place, World } from './world.ts';

/** How many clients ask at once for one ENI, and how long they wait before they hang up. */
const CROWD_MAX = 6;
const CROWD_STAYS_MS_MAX = 400;

/** How long a server needs to notice that it is the only one, and how long the other stays away. */
const ALONE_MS = 60_000;
const AWAY_MS = 600_000;

/** How long a client waits for a server that doesn't answer, and how long that one is away at least. */
const GIVES_UP_MS = 500;
const AWAY_MIN_MS = 5_000;

/** How long a container lives, how long its address is asked for after its release, and how often. */
const CONTAINER_MS_MAX = 20_000;
const ELSEWHERE_MS_MAX = 100;
const TRIES_ELSEWHERE = 3;

const killEngine = (liveRestore: boolean): Operation =>
  on(2, anyEngine, (_world, engine, dice) => engine.kill(liveRestore, spread(60_000, dice[1])));

/** The servers of the network's ledger that take requests. */
const serversOf = ({ servers, ledgers }: World, { port }: Network): Server[] =>
  servers.filter(
    ({ ledger, process, isLeaving }) =>
      ledger === ledgers[port.ledger] && process.state === 'running' && !isLeaving,
  );

export const ENGINE_OPERATIONS = {
  run: on(26, anyPlace, (_world, { engine, network }) => engine.run(network, null)),
  'run named': on(6, anyPlace, (_world, { engine, network }, dice) =>
    engine.run(network, fromNumber(network.cidr.first + (dice[2] % 16))),
  ),
  stop: on(14, anyContainer, (_world, container) => container.engine.stop(container)),
  restart: on(7, anyContainer, (_world, container) => container.engine.restart(container, false)),
  'restart named': on(3, anyContainer, (_world, container) => container.engine.restart(container, true)),
  'hang up': on(5, anyConnection, (_world, connection) => connection.hangUp()),
  // Many clients ask at once, on one ENI or on all, and hang up at once.
  'crowd hangs up': on(2, runningPlaces, (world, places, [where, count, die]) => {
    const one = of(places, where >> 1);
    for (const { engine, network } of where % 2 === 0 ? places : one === undefined ? [] : [one])
      void engine.crowd(network, 1 + (count % CROWD_MAX));
    const hangUp = () => {
      for (const { engine } of places) for (const connection of engine.connections) connection.hangUp();
    };
    world.clock.effect(null, hangUp, spread(CROWD_STAYS_MS_MAX, die));
  }),
  // A container's address is released and asked for at another server, which then leaves for good or stays.
  'clients change servers': on(2, anyPlace, (world, place, [, , die]) => {
    const [first, second] = serversOf(world, place.network);
    if (first === undefined || second === undefined) return;
    void changeServers(world, place, die % 4 < 2 ? [first, second] : [second, first], die);
  }),
  // A server cannot reach its ledger while a release waits in it; its client gives up, an operator gives the
  // address up, and another container has it when the server comes back.
  'release comes late': on(1.5, anyContainer, (world, container, [, , die]) => {
    if (world.layout.hasAgents) return; // an agent has sent it to another server long before
    const servers = serversOf(world, container.network);
    const [late, other] = die % 2 === 0 ? servers.reverse() : servers;
    if (late === undefined || other === undefined) return;
    void comeLate(world, container, [late, other], die);
  }),
  // A server that remembers a container loses the answer of its release, and another server gives the address anew
  // meanwhile, while the store's clock steps.
  'release has no answer': on(1, anyPlace, (world, place, [, , die]) => {
    const [first, second] = serversOf(world, place.network);
    if (first !== undefined && second !== undefined) void loseAnswer(world, place, [first, second], die);
  }),
  // The agent takes the server for dead, while the server works on.
  'agent asks elsewhere': on(8, agentConnection, ({ clock }, connection, [, how, ms]) =>
    how % 2 === 0 ? connection.hangUp() : connection.vanish(spread(clock.now + 1, ms)),
  ),
  'host trespasses': on(
    3,
    (world, dice) => (world.layout.hasAgents ? anyEngine(world, dice) : undefined),
    ({ layout, oracle }, engine, [, where, which]) => {
      const port = of(
        layout.ports.filter(({ eni }) => oracle.instanceOf(eni) !== engine.host),
        where,
      );
      // Its own addresses on an ENI that has left it, it may release.
      // Once the ENI has come to it, it may also release what no ledger knows of.
      if (port === undefined) return;
      const ips = oracle.secondaries(port.eni).filter(ip => {
        const isStrangers = oracle.strangers.has(keyOf(port.subnet, ip));
        return !isStrangers && oracle.holdingOn(port, ip)?.engine !== engine.host;
      });
      const held = ips.filter(ip => oracle.holdingOn(port, ip) !== null);
      const ip = of(held, which) ?? of(ips, which);
      if (ip !== undefined) void engine.trespass(port, ip);
    },
  ),
  'network create': on(2, anyPlace, (_world, { engine, network }) => engine.createNetwork(network, false)),
  'network create fails': on(2, anyPlace, (_world, { engine, network }) =>
    engine.createNetwork(network, true),
  ),
  'network rm': on(1, anyPlace, (_world, { engine, network }) => engine.removeNetwork(network)),
  'stray release': on(3, anyPlace, ({ oracle }, { engine, network }, [, , die]) => {
    const { subnet, eni } = network.port;
    // A stranger's address on the ENI itself is what Docker would have had there, if its record was lost.
    const elsewhere = [...oracle.held.values()].filter(
      one => one.subnet === subnet && one.eni !== eni && !oracle.strangers.has(keyOf(subnet, one.ip)),
    );
    const ip = of(elsewhere, die)?.ip ?? fromNumber(network.cidr.first + (die % 4));
    return engine.strayRelease(network, ip);
  }),
  'speak of a stranger': on(2, anyEngine, speakOfStranger),
  // A container ends while statements fail, and another one wants its address.
  'stop in trouble': on(2, anyContainer, (world, container, dice) => {
    for (const { ledger, process } of world.servers)
      ledger.failing.set(process, { after: 1 + (dice[2] % 3), left: 1 });
    void container.engine.stop(container);
    void container.engine.run(container.network, container.ip);
  }),
  'kill engine': killEngine(false),
  'kill engine, live-restore': killEngine(true),
} satisfies Record<string, Operation>;

function agentConnection(world: World, dice: Dice): Connection | undefined {
  return world.layout.hasAgents ? anyConnection(world, dice) : undefined;
}

function speakOfStranger({ oracle, layout, ledgers }: World, engine: Engine, dice: Dice): void {
  const [subnet] = layout.cidrs.keys();
  if (oracle.pooled.has(STRANGER)) return; // an operator has adopted it
  const { secondaries, primary } = oracle.network.eni(STRANGER);
  const ip = of([...secondaries, primary ?? secondaries[0]], dice[1]);
  if (subnet === undefined || ip === undefined) return;
  const ledger = dice[2] % ledgers.length;
  void engine.speakOf({ eni: STRANGER, subnet, instance: engine.host as InstanceId, ledger }, ip);
}

/** Starts a container by way of the server, and returns the last one on the network. */
async function runAt({ routes }: World, server: Server, { engine, network }: Place) {
  routes.set(network.port.ledger, server);
  await engine.run(network, null);
  return lastOn({ engine, network });
}
const lastOn = ({ engine, network }: Place): Container | undefined =>
  engine.containers.findLast(one => one.network === network);

async function changeServers(
  world: World,
  place: Place,
  [first, second]: readonly [Server, Server],
  die: number,
): Promise<void> {
  const { routes, clock } = world;
  const { engine, network } = place;
  const { ledger } = network.port;
  const container = await runAt(world, first, place);
  routes.set(ledger, second);
  if (container !== undefined) await engine.restart(container, true);
  if (die % 2 === 0) void second.leave(AWAY_MS);
  await clock.waitIn(engine.process, die % 2 === 0 ? ALONE_MS : spread(ALONE_MS, die));
  routes.set(ledger, first);
  const again = lastOn(place);
  if (again !== undefined) await engine.stop(again);
  routes.delete(ledger);
}

async function loseAnswer(
  world: World,
  place: Place,
  [first, second]: readonly [Server, Server],
  die: number,
): Promise<void> {
  const { routes, clock } = world;
  const { engine, network } = place;
  const { ledger, process } = first;
  const { port } = network;
  const pause = (ms: number) => clock.waitIn(engine.process, spread(ms, (die * 7) % 2 ** 16));
  const container = await runAt(world, first, place);
  await pause(CONTAINER_MS_MAX);
  const step = () => {
    if (ledger.mayStep())
      ledger.setSkew((die % 2 === 0 ? 1 : -1) * spread(SKEW_MS_MAX, (die * 31) % 2 ** 16));
  };
  if (container !== undefined && process.state === 'running') {
    ledger.failing.set(process, { after: 0, left: die % 3 });
    if (die % 4 < 2) step();
    const stopped = engine.stop(container);
    for (let tries = 0; tries < TRIES_ELSEWHERE; tries++) {
      await pause(ELSEWHERE_MS_MAX);
      routes.set(port.ledger, second);
      await engine.run(network, container.ip);
    }
    if (die % 4 >= 2) step();
    await stopped;
  }
  routes.delete(port.ledger);
}

async function comeLate(
  world: World,
  container: Container,
  [late, other]: readonly [Server, Server],
  die: number,
): Promise<void> {
  const { clock, routes } = world;
  const { engine, network, ip, holding } = container;
  const { ledger } = network.port;
  const { failing } = late.ledger;
  routes.set(ledger, late);
  failing.set(late.process, { after: 0, left: Number.POSITIVE_INFINITY });
  clock.effect(null, () => failing.delete(late.process), AWAY_MIN_MS + spread(ALONE_MS, die));
  const stopped = engine.stop(container);
  // Long enough for the release to arrive: one that arrives after the next holding began cannot be told from its own.
  await clock.waitIn(engine.process, LATENCY_MS_MAX + GIVES_UP_MS);
  const hasArrived = late.process.state === 'running';
  for (const connection of engine.connections) connection.hangUp();
  await stopped;
  routes.set(ledger, other);
  if (hasArrived && holding !== null) {
    await giveUp(world, network.port, holding);
    await engine.run(network, ip);
  }
  routes.delete(ledger);
}
