/** Sightings of addresses as tests need them: one that is plain, with what a test says of it. */
import { randomUUID } from 'node:crypto';
import type { Allocation } from '../../src/domain/allocation.ts';
import type { EniId, InstanceId } from '../../src/domain/ids.ts';
import type { LedgerSighting } from '../../src/domain/sighting.ts';
import type { SightingKey, Store } from '../../src/store/store.ts';
import { ENI, ip, SUBNET } from './rows.ts';

export const sightingWith = (last: number, patch: Partial<LedgerSighting> = {}): LedgerSighting => ({
  ...{ subnet: SUBNET, ip: ip(last), iface: ENI, generation: 7 },
  ...{ boot: 'boot-1', engine: 'engine-1', attachment: 'eni-attach-0a' },
  ...{ unseenSince: null, unseenReadings: 0, usedSince: null, usedReadings: 0 },
  ...{ seenAt: null, container: null, name: null, image: null, finding: null },
  ...patch,
});

/** Notes the sightings as a reading of some host does. */
export async function noteSightings(
  store: Pick<Store, 'beginReading' | 'saveReading'>,
  save: readonly LedgerSighting[],
  forget: readonly SightingKey[] = [],
): Promise<void> {
  const witness = await store.beginReading('i-0a' as InstanceId, randomUUID());
  if (!(await store.saveReading(witness, save, forget))) throw new Error('another reading was begun');
}

/** Notes that processes use these rows, which nobody holds. */
export const noteUsed = (
  store: Pick<Store, 'beginReading' | 'saveReading'>,
  ...rows: readonly Allocation[]
): Promise<void> =>
  noteSightings(
    store,
    rows.map(({ subnet, ip: address, iface, generation }) => ({
      ...sightingWith(0, { usedSince: 1, usedReadings: 1 }),
      ...{ subnet, ip: address, iface: iface as EniId, generation },
    })),
  );
