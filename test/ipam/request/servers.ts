/** Several servers on one ledger, and one address that is held and released by name. */
import type { Ipv4 } from '../../../src/domain/address.ts';
import type { Allocation } from '../../../src/domain/allocation.ts';
import { createMemoryStore } from '../../../src/store/memory.ts';
import { assert } from '../../kit/uvu.ts';
import { ENI_A, ROOMY } from '../../kit/vpcs.ts';
import { type World, world } from '../../kit/world.ts';

export const NAMED = '10.0.1.77' as Ipv4;
export const later = ({ time }: World, ms: number) => {
  time.now += ms;
};
/** Two servers on one ledger, whose clock is `skew.ms` ahead of theirs. */
export function servers(skewMs = 0) {
  const skew = { ms: skewMs };
  const w = world({ vpc: ROOMY, store: now => createMemoryStore({ clock: () => now() + skew.ms }) });
  return { w, other: w.another(), skew };
}
export const hold = (w: World, holder: string | null = null): Promise<Allocation> =>
  w.request(ENI_A, { named: NAMED, holder });
/** The address is released at one server and given to the next holder by another. */
export async function giveAnew(ends: World, begins = ends): Promise<void> {
  await ends.release(ENI_A, NAMED);
  await hold(begins, 'next');
}
export const isHeldBy = async (w: World, holder: string) => assert.is((await w.rowOf(NAMED)).holder, holder);
/** A release that waits for `open`. */
export function waitingRelease({ allocator }: World) {
  const { promise, resolve: open } = Promise.withResolvers<void>();
  return { released: allocator.release({ eni: ENI_A, range: null }, NAMED, () => promise), open };
}
