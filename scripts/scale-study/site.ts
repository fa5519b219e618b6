/** A fleet on simulated time: its VPC, two servers that share a ledger, and an engine on each host. */
import type { Ipv4 } from '../../src/domain/address.ts';
import type { SubnetId } from '../../src/domain/ids.ts';
import { buildVpc } from '../../src/simulator/world.ts';
import { Random } from '../../test/simulation/random.ts';
import { simulatedClock } from './clock.ts';
import { type Container, type Dockerd, dockerd, type Shared } from './dockerd.ts';
import { type Fleet, fleetOf } from './fleet.ts';
import { openLedger } from './ledger.ts';
import { openServer, type Server } from './servers.ts';
import { newTally } from './tally.ts';
import { type Workload, workload } from './workload.ts';

export interface SiteOptions {
  readonly hosts: number;
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
export function openSite({ hosts: count, seed, bucketScale = 1 }: SiteOptions, startAt: number): Site {
  const random = new Random(seed);
  const another = () => new Random(random.below(2 ** 31));
  const clock = simulatedClock(startAt);
  const fleet = fleetOf(count, random);
  const vpc = vpcOf(fleet, clock.now, another().next, bucketScale);
  const ledger = openLedger(clock.now);
  const tally = newTally();
  const failures: unknown[] = [];
  const failed = (error: unknown) => void failures.push(error);
  const servers = Array.from({ length: SERVERS }, (_, index) =>
    openServer({ name: `server-${index}`, clock, vpc, ledger, tally, random: another().next, failed }),
  );
  const shared = { clock, vpc, tally, holders: new Map(), residents: new Set<Container>(), failed };
  const hosts = fleet.hosts.map((place, index) => dockerd(shared, place, servers[index % SERVERS] as Server));
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
