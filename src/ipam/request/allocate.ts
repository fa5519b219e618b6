/** Serves Docker's RequestAddress: claims an address for a container, and waits for one if needed. */
import { throwIfAborted } from '../../domain/abort.ts';
import { contains, type Ipv4 } from '../../domain/address.ts';
import { type Allocation, restsForMs, staysAwayMs } from '../../domain/allocation.ts';
import { IpamError, isError } from '../../domain/error.ts';
import { type EniId, poolFor } from '../../domain/ids.ts';
import type { Log } from '../../domain/log.ts';
import { ANYBODY, isForgotten, ledgerWaitMs } from '../../domain/origin.ts';
import { placesTaken } from '../../domain/pool-size.ts';
import { UNANSWERED_MAX_MS } from '../../domain/suspects.ts';
import { nextCallAt } from '../../domain/unanswered.ts';
import { type IpamContext, inTurnOf } from '../context.ts';
import type { Attachments } from '../ec2/attachments.ts';
import { type Enis, type Home, notOurs } from '../ec2/enis.ts';
import type { Cache } from '../pool/cache.ts';
import { mayGetRoom, maySteal } from '../pool/steal.ts';
import type { WarmPools } from '../pool/warm-pool.ts';
import { authorityOver } from './authority.ts';
import { claimOf, givenBefore, sendClaim } from './claim.ts';
import { claimSkipped, logEarlyReuse } from './claim-free.ts';
import { createDeadline } from './deadline.ts';
import { claimEarly, READY_LOOK } from './early-reuse.ts';
import { type Exhausted, exhausted } from './exhausted.ts';
import { claimNamed } from './named.ts';
import type { Releases } from './release.ts';
import type { AddressRequest, Asked, Given } from './request.ts';
import { isEc2Away, isStoreDown, type Outages, type RetryOptions } from './retry.ts';
import type { Rollbacks } from './rollback.ts';
import type { SubnetChecks } from './subnet-check.ts';

/** The pauses between tries while an address rests or is about to be settled. They double from the first to the
 *  last. */
const LOOK_AGAIN_MIN_MS = 50;
const LOOK_AGAIN_MAX_MS = 2_000;
/** Claims that a request tries after its deadline, each of another address than the one that it lost to others. */
const LAST_TRIES_MAX = 8;
/** Free addresses in one read of those that may return to the ENI. */
const RETURNING_LOOK = 256;
/** The shortest time limit of a request, from when EC2 may be asked for it. A request that arrives after the deadline of a
 *  long outage is still tried for this long, since EC2 or the ledger may be back. */
const ONE_TRY_MS = 5_000;
/** After this wait for EC2, in milliseconds, a request gets an address that still rests on its ENI. */
const REUSE_AFTER_MS = 2_000;
/** The longest wait for a rollback, in milliseconds. After that the keeper repeats it. */
const UNDO_MAX_MS = 10_000;

export interface Allocator {
  /** Claims an address and returns it; the claim is durable. Throws bad-request, conflict, exhausted and
   *  caller-gone, and at the deadline the error of what it waited for. */
  request(asked: AddressRequest): Promise<Given>;
  /** Ends a holding; see `Releases`. */
  release: Releases['release'];
  /** Rolls back a claim whose response was not delivered. Takes UNDO_MAX_MS at most; then the keeper repeats it. `log`:
   *  that of the request. */
  undo(row: Allocation, log?: Log): Promise<void>;
}

export interface AllocatorParts {
  readonly enis: Enis;
  readonly attachments: Attachments;
  readonly subnetChecks: SubnetChecks;
  readonly rollbacks: Rollbacks;
  readonly cache: Cache;
  readonly warm: WarmPools;
  readonly outages: Outages;
  readonly releases: Releases;
}

export function createAllocator(
  context: IpamContext,
  { enis, attachments, subnetChecks, rollbacks, cache, warm, outages, releases }: AllocatorParts,
): Allocator {
  const { store, policy, clock, wait } = context;
  const looks = new Map<EniId, Promise<void>>();
  /** The context of what is done for this request alone. */
  const contextOf = ({ pool, log }: Asked) => ({ ...inTurnOf(context, pool.eni), log });

  async function request(asked: AddressRequest): Promise<Given> {
    if (rollbacks.isFull)
      throw new IpamError('unavailable', 'too many claims wait to be rolled back', {
        hint: 'look whether the ledger can be written, and try again',
      });
    const { from = ANYBODY, caller } = asked;
    if (isForgotten(from)) throw tooOld();
    const options = { startedAt: clock(), caller };
    const work = () => tryOnce(asked, options);
    return await outages.store.retryWhile(isStoreDown, work, { ...options, withinMs: ledgerWaitMs(from) });
  }

  async function tryOnce(
    asked: AddressRequest,
    options: Required<Pick<RetryOptions, 'startedAt' | 'caller'>>,
  ): Promise<Given> {
    const { pool, named, from = ANYBODY, log = context.log } = asked;
    const { startedAt } = options;
    const outage = outages.ec2(pool.eni);
    const withRetry = <T>(work: () => Promise<T>) => outage.retryWhile(isEc2Away, work, options);
    const authority = authorityOver(attachments, pool.eni, from);
    // A lookup in the cache makes no EC2 call, so its success must not end an outage of EC2.
    if (!authority.isProved()) await withRetry(authority.prove);
    const own =
      enis.recall(pool.eni) ??
      (await withRetry(() => enis.own(pool.eni))) ??
      (from.instance === null ? null : await withRetry(() => enis.adopt(pool.eni)));
    if (own === null) throw notOurs(pool.eni, context);
    poolFor(pool.eni, own.subnet.cidr, pool.range); // throws if the range is not in the subnet
    const home = await enis.wanted(own);
    const isAway = outage.deadline(startedAt) < startedAt + ONE_TRY_MS;
    const tryMs = ONE_TRY_MS + (isAway ? await nextCallInMs(pool.eni) : 0);
    const leastUntil = startedAt + Math.min(tryMs, policy.requestTimeoutMs);
    const untilTried = <T>(work: () => Promise<T>) =>
      outage.retryWhile(isEc2Away, work, { ...options, leastUntil });
    const deadline = createDeadline(context, asked.caller, () =>
      Math.max(leastUntil, Math.min(outage.deadline(startedAt), outages.store.deadline(startedAt))),
    );
    const going: Asked = {
      ...{
        ...asked,
        home,
        from,
        log,
        startedAt,
        withRetry: untilTried,
        isRepeated: false,
        unanswered: new Set<string>(),
        claimSentAt: Number.NEGATIVE_INFINITY,
      },
      withheld: cache.withheld,
      authority:
        from.instance === null ? authority : { ...authority, prove: () => untilTried(authority.prove) },
      releasing: ip => releases.underWay(pool.eni, ip),
      releasesHere: () => releases.pending(home, 'eni'),
      isTimeUp: deadline.isPast,
      leftMs: deadline.leftMs,
      get signal() {
        return deadline.signal;
      },
    };
    try {
      const claimed = named === null ? claimAny(going) : claimNamed(contextOf(going), enis, going, named);
      const row = await claimed.catch(error => unlessGiven(going, error));
      cache.note(row);
      const { isRepeated } = going;
      if (!isRepeated) warm.claimed({ home, range: pool.range });
      const isStale = () => context.deadlineClock() - going.claimSentAt > UNANSWERED_MAX_MS;
      return { row, home, isRepeated, isStale };
    } finally {
      deadline.end();
    }
  }

  /** Returns the time until EC2 may be asked for an address on the ENI, in milliseconds. */
  async function nextCallInMs(eni: EniId): Promise<number> {
    const { rows, now } = await store.onEni(eni);
    return Math.max(nextCallAt(rows) - now, 0);
  }

  /** Returns the address that another server has given to the request meanwhile. Throws the error if there is none. */
  async function unlessGiven(asked: Asked, error: unknown): Promise<Allocation> {
    const mayBeServed = isError(error, 'exhausted', 'unavailable') || isEc2Away(error);
    const given = mayBeServed ? await givenBefore(context, asked) : null;
    if (given === null) throw error;
    return given;
  }

  async function claimAny(asked: Asked): Promise<Allocation> {
    const { home, pool } = asked;
    let lastTries = 0;
    let isCold = false;
    for (let pauseMs = LOOK_AGAIN_MIN_MS; ; ) {
      throwIfAborted(asked.caller);
      const row = cache.take(home.eni.id, pool.range) ?? takeEarly(asked) ?? (await takeReady(asked));
      const claimed = row === null ? null : await claim(row, asked);
      if (claimed !== null) {
        if (!isCold) context.observer?.warm('hit');
        return claimed;
      }
      if (row === null && !isCold) {
        isCold = true;
        context.observer?.warm('miss');
      }
      const before = asked.from.id === null ? null : await givenBefore(context, asked);
      if (before !== null) return before;
      if (lastTries > 0 && (row === null || lastTries >= LAST_TRIES_MAX)) throw contended(asked);
      const filled =
        row === null
          ? await withRetry(asked, () => warm.fill({ home, range: pool.range }, asked.signal))
          : ({ outcome: 'ready' } as const);
      if ('ip' in filled) return filled;
      const late = asked.isTimeUp();
      if (filled.outcome === 'ready') {
        if (late) lastTries++; // addresses were assigned for this request
        continue;
      }
      const reused = policy.strictReuse ? null : await claimResting(asked, filled);
      if (reused !== null) return reused;
      if (late) throw exhausted(policy, home, filled);
      if (!(await mayChangeSoon(asked, filled))) {
        const isOfSubnet = filled.outcome !== 'tenant full';
        if (isOfSubnet && (await subnetChecks.changed(home.subnet.id, asked.signal))) continue;
        if (!(await mayReturnInTime(asked, filled))) {
          const isFull = filled.outcome === 'subnet full' && !filled.byEc2;
          const skipped = isFull ? await claimSkipped(contextOf(asked), asked) : null;
          if (skipped !== null) return skipped;
          throw exhausted(policy, home, filled);
        }
      }
      // Random, so that requests that wait for the same address do not try at the same time.
      const jitteredMs = pauseMs * (0.5 + context.random());
      await wait(jitteredMs, asked.signal);
      pauseMs = Math.min(pauseMs * 2, LOOK_AGAIN_MAX_MS);
    }
  }

  /** Claims a row of the cache. Returns null if another server has changed it. */
  async function claim(row: Allocation, asked: Asked): Promise<Allocation | null> {
    const { home } = asked;
    const now = cache.storeNow();
    let claimed: Allocation | null = null;
    try {
      if (!asked.authority.isProved()) await asked.authority.prove();
      claimed = await sendClaim(context, asked, claimOf(context, asked, row));
    } catch (error) {
      if (isStoreDown(error) && error.addresses.includes(row.ip)) cache.avoid(row); // the next try takes another row
      throw error;
    } finally {
      cache.settled(row, claimed !== null);
    }
    if (claimed === null) warm.changed({ home, range: asked.pool.range });
    else if (now !== null) logEarlyReuse(context, asked, row, now);
    return claimed;
  }

  /** Claims an address that still rests, from the cache if possible: there each concurrent request gets another
   *  row. */
  async function claimResting(asked: Asked, why: Exhausted): Promise<Allocation | null> {
    const row = takeEarly(asked);
    const claimed = row === null ? null : await claim(row, asked);
    return claimed ?? (await withRetry(asked, () => claimEarly(contextOf(asked), enis, asked, why)));
  }

  /** Retries `work` while EC2 is unavailable. After REUSE_AFTER_MS claims an address that still rests on the ENI
   *  instead, and returns it. */
  async function withRetry<T>(asked: Asked, work: () => Promise<T>): Promise<T | Allocation> {
    const { home, pool, startedAt, caller } = asked;
    const mayReuse = () => !policy.strictReuse && !caller.aborted && clock() - startedAt >= REUSE_AFTER_MS;
    return await asked.withRetry(async () => {
      try {
        return await work();
      } catch (error) {
        if (!isEc2Away(error) || !mayReuse()) throw error;
        const row = cache.takeResting(home.eni.id, pool.range, Number.POSITIVE_INFINITY);
        const claimed = row === null ? null : await claim(row, asked);
        if (claimed === null) throw error;
        return claimed;
      }
    });
  }

  /** Takes the address that has rested longest from the cache, if a recent fill found no rested one. */
  function takeEarly({ home, pool }: Asked): Allocation | null {
    const sinceMax = policy.strictReuse ? null : warm.earlySince({ home, range: pool.range });
    return sinceMax === null ? null : cache.takeResting(home.eni.id, pool.range, sinceMax);
  }

  /** Reads the ENI's ready addresses from the ledger, since another server may have made some, and takes one.
   *  Concurrent requests share one read. */
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

  /** Returns whether waiting may help: a release is under way or owed, an address rests, another ENI has idle
   *  addresses, an EC2 call is under way, or one has just ended. Reads what is under way before its results, so that
   *  what ends meanwhile is seen as the one or the other. */
  async function mayChangeSoon({ home, pool }: Asked, why: Exhausted): Promise<boolean> {
    const isUsable = ({ ip }: { readonly ip: Ipv4 }) => pool.range === null || contains(pool.range, ip);
    const releasing = releases.pending(home, why.outcome === 'eni full' ? 'eni' : 'subnet');
    if (releasing.some(ip => isUsable({ ip }))) return true;
    if (why.outcome === 'tenant full' && (await mayGetRoom(context, enis, home, why.tenant))) return true;
    if (why.outcome === 'subnet full') {
      if (why.resting !== null) return true;
      // An address that is being assigned to another ENI of ours may be idle there, and can then be stolen.
      if (await maySteal(context, enis, home, pool.range)) return true;
      // An address is free again after an assign of another request failed.
      const query = { subnet: home.subnet.id, eni: home.eni.id, range: pool.range, rest: policy };
      const free = await store.freeFor({ ...query, which: 'rested', limit: 1 });
      if (!why.byEc2 && free.rows.length > 0) return true;
    }
    if (why.outcome === 'eni full' && why.inDoubt) return true;
    const { rows, now } = await store.onEni(home.eni.id);
    if (why.outcome === 'eni full' && why.held !== null && placesOn(home, rows) < why.held) return true;
    return rows.some(
      row =>
        (row.status === 'ready' && isUsable(row) && cache.withheld(row) === null) ||
        // An unassign makes room on the full ENI. An assign under way cannot add an address to it.
        (row.status === 'unassigning' && now - row.movedAt < policy.callDeadlineMs),
    );
  }

  /** Returns whether an address of the full subnet that left the ENI may return to it before the deadline. */
  async function mayReturnInTime({ home, pool, leftMs }: Asked, why: Exhausted): Promise<boolean> {
    if (why.outcome !== 'subnet full' || why.byEc2) return false;
    const { subnet, eni } = home;
    const query = { subnet: subnet.id, eni: eni.id, range: pool.range, limit: RETURNING_LOOK };
    // Without a grace, addresses that stay away from the ENI are read too.
    const { rows, now } = await store.freeFor({ ...query, rest: { ...policy, graceMs: 0 }, which: 'any' });
    const untilMs = (row: Allocation) =>
      Math.max(
        staysAwayMs(row, eni.id, policy, now),
        policy.strictReuse ? restsForMs(row, eni.id, policy, now) : 0,
      );
    return rows.some(row => untilMs(row) < leftMs());
  }

  const placesOn = (home: Home, rows: readonly Allocation[]): number =>
    placesTaken(
      rows.filter(row => !row.primary),
      (enis.recall(home.eni.id) ?? home).eni.prefixes,
    );

  async function undo(row: Allocation, log?: Log): Promise<void> {
    rollbacks.add(row, log);
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

const tooOld = (): IpamError =>
  new IpamError('bad-request', 'the request is older than its id is remembered', {
    hint: 'ask with another id',
  });

const contended = ({ home }: Asked): IpamError =>
  new IpamError('unavailable', `other requests claimed each address that became ready on ${home.eni.id}`, {
    hint: 'try again',
  });
