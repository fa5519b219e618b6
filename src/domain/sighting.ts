/** What the ledger keeps of the readings of hosts, and what that says of a row. */
import type { Ipv4 } from './address.ts';
import type { Allocation, RowState } from './allocation.ts';
import { shortId } from './container.ts';
import type { EniId, InstanceId, SubnetId } from './ids.ts';

/** What the readings have shown of one address: a row of the ledger. It counts for one generation of the address.
 *  Times are those of the store's clock, in milliseconds. */
export interface LedgerSighting {
  readonly subnet: SubnetId;
  readonly ip: Ipv4;
  readonly iface: EniId;
  readonly generation: number;
  /** Boot, engine and attachment of the readings that are counted. */
  readonly boot: string;
  readonly engine: string;
  readonly attachment: string;
  /** In no view since then, by so many complete readings in a row. */
  readonly unseenSince: number | null;
  readonly unseenReadings: number;
  /** Not held, and in use since then, by so many readings. */
  readonly usedSince: number | null;
  readonly usedReadings: number;
  /** When it was last seen in use; noted every SEEN_NOTED_MS. */
  readonly seenAt: number | null;
  readonly container: string | null;
  readonly name: string | null;
  readonly image: string | null;
  /** Who uses it, for people. */
  readonly finding: string | null;
}

/** A host whose readings the ledger notes; empty: that of an embedded server which does not know its instance. */
export type WitnessedHost = InstanceId | '';

/** What the ledger notes of the readings of one host. Times are those of the store's clock, in milliseconds. */
export interface LedgerWitness {
  readonly instance: WitnessedHost;
  /** Of the reading that was begun last. What an earlier one has shown is not saved any more. */
  readonly ticket: string;
  readonly begunAt: number;
  /** When a reading was last saved; null: none was. */
  readonly readAt: number | null;
  /** Why that one proves no absence; null: it is complete. */
  readonly incomplete: string | null;
  /** Docker's id of its data, as last read. */
  readonly engine: string | null;
  /** When it took the place of another one; null: it was the first. Docker's data was lost then, and with it what it
   *  knew of its containers. */
  readonly engineSince: number | null;
}
export const INCOMPLETE_CHARS_MAX = 500;

/** A held row, and the id of the container that has its address. */
export interface ShownContainer {
  readonly row: Allocation;
  readonly id: string;
}

/** Whether the occupied row is one that a process of the host uses, as far as the sighting shows. Its generation may be
 *  older: reads of EC2 that miss the address and show it again are moves too. Every move by which it stops being
 *  occupied notes the time. */
export const isStray = (
  row: Allocation,
  { subnet, ip, iface, generation, usedSince }: LedgerSighting,
): boolean =>
  row.status === 'occupied' &&
  usedSince !== null &&
  (row.generation === generation || (row.restedSince ?? Number.NEGATIVE_INFINITY) <= usedSince) &&
  row.iface === iface &&
  row.ip === ip &&
  row.subnet === subnet;

/** Whether a process of the host uses the row, which nobody holds, as far as the sighting shows. Before the move by which
 *  it becomes occupied the sighting is already of the generation after. */
export const isUsedIdle = (row: RowState, one: LedgerSighting): boolean =>
  one.usedSince !== null &&
  [row.generation, row.generation + 1].includes(one.generation) &&
  row.iface === one.iface &&
  row.ip === one.ip &&
  row.subnet === one.subnet;

/** What the readings say of a held address, as text for people; null: nothing yet. */
export function wordsOf(row: Allocation, sighting: LedgerSighting | undefined, now: number): string | null {
  if (sighting === undefined || sighting.generation !== row.generation) return null;
  const seconds = (since: number) => `${Math.max(Math.round((now - since) / 1000), 0)} s`;
  const { unseenSince, unseenReadings, seenAt, name, container } = sighting;
  if (unseenSince !== null)
    return `not seen by Docker or the kernel for ${seconds(unseenSince)} (${unseenReadings} ${unseenReadings === 1 ? 'reading' : 'readings'})`;
  if (seenAt === null) return null;
  const who = name ?? (container === null ? 'a process' : shortId(container));
  return `seen in use by ${who} ${seconds(seenAt)} ago`;
}
