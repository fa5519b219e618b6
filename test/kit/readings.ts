/** Readings of a host as tests need them, and a witness that shows what a test says. */
import type { Ipv4 } from '../../src/domain/address.ts';
import type { HostReading, KernelPlace, Use } from '../../src/domain/witness.ts';
import type { Probed } from '../../src/witness/probe.ts';
import type { Witness } from '../../src/witness/witness.ts';

export const MAC = '02:0a:1b:2c:3d:01';

export const placeOf = (patch: Partial<KernelPlace> = {}): KernelPlace => ({
  ...{ netns: '4026532001', isHost: false, pid: 321, command: 'runc init', container: null, path: null },
  ...patch,
});
export const useWith = (ip: Ipv4, patch: Partial<Use> = {}): Use => ({
  ...{ ip, isInNetworks: false, isInContainers: false, places: [], container: null, endpoints: [] },
  ...patch,
});
export const readingWith = (patch: Partial<HostReading> = {}): HostReading => ({
  ...{ boot: 'boot-1', engine: 'engine-1', hasOtherRuntimes: false, macs: [MAC], uses: [] },
  ...{ unanswered: [], incomplete: null },
  ...patch,
});

export interface FakeWitness extends Witness {
  /** What the next readings show. */
  shows: Partial<HostReading>;
  /** What the probe answers; by default that the interface is not ipvlan's. */
  probes: (ips: readonly Ipv4[]) => Probed | Promise<Probed>;
  readings: number;
  /** The last probe: the MAC address and the addresses. */
  probed: string | null;
}

export function fakeWitness(mac: string): FakeWitness {
  const witness: FakeWitness = {
    shows: {},
    probes: () => ({ kind: 'not ipvlan' }),
    readings: 0,
    probed: null,
    async read() {
      witness.readings++;
      return readingWith({ macs: [mac], ...witness.shows });
    },
    async probe(asked, ips) {
      witness.probed = `${asked} ${ips.join(' ')}`;
      return await witness.probes(ips);
    },
  };
  return witness;
}
