/** Does what a plan says. What an operation is done to is chosen when it is done, by its dice. */
import { fromNumber, type Ipv4 } from '../../src/domain/address.ts';
import { idle, recycle } from '../../src/ipam/recycle.ts';
import { survey } from '../../src/ipam/survey.ts';
import { Ec2Error } from '../../src/simulator/ec2-error.ts';
import type { Fault } from '../../src/simulator/faults.ts';
import { IpamError } from '../../src/domain/error.ts';
import { secondariesOf } from './ec2.ts';
import type { Container, Engine } from './engine.ts';
import { keyOf, LATE_CALL_MS_MAX, LATE_READ_MS_MAX, type Port, SKEW_MS_MAX, STRANGER } from './layout.ts';
import type { Doing, Op } from './plan.ts';
import { Process } from './scheduler.ts';
import { machineOf, type Server } from './server.ts';
import { watchStolen } from './watch-ec2.ts';
import type { World } from './world.ts';

type Dice = Op['dice'];
type Deed = (world: World, dice: Dice) => void;

const of = <T>(items: readonly T[], die: number): T | undefined => items[die % Math.max(items.length, 1)];
/** From 1 to `most`, small ones as often as large ones. */
const spread = (most: number, die: number): number => Math.ceil(most ** ((die + 1) / 2 ** 16));

export function act(world: World, { doing, dice }: Op): void {
  world.truth.note(`> ${doing}`);
  DEEDS[doing](world, dice);
}

const engineOf = (world: World, die: number): Engine | undefined =>
  of(world.engines.filter(engine => engine.process.state === 'running'), die);

function withNetwork(deed: (engine: Engine, network: Engine['networks'][number], dice: Dice, world: World) => unknown): Deed {
  return (world, dice) => {
    const engine = engineOf(world, dice[0]);
    const network = engine && of(engine.networks, dice[1]);
    if (engine && network) void deed(engine, network, dice, world);
  };
}

function withContainer(deed: (engine: Engine, container: Container) => unknown): Deed {
  return (world, [first, second]) => {
    const engine = engineOf(world, first);
    const container = engine && of(engine.containers, second);
    if (engine && container) void deed(engine, container);
  };
}

function withServer(deed: (world: World, server: Server, dice: Dice) => void): Deed {
  return (world, dice) => {
    const server = of(world.servers.filter(one => one.process.state === 'running'), dice[0]);
    if (server === undefined) return;
    deed(world, server, dice);
  };
}

/** An EC2 fault for the next one to three calls that it strikes. */
const ec2 =
  (fault: (dice: Dice, world: World) => Fault): Deed =>
  (world, dice) => {
    const made = { times: 1 + (dice[0] % 3), ...fault(dice, world) };
    world.strike(made.kind);
    if (made.kind === 'applyLate') world.ec2.lateMs.add(made.ms);
    world.ec2.vpc.faults.add(made);
  };
const ASSIGN = 'AssignPrivateIpAddresses';
const UNASSIGN = 'UnassignPrivateIpAddresses';
const either = (die: number): string => (die % 2 === 0 ? ASSIGN : UNASSIGN);

/** Others change the VPC; what EC2 refuses them is not done. */
function stranger(deed: (world: World, dice: Dice) => void): Deed {
  return (world, dice) => {
    try {
      deed(world, dice);
    } catch (error) {
      if (!(error instanceof Ec2Error)) throw error;
    }
  };
}

/** Where others take our addresses away: not between two ledgers, since what the one has lost so the other may
 *  take in good faith. */
const robber = (deed: (world: World, dice: Dice) => void): Deed =>
  stranger((world, dice) => {
    if (world.ledgers.length === 1) deed(world, dice);
  });

/** A command that an operator runs, in a process of its own. */
function command(world: World, port: Port | undefined, work: (machine: ReturnType<typeof machineOf>) => Promise<unknown>): void {
  const ledger = world.ledgers[port?.ledger ?? 0];
  if (ledger === undefined) return;
  const machine = machineOf(world, ledger, new Process(`command ${world.scheduler.steps}`));
  work(machine).catch(error => {
    if (!(error instanceof IpamError) || error.code === 'internal') world.truth.crash(error);
  });
}

const REFUSALS = [
  ['PrivateIpAddressLimitExceeded', 'too many'],
  ['InsufficientFreeAddressesInSubnet', 'none left'],
  ['UnauthorizedOperation', 'not allowed'],
  ['InvalidParameterValue', 'for some reason'],
  ['InternalError', 'an error'],
] as const;

const DEEDS: Record<Doing, Deed> = {
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
  'network create': withNetwork((engine, network) => engine.createNetwork(network, false)),
  'network create fails': withNetwork((engine, network) => engine.createNetwork(network, true)),
  'network rm': withNetwork((engine, network) => engine.removeNetwork(network)),
  'stray release': withNetwork((engine, network, [, , die], world) => {
    const elsewhere = [...world.truth.held.values()].filter(
      one => one.subnet === network.port.subnet && one.eni !== network.port.eni,
    );
    const ip = of(elsewhere, die)?.ip ?? fromNumber(network.cidr.first + (die % 4));
    return engine.strayRelease(network, ip);
  }),
  'kill engine': (world, dice) => {
    world.strike('engine killed');
    engineOf(world, dice[0])?.kill(false, spread(60_000, dice[1]));
  },
  'kill engine, live-restore': (world, dice) => {
    world.strike('engine killed');
    engineOf(world, dice[0])?.kill(true, spread(60_000, dice[1]));
  },

  'server dies': withServer((world, server, dice) => {
    world.strike('server died');
    server.die();
    world.scheduler.effect(null, () => server.restart(), spread(60_000, dice[1]));
  }),
  'server freezes': withServer((world, server, dice) => {
    const { process } = server;
    world.strike('server frozen');
    world.truth.note(`${process.id} freezes`);
    world.scheduler.freeze(process);
    world.scheduler.effect(null, () => world.scheduler.thaw(process), spread(600_000, dice[1]));
  }),
  'statements fail': withServer((world, server, dice) => {
    world.strike('statement failed');
    server.ledger.failing.set(server.process, { after: dice[1] % 6, left: 1 + (dice[2] % 3) });
  }),
  'store away': (world, [die, long]) => {
    const ledger = of(world.ledgers, die);
    if (ledger === undefined) return;
    world.strike('store away');
    ledger.awayUntil = world.scheduler.now + spread(200_000, long);
  },
  'store clock steps': (world, [die, to]) => {
    const ledger = of(world.ledgers, die);
    if (ledger === undefined) return;
    world.strike('store clock stepped');
    ledger.skewMs = (to % (2 * SKEW_MS_MAX + 1)) - SKEW_MS_MAX;
  },

  'lost reply': ec2(dice => ({ kind: 'lostReply', action: either(dice[1]) })),
  'call hangs': ec2(dice => ({ kind: 'hang', ...(dice[1] % 3 === 0 ? {} : { action: either(dice[1]) }) })),
  'call applies late': ec2(dice => ({
    kind: 'applyLate',
    action: either(dice[1]),
    ms: spread(LATE_CALL_MS_MAX, dice[2]),
  })),
  'call refused': ec2(dice => {
    const [code, message] = of(REFUSALS, dice[2]) ?? REFUSALS[0];
    return { kind: 'error', code, message, action: either(dice[1]), times: 1 + (dice[0] % 6) };
  }),
  throttle: ec2(dice => ({ kind: 'throttle', times: 1 + (dice[1] % 6) })),
  'slow call': ec2(dice => ({ kind: 'latency', ms: spread(9_900, dice[1]), times: 1 + (dice[2] % 4) })),
  'late reads': ec2(dice => ({
    kind: 'readLag',
    ms: spread(LATE_READ_MS_MAX, dice[1]),
    action: 'DescribeNetworkInterfaces',
    times: 1 + (dice[2] % 5),
  })),
  'bad reads': ec2(() => ({ kind: 'error', code: 'InternalError', message: 'no', action: 'DescribeNetworkInterfaces' })),

  'stranger assigns': stranger((world, [where, which]) => {
    const { truth, ec2: { vpc } } = world;
    const port = where % 3 === 0 ? undefined : of(world.layout.ports, where >> 2);
    const subnet = port?.subnet ?? world.layout.ports[0]?.subnet;
    const eni = port?.eni ?? STRANGER;
    const cidr = subnet && world.layout.cidrs.get(subnet);
    if (subnet === undefined || cidr === undefined) return;
    const isFree = (ip: Ipv4): boolean =>
      vpc.network.carrier(subnet, ip) === null &&
      // On an ENI that the ledger names for it, or that it has just left, nobody could tell it from ours.
      truth.mirrors.every(
        ({ rows, left }) =>
          rows.get(keyOf(subnet, ip))?.iface !== eni && left.get(keyOf(subnet, ip))?.eni !== eni,
      );
    const free = Array.from({ length: 11 }, (_, i) => fromNumber(cidr.first + 4 + i)).filter(isFree);
    const ip = of(free, which);
    if (ip === undefined) return;
    vpc.network.assign({ eni, ips: [ip] });
    world.strike('stranger assigned');
    truth.note(`a stranger puts ${ip} on ${eni}`);
    truth.strangers.set(keyOf(subnet, ip), eni);
    truth.put.set(`${eni} ${ip}`, world.scheduler.now);
    truth.blurred.delete(`${eni} ${ip}`);
  }),
  'stranger drops': stranger((world, [which]) => {
    const { truth, ec2: { vpc } } = world;
    const secondary = [...truth.strangers].filter(([key, eni]) => secondariesOf(vpc.network, eni).includes(ipIn(key)));
    const chosen = of(secondary, which);
    if (chosen === undefined) return;
    const [key, eni] = chosen;
    vpc.network.unassign(eni, [ipIn(key)]);
    world.strike('stranger dropped');
    truth.note(`a stranger takes its ${ipIn(key)} off ${eni}`);
    truth.strangers.delete(key);
  }),
  'stranger takes ours off': robber((world, [where, which]) => {
    const { truth, ec2: { vpc } } = world;
    const port = of(world.layout.ports, where);
    if (port === undefined) return;
    const ip = of(secondariesOf(vpc.network, port.eni), which);
    if (ip === undefined) return;
    vpc.network.unassign(port.eni, [ip]);
    world.strike('stranger took off');
    truth.note(`a stranger takes ${ip} off ${port.eni}`);
    watchStolen(truth, port.subnet, port.eni, ip);
  }),
  'eni attached anew': stranger((world, [where]) => {
    const { network } = world.ec2.vpc;
    const port = of(world.layout.ports, where);
    const attachment = port && network.eni(port.eni).attachment;
    if (port === undefined || attachment == null) return;
    world.truth.note(`${port.eni} is attached anew`);
    world.truth.cut.set(port.eni, world.scheduler.now);
    network.detach(attachment.id);
    network.attach(port.eni, attachment.instance, attachment.deviceIndex);
    world.strike('ENI attached anew');
  }),
  'eni deleted': robber((world, [where]) => {
    const { truth, ec2: { vpc } } = world;
    const port = of(world.layout.ports, where);
    if (port === undefined) return;
    const eni = vpc.network.eni(port.eni);
    if (eni.attachment !== null) vpc.network.detach(eni.attachment.id);
    for (const ip of eni.secondaries) watchStolen(truth, port.subnet, port.eni, ip);
    vpc.network.deleteEni(port.eni);
    truth.cut.set(port.eni, world.scheduler.now);
    truth.note(`${port.eni} is deleted`);
    world.strike('ENI deleted');
  }),
  'instance terminated': robber((world, [which]) => {
    const engine = of(world.engines, which);
    if (engine === undefined || engine.isLost) return;
    const { network } = world.ec2.vpc;
    const instance = world.layout.ports.find(port => port.instance === engine.host)?.instance;
    if (instance === undefined) return;
    for (const port of world.layout.ports)
      if (port.instance === instance) world.truth.cut.set(port.eni, world.scheduler.now);
    network.terminate(instance);
    world.truth.note(`${instance} is terminated`);
    world.strike('instance terminated');
    engine.lose();
  }),

  recycle: (world, [where, idleS, limit]) => {
    const port = of(world.layout.ports, where);
    if (port === undefined) return;
    command(world, port, async machine =>
      recycle(machine, await idle(machine, port.subnet, idleS % 3 === 0 ? 0 : 30_000, 1 + (limit % 8))),
    );
  },
  init: (world, [where]) => {
    const port = of(world.layout.ports, where);
    if (port !== undefined) command(world, port, machine => survey(machine, port.subnet));
  },
};

const ipIn = (key: string): Ipv4 => key.split(' ')[1] as Ipv4;
