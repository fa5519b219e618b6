/** Compares the ledger with EC2 and makes the moves that close the drift. What is unknown is let be. */
import type { Ipv4 } from '../domain/address.ts';
import type { Allocation, Change } from '../domain/allocation.ts';
import { type Drift, describe, driftOf, type Sighting } from '../domain/drift.ts';
import type { EniId, SubnetId } from '../domain/ids.ts';
import { CHANGES_MAX } from '../store/store.ts';
import { repair, unassign } from './intents.ts';
import type { Machine } from './machine.ts';
import { sightingsOn } from './observe.ts';

/** Held addresses assigned again in one pass: each costs a call of its own. */
const REPAIRS_MAX = 20;
/** Ready addresses that are on no ENI, taken through an Unassign in one pass. */
const ASTRAY_MAX = 50;

const IN_USE = ['ready', 'allocated', 'occupied'] as const;

/** Reads first the ledger and then EC2, so that a row which still stands as it was read has not been moved by
 *  us in between; answers how the two differ. Changes nothing. */
export async function compare(machine: Machine, subnet: SubnetId): Promise<Drift[]> {
  const { store, cloud, policy } = machine;
  const ours = new Set<EniId>((await store.enis()).filter(eni => eni.ours).map(eni => eni.id));
  const { rows, now } = await store.withStatus(subnet, IN_USE);
  const sightings = new Map<Ipv4, Sighting>();
  for await (const page of cloud.enis(subnet))
    for (const eni of page) for (const [ip, at] of sightingsOn(eni)) sightings.set(ip, at);
  const judge = (row: Allocation): Drift[] => {
    const owned = row.iface !== null && ours.has(row.iface);
    const drift = driftOf(row, sightings.get(row.ip) ?? null, owned, policy, now);
    return drift === null ? [] : [drift];
  };
  const drifts = rows.flatMap(judge);
  const known = new Set<Ipv4>(rows.map(row => row.ip));
  const others = [...sightings.keys()].filter(ip => !known.has(ip));
  for (let from = 0; from < others.length; from += CHANGES_MAX) {
    const rest = await store.get(subnet, others.slice(from, from + CHANGES_MAX));
    drifts.push(...rest.rows.filter(row => row.status === 'free').flatMap(judge));
  }
  return drifts;
}

export interface Closed {
  readonly moved: number;
  readonly repaired: number;
}

/** Makes the moves that close the drift, each only if its row still stands as it was compared. */
export async function close(machine: Machine, drifts: readonly Drift[]): Promise<Closed> {
  for (const drift of drifts)
    if (drift.kind !== 'unseen' && drift.kind !== 'seen') machine.log('warn', `drift: ${describe(drift)}`);
  const changes = drifts.flatMap((drift): Change[] => (drift.change === null ? [] : [drift.change]));
  let moved = 0;
  for (let from = 0; from < changes.length; from += CHANGES_MAX)
    moved += (await machine.store.move(changes.slice(from, from + CHANGES_MAX))).length;
  const rowsOf = (kind: Drift['kind']) => drifts.filter(drift => drift.kind === kind).map(drift => drift.row);
  moved += await unassign(machine, rowsOf('astray').slice(0, ASTRAY_MAX));
  const repaired = await repair(machine, rowsOf('missing').slice(0, REPAIRS_MAX));
  return { moved, repaired };
}
