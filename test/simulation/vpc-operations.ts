/** What EC2 does, and what others do in the VPC. */
import { fromNumber, type Ipv4, sizeOf } from '../../src/domain/address.ts';
import type { EniId, InstanceId, SubnetId } from '../../src/domain/ids.ts';
import { Ec2Error } from '../../src/simulator/model/ec2-error.ts';
import type { Fault } from '../../src/simulator/model/faults.ts';
import { keyOf, LATE_CALL_MS_MAX, LATE_READ_MS_MAX, type Port, STRANGER } from './layout.ts';
import {
  anyPort,
  type Dice,
  embeddedPort,
  type Operation,
  of,
  on,
  robbedPort,
  runningPlaces,
  spread,
} from './operation.ts';
import type { World } from './world.ts';

const ASSIGN = 'AssignPrivateIpAddresses';
const UNASSIGN = 'UnassignPrivateIpAddresses';
const READ = 'DescribeNetworkInterfaces';
const either = (die: number): string => (die % 2 === 0 ? ASSIGN : UNASSIGN);

const REFUSALS = [
  ['PrivateIpAddressLimitExceeded', 'too many'],
  ['InsufficientFreeAddressesInSubnet', 'none left'],
  ['UnauthorizedOperation', 'not allowed'],
  ['InvalidParameterValue', 'for some reason'],
  ['InternalError', 'an error'],
  // Unknown codes and texts, and those that have nothing to do with our addresses.
  ['InvalidParameterValue', 'secondary-addresses'],
  ['InvalidPrivateIpAddress.Unheard', 'nobody has heard of it'],
  ['NetworkAddressUsageLimitExceeded', 'too many in the VPC'],
  ['UnsupportedOperation', 'not here'],
  ['SomethingNew', ''],
  ['RequestExpired', 'Request has expired.'],
  ['SignatureDoesNotMatch', 'Signature not yet current'],
] as const;

/** Codes and texts that the program does not know. EC2 may refuse one ENI for a reason of its own. */
export const UNHEARD = [
  ['InvalidParameterValue', 'The network interface is in a state that nobody has heard of.'],
  ['InvalidPrivateIpAddress.Unheard', 'nobody has heard of it'],
  ['InvalidIPAddress.SomethingNew', ''],
  ['OperationNotPermitted', 'not on this one'],
  ['SomethingNew', ''],
] as const;
const REFUSES_MS_MAX = 600_000;
/** How many containers ask for it meanwhile. */
const ASK_MAX = 4;

/** An EC2 fault that one to three calls meet. */
const fault = (weight: number, made: (dice: Dice) => Fault): Operation =>
  on(
    weight,
    ({ ec2 }) => ec2,
    (_world, ec2, dice) => ec2.addFault({ times: 1 + (dice[0] % 3), ...made(dice) }),
  );

export const EC2_OPERATIONS = {
  'lost reply': fault(5, dice => ({ kind: 'lostReply', action: either(dice[1]) })),
  'call hangs': fault(3, dice => ({
    kind: 'hang',
    ...(dice[1] % 3 === 0 ? {} : { action: either(dice[1]) }),
  })),
  'call applies late': fault(6, dice => ({
    kind: 'applyLate',
    action: either(dice[1]),
    ms: spread(LATE_CALL_MS_MAX, dice[2]),
  })),
  'call refused': fault(3, dice => {
    const [code, message] = of(REFUSALS, dice[2]) ?? REFUSALS[0];
    return { kind: 'error', code, message, action: either(dice[1]), times: 1 + (dice[0] % 6) };
  }),
  // Those of the others of its subnet are not. Containers start on all of them.
  'eni refuses assigns': on(2, anyPort, (world, { eni, subnet }, [, which, long]) => {
    const { clock, ec2, oracle } = world;
    const [code, message] = of(UNHEARD, which) ?? UNHEARD[0];
    const end = ec2.addFaultFor({ kind: 'error', code, message, action: ASSIGN, eni });
    clock.effect(null, end, spread(REFUSES_MS_MAX, long));
    oracle.note(`EC2 refuses assigns on ${eni}: ${code}`);
    for (const { engine, network } of runningPlaces(world)) {
      const times = network.port.eni === eni ? 1 + (which % ASK_MAX) : 1;
      for (let i = 0; i < times && network.port.subnet === subnet; i++) void engine.run(network, null);
    }
  }),
  throttle: fault(3, dice => ({ kind: 'throttle', times: 1 + (dice[1] % 6) })),
  // For longer than requests wait; then another request follows on each ENI.
  'assigns away': on(1, runningPlaces, (world, _places, [long]) => {
    const { ec2, layout, clock, oracle } = world;
    const runAll = () => {
      for (const { engine, network } of runningPlaces(world)) void engine.run(network, null);
    };
    const end = () => {
      oracle.note('assigns are back');
      ec2.vpc.faults.clear();
      runAll();
    };
    ec2.addFault({ kind: 'throttle', action: ASSIGN });
    runAll();
    clock.effect(null, end, layout.policy.requestTimeoutMs + spread(20_000, long));
  }),
  'slow call': fault(3, dice => ({
    kind: 'latency',
    ms: spread(9_900, dice[1]),
    times: 1 + (dice[2] % 4),
  })),
  'late reads': fault(5, dice => ({
    kind: 'readLag',
    ms: spread(LATE_READ_MS_MAX, dice[1]),
    action: READ,
    times: 1 + (dice[2] % 5),
  })),
  'bad reads': fault(2, () => ({ kind: 'error', code: 'InternalError', message: 'no', action: READ })),
} satisfies Record<string, Operation>;

export const STRANGER_OPERATIONS = {
  'stranger assigns': on(
    5,
    ({ layout }) => layout.ports,
    (world, ports, [where, which]) => {
      const port = where % 3 === 0 ? undefined : of(ports, where >> 2);
      const subnet = port?.subnet ?? ports[0]?.subnet;
      if (subnet !== undefined) putStranger(world, subnet, port?.eni ?? STRANGER, which);
    },
  ),
  'stranger drops': on(3, anyStranger, ({ oracle, ec2, clock }, { eni, ip, subnet }) => {
    ec2.vpc.network.unassign(eni, [ip]);
    oracle.note(`a stranger takes its ${ip} off ${eni}`);
    oracle.strangers.delete(keyOf(subnet, ip));
    oracle.removedByOthers.set(`${eni} ${ip}`, clock.now);
  }),
  'stranger takes ours off': on(4, robbedPort, (world, port, [, which]) => {
    const ip = of(world.oracle.secondaries(port.eni), which);
    if (ip !== undefined) takeOff(world, port, ip);
  }),
  'stranger crowds an eni': on(1, robbedPort, (world, port, [, which]) => {
    const { oracle } = world;
    const held = [...oracle.held.values()].filter(one => one.eni === port.eni);
    for (const { ip } of held.slice(0, 2))
      if (oracle.secondaries(port.eni).includes(ip)) takeOff(world, port, ip);
    putStranger(world, port.subnet, port.eni, which);
  }),
  'eni attached anew': on(1, anyPort, ({ ec2, oracle }, { eni }) => {
    const { network } = ec2.vpc;
    const { attachment } = network.eni(eni);
    if (attachment === null) return;
    oracle.note(`${eni} is attached anew`);
    oracle.noteDetached(eni);
    network.detach(attachment.id);
    network.attach(eni, attachment.instance, attachment.deviceIndex);
  }),
  'eni deleted': on(0.3, robbedPort, deleteEni),
  'instance terminated': on(
    0.2,
    ({ engines, ledgers }, [die]) => (ledgers.length === 1 ? of(engines, die) : undefined),
    ({ layout, oracle, ec2 }, engine) => {
      const ports = layout.ports.filter(port => port.instance === engine.host);
      const [first] = ports;
      if (engine.isLost || first === undefined) return;
      for (const { id, attachment } of ec2.vpc.network.enis())
        if (attachment?.instance === first.instance) oracle.noteDetached(id);
      ec2.vpc.network.terminate(first.instance);
      oracle.note(`${first.instance} is terminated`);
      engine.lose();
    },
  ),
  // ENIs of embedded ledgers, which serve only what is attached to their instance.
  'eni detached': on(3, embeddedPort, (world, { eni }) => detach(world, eni)),
  'eni attached': on(3, embeddedPort, (world, port, [, which]) => {
    const instance = of(world.layout.owners, which) ?? null;
    if (instance !== null && world.oracle.instanceOf(port.eni) === null) attach(world, port, instance);
  }),
  'eni moved': on(4, embeddedPort, (world, port) => {
    const from = world.oracle.instanceOf(port.eni);
    const to = world.layout.owners.find(owner => owner !== null && owner !== from) ?? null;
    if (to !== null && detach(world, port.eni)) attach(world, port, to);
  }),
  // Central servers: the containers of the former host are cut off, and the new host makes a network.
  'eni moved between hosts': on(
    3,
    (world, dice) => (world.layout.hasAgents ? anyPort(world, dice) : undefined),
    (world, port) => {
      const from = world.oracle.instanceOf(port.eni);
      const to = world.layout.ports.find(({ instance }) => instance !== from)?.instance;
      if (to !== undefined && detach(world, port.eni)) attach(world, port, to);
    },
  ),
  'eni of a host deleted': on(1, embeddedPort, deleteEni),
} satisfies Record<string, Operation>;

/** An address that others have put on some ENI. */
function anyStranger({ oracle }: World, [die]: Dice) {
  const secondary = [...oracle.strangers].flatMap(([key, eni]) => {
    const [subnet, ip] = key.split(' ') as [SubnetId, Ipv4];
    return oracle.secondaries(eni).includes(ip) ? { eni, subnet, ip } : [];
  });
  return of(secondary, die);
}

/** Others put an address that nobody has on the ENI. */
function putStranger({ layout, oracle, ec2, clock }: World, subnet: SubnetId, eni: EniId, die: number): void {
  const { network } = ec2.vpc;
  const cidr = layout.cidrs.get(subnet);
  if (cidr === undefined) return;
  const isFree = (ip: Ipv4): boolean =>
    network.carrier(subnet, ip) === null &&
    // On an ENI that the ledger names for it, or that it has just left, it could not be told from ours.
    oracle.mirrors.every(
      ({ rows, left }) =>
        rows.get(keyOf(subnet, ip))?.iface !== eni && left.get(keyOf(subnet, ip))?.eni !== eni,
    );
  const ips = Array.from({ length: sizeOf(cidr) - 5 }, (_, i) => fromNumber(cidr.first + 4 + i));
  const ip = of(ips.filter(isFree), die);
  if (ip === undefined) return;
  network.assign({ eni, ips: [ip] });
  oracle.note(`a stranger puts ${ip} on ${eni}`);
  oracle.strangers.set(keyOf(subnet, ip), eni);
  oracle.putByOthers.set(`${eni} ${ip}`, clock.now);
  for (const { index } of oracle.mirrors) oracle.maybeOurs.delete(`${index} ${eni} ${ip}`);
}

/** Others take an address off an ENI of ours. */
export function takeOff({ ec2, oracle }: World, { subnet, eni }: Port, ip: Ipv4): void {
  ec2.vpc.network.unassign(eni, [ip]);
  oracle.note(`a stranger takes ${ip} off ${eni}`);
  oracle.takenOff(subnet, eni, ip);
}

function deleteEni(world: World, { eni, subnet }: Port): void {
  const { oracle, ec2 } = world;
  const { secondaries } = ec2.vpc.network.eni(eni);
  if (!detach(world, eni)) oracle.noteDetached(eni);
  for (const ip of secondaries) oracle.takenOff(subnet, eni, ip);
  ec2.vpc.network.deleteEni(eni);
  oracle.note(`${eni} is deleted`);
}

/** Moves the ENI to the instance, at any time: what EC2 refuses is not done. */
export function moveTo(world: World, port: Port, instance: InstanceId): void {
  if (world.oracle.instanceOf(port.eni) === instance) return;
  try {
    detach(world, port.eni);
    attach(world, port, instance);
  } catch (error) {
    if (!(error instanceof Ec2Error)) throw error;
  }
}

/** Returns false when it is attached to nothing. */
function detach({ ec2, oracle }: World, id: EniId): boolean {
  const { attachment } = ec2.vpc.network.eni(id);
  if (attachment === null) return false;
  ec2.vpc.network.detach(attachment.id);
  oracle.noteDetached(id, attachment.instance);
  oracle.note(`${id} is detached from ${attachment.instance}`);
  return true;
}

/** The device index of the first ENI when it is attached again; each ENI has an index of its own. */
const DEVICE_INDEX_MIN = 5;

/** Attaches the ENI, and creates its network on the new host. */
function attach(world: World, port: Port, instance: InstanceId): void {
  const { ec2, oracle, layout, engines } = world;
  ec2.vpc.network.attach(port.eni, instance, DEVICE_INDEX_MIN + layout.ports.indexOf(port));
  // A container that started in between belongs to neither attachment.
  oracle.noteDetached(port.eni);
  oracle.note(`${port.eni} is attached to ${instance}`);
  const engine = engines.find(one => one.host === instance);
  if (engine === undefined || engine.process.state !== 'running') return;
  const network =
    engine.networks.find(one => one.port.eni === port.eni) ??
    world.networkOn({
      ...port,
      instance,
      ledger: layout.hasAgents ? port.ledger : layout.owners.indexOf(instance),
    });
  if (!engine.networks.includes(network)) engine.networks.push(network);
  void engine.createNetwork(network, false);
}
