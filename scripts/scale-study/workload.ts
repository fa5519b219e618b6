/**
 * What containers do. Residents, the services, run until a deploy replaces them. The others come and go: the rate at
 * which they start swings between 0.4 and 1.6 times its mean through the day, least at one in the night and most at
 * lunch time. Production traces have such a daily period (https://arxiv.org/abs/2312.10127). Their lifetimes up to
 * six hours are those of the Sysdig container usage report of 2019
 * (https://sysdig.com/blog/sysdig-2019-container-usage-report/); those that live longer are residents here. There
 * are also
 * - bursts of short jobs at each full hour, when cron jobs are usually due;
 * - crash loops: Docker starts such a container again after a pause that doubles from 100 ms to a minute, or
 *   begins at 100 ms again when it ran for ten seconds
 *   (https://docs.docker.com/reference/cli/docker/container/run/).
 * A scheduler puts each on that one of two random hosts that is less full.
 */
import type { Random } from '../../test/kit/random.ts';
import type { Container, Dockerd } from './dockerd.ts';
import type { Parts } from './site.ts';

export const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const PEAK_MS = 13 * HOUR_MS;
const SWING = 0.6;
/** The highest rate, relative to the mean. */
const RATE_MAX = 1 + SWING;
/** Containers of each hundred that live so long, in milliseconds; evenly on a logarithmic scale within each class. */
const LIFETIMES: readonly [part: number, fromMs: number, toMs: number][] = [
  [22, 1_000, 10_000],
  [17, 10_000, 60_000],
  [15, 60_000, 300_000],
  [9, 300_000, 600_000],
  [10, 600_000, 1_800_000],
  [4, 1_800_000, HOUR_MS],
  [6, HOUR_MS, 6 * HOUR_MS],
];

/** The part of an ENI's room that residents take. */
const RESIDENT_PART = 0.4;
const STARTS_PER_HOST_AND_HOUR = 8;
const CRON_JOBS_PER_HOST = 0.2;
const CRON_SPREAD_MS = 3_000;
const CRON_JOB_MS = [5_000, 120_000] as const;
const LOOPS_PER_HOST_AND_HOUR = 0.01;
const LOOP_MS = 900_000;
/** How long a container runs before it crashes. In one of three loops that is more than ten seconds, after which
 *  Docker starts again with the shortest pause. */
const CRASH_MS = [200, 3_000] as const;
const SLOW_CRASH_MS = 11_000;
const RESTART_PAUSE_MIN_MS = 100;
const RESTART_PAUSE_MAX_MS = 60_000;

export function createWorkload(parts: Parts, hosts: readonly Dockerd[], random: Random) {
  const { clock, failed, residents } = parts;
  const background = (work: Promise<unknown>): void => void work.catch(failed);

  async function run(host: Dockerd | null, forMs: number): Promise<void> {
    const container = (await host?.start()) ?? null;
    if (container === null) return;
    await clock.wait(forMs);
    await container.host.stop(container);
  }

  async function crashLoop(host: Dockerd): Promise<void> {
    const until = clock.now + LOOP_MS;
    const isSlow = random.chance(1 / 3);
    for (let pauseMs = RESTART_PAUSE_MIN_MS; clock.now < until; ) {
      if (host.load >= host.place.room) return;
      await run(host, isSlow ? SLOW_CRASH_MS : random.between(...CRASH_MS));
      await clock.wait(pauseMs);
      pauseMs = isSlow ? RESTART_PAUSE_MIN_MS : Math.min(2 * pauseMs, RESTART_PAUSE_MAX_MS);
    }
  }

  /** The less full one of two; null when both are full. */
  function place(): Dockerd | null {
    const [one, other] = [random.pick(hosts), random.pick(hosts)];
    if (one === undefined || other === undefined) return null;
    const best = fullness(one) <= fullness(other) ? one : other;
    return best.load < best.place.room ? best : null;
  }

  /** Calls `begin` at random moments until then: at most so often per hour, and at each moment only as often
   *  as the part of it that `part` gives. */
  function arrivals(perHour: number, until: number, part: (at: number) => number, begin: () => void): void {
    const next = () => {
      const at = clock.now + (-Math.log(1 - random.next()) * HOUR_MS) / perHour;
      if (at >= until) return;
      clock.at(at, () => {
        if (random.next() < part(clock.now)) begin();
        next();
      });
    };
    next();
  }

  function cron(until: number): void {
    for (let hour = Math.ceil(clock.now / HOUR_MS) * HOUR_MS; hour < until; hour += HOUR_MS)
      for (let job = 0; job < hosts.length * CRON_JOBS_PER_HOST; job++)
        clock.at(hour + random.below(CRON_SPREAD_MS), () =>
          background(run(place(), random.between(...CRON_JOB_MS))),
        );
  }

  return {
    /** `docker network create` on each host, and its residents, evenly over the time. */
    join(overMs: number) {
      const from = clock.now;
      for (const host of hosts)
        clock.at(from + random.below(overMs / 2), () => {
          background(host.createNetwork());
          for (let i = 0; i < host.place.room * RESIDENT_PART; i++)
            clock.at(from + overMs / 2 + random.below(overMs / 4), () => background(host.start(true)));
        });
    },
    /** Containers come and go from now until then. */
    live(until: number) {
      const most = hosts.length * STARTS_PER_HOST_AND_HOUR * RATE_MAX;
      arrivals(
        most,
        until,
        at => rateAt(at) / RATE_MAX,
        () => background(run(place(), lifetimeMs(random))),
      );
      arrivals(
        hosts.length * LOOPS_PER_HOST_AND_HOUR,
        until,
        () => 1,
        () => {
          const host = place();
          if (host !== null) background(crashLoop(host));
        },
      );
      cron(until);
    },
    /** That many residents are stopped and started anew, wherever there is room. */
    deploy(containers: number, overMs: number) {
      for (const container of chosen([...residents], containers, random))
        clock.at(clock.now + random.below(overMs), () => background(replace(container)));
    },
  };

  async function replace(container: Container): Promise<void> {
    await container.host.stop(container);
    await place()?.start(true);
  }
}

/** The rate at that moment, relative to the mean. */
const rateAt = (at: number): number =>
  1 + SWING * Math.cos((2 * Math.PI * ((at - PEAK_MS) % DAY_MS)) / DAY_MS);

function lifetimeMs(random: Random): number {
  let left = random.next() * LIFETIMES.reduce((sum, [part]) => sum + part, 0);
  for (const [part, fromMs, toMs] of LIFETIMES) {
    if (left < part) return fromMs * (toMs / fromMs) ** random.next();
    left -= part;
  }
  return HOUR_MS;
}

const fullness = ({ load, place }: Dockerd): number => load / place.room;

/** Some of the items, drawn without putting back. */
function chosen<T>(items: T[], many: number, random: Random): T[] {
  const last = Math.min(many, items.length);
  for (let i = 0; i < last; i++) {
    const j = random.between(i, items.length - 1);
    [items[i], items[j]] = [items[j] as T, items[i] as T];
  }
  return items.slice(0, last);
}
