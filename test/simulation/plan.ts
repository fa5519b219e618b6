/** The operations of a history in their order, each some events or some time after the one before. */
import { Ec2Error } from '../../src/simulator/model/ec2-error.ts';
import type { Random } from '../kit/random.ts';
import { COMMAND_OPERATIONS } from './command-operations.ts';
import { ENGINE_OPERATIONS } from './engine-operations.ts';
import { OLD_SERVER_OPERATIONS } from './old-server.ts';
import type { Dice, Operation } from './operation.ts';
import { REPAIR_OPERATIONS } from './repair-operations.ts';
import { OPERATOR_OPERATIONS, SERVER_OPERATIONS } from './server-operations.ts';
import { UNHEARD_OPERATIONS } from './unheard.ts';
import { EC2_OPERATIONS, STRANGER_OPERATIONS } from './vpc-operations.ts';
import { WITNESS_OPERATIONS } from './witness-operations.ts';
import type { World } from './world.ts';

const OPERATIONS = {
  ...ENGINE_OPERATIONS,
  ...SERVER_OPERATIONS,
  ...EC2_OPERATIONS,
  ...STRANGER_OPERATIONS,
  ...OPERATOR_OPERATIONS,
  ...WITNESS_OPERATIONS,
  ...OLD_SERVER_OPERATIONS,
  ...UNHEARD_OPERATIONS,
  ...COMMAND_OPERATIONS,
  ...REPAIR_OPERATIONS,
};
export type OperationName = keyof typeof OPERATIONS;
export const OPERATION_NAMES = Object.keys(OPERATIONS) as OperationName[];

export interface Op {
  readonly doing: OperationName;
  /** Waits for so many events after the one before, or for so many milliseconds. */
  readonly gap: { readonly steps: number } | { readonly ms: number };
  /** They choose the target when the operation is carried out. */
  readonly dice: Dice;
}

/** Operations in focus are drawn so many times as often; those that are named twice, so many times again. */
const FOCUSED = 10;

/** `focus`: operations that are drawn more often. */
export function drawPlan(random: Random, focus: readonly OperationName[] = []): Op[] {
  const weightOf = (name: OperationName) =>
    OPERATIONS[name].weight * FOCUSED ** focus.filter(one => one === name).length;
  const weights = Object.fromEntries(OPERATION_NAMES.map(name => [name, weightOf(name)])) as Record<
    OperationName,
    number
  >;
  const dice = () => random.below(2 ** 16);
  return Array.from(
    { length: random.between(8, 40) },
    (): Op => ({
      doing: random.weighted(weights),
      gap: drawGap(random),
      dice: [dice(), dice(), dice()],
    }),
  );
}

function drawGap(random: Random): Op['gap'] {
  if (random.chance(0.55)) return { steps: random.below(16) };
  const ms = random.weighted({ 10: 3, 1000: 3, 20000: 4, 100000: 2, 400000: 1 });
  return { ms: 1 + random.below(Number(ms)) };
}

/** What EC2 refuses is not done. */
export function act(world: World, { doing, dice }: Op): void {
  world.oracle.note(`> ${doing}`);
  const operation: Operation = OPERATIONS[doing];
  try {
    if (operation.act(world, dice)) world.count(doing);
  } catch (error) {
    if (!(error instanceof Ec2Error)) throw error;
  }
}
