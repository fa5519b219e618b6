/** The study: hosts join, a day of the fleet and a deploy on top of it; cold starts on hosts that are new; one
 *  server on each host; hosts with a ledger each. */
import { Random } from '../../test/kit/random.ts';
import type { Dockerd } from './dockerd.ts';
import { openSite, type SiteOptions } from './site.ts';
import { grouped, type Phase } from './table.ts';
import { HOUR_MS } from './workload.ts';

export interface StudyOptions extends SiteOptions {
  readonly hours: number;
  readonly progress?: (what: string) => void;
}

const JOIN_MS = HOUR_MS;
/** Noon, when much is going on. */
const DEPLOY_AT = Date.UTC(2030, 0, 16, 12);
const DEPLOYED_PER_HOST = 5;
const DEPLOY_MS = 60_000;
/** The deploy and the work that follows from it. */
const DEPLOY_PHASE_MS = 300_000;
const COLD_PER_HOST = 10;
/** One in so many hosts takes part in the cold starts. */
const COLD_HOSTS_OF = 10;
/** Long enough for the token buckets to be full again. */
const COLD_PAUSE_MS = 900_000;
const COLD_MS_MAX = 150_000;

/** Servers on one ledger, one for each host. */
const SERVERS = 300;
const COLD_PER_SECOND = 5;
const STEADY_MS = 300_000;
/** Long enough for the last requests to be answered and for the token buckets to be full again. */
const AFTER_MS = 60_000;
/** Between two hosts that join: a subnet is surveyed once. */
const JOIN_PAUSE_MS = 200;
const MANY_REST_MS = 600_000;

/** The default, for phases that are about these reads. */
const DEFAULT_RECONCILE_MS = 60_000;
/** Hosts join, and come to rest: nothing has moved for 10 minutes. */
const REST_JOIN_MS = 1_200_000;
const SETTLE_MS = 1_200_000;
const REST_MS = 1_200_000;
const NOON_MS = 600_000;

/** All phases of the study, and how many addresses the fleet had. */
export async function study(options: StudyOptions): Promise<{ phases: Phase[]; addresses: number }> {
  const cold = await coldStarts({ ...options, hosts: Math.ceil(options.hosts / COLD_HOSTS_OF) });
  options.progress?.('cold starts');
  const many = await manyServers({ ...options, servers: SERVERS });
  options.progress?.('many servers');
  const rests: Phase[] = [];
  for (const servers of [2, 'embedded'] as const) {
    rests.push(...(await restAndNoon({ ...options, servers })));
    options.progress?.(`at rest and at noon, ${servers}`);
  }
  const { phases, addresses } = await dayAndDeploy(options);
  return { phases: [...phases, cold, ...many, ...rests], addresses };
}

export async function dayAndDeploy(options: StudyOptions): Promise<{ phases: Phase[]; addresses: number }> {
  const { hours, progress = () => {} } = options;
  const site = openSite(options, DEPLOY_AT - hours * HOUR_MS - JOIN_MS);
  const { work, tally, hosts, addresses, phase } = site;
  const join = await phase(`${grouped(hosts.length)} hosts join within an hour`, JOIN_MS, () =>
    work.join(JOIN_MS),
  );
  const day = tally.begin(hours === 24 ? 'a day' : `${hours} h`, hours * HOUR_MS);
  work.live(DEPLOY_AT + DEPLOY_PHASE_MS);
  for (let hour = 1; hour <= hours; hour++) {
    await site.pass(HOUR_MS);
    progress(`hour ${hour} of ${hours}`);
  }
  const containers = hosts.length * DEPLOYED_PER_HOST;
  const deploy = await phase(`deploy of ${grouped(containers)} in a minute`, DEPLOY_PHASE_MS, () =>
    work.deploy(containers, DEPLOY_MS),
  );
  return { phases: [join, day, deploy], addresses };
}

/** Networks are created on new hosts, and after a while containers start on all of them at once. */
export async function coldStarts(options: SiteOptions): Promise<Phase> {
  const { hosts, failed, pass, phase } = openSite(options, DEPLOY_AT);
  for (const host of hosts) host.createNetwork().catch(failed);
  await pass(COLD_PAUSE_MS);
  const starts = hosts.length * COLD_PER_HOST;
  const name = `${grouped(starts)} cold starts on ${grouped(hosts.length)} hosts at once`;
  const cold = await phase(name, COLD_MS_MAX, () => {
    for (const host of hosts) for (let i = 0; i < COLD_PER_HOST; i++) host.start().catch(failed);
  });
  if (cold.counts.latenciesMs.length < starts) throw new Error('some starts have not ended');
  return cold;
}

/** Nothing is kept warm, so that each start costs an assign call: as many in a second as EC2 allows, one on each host
 *  at once, and none. */
export async function manyServers(options: SiteOptions & { readonly servers: number }): Promise<Phase[]> {
  const { servers, seed } = options;
  const warm = { warmMin: 0, warmMax: 0 };
  const times = { reconcileEveryMs: DEFAULT_RECONCILE_MS, warm };
  const { hosts, clock, failed, pass, phase } = openSite({ ...options, ...times, hosts: servers }, DEPLOY_AT);
  const random = new Random(seed);
  const of = `${grouped(servers)} servers, nothing warm`;
  const startOn = (host: Dockerd) => {
    if (host.load < host.place.room) host.start().catch(failed);
  };
  for (const [index, host] of hosts.entries())
    clock.at(clock.now + index * JOIN_PAUSE_MS, () => void host.createNetwork().catch(failed));
  await pass(hosts.length * JOIN_PAUSE_MS + AFTER_MS);

  const name = `${of}: ${COLD_PER_SECOND} starts a second for 5 minutes`;
  const steady = await phase(name, STEADY_MS + AFTER_MS, () => {
    const until = clock.now + STEADY_MS;
    for (let at = clock.now; at < until; at += (-Math.log(1 - random.next()) * 1000) / COLD_PER_SECOND)
      clock.at(at, () => startOn(random.pick(hosts) as Dockerd));
  });
  const burst = await phase(`${of}: ${grouped(servers)} starts at once`, AFTER_MS, () => {
    for (const host of hosts) startOn(host);
  });
  const rest = await phase(`${grouped(servers)} servers: 10 minutes at rest`, MANY_REST_MS);
  return [steady, burst, rest];
}

/** The cost at rest, and when much happens. */
export async function restAndNoon(
  options: SiteOptions & { readonly servers: number | 'embedded' },
): Promise<Phase[]> {
  const asOften = { ...options, reconcileEveryMs: DEFAULT_RECONCILE_MS };
  const site = openSite(asOften, DEPLOY_AT - REST_JOIN_MS - SETTLE_MS - REST_MS);
  const hosts = grouped(site.hosts.length);
  const of =
    options.servers === 'embedded' ? `${hosts} embedded hosts` : `${hosts} hosts, ${options.servers} servers`;
  site.work.join(REST_JOIN_MS);
  await site.pass(REST_JOIN_MS + SETTLE_MS);
  const rest = await site.phase(`${of}: 20 minutes at rest`, REST_MS);
  const noon = await site.phase(`${of}: 10 minutes from noon`, NOON_MS, () =>
    site.work.live(DEPLOY_AT + NOON_MS),
  );
  return [rest, noon];
}
