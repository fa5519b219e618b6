/** What others do in the VPC. */
import { fromNumber, type Ipv4, sizeOf } from '../../src/domain/address.ts';
import type { EniId, SubnetId } from '../../src/domain/ids.ts';
import { Ec2Error } from '../../src/simulator/model/ec2-error.ts';
import { type Dice, type Operation, of } from './dice.ts';
import { secondariesOf } from './ec2.ts';
import { keyOf, type Port, STRANGER } from './layout.ts';
import { watchStolen } from './watch-ec2.ts';
import type { World } from './world.ts';

/** Others change the VPC; what EC2 refuses them is not done. */
function stranger(operation: (world: World, dice: Dice) => void): Operation {
  return (world, dice) => {
    try {
      operation(world, dice);
    } catch (error) {
      if (!(error instanceof Ec2Error)) throw error;
    }
  };
}

/** Where others take our addresses away: not between two ledgers, since what the one has lost so the other may
 *  take in good faith. */
const robber = (operation: (world: World, dice: Dice) => void): Operation =>
  stranger((world, dice) => {
    if (world.ledgers.length === 1) operation(world, dice);
  });

export const STRANGER_DEEDS = {
  'stranger assigns': stranger((world, [where, which]) => {
    const port = where % 3 === 0 ? undefined : of(world.layout.ports, where >> 2);
    const subnet = port?.subnet ?? world.layout.ports[0]?.subnet;
    if (subnet !== undefined) putStranger(world, subnet, port?.eni ?? STRANGER, which);
  }),
  'stranger drops': stranger((world, [which]) => {
    const {
      oracle,
      ec2: { vpc },
    } = world;
    const secondary = [...oracle.strangers].filter(([key, eni]) =>
      secondariesOf(vpc.network, eni).includes(ipIn(key)),
    );
    const chosen = of(secondary, which);
    if (chosen === undefined) return;
    const [key, eni] = chosen;
    vpc.network.unassign(eni, [ipIn(key)]);
    world.strike('stranger dropped');
    oracle.note(`a stranger takes its ${ipIn(key)} off ${eni}`);
    oracle.strangers.delete(key);
    oracle.ghosts.set(`${eni} ${ipIn(key)}`, world.clock.now);
  }),
  'stranger takes ours off': robber((world, [where, which]) => {
    const port = of(world.layout.ports, where);
    const ip = port && of(secondariesOf(world.ec2.vpc.network, port.eni), which);
    if (port !== undefined && ip !== undefined) takeOff(world, port, ip);
  }),
  'stranger crowds an eni': robber((world, dice) => {
    const { network } = world.ec2.vpc;
    const port = of(world.layout.ports, dice[0]);
    if (port === undefined) return;
    const held = [...world.oracle.held.values()].filter(one => one.eni === port.eni);
    for (const { ip } of held.slice(0, 2))
      if (secondariesOf(network, port.eni).includes(ip)) takeOff(world, port, ip);
    putStranger(world, port.subnet, port.eni, dice[1]);
  }),
  'eni attached anew': stranger((world, [where]) => {
    const { network } = world.ec2.vpc;
    const port = of(world.layout.ports, where);
    const attachment = port && network.eni(port.eni).attachment;
    if (port === undefined || attachment == null) return;
    world.oracle.note(`${port.eni} is attached anew`);
    world.oracle.cut(port.eni, world.clock.now);
    network.detach(attachment.id);
    network.attach(port.eni, attachment.instance, attachment.deviceIndex);
    world.strike('ENI attached anew');
  }),
  'eni deleted': robber((world, [where]) => {
    const {
      oracle,
      ec2: { vpc },
    } = world;
    const port = of(world.layout.ports, where);
    if (port === undefined) return;
    const eni = vpc.network.eni(port.eni);
    if (eni.attachment !== null) vpc.network.detach(eni.attachment.id);
    for (const ip of eni.secondaries)
      watchStolen(oracle, { subnet: port.subnet, eni: port.eni, ip, now: world.clock.now });
    vpc.network.deleteEni(port.eni);
    oracle.cut(port.eni, world.clock.now);
    oracle.note(`${port.eni} is deleted`);
    world.strike('ENI deleted');
  }),
  'instance terminated': robber((world, [which]) => {
    const engine = of(world.engines, which);
    if (engine === undefined || engine.isLost) return;
    const { network } = world.ec2.vpc;
    const instance = world.layout.ports.find(port => port.instance === engine.host)?.instance;
    if (instance === undefined) return;
    for (const port of world.layout.ports)
      if (port.instance === instance) world.oracle.cut(port.eni, world.clock.now);
    network.terminate(instance);
    world.oracle.note(`${instance} is terminated`);
    world.strike('instance terminated');
    engine.lose();
  }),
} satisfies Record<string, Operation>;

/** Others put an address that nobody has on the ENI. */
function putStranger(
  { layout, oracle, ec2, clock, strike }: World,
  subnet: SubnetId,
  eni: EniId,
  die: number,
): void {
  const { network } = ec2.vpc;
  const cidr = layout.cidrs.get(subnet);
  if (cidr === undefined) return;
  const isFree = (ip: Ipv4): boolean =>
    network.carrier(subnet, ip) === null &&
    // On an ENI that the ledger names for it, or that it has just left, nobody could tell it from ours.
    oracle.mirrors.every(
      ({ rows, left }) =>
        rows.get(keyOf(subnet, ip))?.iface !== eni && left.get(keyOf(subnet, ip))?.eni !== eni,
    );
  const ip = of(
    Array.from({ length: sizeOf(cidr) - 5 }, (_, i) => fromNumber(cidr.first + 4 + i)).filter(isFree),
    die,
  );
  if (ip === undefined) return;
  network.assign({ eni, ips: [ip] });
  strike('stranger assigned');
  oracle.note(`a stranger puts ${ip} on ${eni}`);
  oracle.strangers.set(keyOf(subnet, ip), eni);
  oracle.put.set(`${eni} ${ip}`, clock.now);
  oracle.blurred.delete(`${eni} ${ip}`);
}

/** Others take an address off an ENI of ours. */
function takeOff({ ec2, oracle, strike, clock }: World, port: Port, ip: Ipv4): void {
  ec2.vpc.network.unassign(port.eni, [ip]);
  strike('stranger took off');
  oracle.note(`a stranger takes ${ip} off ${port.eni}`);
  watchStolen(oracle, { subnet: port.subnet, eni: port.eni, ip, now: clock.now });
}

const ipIn = (key: string): Ipv4 => key.split(' ')[1] as Ipv4;
