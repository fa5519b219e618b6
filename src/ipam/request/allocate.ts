/** Gives addresses to containers and takes them back. */
import { contains, formatCidr, type Ipv4 } from '../../domain/address.ts';
import { type Allocation, INTENTS, isRested } from '../../domain/allocation.ts';
import { IpamError, isError } from '../../domain/error.ts';
import { type EniId, type Pool, poolFor } from '../../domain/ids.ts';
import type { IpamContext, Policy } from '../context.ts';
import { assign, stopInDoubt } from '../ec2/assign.ts';
import { type Enis, type Home, notOurs } from '../ec2/enis.ts';
import { type Cache, since } from '../pool/cache.ts';
import type { Filled } from '../pool/refill.ts';
import { idleElsewhere, steal } from '../pool/steal.ts';
import type { WarmPools } from '../pool/warm-pool.ts';
import type { Glances } from './glances.ts';
import { claimNamed } from './named.ts';
import type { Releases } from './release.ts';
import type { AddressRequest, Asked, Given } from './request.ts';
import { isEc2Away, isStoreDown, type Outages } from './retry.ts';
import type { Rollbacks } from './rollback.ts';

/** Ready addresses read together: those that have rested longest. */
const READY_LOOK = 256;
/** Between two looks at what rests or is about to be settled: doubling from the first to the last. */
const LOOK_AGAIN_MIN_MS = 50;
const LOOK_AGAIN_MAX_MS = 2_000;
/** A request that comes when an outage has lasted for longer than requests wait is tried once all the same. For so long
 *  it goes on with that: EC2 and the ledger may have come back. */
const ONE_TRY_MS = 5_000;
/** The longest that an undo is waited for; the keeper goes on with it. */
const UNDO_MAX_MS = 10_000;

export interface Allocator {
  /** Gives an address; durable when it returns. Throws bad-request, conflict, exhausted, caller-gone, and after
   *  the longest wait of a request what kept it waiting. */
  request(asked: AddressRequest): Promise<Given>;
  /** The holder that there is on the pool's ENI by now gives the address up; false: it was not that ENI's to give up.
   *  `opened` resolves when the ledger can be used. */
  release(pool: Pool, ip: Ipv4, opened?: () => Promise<void>): Promise<boolean>;
  /** The answer to this claim reached nobody: as if it had not been made, if need be later. Takes UNDO_MAX_MS at
   *  most. */
  undo(row: Allocation): Promise<void>;
}

export interface AllocatorParts {
  readonly enis: Enis;
  readonly glances: Glances;
  readonly rollbacks: Rollbacks;
  readonly cache: Cache;
  readonly warm: WarmPools;
  readonly outages: Outages;
  readonly releases: Releases;
}

export function createAllocator(
  context: IpamContext,
  { enis, glances, rollbacks, cache, warm, outages, releases }: AllocatorParts,
): Allocator {
  const { store, policy, clock, wait } = context;
  const looks = new Map<EniId, Promise<void>>();
  const early = createEarlyReuse(context, enis);

  async function request(asked: AddressRequest): Promise<Given> {
    if (rollbacks.isFull)
      throw new IpamError('unavailable', 'too many claims wait to be rolled back', {
        hint: 'look whether the ledger can be written, and try again',
      });
    const startedAt = clock();
    const outage = outages.ec2(asked.pool.eni);
    const withRetry = <T>(work: () => Promise<T>): Promise<T> =>
      outage.retryWhile(isEc2Away, asked.gone, work, startedAt);
    const stopIfGone = () => {
      if (asked.gone()) throw new IpamError('caller-gone', 'the caller has gone');
    };
    return await outages.store.retryWhile(
      isStoreDown,
      asked.gone,
      async () => {
        const { eni } = asked.pool;
        // What costs EC2 nothing says nothing of EC2's outage.
        const own = enis.recall(eni) ?? (await withRetry(() => enis.own(eni)));
        if (own === null) throw notOurs(eni, context);
        poolFor(eni, own.subnet.cidr, asked.pool.range); // whoever asks may name any range
        const home = await enis.wanted(own);
        const leastUntil = startedAt + Math.min(ONE_TRY_MS, policy.requestTimeoutMs);
        const until = () =>
          Math.max(leastUntil, Math.min(outage.deadline(startedAt), outages.store.deadline(startedAt)));
        const releasing = (ip: Ipv4) => releases.underWay(eni, ip);
        const going: Asked = { ...asked, home, until, withRetry, stopIfGone, releasing };
        const row = await (asked.named === null ? claimAny(going) : claimNamed(context, going, asked.named));
        cache.note(row);
        warm.claimed({ home, range: asked.pool.range });
        return { row, home };
      },
      startedAt,
    );
  }

  async function claimAny(asked: Asked): Promise<Allocation> {
    const { home, pool } = asked;
    let isLast = false;
    for (let pauseMs = LOOK_AGAIN_MIN_MS; ; ) {
      asked.stopIfGone();
      const row = cache.take(home.eni.id, pool.range) ?? takeEarly(asked) ?? (await takeReady(asked));
      const claimed = row === null ? null : await claim(row, asked);
      if (claimed !== null) return claimed;
      if (isLast) throw beaten(asked);
      const filled =
        row === null
          ? await asked.withRetry(() => warm.fill({ home, range: pool.range }, asked.until))
          : ({ outcome: 'ready' } as const);
      const late = clock() >= asked.until();
      if (filled.outcome === 'ready') {
        isLast = late; // but what was assigned for it, it gets
        continue;
      }
      const reused = policy.strictReuse ? null : await claimEarly(asked, filled);
      if (reused !== null) return reused;
      if (late) throw exhausted(policy, home, filled);
      if (!(await mayChangeSoon(asked, filled))) {
        if (await glances.changed(home.subnet.id, asked.until())) continue;
        throw exhausted(policy, home, filled);
      }
      // Those who wait for the same thing look again at different moments.
      const jitteredMs = pauseMs * (0.5 + context.random());
      await wait(Math.min(jitteredMs, Math.max(asked.until() - clock(), 0)));
      pauseMs = Math.min(pauseMs * 2, LOOK_AGAIN_MAX_MS);
    }
  }

  /** A row that was taken from what is remembered. */
  async function claim(row: Allocation, asked: Asked): Promise<Allocation | null> {
    const { home, holder } = asked;
    const now = cache.storeNow();
    let claimed: Allocation | undefined;
    try {
      [claimed] = await store.move([{ row, move: 'claim', holder }]);
    } catch (error) {
      if (isStoreDown(error) && error.addresses.includes(row.ip)) cache.avoid(row); // the next try takes another
      throw error;
    } finally {
      cache.settled(row, claimed !== undefined);
    }
    if (claimed === undefined) warm.changed({ home, range: asked.pool.range });
    else if (now !== null && !isRested(row, home.eni.id, policy, now)) early.logged(row, asked, now);
    return claimed ?? null;
  }

  /** Those who wait together take one each of what is remembered, before they compete for what is read. */
  async function claimEarly(asked: Asked, why: Exhausted): Promise<Allocation | null> {
    const row = takeEarly(asked);
    const claimed = row === null ? null : await claim(row, asked);
    return claimed ?? (await asked.withRetry(() => early.claim(asked, why)));
  }

  /** With nothing rested, as a fill has found just now: the one that has rested longest, without another look. */
  function takeEarly({ home, pool }: Asked): Allocation | null {
    const sinceMax = policy.strictReuse ? null : warm.earlySince({ home, range: pool.range });
    return sinceMax === null ? null : cache.takeResting(home.eni.id, pool.range, sinceMax);
  }

  /** Nothing is remembered: another server may have made some ready. Those who ask together read once. */
  async function takeReady({ home, pool }: Asked): Promise<Allocation | null> {
    const { id } = home.eni;
    const look =
      looks.get(id) ??
      store
        .readyOn(id, null, READY_LOOK)
        .then(ready => cache.learn(id, ready))
        .finally(() => looks.delete(id));
    looks.set(id, look);
    await look;
    return cache.take(id, pool.range);
  }

  /** Whether waiting could help: something rests, others were quicker with what is idle elsewhere, or a call that
   *  somebody has just sent is under way. */
  async function mayChangeSoon({ home, pool }: Asked, why: Exhausted): Promise<boolean> {
    const isOfUse = (row: Allocation) => pool.range === null || contains(pool.range, row.ip);
    if (why.outcome === 'subnet dry') {
      if (why.resting !== null) return true;
      if ((await idleElsewhere(context, enis, home, pool.range, 'any')).length > 0) return true;
      // What somebody else has just tried in vain is free again.
      const query = { subnet: home.subnet.id, eni: home.eni.id, range: pool.range, rest: policy };
      const free = await store.freeFor({ ...query, which: 'rested', limit: 1 });
      if (!why.byEc2 && free.rows.length > 0) return true;
      // What comes to another ENI of ours is idle there then.
      const { rows, now } = await store.withStatus(home.subnet.id, INTENTS);
      if (rows.some(row => isOfUse(row) && now - row.movedAt < policy.callDeadlineMs)) return true;
    }
    if (why.outcome === 'eni full' && why.inDoubt) return true;
    const { rows, now } = await store.onEni(home.eni.id);
    return rows.some(
      row =>
        (row.status === 'ready' && isOfUse(row)) ||
        // What is known to be there fills the ENI: what is being assigned can't come to it.
        (row.status === 'unassigning' && now - row.movedAt < policy.callDeadlineMs),
    );
  }

  async function undo(row: Allocation): Promise<void> {
    rollbacks.add(row);
    const settled = new AbortController();
    try {
      await Promise.race([rollbacks.settle(), wait(UNDO_MAX_MS, settled.signal)]);
    } catch (error) {
      if (!isStoreDown(error)) throw error; // the keeper goes on
    } finally {
      settled.abort();
    }
  }

  return {
    request,
    release: releases.release,
    undo,
  };
}

const beaten = ({ home }: Asked): IpamError =>
  new IpamError('unavailable', `others kept taking what became ready on ${home.eni.id}`, {
    hint: 'try again',
  });

// Early reuse. With nothing left that has rested: the address that has rested longest, for a request that waits.

/** Free ones, of which others take some meanwhile. */
const FREE_LOOK = 32;
/** Ready ones that are tried before looking again. */
const TRIES_MAX = 8;

interface EarlyReuse {
  /** Claims one of those ready here, those free and, when there are none, those ready on other ENIs; null: there is
   *  none, or others were quicker. Throws exhausted when the ENI can take none. */
  claim(asked: Asked, why: Exhausted): Promise<Allocation | null>;
  /** Notes that the row, as it was then, was claimed before it had rested; `now` by the store's clock. */
  logged(row: Allocation, asked: Asked, now: number): void;
}

function createEarlyReuse(context: IpamContext, enis: Enis): EarlyReuse {
  const { store, policy, log } = context;
  let count = 0;

  async function claim(asked: Asked, why: Exhausted): Promise<Allocation | null> {
    const { home, pool } = asked;
    const { rows, now } = await store.readyOn(home.eni.id, pool.range, READY_LOOK);
    const ready = rows.at(0) ?? null;
    const free = why.outcome === 'subnet dry' ? why.resting : null;
    if (free !== null && (ready === null || since(free) < since(ready))) return await claimFree(asked);
    if (ready === null && why.outcome === 'subnet dry' && (await fromElsewhere(asked)))
      return await claimFree(asked);
    for (const row of rows.slice(0, TRIES_MAX)) {
      const claimed = await claimHere(row, row, asked, now);
      if (claimed !== null) return claimed;
    }
    return null;
  }

  async function claimHere(here: Allocation, before: Allocation, asked: Asked, now: number) {
    const [claimed = null] = await store.move([{ row: here, move: 'claim', holder: asked.holder }]);
    if (claimed !== null && !isRested(before, asked.home.eni.id, policy, now)) logged(before, asked, now);
    return claimed;
  }

  async function fromElsewhere({ home, pool, until }: Asked): Promise<boolean> {
    const wanted = { range: pool.range, count: 1, which: 'any', until: until() } as const;
    return (await steal(context, enis, home, wanted)).length > 0;
  }

  /** Which it is is decided after the turn, and when others are quicker it is the next. */
  async function claimFree(asked: Asked): Promise<Allocation | null> {
    const { home, pool } = asked;
    const { eni, subnet } = home;
    await stopInDoubt(context, eni.id);
    await context.cloud.turn('assign', asked.until());
    const query = { subnet: subnet.id, eni: eni.id, range: pool.range, rest: policy, which: 'any' as const };
    const { rows, now } = await store.freeFor({ ...query, limit: FREE_LOOK });
    const { ready, error } = await assign(context, eni.id, rows, 1);
    if (isError(error, 'ec2-limit')) throw exhausted(policy, home, { outcome: 'eni full', held: null });
    if (isError(error, 'ec2-subnet-full'))
      throw exhausted(policy, home, { outcome: 'subnet dry', resting: null });
    if (error !== null) throw error;
    const [here] = ready;
    const before = rows.find(row => row.ip === here?.ip);
    return here === undefined || before === undefined ? null : await claimHere(here, before, asked, now);
  }

  function logged(row: Allocation, { home }: Asked, now: number): void {
    const { ip, restedFrom } = row;
    const restedMs = now - since(row);
    log('warn', 'early reuse', { eni: home.eni.id, ip, restedMs, restedFrom, count: ++count });
  }

  return { claim, logged };
}

/** Why no address can be had. `held` is null when EC2 refused one more without saying how many there are. */
type Exhausted =
  | Extract<Filled, { outcome: 'subnet dry' }>
  | { readonly outcome: 'eni full'; readonly held: number | null; readonly inDoubt?: boolean };

/** The error that says so, and what to do. */
function exhausted({ strictReuse }: Policy, { eni, subnet }: Home, why: Exhausted): IpamError {
  const strict = strictReuse ? ' that has rested (--strict-reuse is on)' : '';
  if (why.outcome === 'eni full')
    return new IpamError(
      'exhausted',
      `${eni.id} has no address left${strict}: it holds ${why.held ?? 'as many as it may'} beside its primary`,
      { hint: 'stop a container there, or use a larger instance type or a further ENI' },
    );
  return new IpamError(
    'exhausted',
    `${subnet.id} (${formatCidr(subnet.cidr)}) has no free address left${strict} for ${eni.id}`,
    { hint: 'run `ec2-ipam recycle` to take back idle ones, or use a larger subnet' },
  );
}
