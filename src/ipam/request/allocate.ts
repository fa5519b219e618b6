/** Gives addresses to containers and takes them back. */
import { contains, type Ipv4 } from '../../domain/address.ts';
import { type Allocation, isRested } from '../../domain/allocation.ts';
import { IpamError } from '../../domain/error.ts';
import type { EniId, Pool } from '../../domain/ids.ts';
import type { Machine } from '../context.ts';
import { type Enis, type Home, notOurs } from '../ec2/enis.ts';
import type { Hints } from '../pool/cache.ts';
import { idleElsewhere } from '../pool/steal.ts';
import type { WarmPools } from '../pool/warm-pool.ts';
import { earlyReuse } from './early-reuse.ts';
import { type Exhausted, exhausted } from './exhausted.ts';
import type { Glances } from './glances.ts';
import { claimNamed } from './named.ts';
import { isEc2Away, isStoreDown, type Outages } from './outages.ts';
import { type Releases, releases } from './release.ts';
import type { GiveBack } from './rollback.ts';

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

export interface AddressRequest {
  readonly pool: Pool;
  /** The address that must be given, or null for any. */
  readonly named: Ipv4 | null;
  /** The container's name, where the engine tells it. */
  readonly holder: string | null;
  /** Whether nobody waits for the answer any more. */
  readonly gone: () => boolean;
}
export interface Given {
  readonly row: Allocation;
  readonly home: Home;
}

/** A request on its way. */
export interface Asked extends AddressRequest {
  readonly home: Home;
  /** When it has waited long enough, on the process's monotonic clock. */
  readonly until: () => number;
  /** Tries again while EC2 is away, until then. */
  patiently<T>(work: () => Promise<T>): Promise<T>;
  /** Throws caller-gone. */
  stopIfGone(): void;
  /** Resolves when those releases of the address on the ENI have ended that this process has in hand; null: it has
   *  none. */
  releasing(ip: Ipv4): Promise<unknown> | null;
}

export interface Allocator {
  /** Gives an address; durable when it answers. Throws bad-request, conflict, exhausted, caller-gone, and after
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
  readonly nobodys: GiveBack;
  readonly hints: Hints;
  readonly warm: WarmPools;
  readonly outages: Outages;
}

export function allocator(
  machine: Machine,
  { enis, glances, nobodys, hints, warm, outages }: AllocatorParts,
): Allocator {
  const { store, policy, clock, wait } = machine;
  const looks = new Map<EniId, Promise<void>>();
  const ofContainers: Releases = releases(machine, { enis, hints, warm, outages });
  const early = earlyReuse(machine, enis);

  async function request(asked: AddressRequest): Promise<Given> {
    if (nobodys.isFull)
      throw new IpamError('unavailable', 'too many addresses wait to be given back', {
        hint: 'look whether the ledger can be written, and try again',
      });
    const startedAt = clock();
    const outage = outages.ec2(asked.pool.eni);
    const patiently = <T>(work: () => Promise<T>): Promise<T> =>
      outage.endure(isEc2Away, asked.gone, work, startedAt);
    const stopIfGone = () => {
      if (asked.gone()) throw new IpamError('caller-gone', 'the caller has gone');
    };
    return await outages.store.endure(
      isStoreDown,
      asked.gone,
      async () => {
        const { eni } = asked.pool;
        // What costs EC2 nothing says nothing of EC2's outage.
        const own = enis.recall(eni) ?? (await patiently(() => enis.own(eni)));
        if (own === null) throw notOurs(eni, machine);
        const home = await enis.wanted(own);
        const leastUntil = startedAt + Math.min(ONE_TRY_MS, policy.requestTimeoutMs);
        const until = () =>
          Math.max(leastUntil, Math.min(outage.deadline(startedAt), outages.store.deadline(startedAt)));
        const releasing = (ip: Ipv4) => ofContainers.underWay(eni, ip);
        const going: Asked = { ...asked, home, until, patiently, stopIfGone, releasing };
        const row = await (asked.named === null ? claimAny(going) : claimNamed(machine, going, asked.named));
        hints.note(row);
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
      const row = hints.take(home.eni.id, pool.range) ?? takeEarly(asked) ?? (await takeReady(asked));
      const claimed = row === null ? null : await claim(row, asked);
      if (claimed !== null) return claimed;
      if (isLast) throw beaten(asked);
      const filled =
        row === null
          ? await asked.patiently(() => warm.fill({ home, range: pool.range }, asked.until))
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
      const jitteredMs = pauseMs * (0.5 + machine.random());
      await wait(Math.min(jitteredMs, Math.max(asked.until() - clock(), 0)));
      pauseMs = Math.min(pauseMs * 2, LOOK_AGAIN_MAX_MS);
    }
  }

  /** A row that was taken from what is remembered. */
  async function claim(row: Allocation, asked: Asked): Promise<Allocation | null> {
    const { home, holder } = asked;
    const now = hints.storeNow();
    let claimed: Allocation | undefined;
    try {
      [claimed] = await store.move([{ row, move: 'claim', holder }]);
    } catch (error) {
      if (isStoreDown(error) && error.addresses.includes(row.ip)) hints.avoid(row); // the next try takes another
      throw error;
    } finally {
      hints.settled(row, claimed !== undefined);
    }
    if (claimed === undefined) warm.changed({ home, range: asked.pool.range });
    else if (now !== null && !isRested(row, home.eni.id, policy, now)) early.logged(row, asked, now);
    return claimed ?? null;
  }

  /** Those who wait together take one each of what is remembered, before they compete for what is read. */
  async function claimEarly(asked: Asked, why: Exhausted): Promise<Allocation | null> {
    const row = takeEarly(asked);
    const claimed = row === null ? null : await claim(row, asked);
    return claimed ?? (await asked.patiently(() => early.claim(asked, why)));
  }

  /** With nothing rested, as a fill has found just now: the one that has rested longest, without another look. */
  function takeEarly({ home, pool }: Asked): Allocation | null {
    const sinceMax = policy.strictReuse ? null : warm.earlySince({ home, range: pool.range });
    return sinceMax === null ? null : hints.takeResting(home.eni.id, pool.range, sinceMax);
  }

  /** Nothing is remembered: another server may have made some ready. Those who ask together read once. */
  async function takeReady({ home, pool }: Asked): Promise<Allocation | null> {
    const { id } = home.eni;
    const look =
      looks.get(id) ??
      store
        .readyOn(id, null, READY_LOOK)
        .then(ready => hints.learn(id, ready))
        .finally(() => looks.delete(id));
    looks.set(id, look);
    await look;
    return hints.take(id, pool.range);
  }

  /** Whether waiting could help: something rests, others were quicker with what is idle elsewhere, or a call that
   *  somebody has just sent is under way. */
  async function mayChangeSoon({ home, pool }: Asked, why: Exhausted): Promise<boolean> {
    const isOfUse = (row: Allocation) => pool.range === null || contains(pool.range, row.ip);
    if (why.outcome === 'subnet dry') {
      if (why.resting !== null) return true;
      if ((await idleElsewhere(machine, enis, home, pool.range, 'any')).length > 0) return true;
      // What somebody else has just tried in vain is free again.
      const query = { subnet: home.subnet.id, eni: home.eni.id, range: pool.range, rest: policy };
      const free = await store.freeFor({ ...query, which: 'rested', limit: 1 });
      if (!why.byEc2 && free.rows.length > 0) return true;
      // What comes to another ENI of ours is idle there then.
      const { rows, now } = await store.withStatus(home.subnet.id, ['assigning', 'unassigning']);
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
    nobodys.add(row);
    const settled = new AbortController();
    try {
      await Promise.race([nobodys.settle(), wait(UNDO_MAX_MS, settled.signal)]);
    } catch (error) {
      if (!isStoreDown(error)) throw error; // the keeper goes on
    } finally {
      settled.abort();
    }
  }

  return {
    request,
    release: ofContainers.release,
    undo,
  };
}

const beaten = ({ home }: Asked): IpamError =>
  new IpamError('unavailable', `others kept taking what became ready on ${home.eni.id}`, {
    hint: 'try again',
  });
