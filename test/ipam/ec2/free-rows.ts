/** A world with free rows that a test assigns. */
import type { Ipv4 } from '../../../src/domain/address.ts';
import { ROOMY } from '../../kit/vpcs.ts';
import { world } from '../../kit/world.ts';

/** A world, and free rows in the order in which ENI A tries them; `nth`: the address of one. */
export async function withFree(count: number, options: Parameters<typeof world>[0] = {}) {
  const w = world({ vpc: ROOMY, ...options });
  const rows = await w.freeRows(count);
  const nth = (n: number) => rows[n]?.ip ?? ('' as Ipv4);
  return { w, rows, nth };
}
