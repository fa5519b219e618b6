/** Addresses that are in use without a holder, as hosts have shown to any server of the ledger. */
import type { Store } from '../../store/store.ts';
import type { Cache } from '../pool/cache.ts';

/** Withholds what the ledger says is in use, and nothing else. Call it before the first request is served. */
export async function recallWithheld(
  store: Pick<Store, 'usedSightings'>,
  cache: Pick<Cache, 'recallWithheld'>,
): Promise<void> {
  await cache.recallWithheld(async () =>
    (await store.usedSightings()).rows.flatMap(one =>
      // As isUsedIdle in the domain.
      [one.generation, one.generation - 1].map(generation => ({
        row: { subnet: one.subnet, ip: one.ip, iface: one.iface, generation },
        finding: one.finding ?? '',
      })),
    ),
  );
}
