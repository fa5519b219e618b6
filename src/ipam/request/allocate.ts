/** Gives addresses to containers and takes them back. */
import { contains, type Ipv4 } from '../../domain/address.ts';
import { type Allocation, INTENTS } from '../../domain/allocation.ts';
import { IpamError } from '../../domain/error.ts';
import { type EniId, type Pool, poolFor } from '../../domain/ids.ts';
import type { IpamContext } from '../context.ts';
import { type Enis, notOurs } from '../ec2/enis.ts';
import type { Cache } from '../pool/cache.ts';
import { idleElsewhere } from '../pool/steal.ts';
import type { WarmPools } from '../pool/warm-pool.ts';
import { logEarlyReuse } from './claim-free.ts';
import { createDeadline } from './deadline.ts';
import { claimEarly, READY_LOOK } from './early-reuse.ts';
import { type Exhausted, exhausted } from './exhausted.ts';
import type { Glances } from './glances.ts';
import { claimNamed } from './named.ts';
import type { Releases } from './release.ts';
import type { AddressRequest, Asked, Given } from './request.ts';
import { isEc2Away, isStoreDown, type Outages, type Patience } from './retry.ts';
import type { Rollbacks } from './rollback.ts';

/** Between two looks at what rests or is about to be settled: doubling from the first to the last. */
const LOOK_AGAIN_MIN_MS = 50;
const LOOK_AGAIN_MAX_MS = 2_000;
/** A request that comes when an outage has lasted for longer than requests wait is tried once all the same. For so long
 *  it goes on with that: EC2 and the ledger may have come back. */
const ONE_TRY_MS = 5_000;
/** A request that has waited for EC2 for so long gets early what rests on its ENI, in milliseconds. */
const REUSE_AFTER_MS = 2_000;
/** The longest wait for an undo, in milliseconds; the keeper goes on with it. */
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

  async function request(asked: AddressRequest): Promise<Given> {
    if (rollbacks.isFull)
      throw new IpamError('unavailable', 'too many claims wait to be rolled back', {
        hint: 'look whether the ledger can be written, and try again',
      });
    const patience = { startedAt: clock(), caller: asked.caller };
    return await outages.store.retryWhile(isStoreDown, () => tryOnce(asked, patience), patience);
  }

  async function tryOnce(asked: AddressRequest, patience: Required<Patience>): Promise<Given> {
    const { pool, named } = asked;
    const { startedAt } = patience;
    const outage = outages.ec2(pool.eni);
    const withRetry = <T>(work: () => Promise<T>) => outage.retryWhile(isEc2Away, work, patience);
    // What costs EC2 nothing says nothing of EC2's outage.
    const own = enis.recall(pool.eni) ?? (await withRetry(() => enis.own(pool.eni)));
    if (own === null) throw notOurs(pool.eni, context);
    poolFor(pool.eni, own.subnet.cidr, pool.range); // whoever asks may name any range
    const home = await enis.wanted(own);
    const leastUntil = startedAt + Math.min(ONE_TRY_MS, policy.requestTimeoutMs);
    const deadline = createDeadline(context, asked.caller, () =>
      Math.max(leastUntil, Math.min(outage.deadline(startedAt), outages.store.deadline(startedAt))),
    );
    const going: Asked = {
      ...{ ...asked, home, startedAt, withRetry },
      releasing: ip => releases.underWay(pool.eni, ip),
      isTimeUp: deadline.isPast,
      get signal() {
        return deadline.signal;
      },
    };
    try {
      const row = await (named === null ? claimAny(going) : claimNamed(context, going, named));
      cache.note(row);
      warm.claimed({ home, range: pool.range });
      return { row, home };
    } finally {
      deadline.end();
    }
  }

  async function claimAny(asked: Asked): Promise<Allocation> {
    const { home, pool } = asked;
    let isLast = false;
    for (let pauseMs = LOOK_AGAIN_MIN_MS; ; ) {
      asked.caller.throwIfAborted();
      const row = cache.take(home.eni.id, pool.range) ?? takeEarly(asked) ?? (await takeReady(asked));
      const claimed = row === null ? null : await claim(row, asked);
      if (claimed !== null) return claimed;
      if (isLast) throw beaten(asked);
      const filled =
        row === null
          ? await withRetry(asked, () => warm.fill({ home, range: pool.range }, asked.signal))
          : ({ outcome: 'ready' } as const);
      if ('ip' in filled) return filled;
      const late = asked.isTimeUp();
      if (filled.outcome === 'ready') {
        isLast = late; // one last claim, since addresses were assigned for this request
        continue;
      }
      const reused = policy.strictReuse ? null : await claimResting(asked, filled);
      if (reused !== null) return reused;
      if (late) throw exhausted(policy, home, filled);
      if (!(await mayChangeSoon(asked, filled))) {
        if (await glances.changed(home.subnet.id, asked.signal)) continue;
        throw exhausted(policy, home, filled);
      }
      // Those who wait for the same thing look again at different moments.
      const jitteredMs = pauseMs * (0.5 + context.random());
      await wait(jitteredMs, asked.signal);
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
    else if (now !== null) logEarlyReuse(context, home.eni.id, row, now);
    return claimed ?? null;
  }

  /** Those who wait together take one each of what is remembered, before they compete for what is read. */
  async function claimResting(asked: Asked, why: Exhausted): Promise<Allocation | null> {
    const row = takeEarly(asked);
    const claimed = row === null ? null : await claim(row, asked);
    return claimed ?? (await withRetry(asked, () => claimEarly(context, enis, asked, why)));
  }

  /** Retries `work` while EC2 is unavailable. Soon an address that rests on the ENI will do, as when the ENI is full. */
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

  /** Whether waiting could help: a release is under way or owed, something rests, others were quicker with what is idle
   *  elsewhere, or a call that somebody has just sent is under way. */
  async function mayChangeSoon({ home, pool }: Asked, why: Exhausted): Promise<boolean> {
    const isOfUse = ({ ip }: { readonly ip: Ipv4 }) => pool.range === null || contains(pool.range, ip);
    const releasing = releases.pending(home, why.outcome === 'eni full' ? 'eni' : 'subnet');
    if (releasing.some(ip => isOfUse({ ip }))) return true;
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
