/** Keeps ready addresses on our ENIs: a claim that leaves too few of them starts a refill. */
import { aborted, reasonOf } from '../../domain/abort.ts';
import { type Cidr, formatCidr } from '../../domain/address.ts';
import { restsForMs } from '../../domain/allocation.ts';
import { IpamError, isError } from '../../domain/error.ts';
import type { EniId } from '../../domain/ids.ts';
import { type Growth, grown, type Marks, marksOf, NO_GROWTH } from '../../domain/pool-size.ts';
import { ANSWERED_WITHIN_MS } from '../../domain/unanswered.ts';
import { type IpamContext, urgently } from '../context.ts';
import type { Enis, Home } from '../ec2/enis.ts';
import { noAnswer } from '../ec2/intents.ts';
import { type Cache, since } from './cache.ts';
import { type Filled, fill } from './refill.ts';

/** ENIs whose pools are remembered; at this size the oldest entry is evicted. */
const POOLS_MAX = 10_000;
/** Pools of one ENI that are remembered. Bounded, since a request may name any range. */
const RANGES_MAX = 16;
/** How long a refill waits for further requests before its EC2 call, which then serves them all. Short compared
 *  with the call. */
export const GATHER_MS = 20;
/** The pause after a refill that brought no address: the ENI or its tenant is full, the subnet exhausted or EC2
 *  unavailable. */
const REFILL_AGAIN_MS = 5_000;

/** How long a plain read of the ledger that found nothing rested for a pool is taken as current. */
const NOTHING_RESTED_FOR_MS = 1_000;

/** The addresses of one ENI, or those of them in an `--ip-range`. */
export interface PoolOf {
  readonly home: Home;
  readonly range: Cidr | null;
}

export interface WarmPools {
  /** Refills the pool if it is low, since Docker has made a network with it: before the first container starts. */
  wanted(pool: PoolOf): void;
  /** Records that a container got an address of the pool, and refills the pool if it is low. */
  claimed(pool: PoolOf): void;
  /** Records that a container released an address of the pool. */
  released(pool: PoolOf): void;
  /** Assigns addresses to the pool. All requests that wait for a pool share one EC2 call. Throws ec2-unknown or
   *  ec2-throttled once the signal is aborted and the call had 2 s for an answer. The call goes on for later
   *  requests. */
  fill(pool: PoolOf, signal: AbortSignal): Promise<Filled>;
  /** Returns the latest release time, on the store's clock, of a ready address that may be given early without a
   *  read of the ledger; null if the ledger has to be read. */
  earlySince(pool: PoolOf): number | null;
  /** Drops what `earlySince` returned, since other servers have changed rows of the pool. */
  changed(pool: PoolOf): void;
  /** Returns how many ready addresses the ENI should have at most. */
  highOf(eni: EniId): number;
  /** Resets the growth of the ENI's pools, since Docker has released them. */
  forget(eni: EniId): void;
  /** Starts no more refills. Resolves when those under way and the calls that were sent have ended. Never throws. */
  stop(): Promise<void>;
}

interface Pool {
  growth: Growth;
  waiting: number;
  /** Aborted when the last waiting request ends; null while none waits. */
  waiters: AbortController | null;
  filling: Promise<Filled> | null;
  /** Whether the fill waits for a permit. */
  awaitsPermit: boolean;
  quietUntil: number;
  /** Set if the last fill found nothing rested: the ENI or its tenant is full, or the subnet exhausted. See `earlySince`. */
  nothingRested: { readonly until: number; readonly sinceMax: number } | null;
}

export function createWarmPools(context: IpamContext, enis: Enis, cache: Cache): WarmPools {
  const { clock, policy, log } = context;
  const pools = new Map<EniId, Map<string, Pool>>();
  const underWay = new Set<Promise<unknown>>();
  let stopping = false;

  function poolAt({ home, range }: PoolOf): Pool {
    const { id } = home.eni;
    const ofEni = pools.get(id) ?? new Map<string, Pool>();
    if (!pools.has(id)) {
      const [first] = pools.size >= POOLS_MAX ? pools.keys() : [];
      if (first !== undefined) pools.delete(first);
      pools.set(id, ofEni);
    }
    const key = range === null ? '' : formatCidr(range);
    const [oldest] = ofEni.size >= RANGES_MAX && !ofEni.has(key) ? ofEni.keys() : [];
    if (oldest !== undefined) ofEni.delete(oldest);
    const pool = ofEni.get(key) ?? {
      growth: NO_GROWTH,
      waiting: 0,
      waiters: null,
      filling: null,
      awaitsPermit: false,
      quietUntil: Number.NEGATIVE_INFINITY,
      nothingRested: null,
    };
    ofEni.set(key, pool);
    return pool;
  }

  const marks = (pool: Pool): Marks => marksOf(policy, pool.growth, clock());

  function claimed(of: PoolOf): void {
    const pool = poolAt(of);
    pool.growth = grown(pool.growth, 1, clock());
    refillIfLow(of, pool);
  }

  function released(of: PoolOf): void {
    const pool = poolAt(of);
    pool.growth = grown(pool.growth, -1, clock());
  }

  function refillIfLow(of: PoolOf, pool: Pool): void {
    if (stopping || pool.filling !== null || clock() < pool.quietUntil) return;
    if (of.home.eni.instance === null) return; // detached: no container can start there
    if (cache.count(of.home.eni.id, of.range).usable >= marks(pool).low) return;
    const work = startFill(of, pool).then(
      filled => refilled(of, pool, filled.outcome === 'ready' && filled.assigned > 0),
      error => {
        log(isError(error, 'ec2-throttled') ? 'info' : 'warn', 'refill failed', {
          eni: of.home.eni.id,
          error: error instanceof IpamError ? error.line : error,
        });
        refilled(of, pool, false);
      },
    );
    track(work);
  }

  /** Registers work; `stop` waits for it. */
  function track(work: Promise<unknown>): void {
    const ended: Promise<unknown> = work.then(
      () => underWay.delete(ended),
      () => underWay.delete(ended),
    );
    underWay.add(ended);
  }

  /** Refills again if needed: more addresses may have been claimed during the refill than it brought. */
  function refilled(of: PoolOf, pool: Pool, brought: boolean): void {
    if (brought) refillIfLow(of, pool);
    else pool.quietUntil = clock() + REFILL_AGAIN_MS;
  }

  function startFill(of: PoolOf, pool: Pool): Promise<Filled> {
    const urgent = urgently(context, () => (pool.waiting > 0 ? 'cold' : 'refill'), of.home.eni.id);
    const signal = () => pool.waiters?.signal;
    const asked = {
      ...{ range: of.range, waiting: () => pool.waiting, marks: () => marks(pool), signal },
      async permit() {
        pool.awaitsPermit = true;
        return await urgent.cloud.permit('assign', signal()).finally(() => {
          pool.awaitsPermit = false;
        });
      },
      gather: () => context.wait(GATHER_MS),
    };
    const filling = fill(urgent, enis, cache, of.home, asked)
      .then(filled => {
        learnFrom(of, pool, filled);
        return filled;
      })
      .finally(() => {
        pool.filling = null;
      });
    pool.filling = filling;
    track(filling);
    return filling;
  }

  function learnFrom({ home }: PoolOf, pool: Pool, filled: Filled): void {
    if (filled.outcome === 'ready') {
      if (filled.assigned > 0) pool.nothingRested = null;
      return;
    }
    const until = clock() + NOTHING_RESTED_FOR_MS;
    if (filled.outcome !== 'subnet full') {
      const inDoubt = filled.outcome === 'eni full' && filled.inDoubt;
      pool.nothingRested = inDoubt ? null : { until, sinceMax: Number.POSITIVE_INFINITY };
    } else {
      const { resting } = filled;
      const leftMs = resting === null ? 0 : restsForMs(resting, home.eni.id, policy, cache.storeNow() ?? 0);
      const sinceMax = resting === null ? Number.POSITIVE_INFINITY : since(resting);
      pool.nothingRested = { until: resting === null ? until : Math.min(until, clock() + leftMs), sinceMax };
    }
  }

  async function fillFor(of: PoolOf, signal: AbortSignal): Promise<Filled> {
    const pool = poolAt(of);
    const over = new AbortController();
    pool.waiting++;
    pool.waiters ??= new AbortController();
    try {
      const filling = pool.filling ?? startFill(of, pool);
      return await Promise.race([filling, tooLate(of, pool, signal, over.signal)]);
    } finally {
      over.abort();
      pool.waiting--;
      if (pool.waiting === 0) {
        // A request that comes before the fill has ended is told so, and tries again.
        pool.waiters?.abort(noPermit(of.home.eni.id));
        pool.waiters = null;
      }
    }
  }

  /** Throws when the request's signal is aborted; the fill goes on for later requests. `over` is aborted when the
   *  request has its result, and ends the wait for an answer. */
  async function tooLate(
    { home: { eni } }: PoolOf,
    pool: Pool,
    signal: AbortSignal,
    over: AbortSignal,
  ): Promise<never> {
    const answeredAt = clock() + ANSWERED_WITHIN_MS;
    await aborted(signal);
    if (!isError(reasonOf(signal), 'caller-gone'))
      await context.wait(Math.max(answeredAt - clock(), 0), over);
    throw pool.awaitsPermit ? noPermit(eni.id) : noAnswer(eni.id);
  }

  function highOf(eni: EniId): number {
    const ofEni = [...(pools.get(eni)?.values() ?? [])];
    return ofEni.reduce((sum, pool) => sum + marks(pool).high, 0) || policy.warmMax;
  }

  function earlySince(of: PoolOf): number | null {
    const { nothingRested } = poolAt(of);
    return nothingRested !== null && clock() < nothingRested.until ? nothingRested.sinceMax : null;
  }

  return {
    earlySince,
    changed: of => {
      poolAt(of).nothingRested = null;
    },
    wanted: of => refillIfLow(of, poolAt(of)),
    claimed,
    released,
    fill: fillFor,
    highOf,
    forget(eni) {
      for (const pool of pools.get(eni)?.values() ?? []) pool.growth = NO_GROWTH;
    },
    async stop() {
      stopping = true;
      await Promise.all(underWay);
      await context.followUps?.stop();
    },
  };
}

const noPermit = (eni: EniId): IpamError =>
  new IpamError(
    'ec2-throttled',
    `EC2 was not asked for an address on ${eni}: no permit for the call in time`,
    {
      hint: 'raise --ec2-share if the other programs of the account leave room',
    },
  );
