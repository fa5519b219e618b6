/** What engines do, and what befalls them. */
import { fromNumber } from '../../src/domain/address.ts';
import type { InstanceId } from '../../src/domain/ids.ts';
import { LATENCY_MS_MAX } from '../kit/clock.ts';
import { type Dice, type Operation, of, spread } from './dice.ts';
import { secondariesOf } from './ec2.ts';
import type { Container, Engine } from './engine.ts';
import { STRANGER } from './layout.ts';
import type { Server } from './server.ts';
import { giveUp } from './server-operations.ts';
import type { World } from './world.ts';

/** Requests for one ENI in a crowd, and how long it waits before it hangs up. */
const CROWD_MAX = 6;
const CROWD_STAYS_MS_MAX = 400;

/** For a server to notice that it is the only one, and for how long it is. */
const ALONE_MS = 60_000;
const AWAY_MS = 600_000;

/** How long a client waits for a server that doesn't answer, and how long that one is away at least. */
const GIVES_UP_MS = 500;
const AWAY_MIN_MS = 5_000;

const engineOf = (world: World, die: number): Engine | undefined =>
  of(
    world.engines.filter(engine => engine.process.state === 'running'),
    die,
  );

function withNetwork(
  operation: (engine: Engine, network: Engine['networks'][number], dice: Dice, world: World) => unknown,
): Operation {
  return (world, dice) => {
    const engine = engineOf(world, dice[0]);
    const network = engine && of(engine.networks, dice[1]);
    if (engine && network) void operation(engine, network, dice, world);
  };
}

function withContainer(operation: (engine: Engine, container: Container) => unknown): Operation {
  return (world, [first, second]) => {
    const engine = engineOf(world, first);
    const container = engine && of(engine.containers, second);
    if (engine && container) void operation(engine, container);
  };
}

export const ENGINE_DEEDS = {
  run: withNetwork((engine, network) => engine.run(network, null)),
  'run named': withNetwork((engine, network, dice) =>
    engine.run(network, fromNumber(network.cidr.first + (dice[2] % 16))),
  ),
  stop: withContainer((engine, container) => engine.stop(container)),
  restart: withContainer((engine, container) => engine.restart(container, false)),
  'restart named': withContainer((engine, container) => engine.restart(container, true)),
  'hang up': (world, [die]) => {
    const open = world.engines.flatMap(engine => [...engine.connections]);
    const connection = of(open, die);
    if (connection === undefined) return;
    world.strike('hang up');
    connection.hangUp();
  },
  // Many clients ask at once, on one ENI or on all, and hang up at once.
  'crowd hangs up': (world, [where, count, die]) => {
    const networks = world.engines
      .filter(engine => engine.process.state === 'running')
      .flatMap(engine => engine.networks.map(network => ({ engine, network })));
    const one = of(networks, where >> 1);
    for (const { engine, network } of where % 2 === 0 ? networks : one === undefined ? [] : [one])
      void engine.crowd(network, 1 + (count % CROWD_MAX));
    const hangUp = () => {
      for (const { engine } of networks) for (const connection of engine.connections) connection.hangUp();
    };
    world.strike('crowd hung up');
    world.clock.effect(null, hangUp, spread(CROWD_STAYS_MS_MAX, die));
  },
  // A container's address is released and asked for at another server, which then leaves for good or stays.
  'clients change servers': withNetwork((engine, network, [, , die], world) => {
    const { ledger } = network.port;
    const [first, second] = world.servers.filter(
      one => one.ledger === world.ledgers[ledger] && one.process.state === 'running' && !one.isLeaving,
    );
    if (first === undefined || second === undefined) return;
    world.strike('clients changed servers');
    void changeServers(world, engine, network, die % 4 < 2 ? [first, second] : [second, first], die);
  }),
  // A server cannot reach its ledger while a release waits in it; its client gives up, an operator gives the address up,
  // and another container has it when the server comes back.
  'release comes late': (world, [where, which, die]) => {
    const engine = engineOf(world, where);
    const container = engine && of(engine.containers, which);
    const ledger = world.ledgers[container?.network.port.ledger ?? 0];
    const [late, other] = world.servers
      .filter(one => one.ledger === ledger && one.process.state === 'running' && !one.isLeaving)
      .sort(() => (die % 2) - 0.5);
    if (!engine || !container || !ledger || late === undefined || other === undefined) return;
    world.strike('release came late');
    void comeLate(world, engine, container, [late, other], die);
  },
  'network create': withNetwork((engine, network) => engine.createNetwork(network, false)),
  'network create fails': withNetwork((engine, network) => engine.createNetwork(network, true)),
  'network rm': withNetwork((engine, network) => engine.removeNetwork(network)),
  'stray release': withNetwork((engine, network, [, , die], world) => {
    const elsewhere = [...world.oracle.held.values()].filter(
      one => one.subnet === network.port.subnet && one.eni !== network.port.eni,
    );
    const ip = of(elsewhere, die)?.ip ?? fromNumber(network.cidr.first + (die % 4));
    return engine.strayRelease(network, ip);
  }),
  'speak of a stranger': (world, dice) => {
    const { network } = world.ec2.vpc;
    const engine = engineOf(world, dice[0]);
    const [subnet] = world.layout.cidrs.keys();
    const ip = of(
      [
        ...secondariesOf(network, STRANGER),
        network.eni(STRANGER).primary ?? secondariesOf(network, STRANGER)[0],
      ],
      dice[1],
    );
    if (engine === undefined || subnet === undefined || ip === undefined) return;
    const ledger = dice[2] % world.ledgers.length;
    void engine.speakOf({ eni: STRANGER, subnet, instance: engine.host as InstanceId, ledger }, ip);
  },
  // A container ends while statements fail, and another one wants its address.
  'stop in trouble': (world, dice) => {
    const engine = engineOf(world, dice[0]);
    const container = engine && of(engine.containers, dice[1]);
    if (engine === undefined || container === undefined) return;
    for (const { ledger, process } of world.servers)
      ledger.failing.set(process, { after: 1 + (dice[2] % 3), left: 1 });
    world.strike('statement failed');
    void engine.stop(container);
    void engine.run(container.network, container.ip);
  },
  'kill engine': (world, dice) => {
    world.strike('engine killed');
    engineOf(world, dice[0])?.kill(false, spread(60_000, dice[1]));
  },
  'kill engine, live-restore': (world, dice) => {
    world.strike('engine killed');
    engineOf(world, dice[0])?.kill(true, spread(60_000, dice[1]));
  },
} satisfies Record<string, Operation>;

async function changeServers(
  world: World,
  engine: Engine,
  network: Engine['networks'][number],
  [first, second]: readonly [Server, Server],
  die: number,
): Promise<void> {
  const { ledger } = network.port;
  const mine = () => engine.containers.findLast(one => one.network === network);
  world.routes.set(ledger, first);
  await engine.run(network, null);
  world.routes.set(ledger, second);
  const container = mine();
  if (container !== undefined) await engine.restart(container, true);
  if (die % 2 === 0) void second.leave(AWAY_MS);
  await world.clock.waitIn(engine.process, die % 2 === 0 ? ALONE_MS : spread(ALONE_MS, die));
  world.routes.set(ledger, first);
  const again = mine();
  if (again !== undefined) await engine.stop(again);
  world.routes.delete(ledger);
}

async function comeLate(
  world: World,
  engine: Engine,
  container: Container,
  [late, other]: readonly [Server, Server],
  die: number,
): Promise<void> {
  const { network, ip, holding } = container;
  const { ledger } = network.port;
  const { clock, routes } = world;
  const { failing } = late.ledger;
  routes.set(ledger, late);
  failing.set(late.process, { after: 0, left: Number.POSITIVE_INFINITY });
  clock.effect(null, () => failing.delete(late.process), AWAY_MIN_MS + spread(ALONE_MS, die));
  const stopped = engine.stop(container);
  // A release that is still on its way then arrives after the next holding began: nobody could tell.
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
