/** What befalls the ENIs of hosts whose ledger is their own: it serves those only that are attached to its instance. */
import type { EniId, InstanceId } from '../../src/domain/ids.ts';
import { Ec2Error } from '../../src/simulator/model/ec2-error.ts';
import { type Dice, type Operation, of } from './dice.ts';
import type { Port } from './layout.ts';
import { watchStolen } from './watch-ec2.ts';
import type { World } from './world.ts';

/** Of the first device that an ENI gets when it is attached again; each ENI has one of its own. */
const DEVICE_INDEX_MIN = 5;

/** What is done to one ENI, where ledgers are embedded. What EC2 refuses is not done. */
function toPort(operation: (world: World, port: Port, dice: Dice) => void): Operation {
  return (world, dice) => {
    const { ports, owners } = world.layout;
    const port = of(ports, dice[0]);
    if (port === undefined || owners[port.ledger] === null) return;
    try {
      operation(world, port, dice);
    } catch (error) {
      if (!(error instanceof Ec2Error)) throw error;
    }
  };
}

export const ENI_DEEDS = {
  'eni detached': toPort((world, { eni }) => {
    if (detach(world, eni)) world.strike('ENI detached');
  }),
  'eni attached': toPort((world, port, [, which]) => {
    const instance = of(world.layout.owners, which) ?? null;
    if (instance !== null && world.oracle.instanceOf(port.eni) === null) attach(world, port, instance);
  }),
  'eni moved': toPort((world, port) => {
    const from = world.oracle.instanceOf(port.eni);
    const to = world.layout.owners.find(owner => owner !== null && owner !== from) ?? null;
    if (to === null || !detach(world, port.eni)) return;
    attach(world, port, to);
  }),
  'eni of a host deleted': toPort((world, port) => {
    const { oracle, ec2, clock } = world;
    const { network } = ec2.vpc;
    const { secondaries } = network.eni(port.eni);
    if (!detach(world, port.eni)) oracle.cut(port.eni, clock.now);
    for (const ip of secondaries)
      watchStolen(oracle, { subnet: port.subnet, eni: port.eni, ip, now: world.clock.now });
    network.deleteEni(port.eni);
    oracle.note(`${port.eni} is deleted`);
    world.strike('ENI of a host deleted');
  }),
} satisfies Record<string, Operation>;

/** False: it is attached to nothing. */
function detach({ ec2, oracle, clock }: World, id: EniId): boolean {
  const attachment = ec2.vpc.network.eni(id).attachment;
  if (attachment === null) return false;
  ec2.vpc.network.detach(attachment.id);
  oracle.cut(id, clock.now);
  oracle.note(`${id} is detached from ${attachment.instance}`);
  return true;
}

/** Whoever moves an ENI makes the network on its new host. */
function attach(world: World, port: Port, instance: InstanceId): void {
  const { ec2, oracle, layout, engines, clock } = world;
  ec2.vpc.network.attach(port.eni, instance, DEVICE_INDEX_MIN + layout.ports.indexOf(port));
  // Who began in between began on neither attachment.
  oracle.cut(port.eni, clock.now);
  oracle.note(`${port.eni} is attached to ${instance}`);
  world.strike('ENI attached to a host');
  const engine = engines.find(one => one.host === instance);
  if (engine === undefined || engine.process.state !== 'running') return;
  const network =
    engine.networks.find(one => one.port.eni === port.eni) ??
    world.networkOn({ ...port, instance, ledger: layout.owners.indexOf(instance) });
  if (!engine.networks.includes(network)) engine.networks.push(network);
  void engine.createNetwork(network, false);
}
