/** How operations choose what they are done to. */
import type { Op } from './plan.ts';
import type { World } from './world.ts';

export type Dice = Op['dice'];
export type Operation = (world: World, dice: Dice) => void;

/** One of the items; undefined when there is none. */
export const of = <T>(items: readonly T[], die: number): T | undefined =>
  items[die % Math.max(items.length, 1)];
/** From 1 to `most`, small ones as often as large ones. */
export const spread = (most: number, die: number): number => Math.ceil(most ** ((die + 1) / 2 ** 16));
