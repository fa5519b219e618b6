/** What EC2 does. */
import type { Fault } from '../../src/simulator/model/faults.ts';
import { type Dice, type Operation, of, spread } from './dice.ts';
import { LATE_CALL_MS_MAX, LATE_READ_MS_MAX } from './layout.ts';
import type { World } from './world.ts';

/** An EC2 fault for the next one to three calls that it strikes. */
const ec2 =
  (fault: (dice: Dice, world: World) => Fault): Operation =>
  (world, dice) => {
    const made = { times: 1 + (dice[0] % 3), ...fault(dice, world) };
    world.strike(made.kind);
    if (made.kind === 'applyLate') world.ec2.lateMs.add(made.ms);
    world.ec2.vpc.faults.add(made);
  };
const ASSIGN = 'AssignPrivateIpAddresses';
const UNASSIGN = 'UnassignPrivateIpAddresses';
const either = (die: number): string => (die % 2 === 0 ? ASSIGN : UNASSIGN);

const REFUSALS = [
  ['PrivateIpAddressLimitExceeded', 'too many'],
  ['InsufficientFreeAddressesInSubnet', 'none left'],
  ['UnauthorizedOperation', 'not allowed'],
  ['InvalidParameterValue', 'for some reason'],
  ['InternalError', 'an error'],
  // What nobody has listed, or has anything to do with our addresses.
  ['InvalidParameterValue', 'secondary-addresses'],
  ['InvalidPrivateIpAddress.Unheard', 'nobody has heard of it'],
  ['NetworkAddressUsageLimitExceeded', 'too many in the VPC'],
  ['UnsupportedOperation', 'not here'],
  ['SomethingNew', ''],
  ['RequestExpired', 'Request has expired.'],
  ['SignatureDoesNotMatch', 'Signature not yet current'],
] as const;

export const EC2_DEEDS = {
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
  // For longer than requests wait; then one more asks on each ENI.
  'assigns away': (world, [long]) => {
    const { ec2, engines, layout, clock, oracle } = world;
    const runAll = () => {
      for (const engine of engines)
        if (engine.process.state === 'running')
          for (const network of engine.networks) void engine.run(network, null);
    };
    world.strike('assigns away');
    ec2.vpc.faults.add({ kind: 'throttle', action: ASSIGN });
    runAll();
    clock.effect(
      null,
      () => {
        oracle.note('assigns are back');
        ec2.vpc.faults.clear();
        runAll();
      },
      layout.policy.requestTimeoutMs + spread(20_000, long),
    );
  },
  'slow call': ec2(dice => ({ kind: 'latency', ms: spread(9_900, dice[1]), times: 1 + (dice[2] % 4) })),
  'late reads': ec2(dice => ({
    kind: 'readLag',
    ms: spread(LATE_READ_MS_MAX, dice[1]),
    action: 'DescribeNetworkInterfaces',
    times: 1 + (dice[2] % 5),
  })),
  'bad reads': ec2(() => ({
    kind: 'error',
    code: 'InternalError',
    message: 'no',
    action: 'DescribeNetworkInterfaces',
  })),
} satisfies Record<string, Operation>;
