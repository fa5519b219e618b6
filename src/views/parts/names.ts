/** The names of containers that Docker did not send, as readings of their hosts have shown them. */
import type { Allocation } from '../../domain/allocation.ts';
import type { SubnetId } from '../../domain/ids.ts';
import type { Store } from '../../store/store.ts';

/** Returns a function that tells the container of a held row; null: no reading has shown it. */
export async function namesOf(
  store: Pick<Store, 'sightingsAt'>,
  subnet: SubnetId,
  rows: readonly Allocation[],
): Promise<(row: Allocation) => string | null> {
  const nameless = rows.filter(row => row.status === 'allocated' && row.holder === null);
  const { rows: sightings } = await store.sightingsAt(
    subnet,
    nameless.map(({ ip }) => ip),
  );
  const byIp = new Map(sightings.map(one => [one.ip, one]));
  return row => {
    const sighting = byIp.get(row.ip);
    return sighting?.generation === row.generation ? sighting.name : null;
  };
}
