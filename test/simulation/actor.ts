/** Does what a plan says. What an operation is done to is chosen when it is done, by its dice. */
import type { Deed } from './dice.ts';
import { EC2_DEEDS } from './ec2-deeds.ts';
import { ENGINE_DEEDS } from './engine-deeds.ts';
import { ENI_DEEDS } from './eni-deeds.ts';
import type { Doing, Op } from './plan.ts';
import { SERVER_DEEDS } from './server-deeds.ts';
import { STRANGER_DEEDS } from './stranger-deeds.ts';
import type { World } from './world.ts';

const DEEDS: Record<Doing, Deed> = {
  ...ENGINE_DEEDS,
  ...SERVER_DEEDS,
  ...EC2_DEEDS,
  ...STRANGER_DEEDS,
  ...ENI_DEEDS,
};

export function act(world: World, { doing, dice }: Op): void {
  world.truth.note(`> ${doing}`);
  DEEDS[doing](world, dice);
}
