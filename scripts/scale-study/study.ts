/** The study: a day of a fleet and a deploy on top of it, and cold starts on hosts that are new. */
import { buildVpc } from '../../src/simulator/world.ts';
import { Random } from '../../test/simulation/random.ts';
import { simulatedClock } from './clock.ts';
import { type Container, type Dockerd, dockerd, type Shared } from './dockerd.ts';
import { fleetOf } from './fleet.ts';
import { openLedger } from './ledger.ts';
import { openServer, type Server } from './servers.ts';
import { newTally, type Phase } from './tally.ts';
import { HOUR_MS, type Workload, workload } from './workload.ts';

export interface StudyOptions {
  readonly hosts: number;
  readonly hours: number;
  readonly seed: number;
  /** Between two looks of a server at what is due in the background. */
  readonly keeperPauseMs?: number;
  readonly progress?: (what: string) => void;
}

const SERVERS = 2;
/** Noon, when most is going on. */
const DEPLOY_AT = Date.UTC(2030, 0, 16, 12);
const DEPLOYED_PER_HOST = 5;
const DEPLOY_MS = 60_000;
/** The deploy and what it leaves to be done. */
const DEPLOY_PHASE_MS = 300_000;
const KEEPER_PAUSE_MS = 1_000;
const JOIN_MS = HOUR_MS;
/** Of so many hosts one takes part in the cold starts. */
const COLD_HOSTS_OF = 10;
const COLD_PER_HOST = 10;
/** For the token buckets to be full again. */
const COLD_PAUSE_MS = 900_000;
const COLD_MS_MAX = 150_000;

/** EC2's latencies: each call takes the first, one in twenty the second more, one in five hundred the third more. */
const LATENCIES = [
  { action: 'AssignPrivateIpAddresses', ms: [230, 300, 2_000] },
  { action: 'UnassignPrivateIpAddresses', ms: [230, 300, 2_000] },
  { action: 'DescribeNetworkInterfaces', ms: [70, 150, 1_500] },
  { action: 'DescribeInstances', ms: [70, 150, 1_500] },
] as const;
const SLOW_CHANCES = [1, 1 / 20, 1 / 500] as const;
/** Whoever waited for EC2 waited at least so long. */
export const EC2_MS_MIN = 70;

/** A fleet with nothing on it, whose servers have just started. */
interface Site extends Shared {
  readonly hosts: readonly Dockerd[];
  readonly addresses: number;
  readonly random: Random;
  readonly work: Workload;
  readonly servers: readonly Server[];
  /** Time passes. Throws what went wrong with the study itself. */
  pass(ms: number): Promise<void>;
}

async function open(options: StudyOptions, startAt: number): Promise<Site> {
  const random = new Random(options.seed);
  const another = () => new Random(random.below(2 ** 31));
  const clock = simulatedClock(startAt);
  const fleet = fleetOf(options.hosts, random);
  const vpc = buildVpc(fleet.vpc, { now: clock.now, random: another().next });
  for (const { action, ms } of LATENCIES)
    for (const [index, latency] of ms.entries())
      vpc.faults.add({ kind: 'latency', action, ms: latency, chance: SLOW_CHANCES[index] ?? 0 });
  const ledger = openLedger(clock.now);
  const failures: unknown[] = [];
  const failed = (error: unknown) => void failures.push(error);
  const tally = newTally();
  const servers = Array.from({ length: SERVERS }, (_, index) =>
    openServer({
      name: `server-${index}`,
      clock,
      vpc,
      ledger,
      tally,
      random: another().next,
      keeperPauseMs: options.keeperPauseMs ?? KEEPER_PAUSE_MS,
      failed,
    }),
  );
  const shared = { clock, vpc, tally, holders: new Map(), residents: new Set<Container>(), failed };
  const hosts = fleet.hosts.map((place, index) => dockerd(shared, place, servers[index % SERVERS] as Server));
  async function pass(ms: number): Promise<void> {
    await clock.runUntil(clock.now() + ms);
    for (const failure of failures) throw failure;
  }
  const site: Site = {
    ...shared,
    hosts,
    addresses: fleet.addresses,
    random,
    work: workload(shared, hosts, another()),
    servers,
    pass,
  };
  for (const server of servers) server.run();
  return site;
}

/** The hosts join, a day passes, and at noon of the next one there is a deploy. */
async function dayAndDeploy(options: StudyOptions): Promise<Phase[]> {
  const dayMs = options.hours * HOUR_MS;
  const site = await open(options, DEPLOY_AT - dayMs - JOIN_MS);
  const { work, tally, hosts, clock } = site;
  tally.begin(`${hosts.length} hosts join`);
  work.join(JOIN_MS);
  await site.pass(JOIN_MS);
  tally.begin(`${options.hours} hours`);
  work.live(DEPLOY_AT + DEPLOY_PHASE_MS);
  for (let hour = 1; hour <= options.hours; hour++) {
    await site.pass(Math.min(HOUR_MS, DEPLOY_AT - clock.now()));
    options.progress?.(`hour ${hour} of ${options.hours}`);
  }
  const containers = hosts.length * DEPLOYED_PER_HOST;
  tally.begin(`deploy of ${containers} in a minute`);
  work.deploy(containers, DEPLOY_MS);
  await site.pass(DEPLOY_PHASE_MS);
  return [...tally.phases];
}

/** Networks are created on new hosts, and after a while containers start on all of them at once. */
async function coldStarts(options: StudyOptions): Promise<Phase> {
  const site = await open(options, DEPLOY_AT);
  const { hosts, tally } = site;
  for (const host of hosts) host.createNetwork().catch(site.failed);
  await site.pass(COLD_PAUSE_MS);
  const starts = hosts.length * COLD_PER_HOST;
  const phase = tally.begin(`${starts} cold starts on ${hosts.length} hosts`);
  for (const host of hosts) for (let i = 0; i < COLD_PER_HOST; i++) void host.start();
  for (let s = 0; s < COLD_MS_MAX / 1_000 && phase.counts.latenciesMs.length < starts; s++)
    await site.pass(1_000);
  return phase;
}

export async function study(options: StudyOptions): Promise<Phase[]> {
  const cold = await coldStarts({ ...options, hosts: Math.ceil(options.hosts / COLD_HOSTS_OF) });
  options.progress?.('cold starts');
  return [...(await dayAndDeploy(options)), cold];
}
