/** How many addresses an ENI may hold. That is the instance type's, never changes, and so is asked of EC2 once. */
import type { InstanceId } from '../../domain/ids.ts';
import type { Machine } from '../context.ts';

/** IPv4 addresses that each ENI of the instance may hold, its primary included; null when EC2 does not say. */
export async function addressLimitOf(
  { store, cloud }: Machine,
  instance: InstanceId,
): Promise<number | null> {
  const type = await cloud.instanceType(instance);
  if (type === null) return null;
  const fact = `address limit of ${type}`;
  const known = await store.fact(fact);
  if (known !== null) return Number(known);
  const limit = await cloud.addressLimit(type);
  if (limit !== null) await store.noteFact(fact, String(limit));
  return limit;
}
