/** Reads what this host shows of addresses in use. It decides nothing, and changes nothing but for the probe. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Ipv4 } from '../domain/address.ts';
import { IpamError } from '../domain/error.ts';
import {
  type ContainerName,
  ENDPOINTS_MAX,
  type HostReading,
  type KernelPlace,
  type Use,
  type UsedEndpoint,
} from '../domain/witness.ts';
import { run } from './commands.ts';
import { createDockerClient, type DockerContainer, type DockerView } from './docker-client.ts';
import { createKernel, type KernelView } from './kernel.ts';
import { type Probed, probeIpvlan } from './probe.ts';

/** The longest a reading or a probe may take, in milliseconds. */
const READ_MAX_MS = 10_000;
/** Before a second look at a running container that the kernel does not show, in milliseconds. */
const SECOND_LOOK_MS = 300;

export interface Witness {
  /** Reads Docker and the kernel. Never throws: what cannot be read makes the reading incomplete. One at a time:
   *  concurrent calls share a reading. */
  read(): Promise<HostReading>;
  /** Asks the kernel which of the addresses no ipvlan slave of the interface has. Throws unavailable when it cannot be
   *  known. */
  probe(mac: string, ips: readonly Ipv4[]): Promise<Probed>;
}

/** The addresses of an interface that a server asks for. */
export interface ToProbe {
  readonly mac: string;
  readonly ips: readonly Ipv4[];
}
/** `failed`: the kernel could not be asked. */
export type ProbeAnswer = { readonly mac: string } & (
  | Probed
  | { readonly kind: 'failed'; readonly why: string }
);

/** Probes all of them, one interface after the other. */
export async function probeAll(
  { probe }: Pick<Witness, 'probe'>,
  asked: readonly ToProbe[],
): Promise<ProbeAnswer[]> {
  const answers: ProbeAnswer[] = [];
  for (const { mac, ips } of asked)
    try {
      answers.push({ mac, ...(await probe(mac, ips)) });
    } catch (error) {
      answers.push({ mac, kind: 'failed', why: reasonOf(error) });
    }
  return answers;
}

/** What was read; null: it could not be. */
interface Views {
  readonly docker: DockerView | null;
  readonly kernel: KernelView | null;
  readonly boot: string | null;
  readonly why: string | null;
}

/** Where the host's parts are; by default the real ones. */
export interface WitnessParts {
  readonly docker: ReturnType<typeof createDockerClient>;
  readonly kernel: ReturnType<typeof createKernel>;
}

export function createWitness(
  socketPath: string,
  { docker, kernel }: WitnessParts = {
    docker: createDockerClient(socketPath),
    kernel: createKernel({ socketPath, run }),
  },
): Witness {
  let reading: Promise<HostReading> | null = null;

  async function look(): Promise<Views> {
    const signal = AbortSignal.timeout(READ_MAX_MS);
    const boot = await kernel.bootId().catch(() => null);
    const views = { docker: null as DockerView | null, kernel: null as KernelView | null };
    const reasons: string[] = [];
    try {
      views.docker = await docker.read(signal);
    } catch (error) {
      reasons.push(reasonOf(error));
    }
    // Addresses that run on are seen in the kernel alone, so it is read in any case.
    try {
      views.kernel = await kernel.read(signal);
      const blind = views.docker === null ? [] : notIn(views.kernel, views.docker.containers);
      if (views.docker !== null && blind.length > 0) {
        await sleep(SECOND_LOOK_MS);
        views.docker = { ...views.docker, containers: await docker.containers(signal) };
        views.kernel = await kernel.read(signal);
      }
    } catch (error) {
      reasons.push(reasonOf(error));
    }
    if (boot === null) reasons.push('the boot id of the host cannot be read');
    return { ...views, boot, why: reasons[0] ?? null };
  }

  return {
    read() {
      reading ??= look()
        .then(readingOf)
        .finally(() => {
          reading = null;
        });
      return reading;
    },
    async probe(mac, ips) {
      const signal = AbortSignal.timeout(READ_MAX_MS);
      const { networks } = await docker.read(signal);
      return await probeIpvlan({ run, networks }, mac, ips, signal);
    },
  };
}

function reasonOf(error: unknown): string {
  if (error instanceof IpamError) return error.line;
  const isLate = error instanceof Error && error.name === 'TimeoutError';
  return isLate ? `not read within ${READ_MAX_MS / 1000} s` : String(error);
}

const notIn = ({ addresses }: KernelView, containers: readonly DockerContainer[]): Ipv4[] => {
  const shown = new Set(addresses.map(({ ip }) => ip));
  return containers.flatMap(({ ips }) => ips.filter(ip => !shown.has(ip)));
};

interface Growing {
  places: KernelPlace[];
  endpoints: UsedEndpoint[];
}

/** Puts the views together by address. */
function readingOf({ docker, kernel, boot, why }: Views): HostReading {
  const uses = new Map<Ipv4, { -readonly [Key in keyof Use]: Use[Key] } & Growing>();
  const macOf = new Map(kernel?.interfaces.map(({ name, mac }) => [name, mac]));
  const useOf = (ip: Ipv4) => {
    const known = uses.get(ip) ?? {
      ...{ ip, isInNetworks: false, isInContainers: false },
      ...{ places: [] as KernelPlace[], container: null as ContainerName | null },
      endpoints: [] as UsedEndpoint[],
    };
    uses.set(ip, known);
    return known;
  };
  const named = new Map(docker?.containers.map(one => [one.id, one]));
  for (const { ip, parent, container, name } of docker?.endpoints ?? []) {
    const use = useOf(ip);
    use.isInNetworks = true;
    const mac = macOf.get(parent ?? '');
    if (mac !== undefined) use.endpoints.push({ mac, container });
    if (container !== null)
      use.container = nameIn(named.get(container)) ?? { id: container, name, image: null };
  }
  for (const one of docker?.containers ?? [])
    for (const ip of one.ips) {
      const use = useOf(ip);
      use.isInContainers = true;
      use.container ??= nameIn(one);
    }
  for (const { ip, place } of kernel?.addresses ?? []) {
    const use = useOf(ip);
    use.places.push(place); // a user of the host can make thousands of namespaces
    use.container ??= nameIn(named.get(place.container ?? ''));
  }
  return {
    boot,
    engine: docker?.engine ?? null,
    hasOtherRuntimes: docker?.hasOtherRuntimes ?? false,
    macs: (kernel?.interfaces ?? []).map(({ mac }) => mac),
    uses: [...uses.values()].map(use =>
      use.endpoints.length > ENDPOINTS_MAX ? { ...use, endpoints: [] } : use,
    ),
    unanswered: [],
    incomplete: why,
  };
}

const nameIn = (container: DockerContainer | undefined): ContainerName | null =>
  container === undefined ? null : { id: container.id, name: container.name, image: container.image };
