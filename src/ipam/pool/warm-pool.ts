/** Keeps the pools of our ENIs warm: a claim that leaves too few ready addresses begins a refill. */
import { aborted } from '../../domain/abort.ts';
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

/** Pools that are remembered; past it the one that was first asked for is forgotten. */
const POOLS_MAX = 10_000;
/** The same of one ENI: whoever asks may name any range. */
const RANGES_MAX = 16;
/** Before EC2 is asked, so long is waited for requests that come together, which the same call then serves: little
 *  beside what EC2 takes. */
export const GATHER_MS = 20;
/** After a refill that brought nothing: the ENI is full, the subnet dry, EC2 away. */
const REFILL_AGAIN_MS = 5_000;

/** So long after a plain read of the ledger there still is nothing rested to be had for a pool, as far as is known. */
const NOTHING_RESTED_FOR_MS = 1_000;

/** One ENI, or the part of it that a `--ip-range` leaves. */
export interface PoolOf {
  readonly home: Home;
  readonly range: Cidr | null;
}

export interface WarmPools {
  /** Docker has made a network with the pool: it is warm before the first container comes. */
  wanted(pool: PoolOf): void;
  /** A container has got an address of the pool. */
  claimed(pool: PoolOf): void;
  /** A container has given one up. */
  released(pool: PoolOf): void;
  /** Assigns addresses to the pool. All requests that wait for one pool share one call. When the signal is aborted, and
   *  the call had the time for an answer, it throws ec2-unknown or ec2-throttled; what the call still brings is there for
   *  others. */
  fill(pool: PoolOf, signal: AbortSignal): Promise<Filled>;
  /** Since when, by the store's clock, those of the ENI's ready addresses have rested at the least that may be given
   *  early now, without another look; null: the ledger has to be asked. */
  earlySince(pool: PoolOf): number | null;
  /** Others have changed what that was about. */
  changed(pool: PoolOf): void;
  /** Ready addresses that the ENI should have at most. */
  highOf(eni: EniId): number;
  /** Docker has released the ENI's pool: nothing is remembered of its growth. */
  forget(eni: EniId): void;
  /** Begins no more refills; resolves when those under way have ended, and the calls that were sent. Never throws. */
  stop(): Promise<void>;
}

interface Pool {
  growth: Growth;
  waiting: number;
  /** Aborted when nobody waits any longer; null: nobody does. */
  waiters: AbortController | null;
  filling: Promise<Filled> | null;
  /** The fill waits for its turn to ask EC2. */
  queues: boolean;
  quietUntil: number;
  /** The last fill found nothing rested, and no place or no address to assign. */
  dry: { readonly until: number; readonly sinceMax: number } | null;
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
      queues: false,
      quietUntil: Number.NEGATIVE_INFINITY,
      dry: null,
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
    const work = begin(of, pool).then(
      filled => refilled(of, pool, filled.outcome === 'ready' && filled.assigned > 0),
      error => {
        log(isError(error, 'ec2-throttled') ? 'info' : 'warn', 'refill failed', {
          eni: of.home.eni.id,
          error: error instanceof IpamError ? error.line : error,
        });
        refilled(of, pool, false);
      },
    );
    untilEnded(work);
  }

  /** A server that stops waits for it. */
  function untilEnded(work: Promise<unknown>): void {
    const ended: Promise<unknown> = work.then(
      () => underWay.delete(ended),
      () => underWay.delete(ended),
    );
    underWay.add(ended);
  }

  /** More may have been claimed meanwhile than it brought. */
  function refilled(of: PoolOf, pool: Pool, brought: boolean): void {
    if (brought) refillIfLow(of, pool);
    else pool.quietUntil = clock() + REFILL_AGAIN_MS;
  }

  function begin(of: PoolOf, pool: Pool): Promise<Filled> {
    const hurried = urgently(context, () => (pool.waiting > 0 ? 'cold' : 'refill'));
    const signal = () => pool.waiters?.signal;
    const asked = {
      ...{ range: of.range, waiting: () => pool.waiting, marks: () => marks(pool), signal },
      async permit() {
        pool.queues = true;
        return await hurried.cloud.permit('assign', signal()).finally(() => {
          pool.queues = false;
        });
      },
      gather: () => context.wait(GATHER_MS),
    };
    const filling = fill(hurried, enis, cache, of.home, asked)
      .then(filled => {
        learnFrom(of, pool, filled);
        return filled;
      })
      .finally(() => {
        pool.filling = null;
      });
    pool.filling = filling;
    untilEnded(filling);
    return filling;
  }

  function learnFrom({ home }: PoolOf, pool: Pool, filled: Filled): void {
    if (filled.outcome === 'ready') {
      if (filled.assigned > 0) pool.dry = null;
      return;
    }
    const until = clock() + NOTHING_RESTED_FOR_MS;
    if (filled.outcome === 'eni full')
      pool.dry = filled.inDoubt ? null : { until, sinceMax: Number.POSITIVE_INFINITY };
    else {
      const { resting } = filled;
      const leftMs = resting === null ? 0 : restsForMs(resting, home.eni.id, policy, cache.storeNow() ?? 0);
      const sinceMax = resting === null ? Number.POSITIVE_INFINITY : since(resting);
      pool.dry = { until: resting === null ? until : Math.min(until, clock() + leftMs), sinceMax };
    }
  }

  async function fillFor(of: PoolOf, signal: AbortSignal): Promise<Filled> {
    const pool = poolAt(of);
    const over = new AbortController();
    pool.waiting++;
    pool.waiters ??= new AbortController();
    try {
      const filling = pool.filling ?? begin(of, pool);
      return await Promise.race([filling, tooLate(of, pool, signal, over.signal)]);
    } finally {
      over.abort();
      pool.waiting--;
      if (pool.waiting === 0) {
        pool.waiters?.abort();
        pool.waiters = null;
      }
    }
  }

  /** Throws when the request stops waiting: for those that come later the fill goes on. `over`: it has ended. */
  async function tooLate(
    { home: { eni } }: PoolOf,
    pool: Pool,
    signal: AbortSignal,
    over: AbortSignal,
  ): Promise<never> {
    const answeredAt = clock() + ANSWERED_WITHIN_MS;
    await aborted(signal);
    if (!isError(signal.reason, 'caller-gone')) await context.wait(Math.max(answeredAt - clock(), 0), over);
    throw pool.queues ? noPermit(eni.id) : noAnswer(eni.id);
  }

  function highOf(eni: EniId): number {
    const ofEni = [...(pools.get(eni)?.values() ?? [])];
    return ofEni.reduce((sum, pool) => sum + marks(pool).high, 0) || policy.warmMax;
  }

  function earlySince(of: PoolOf): number | null {
    const { dry } = poolAt(of);
    return dry !== null && clock() < dry.until ? dry.sinceMax : null;
  }

  return {
    earlySince,
    changed: of => {
      poolAt(of).dry = null;
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
      await context.sights?.stop();
    },
  };
}

const noPermit = (eni: EniId): IpamError =>
  new IpamError(
    'ec2-throttled',
    `EC2 was not asked for an address on ${eni}: the permit for that did not come in time`,
    {
      hint: 'raise --ec2-share if the other programs of the account leave room',
    },
  );
