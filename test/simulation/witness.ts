/** What a host shows of its containers: late, in part, or not at all. */
import type { Ipv4 } from '../../src/domain/address.ts';
import { IpamError } from '../../src/domain/error.ts';
import type { InstanceId } from '../../src/domain/ids.ts';
import type { HostReading, Use } from '../../src/domain/witness.ts';
import type { Probed } from '../../src/witness/probe.ts';
import type { Witness } from '../../src/witness/witness.ts';
import type { Process } from '../kit/clock.ts';
import { placeOf, readingWith, useWith } from '../kit/readings.ts';
import type { Container, Engine } from './engine.ts';
import type { World } from './world.ts';

/** Each of the two parts of a reading takes up to this long. */
const PART_MS_MAX = 4_000;

/** Which view leaves a container out. `all`: the probe does too. */
export type Hidden = 'docker' | 'kernel' | 'all';

/** What is wrong with a host's views. */
export interface HostFaults {
  /** Docker's data was wiped so often. */
  wipes: number;
  /** Nothing can be read before then. */
  blindUntil: number;
  readonly hidden: Map<Container, { readonly from: Hidden; readonly until: number }>;
  /** Until then it says that the ENIs of other hosts are its own. */
  boastingUntil: number;
  /** What happens to addresses between the next probe and its answer. */
  beforeAnswer: ((ips: readonly Ipv4[]) => Promise<void>) | null;
  /** Containers that were hidden from all views once. */
  readonly hasHidden: Set<Container>;
  /** Processes that have an address without a container. */
  readonly runningOn: Set<{ readonly ip: Ipv4; readonly eni: string }>;
  /** The addresses of which there was such a process: servers may withhold them still. */
  readonly hasRunOn: Set<Ipv4>;
}
export const noFaults = (): HostFaults => ({
  ...{ wipes: 0, blindUntil: 0, boastingUntil: 0, beforeAnswer: null },
  ...{ hidden: new Map(), hasHidden: new Set(), runningOn: new Set(), hasRunOn: new Set() },
});

/** The witness of the host, in a server's process. */
export function createSimulatedWitness(world: World, process: Process, host: InstanceId): Witness {
  const { clock, oracle } = world;
  const engine = (): Engine | undefined => world.engines.find(one => one.host === host);
  const isHere = (eni: string) =>
    world.layout.ports.some(port => port.eni === eni && oracle.instanceOf(port.eni) === host);
  const isHidden = ({ faults }: Engine, container: Container, ...from: Hidden[]): boolean => {
    const hidden = faults.hidden.get(container);
    return hidden !== undefined && clock.now < hidden.until && from.includes(hidden.from);
  };

  // Docker's network stays where its interface is gone.
  const macOf = (id: string) => [...oracle.network.enis()].find(eni => eni.id === id)?.mac ?? null;
  const dockers = (one: Engine): Use[] =>
    one.containers
      .filter(container => !isHidden(one, container, 'docker', 'all'))
      .map(({ id, ip, network }) => ({ id, ip, mac: macOf(network.port.eni) }))
      .map(({ id, ip, mac }) =>
        useWith(ip, {
          ...{ isInNetworks: true, isInContainers: true },
          endpoints: mac === null ? [] : [{ mac, container: id }],
        }),
      );
  const kernels = (one: Engine): Ipv4[] => [
    ...one.containers
      .filter(container => isHere(container.network.port.eni) && !isHidden(one, container, 'kernel', 'all'))
      .map(({ ip }) => ip),
    ...[...one.faults.runningOn].filter(({ eni }) => isHere(eni)).map(({ ip }) => ip),
  ];

  const macs = (): string[] => {
    const isBoasting = clock.now < (engine()?.faults.boastingUntil ?? 0);
    return [...oracle.network.enis()]
      .filter(eni => isBoasting || eni.attachment?.instance === host)
      .map(({ mac }) => mac);
  };

  return {
    async read(): Promise<HostReading> {
      await clock.waitIn(process, clock.random.below(PART_MS_MAX));
      const one = engine();
      const isDockerAway = one === undefined || one.isLost || one.process.state !== 'running';
      const docker = isDockerAway ? [] : dockers(one);
      const wipes = one?.faults.wipes ?? 0;
      await clock.waitIn(process, clock.random.below(PART_MS_MAX));
      if (one === undefined || clock.now < one.faults.blindUntil)
        return readingWith({ macs: macs(), incomplete: 'nothing can be read' });
      const seen = new Map(docker.map(use => [use.ip, use]));
      const found = kernels(one);
      for (const ip of found) seen.set(ip, { ...(seen.get(ip) ?? useWith(ip)), places: [placeOf()] });
      // As the second look of the real one: a container that has ended meanwhile is not running.
      const running = new Set(one.containers.map(({ ip }) => ip));
      const uses = [...seen.values()].map(use =>
        use.places.length === 0 && !running.has(use.ip) ? { ...use, isInContainers: false } : use,
      );
      return readingWith({
        ...{ engine: `engine of ${host}, ${wipes}`, macs: macs(), uses },
        incomplete: isDockerAway ? 'Docker does not answer' : null,
      });
    },
    async probe(_mac, ips): Promise<Probed> {
      await clock.waitIn(process, clock.random.below(PART_MS_MAX));
      const one = engine();
      if (one === undefined || one.isLost) throw new IpamError('unavailable', 'the host is gone');
      const used = new Set([
        ...one.containers.filter(container => !isHidden(one, container, 'all')).map(({ ip }) => ip),
        ...[...one.faults.runningOn].map(({ ip }) => ip),
      ]);
      const free = ips.filter(ip => !used.has(ip));
      const happening = one.faults.beforeAnswer?.(free);
      one.faults.beforeAnswer = null;
      await happening;
      return { kind: 'probed', free };
    },
  };
}
