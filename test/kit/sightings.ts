/** Sightings of addresses as tests need them: one that is plain, with what a test says of it. */
import type { LedgerSighting } from '../../src/domain/witness.ts';
import { ENI, ip, SUBNET } from './rows.ts';

export const sightingWith = (last: number, patch: Partial<LedgerSighting> = {}): LedgerSighting => ({
  ...{ subnet: SUBNET, ip: ip(last), iface: ENI, generation: 7 },
  ...{ boot: 'boot-1', engine: 'engine-1', attachment: 'eni-attach-0a' },
  ...{ unseenSince: null, unseenReadings: 0, usedSince: null, usedReadings: 0 },
  ...{ seenAt: null, container: null, name: null, image: null, finding: null },
  ...patch,
});
