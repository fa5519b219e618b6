/** A ledger as tests fill it: rows of 10.0.1.0, named by their last byte. */
import type { Allocation, Change, MoveName, Rest } from '../../src/domain/allocation.ts';
import type { EniId, InstanceId } from '../../src/domain/ids.ts';
import type { FreeQuery, LedgerEni, NewAllocation, Store } from '../../src/store/store.ts';
import { ENI, ip, SUBNET } from './rows.ts';

export const REST: Rest = { cooldownMs: 30_000, quarantineMs: 600_000, graceMs: 930_000 };

export const newRow = (last: number, more: Partial<NewAllocation> = {}): NewAllocation => ({
  subnet: SUBNET,
  ip: ip(last),
  status: 'free',
  iface: null,
  primary: false,
  ...more,
});
export const newRows = (...lasts: number[]): NewAllocation[] => lasts.map(last => newRow(last));

export const eniWith = (patch: Partial<LedgerEni> = {}): LedgerEni => ({
  id: ENI,
  subnet: SUBNET,
  primary: ip(5),
  instance: 'i-0a' as InstanceId,
  attachment: 'eni-attach-0a',
  attachmentSeenAt: null,
  earlierAttachment: null,
  claimsEndBefore: null,
  tenant: null,
  mac: null,
  addressLimit: 10,
  prefixes: 0,
  ours: false,
  releasedAt: null,
  ...patch,
});

export const freeFor = (patch: Partial<FreeQuery> = {}): FreeQuery => ({
  subnet: SUBNET,
  eni: ENI,
  range: null,
  rest: REST,
  which: 'any',
  limit: 20,
  ...patch,
});

export async function one(store: Store, last: number, subnet = SUBNET): Promise<Allocation> {
  const [found] = (await store.get(subnet, [ip(last)])).rows;
  if (found === undefined) throw new Error(`${ip(last)} is not in the ledger`);
  return found;
}
export const rowsOf = async (store: Store, lasts: readonly number[], subnet = SUBNET) =>
  (await store.get(subnet, lasts.map(ip))).rows;

/** Makes one move of the row as it is; fails unless it was made. */
export async function make(store: Store, last: number, move: MoveName, given: Partial<Change> = {}) {
  const [after] = await store.move([{ row: await one(store, last), move, ...given }]);
  if (after === undefined) throw new Error(`${move} of ${ip(last)} was not made`);
  return after;
}

/** Puts free rows on the ENI, as a call of ours does that EC2 has granted. */
export async function putOn(store: Store, rows: readonly Allocation[], eni: EniId): Promise<Allocation[]> {
  const assigning = await store.move(rows.map(row => ({ row, move: 'assign', iface: eni })));
  return store.move(assigning.map(row => ({ row, move: 'assigned' })));
}
/** Puts one free row on the ENI; fails unless it is ready then. */
export async function makeReady(store: Store, last: number, eni: EniId = ENI): Promise<Allocation> {
  await make(store, last, 'assign', { iface: eni });
  return make(store, last, 'assigned');
}
