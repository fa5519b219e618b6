/** The study: hosts join, a day of the fleet and a deploy on top of it; and cold starts on hosts that are
 *  new. */
import { HOUR_MS } from './day.ts';
import { openSite, type Site, type SiteOptions } from './site.ts';
import type { Phase } from './tally.ts';

export interface StudyOptions extends SiteOptions {
  readonly hours: number;
  readonly progress?: (what: string) => void;
}

const JOIN_MS = HOUR_MS;
/** Noon, when much is going on. */
const DEPLOY_AT = Date.UTC(2030, 0, 16, 12);
const DEPLOYED_PER_HOST = 5;
const DEPLOY_MS = 60_000;
/** The deploy and what it leaves to be done. */
const DEPLOY_PHASE_MS = 300_000;
const COLD_PER_HOST = 10;
/** Of so many hosts one takes part in the cold starts. */
const COLD_HOSTS_OF = 10;
/** For the token buckets to be full again. */
const COLD_PAUSE_MS = 900_000;
const COLD_MS_MAX = 150_000;

const grouped = (number: number): string => number.toLocaleString('en-US');

/** All phases of the study, and how many addresses the fleet had. */
export async function study(options: StudyOptions): Promise<{ phases: Phase[]; addresses: number }> {
  const cold = await coldStarts({ ...options, hosts: Math.ceil(options.hosts / COLD_HOSTS_OF) });
  options.progress?.('cold starts');
  const { phases, addresses } = await dayAndDeploy(options);
  return { phases: [...phases, cold], addresses };
}

export async function dayAndDeploy(options: StudyOptions): Promise<{ phases: Phase[]; addresses: number }> {
  const { hours, progress = () => {} } = options;
  const site = openSite(options, DEPLOY_AT - hours * HOUR_MS - JOIN_MS);
  const { work, tally, hosts, addresses } = site;

  const join = tally.begin(`${grouped(hosts.length)} hosts join within an hour`);
  work.join(JOIN_MS);
  await ended(site, JOIN_MS);

  const day = tally.begin(hours === 24 ? 'a day' : `${hours} h`);
  work.live(DEPLOY_AT + DEPLOY_PHASE_MS);
  for (let hour = 1; hour <= hours; hour++) {
    await ended(site, HOUR_MS);
    progress(`hour ${hour} of ${hours}`);
  }

  const containers = hosts.length * DEPLOYED_PER_HOST;
  const deploy = tally.begin(`deploy of ${grouped(containers)} in a minute`);
  work.deploy(containers, DEPLOY_MS);
  await ended(site, DEPLOY_PHASE_MS);
  return { phases: [join, day, deploy], addresses };
}

async function ended(site: Site, ms: number): Promise<void> {
  await site.pass(ms);
  await site.audit();
}

/** Networks are created on new hosts, and after a while containers start on all of them at once. */
export async function coldStarts(options: SiteOptions): Promise<Phase> {
  const site = openSite(options, DEPLOY_AT);
  const { hosts, tally, failed } = site;
  for (const host of hosts) host.createNetwork().catch(failed);
  await site.pass(COLD_PAUSE_MS);
  const starts = hosts.length * COLD_PER_HOST;
  const phase = tally.begin(`${grouped(starts)} cold starts on ${grouped(hosts.length)} hosts at once`);
  for (const host of hosts) for (let i = 0; i < COLD_PER_HOST; i++) host.start().catch(failed);
  await ended(site, COLD_MS_MAX);
  if (phase.counts.latenciesMs.length < starts) throw new Error('some starts have not ended');
  return phase;
}
