/** What readings of hosts have shown, in memory. */
import { numberOf } from '../domain/address.ts';
import type { LedgerSighting, LedgerWitness, WitnessedHost } from '../domain/sighting.ts';
import { keyOf } from './group-commit.ts';
import type { SightingStore } from './store.ts';

export interface MemorySightings extends SightingStore {
  allSightings(): LedgerSighting[];
  /** Forgets the hosts whose last reading was begun before. */
  forgetWitnesses(before: number): void;
}

export function createMemorySightings(clock: () => number): MemorySightings {
  const sightings = new Map<string, LedgerSighting>();
  const witnesses = new Map<WitnessedHost, LedgerWitness>();
  const reading = <T>(rows: readonly T[]) => ({ now: clock(), rows });

  return {
    allSightings: () => [...sightings.values()],
    forgetWitnesses(before) {
      for (const one of witnesses.values()) if (one.begunAt < before) witnesses.delete(one.instance);
    },

    async sightings(ids) {
      return reading([...sightings.values()].filter(({ iface }) => ids.includes(iface)).sort(byAddress));
    },
    async usedSightings() {
      return reading([...sightings.values()].filter(one => one.usedSince !== null).sort(byAddress));
    },
    async forgetSighting(seen) {
      const one = sightings.get(keyOf(seen));
      const isSame =
        one?.iface === seen.iface && one.generation === seen.generation && one.usedSince === seen.usedSince;
      if (isSame) sightings.delete(keyOf(seen));
      return isSame || one === undefined;
    },
    async witnesses() {
      return reading([...witnesses.values()]);
    },
    async beginReading(instance, ticket) {
      const begun = { ...(witnesses.get(instance) ?? NEVER_READ), instance, ticket, begunAt: clock() };
      witnesses.set(instance, begun);
      return begun;
    },
    async saveReading({ instance, ticket, incomplete, engine, engineSince }, save, forget) {
      const known = witnesses.get(instance);
      if (known?.ticket !== ticket) return false;
      witnesses.set(instance, { ...known, incomplete, engine, engineSince, readAt: clock() });
      for (const one of forget)
        if (sightings.get(keyOf(one))?.iface === one.iface) sightings.delete(keyOf(one));
      for (const one of save) sightings.set(keyOf(one), one);
      return true;
    },
  };
}

const byAddress = (a: LedgerSighting, b: LedgerSighting): number =>
  numberOf(a.ip) - numberOf(b.ip) || (a.subnet < b.subnet ? -1 : a.subnet > b.subnet ? 1 : 0);

const NEVER_READ = { readAt: null, incomplete: null, engine: null, engineSince: null };
