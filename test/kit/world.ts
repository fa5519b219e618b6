/** The whole program in one process: memory store, simulated VPC, and a time that passes only while all wait. */
import type { Cloud, Ec2Client } from '../../src/cloud/cloud.ts';
import { createMemoryClient } from '../../src/cloud/memory.ts';
import { createRateLimiter, type RateLimiterOptions } from '../../src/cloud/rate-limiter.ts';
import { type Ipv4, parseCidr } from '../../src/domain/address.ts';
import { type Allocation, LATE_READS_MS, type Status } from '../../src/domain/allocation.ts';
import { IpamError } from '../../src/domain/error.ts';
import { type EniId, type InstanceId, type Pool, parsePoolId } from '../../src/domain/ids.ts';
import type { Observer } from '../../src/domain/observer.ts';
import type { IpamContext, Policy } from '../../src/ipam/context.ts';
import { type Assigned, assign } from '../../src/ipam/ec2/assign.ts';
import { type Ipam, openIpam } from '../../src/ipam/ipam.ts';
import type { AddressRequest } from '../../src/ipam/request/request.ts';
import type { Vpc } from '../../src/simulator/model/vpc.ts';
import { buildVpc, type World as VpcDescription } from '../../src/simulator/model/world.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import type { FreeQuery, Store } from '../../src/store/store.ts';
import { Clock } from './clock.ts';
import { Random } from './random.ts';
import { assert } from './uvu.ts';
import { ENI_A, SMALL, SUBNET } from './vpcs.ts';

export const POLICY: Policy = {
  callDeadlineMs: 20_000,
  graceMs: 930_000,
  cooldownMs: 30_000,
  quarantineMs: 600_000,
  requestTimeoutMs: 120_000,
  strictReuse: false,
  confirmMoves: true,
  warmMin: 2,
  warmMax: 6,
};
/** Only what requests wait for is assigned. */
export const NOT_WARM = { warmMin: 0, warmMax: 0 };

/** What a process works with; defaults are those of a central server without a rate limit. */
export function createContext(
  time: Clock,
  {
    client,
    limits,
    ...more
  }: Pick<IpamContext, 'store'> &
    Partial<Omit<IpamContext, 'cloud'>> & {
      readonly client: Ec2Client;
      /** Its share of the account's calls; absent: it has no limit. */
      readonly limits?: Pick<RateLimiterOptions, 'share' | 'budget'>;
    },
): IpamContext {
  const clock = () => time.now;
  const parts = {
    policy: POLICY,
    clock,
    deadlineClock: clock,
    wait: time.wait,
    random: () => 0.5,
    log: () => {},
    host: { instance: null },
    ...more,
  };
  const cloud =
    limits === undefined ? withoutLimits(client) : createRateLimiter(client, { ...parts, ...limits });
  return { ...parts, cloud };
}

/** A cloud whose permits are there at once. */
function withoutLimits({ assign, unassign, sendingBy: _, ...reads }: Ec2Client): Cloud {
  const cloud: Cloud = {
    ...reads,
    as: () => cloud,
    permit: async kind => ({ send: kind === 'assign' ? assign : unassign, [Symbol.dispose]() {} }),
  };
  return cloud;
}

export interface LogLine {
  readonly level: string;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

type Steps = typeof steps;
/** A server, and what tests do with it. */
export interface World extends Ipam, Steps {
  readonly time: Clock;
  readonly vpc: Vpc;
  readonly store: Store;
  readonly context: IpamContext;
  readonly lines: LogLine[];
  /** Another server on the same store and VPC, with an empty memory. */
  another(): World;
}

export function world(
  options: {
    vpc?: VpcDescription;
    policy?: Partial<Policy>;
    unnamedRefusals?: boolean;
    /** Embedded: the instance that it runs on. */
    instance?: string;
    /** Shares its VPC and its time, and has a ledger of its own. */
    beside?: World;
    store?: (now: () => number) => Store;
    observer?: Observer;
  } = {},
): World {
  const time = options.beside?.time ?? new Clock({ startAt: 1_800_000_000_000, isFree: true });
  const { unnamedRefusals = false } = options;
  const clock = () => time.now;
  const vpc =
    options.beside?.vpc ??
    buildVpc(options.vpc ?? SMALL, {
      now: clock,
      random: new Random(1).next,
      bucketScale: null,
      unnamedRefusals,
    });
  const store = options.store?.(clock) ?? createMemoryStore({ clock });
  const instance = (options.instance ?? null) as InstanceId | null;
  return openServer(time, vpc, store, { ...POLICY, ...options.policy }, instance, options.observer);
}

function openServer(
  time: Clock,
  vpc: Vpc,
  store: Store,
  policy: Policy,
  instance: InstanceId | null,
  observer?: Observer,
): World {
  const lines: LogLine[] = [];
  const context = createContext(time, {
    store,
    client: createMemoryClient(vpc, { wait: time.wait, deadlineClock: () => time.now }),
    policy,
    host: { instance },
    observer,
    log: (level, message, fields = {}) => void lines.push({ level, message, fields }),
  });
  return {
    ...openIpam(context, { server: 'server-1', reconcileEveryMs: 60_000 }),
    ...steps,
    time,
    vpc,
    store,
    context,
    lines,
    another: () => openServer(time, vpc, store, policy, instance, observer),
  };
}

/** A world in which Docker has made a network on ENI A. */
export async function pooled(options: Parameters<typeof world>[0] = {}): Promise<World> {
  const w = world(options);
  await w.enis.adopt(ENI_A);
  return w;
}

const poolOf = (eni: EniId, range?: string): Pool =>
  parsePoolId(range === undefined ? eni : `${eni};range=${range}`);

/** A caller that waits for its answer, and one that has gone. */
export const STAYS = new AbortController().signal;
export const GONE = AbortSignal.abort(new IpamError('caller-gone', 'the caller has gone'));

/** Puts rows on the ENI, with permits of its own. */
export const assignTo = async (
  context: IpamContext,
  eni: EniId,
  rows: readonly Allocation[],
  count?: number,
): Promise<Assigned> => {
  const next = () => context.cloud.permit('assign');
  return await assign(context, eni, { first: await next(), next }, rows, count);
};

type Asked = Partial<Omit<AddressRequest, 'named' | 'pool'>> & { named?: string; range?: string };

/** What tests do with a server, with its ledger and behind its back. */
const steps = {
  /** Another server on the same store and VPC, with an empty memory, in a context that differs so. */
  serverWith(this: World, patch: Partial<IpamContext>): World {
    const context = { ...this.context, ...patch };
    return { ...this, ...openIpam(context, { server: 'server-2', reconcileEveryMs: 60_000 }), context };
  },
  /** Requests an address on the ENI as dockerd would that has made a network on it; returns the row. */
  async request(this: World, eni: EniId, { named, range, ...more }: Asked = {}): Promise<Allocation> {
    await this.enis.adopt(eni);
    const address = { named: (named ?? null) as Ipv4 | null, pool: poolOf(eni, range) };
    return (await this.allocator.request({ holder: null, caller: STAYS, ...more, ...address })).row;
  },
  /** So many requests, one after the other. */
  async requests(this: World, eni: EniId, count: number): Promise<Allocation[]> {
    const rows = [];
    for (let i = 0; i < count; i++) rows.push(await this.request(eni));
    return rows;
  },
  async release(this: World, eni: EniId, ip: string): Promise<boolean> {
    return await this.allocator.release(poolOf(eni), ip as Ipv4);
  },

  async rowOf(this: World, ip: string): Promise<Allocation> {
    const [row] = (await this.store.get(SUBNET, [ip as Ipv4])).rows;
    if (row === undefined) throw new Error(`${ip} is not in the ledger`);
    return row;
  },
  async statusOf(this: World, ip: string): Promise<Status> {
    return (await this.rowOf(ip)).status;
  },
  /** The addresses in one of the statuses, in order. */
  async ipsWith(this: World, ...statuses: Status[]): Promise<string[]> {
    return ipsOf((await this.store.withStatus(SUBNET, statuses)).rows);
  },
  /** Free rows in the order in which the ENI tries them. */
  async freeRows(this: World, limit: number, more: Partial<FreeQuery> = {}): Promise<readonly Allocation[]> {
    const eni = more.eni ?? ENI_A;
    await this.enis.adopt(eni);
    const rest = this.context.policy;
    const query: FreeQuery = { subnet: SUBNET, eni, range: null, rest, which: 'rested', limit, ...more };
    return (await this.store.freeFor(query)).rows;
  },

  secondariesOf(this: World, eni: EniId): readonly string[] {
    return this.vpc.network.eni(eni).secondaries;
  },
  /** Somebody else puts addresses on the ENI. */
  putOn(this: World, eni: EniId, ...ips: string[]): void {
    this.vpc.network.assign({ eni, ips: ips as Ipv4[] });
  },
  /** Somebody else takes addresses off the ENI. */
  takeOff(this: World, eni: EniId, ...ips: string[]): void {
    this.vpc.network.unassign(eni, ips as Ipv4[]);
  },
  /** An address that is held on ENI A, and that somebody took off it so long ago that reads show it. */
  async takenOff(this: World, holder: string | null = null): Promise<Allocation> {
    const held = await this.request(ENI_A, { holder });
    this.time.now += LATE_READS_MS;
    this.takeOff(ENI_A, held.ip);
    return held;
  },
  detach(this: World, eni: EniId): void {
    this.vpc.network.detach(this.vpc.network.eni(eni).attachment?.id ?? '');
  },
  attach(this: World, eni: EniId, instance: string, deviceIndex = 2): void {
    this.vpc.network.attach(eni, instance as InstanceId, deviceIndex);
  },
  /** The ENI moves to another instance. */
  reattach(this: World, eni: EniId, instance: string): void {
    this.detach(eni);
    this.attach(eni, instance);
  },
  /** EC2 refuses calls with this code: so many, or all. */
  refuseCalls(this: World, action: string, code: string, message = 'no', times?: number): void {
    this.vpc.faults.add({ kind: 'error', action, code, message, ...(times === undefined ? {} : { times }) });
  },
  /** How many calls EC2 had: of the action, or all. */
  callsOf(this: World, action?: string): number {
    if (action !== undefined) return this.vpc.calls.get(action) ?? 0;
    return [...this.vpc.calls.values()].reduce((sum, calls) => sum + calls, 0);
  },

  /** Puts `instead` in place of a method of the store, for all servers on it. Returns what puts the method back. */
  intercept<M extends keyof Store>(
    this: World,
    method: M,
    instead: (real: Store[M]) => Store[M],
  ): () => void {
    const { store } = this;
    const real = store[method];
    store[method] = instead(real);
    return () => {
      store[method] = real;
    };
  },
  /** Counts the calls of these methods of the store from now on. */
  countingCalls<M extends keyof Store>(this: World, ...methods: M[]): Record<M, number> {
    const counts = Object.fromEntries(methods.map(method => [method, 0])) as Record<M, number>;
    const counted = wrapStore(this.store, (name, call) => {
      if (name in counts) counts[name as M]++;
      return call();
    });
    Object.assign(this.store, counted);
    return counts;
  },

  /** How much time passes until the work has ended. */
  async tookMs(this: World, work: Promise<unknown>): Promise<number> {
    const before = this.time.now;
    await work;
    return this.time.now - before;
  },
  /** What the work ends with; fails if more time passes until then. */
  async inTime<T>(this: World, msMax: number, work: Promise<T>): Promise<T> {
    const tookMs = await this.tookMs(work);
    assert.ok(tookMs <= msMax, `${tookMs} ms`);
    return await work;
  },
  /** How many lines of its log begin so. */
  linesOf(this: World, message: string): number {
    return this.lines.filter(line => line.message.startsWith(message)).length;
  },
};

/** The ledger notes that the ENI is attached to nothing. */
export async function withoutAttachment({ store }: World, id: EniId): Promise<void> {
  const eni = await store.eni(id);
  if (eni === null) throw new Error(`${id} is not in the ledger`);
  await store.saveEnis([{ ...eni, instance: null, attachment: null }]);
}

export const ipsOf = (rows: readonly { readonly ip: Ipv4 }[]): Ipv4[] => rows.map(row => row.ip);

export const storeAway = async (): Promise<never> => {
  throw new IpamError('store-down', 'away');
};

/** The error that the work ends with; fails when it ends well. */
export async function failure(work: Promise<unknown>): Promise<IpamError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof IpamError) return error;
    throw error;
  }
  throw new Error('it was expected to fail');
}

/** The same store with each call passed through `around`. */
export function wrapStore(
  store: Store,
  around: (name: keyof Store, call: () => Promise<unknown>, args: unknown[]) => Promise<unknown>,
): Store {
  const methods = Object.entries(store) as [keyof Store, (...args: unknown[]) => Promise<unknown>][];
  const wrapped = methods.map(([name, method]) => [
    name,
    (...args: unknown[]) => around(name, () => method(...args), args),
  ]);
  return Object.assign({ ...store }, Object.fromEntries(wrapped));
}

export const within = (cidr: string, ip: string): boolean => {
  const { first, last } = parseCidr(cidr);
  const number = ip.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  return first <= number && number <= last;
};
