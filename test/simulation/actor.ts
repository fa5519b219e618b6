/** Does what a plan says. What an operation is done to is chosen when it is done, by its dice. */
import type { Operation } from './dice.ts';
import { EC2_DEEDS } from './ec2-operations.ts';
import { ENGINE_DEEDS } from './engine-operations.ts';
import { ENI_DEEDS } from './eni-operations.ts';
import type { Op, OperationName } from './plan.ts';
import { SERVER_DEEDS } from './server-operations.ts';
import { STRANGER_DEEDS } from './stranger-operations.ts';
import type { World } from './world.ts';

const OPERATIONS: Record<OperationName, Operation> = {
  ...ENGINE_DEEDS,
  ...SERVER_DEEDS,
  ...EC2_DEEDS,
  ...STRANGER_DEEDS,
  ...ENI_DEEDS,
};

export function act(world: World, { doing, dice }: Op): void {
  world.oracle.note(`> ${doing}`);
  OPERATIONS[doing](world, dice);
}
