/** A fleet on simulated time: its VPC, servers that share a ledger or have one each, and an engine on each host. */
import type { Ipv4 } from '../../src/domain/address.ts';
import type { SubnetId } from '../../src/domain/ids.ts';
import type { Vpc } from '../../src/simulator/model/vpc.ts';
import { buildVpc } from '../../src/simulator/model/world.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import { Clock } from '../../test/kit/clock.ts';
import { Random } from '../../test/kit/random.ts';
import { type Container, createDockerd, type Dockerd } from './dockerd.ts';
import { fleetOf } from './fleet.ts';
import { openLedger } from './ledger.ts';
import { openServer, type Server, type ServerSettings } from './server.ts';
import { createTally, EC2_MS_MIN, type Phase, type Tally } from './table.ts';
import { createWorkload } from './workload.ts';

export interface SiteOptions extends ServerSettings {
  readonly hosts: number;
  /** How many share a ledger, 2 unless said; or one on each host, with a ledger of its own. */
  readonly servers?: number | 'embedded';
  readonly seed: number;
  /** Of EC2's token buckets; absent: 1, as they are. */
  readonly bucketScale?: number;
}

const SERVERS = 2;
/** EC2's latencies: each call takes the first; one in twenty takes the second in addition, one in five hundred
 *  the third. */
const WRITE_MS = [230, 300, 2_000];
const READ_MS = [EC2_MS_MIN, 150, 1_500];
const LATENCIES = {
  AssignPrivateIpAddresses: WRITE_MS,
  UnassignPrivateIpAddresses: WRITE_MS,
  DescribeNetworkInterfaces: READ_MS,
  DescribeInstances: READ_MS,
};
const SLOW_CHANCES = [1, 1 / 20, 1 / 500];

/** What servers and engines share. */
export interface Parts {
  readonly clock: Clock;
  readonly vpc: Vpc;
  readonly tally: Tally;
  /** Who holds which address, by the containers that run. */
  readonly holders: Map<string, Dockerd>;
  readonly residents: Set<Container>;
  /** Notes an error of the study itself. */
  readonly failed: (error: unknown) => void;
}

/** A site whose servers have just started and which has no containers yet. */
export function openSite(options: SiteOptions, startAt: number) {
  const { hosts: count, seed, bucketScale = 1, servers: many = SERVERS } = options;
  const isEmbedded = many === 'embedded';
  const random = new Random(seed);
  const another = () => new Random(random.below(2 ** 31));
  const clock = new Clock({ startAt, isClosed: true });
  const now = () => clock.now;
  const fleet = fleetOf(count, random, isEmbedded ? 'embedded' : 'central');
  const vpc = buildVpc(fleet.vpc, { now, random: another().next, bucketScale });
  for (const [action, latencies] of Object.entries(LATENCIES))
    for (const [index, ms] of latencies.entries())
      vpc.faults.add({ kind: 'latency', action, ms, chance: SLOW_CHANCES[index] ?? 0 });
  const ledgers = Array.from({ length: isEmbedded ? count : 1 }, () =>
    isEmbedded ? createMemoryStore({ clock: now }) : openLedger(now),
  );
  const failures: unknown[] = [];
  const parts: Parts = {
    clock,
    vpc,
    tally: createTally(),
    holders: new Map(),
    residents: new Set(),
    failed: error => void failures.push(error),
  };
  const of = <T>(list: readonly T[], index: number): T => list[index % list.length] as T;
  const servers = Array.from({ length: isEmbedded ? count : many }, (_, index) => {
    const host = isEmbedded ? (fleet.hosts[index] ?? null) : null;
    const one = { name: `server-${index}`, host, ledger: of(ledgers, index), random: another().next };
    return openServer(parts, one, options);
  });
  const hosts = fleet.hosts.map((place, index) => createDockerd(parts, place, of<Server>(servers, index)));
  for (const server of servers) server.run();

  /** Lets time pass. Throws errors of the study itself, and when the address of a running container is then not
   *  allocated on its ENI in the ledger, or not there in EC2. */
  async function pass(ms: number): Promise<void> {
    await clock.advance(ms);
    for (const failure of failures) throw failure;
    const held = new Map<string, string | null>();
    for (const ledger of ledgers)
      for (const subnet of fleet.vpc.subnets ?? [])
        for (const row of (await ledger.withStatus(subnet.id as SubnetId, ['allocated'])).rows)
          held.set(`${row.subnet} ${row.ip}`, row.iface);
    for (const [address, { place }] of parts.holders) {
      const carrier = vpc.network.carrier(place.subnet, (address.split(' ')[1] ?? '') as Ipv4);
      if (held.get(address) !== place.eni || carrier !== place.eni)
        throw new Error(`${address} is held on ${place.eni}: ledger ${held.get(address)}, EC2 ${carrier}`);
    }
  }

  return {
    ...parts,
    hosts,
    addresses: fleet.addresses,
    work: createWorkload(parts, hosts, another()),
    pass,
    /** Calls `begin` and lets time pass; what happens meanwhile is counted for a phase of this name. */
    async phase(name: string, ms: number, begin = () => {}): Promise<Phase> {
      const phase = parts.tally.begin(name, ms);
      begin();
      await pass(ms);
      return phase;
    },
  };
}
