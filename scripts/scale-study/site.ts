/** A fleet on simulated time: its VPC, servers that share a ledger or have one each, and an engine on each host. */
import type { Ipv4 } from '../../src/domain/address.ts';
import type { SubnetId } from '../../src/domain/ids.ts';
import { buildVpc } from '../../src/simulator/model/world.ts';
import { openMemory } from '../../src/store/memory.ts';
import { Random } from '../../test/simulation/random.ts';
import { simulatedClock } from './clock.ts';
import { type Container, type Dockerd, dockerd, type Shared } from './dockerd.ts';
import { type Fleet, fleetOf } from './fleet.ts';
import { openLedger } from './ledger.ts';
import { openServer, type Server, type ServerSettings } from './servers.ts';
import { newTally } from './tally.ts';
import { type Workload, workload } from './workload.ts';

export interface SiteOptions extends ServerSettings {
  readonly hosts: number;
  /** How many share a ledger, 2 unless said; or one on each host, with a ledger of its own. */
  readonly servers?: number | 'embedded';
  readonly seed: number;
  /** Of EC2's token buckets; absent: 1, as they are. */
  readonly bucketScale?: number;
}

const SERVERS = 2;
/** EC2's latencies: each call takes the first, one in twenty the second more, one in five hundred the third
 *  more. */
const LATENCIES = [
  { action: 'AssignPrivateIpAddresses', ms: [230, 300, 2_000] },
  { action: 'UnassignPrivateIpAddresses', ms: [230, 300, 2_000] },
  { action: 'DescribeNetworkInterfaces', ms: [70, 150, 1_500] },
  { action: 'DescribeInstances', ms: [70, 150, 1_500] },
] as const;
const SLOW_CHANCES = [1, 1 / 20, 1 / 500] as const;
/** Whoever waited for EC2 waited at least so long. */
export const EC2_MS_MIN = 70;

export interface Site extends Shared {
  readonly hosts: readonly Dockerd[];
  readonly addresses: number;
  readonly work: Workload;
  /** Time passes. Throws what went wrong with the study itself. */
  pass(ms: number): Promise<void>;
  /** Throws when a container runs whose address the ledger does not have as allocated on its ENI, or EC2 does
   *  not have there. */
  audit(): Promise<void>;
}

/** Nothing runs yet, and the servers have just started. */
export function openSite(options: SiteOptions, startAt: number): Site {
  const { hosts: count, seed, bucketScale = 1, servers: many = SERVERS } = options;
  const isEmbedded = many === 'embedded';
  const random = new Random(seed);
  const another = () => new Random(random.below(2 ** 31));
  const clock = simulatedClock(startAt);
  const fleet = fleetOf(count, random, isEmbedded ? 'embedded' : 'central');
  const vpc = vpcOf(fleet, clock.now, another().next, bucketScale);
  const ledgers = Array.from({ length: isEmbedded ? count : 1 }, () =>
    isEmbedded ? openMemory({ clock: clock.now }) : openLedger(clock.now),
  );
  const tally = newTally();
  const failures: unknown[] = [];
  const failed = (error: unknown) => void failures.push(error);
  const of = <T>(list: readonly T[], index: number): T => list[index % list.length] as T;
  const parts = { clock, vpc, tally, failed };
  const servers = Array.from({ length: isEmbedded ? count : many }, (_, index) => {
    const host = isEmbedded ? (fleet.hosts[index] ?? null) : null;
    const name = `server-${index}`;
    return openServer({ ...parts, name, host, ledger: of(ledgers, index), random: another().next }, options);
  });
  const shared = { clock, vpc, tally, holders: new Map(), residents: new Set<Container>(), failed };
  const hosts = fleet.hosts.map((place, index) => dockerd(shared, place, of<Server>(servers, index)));
  for (const server of servers) server.run();
  return {
    ...shared,
    hosts,
    addresses: fleet.addresses,
    work: workload(shared, hosts, another()),
    async pass(ms) {
      await clock.runUntil(clock.now() + ms);
      for (const failure of failures) throw failure;
    },
    async audit() {
      const held = new Map<string, string | null>();
      for (const ledger of ledgers)
        for (const subnet of fleet.vpc.subnets ?? [])
          for (const row of (await ledger.withStatus(subnet.id as SubnetId, ['allocated'])).rows)
            held.set(`${row.subnet} ${row.ip}`, row.iface);
      for (const [address, { place }] of shared.holders) {
        const carrier = vpc.network.carrier(place.subnet, (address.split(' ')[1] ?? '') as Ipv4);
        if (held.get(address) !== place.eni || carrier !== place.eni)
          throw new Error(`${address} is held on ${place.eni}: ledger ${held.get(address)}, EC2 ${carrier}`);
      }
    },
  };
}

function vpcOf(fleet: Fleet, now: () => number, random: () => number, bucketScale: number) {
  const vpc = buildVpc(fleet.vpc, { now, random, bucketScale });
  for (const { action, ms } of LATENCIES)
    for (const [index, latency] of ms.entries())
      vpc.faults.add({ kind: 'latency', action, ms: latency, chance: SLOW_CHANCES[index] ?? 0 });
  return vpc;
}
