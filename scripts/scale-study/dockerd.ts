/** The Docker engine of one host: it asks for the addresses of its network one at a time, and gives them
 *  back. */
import type { Ipv4 } from '../../src/domain/address.ts';
import { IpamError } from '../../src/domain/error.ts';
import { parsePoolId } from '../../src/domain/ids.ts';
import type { HostPlace } from './fleet.ts';
import type { Server } from './server.ts';
import type { Parts } from './site.ts';
import { count } from './table.ts';

/** As mknet.sh at boot, the study tries to create a network several times. */
const CREATE_TRIES_MAX = 20;
const CREATE_AGAIN_MS = 5_000;

export interface Container {
  readonly host: Dockerd;
  readonly ip: Ipv4;
  /** It runs until it is replaced. */
  readonly isResident: boolean;
}

export interface Dockerd {
  readonly place: HostPlace;
  /** Containers that run or start. */
  readonly load: number;
  /** `docker network create`. */
  createNetwork(): Promise<void>;
  /** Returns null when the start failed. */
  start(isResident?: boolean): Promise<Container | null>;
  stop(container: Container): Promise<void>;
}

export function createDockerd(parts: Parts, place: HostPlace, { allocator, pools, init }: Server): Dockerd {
  const { clock, vpc, tally, holders, residents } = parts;
  const pool = parsePoolId(place.eni);
  const keyOf = (ip: Ipv4) => `${place.subnet} ${ip}`;
  let load = 0;
  let underWay = 0;
  let last: Promise<unknown> = Promise.resolve();

  async function start(isResident = false): Promise<Container | null> {
    const { now: counts } = tally;
    const askedAt = clock.now;
    load++;
    const given = last.then(request);
    last = given.catch(() => {});
    try {
      const ip = await given;
      if (holders.has(keyOf(ip))) counts.duplicates++;
      if (vpc.network.carrier(place.subnet, ip) !== place.eni) counts.dead++;
      holders.set(keyOf(ip), engine);
      const container = { host: engine, ip, isResident };
      if (isResident) residents.add(container);
      return container;
    } catch (error) {
      if (!(error instanceof IpamError)) throw error;
      load--;
      count(counts.errors, error.line);
      return null;
    } finally {
      counts.latenciesMs.push(clock.now - askedAt);
    }
  }

  async function request(): Promise<Ipv4> {
    if (underWay++ > 0) throw new Error(`two requests of ${place.eni} at once`);
    try {
      const asked = { pool, named: null, holder: null, caller: new AbortController().signal };
      return (await allocator.request(asked)).row.ip;
    } finally {
      underWay--;
    }
  }

  const engine: Dockerd = {
    place,
    get load() {
      return load;
    },
    async createNetwork() {
      const asked = { eniId: place.eni, instanceId: place.instance, pool: place.cidr, subPool: '' };
      for (let tries = 1; ; tries++) {
        try {
          await init();
          await pools.request(asked);
          return;
        } catch (error) {
          if (!(error instanceof IpamError) || tries >= CREATE_TRIES_MAX) throw error;
          count(tally.now.warnings, `a network is not created: ${error.line}`);
        }
        await clock.wait(CREATE_AGAIN_MS);
      }
    },
    start,
    async stop(container) {
      load--;
      residents.delete(container);
      holders.delete(keyOf(container.ip));
      if (!(await allocator.release(pool, container.ip)))
        throw new Error(`${place.eni} was told that ${container.ip} was not its to give up`);
    },
  };
  return engine;
}
