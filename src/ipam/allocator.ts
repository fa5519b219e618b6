/** Gives addresses to containers and takes them back. */
import { contains, formatCidr, type Ipv4 } from '../domain/address.ts';
import { type Allocation, isRested, moveToGiveUp } from '../domain/allocation.ts';
import { IpamError, isError } from '../domain/error.ts';
import type { EniId, Pool } from '../domain/ids.ts';
import { assignCold, type Cold } from './cold.ts';
import type { Enis, Home } from './enis.ts';
import { type GiveBack, isSameHolding } from './give-back.ts';
import { assign } from './intents.ts';
import type { Machine } from './machine.ts';
import { claimNamed } from './named.ts';
import { Outage } from './outage.ts';

/** Ready addresses looked at together. */
const READY_LOOK = 16;
/** Tries of a compare-and-set that others keep winning. */
const RELEASE_TRIES_MAX = 5;
/** Between two looks at what rests or is about to be settled: doubling from the first to the last. */
const LOOK_AGAIN_MIN_MS = 50;
const LOOK_AGAIN_MAX_MS = 2_000;
/** ENIs whose outages are remembered: whoever asks may name any. */
const OUTAGES_MAX = 10_000;

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
}

export interface Allocator {
  /** Gives an address; durable when it answers. Throws bad-request, conflict, exhausted, caller-gone, and after
   *  the longest wait of a request what kept it waiting. */
  request(asked: AddressRequest): Promise<Given>;
  /** The holder on the pool's ENI gives the address up; false: it was not that ENI's to give up. */
  release(pool: Pool, ip: Ipv4): Promise<boolean>;
  /** The answer to this claim reached nobody: as if it had not been made. */
  undo(row: Allocation): Promise<void>;
}

const isStoreDown = (error: unknown): error is IpamError => isError(error, 'store-down');
const isEc2Away = (error: unknown): error is IpamError =>
  isError(error, 'ec2-unknown', 'ec2-unreachable', 'ec2-throttled');

export function allocator(machine: Machine, enis: Enis, nobodys: GiveBack, storeOutage: Outage): Allocator {
  const { store, policy, clock, wait, log } = machine;
  const ec2Outages = new Map<EniId, Outage>();
  const colds = new Map<string, { done: Promise<Cold>; waiting: number }>();
  let earlyReuses = 0;

  /** An EC2 outage is an ENI's own: a call that hangs on one ENI delays no other. */
  function ec2Outage(eni: EniId): Outage {
    const known = ec2Outages.get(eni);
    if (known !== undefined) return known;
    const [oldest] = ec2Outages.size >= OUTAGES_MAX ? ec2Outages.keys() : [];
    if (oldest !== undefined) ec2Outages.delete(oldest);
    const outage = new Outage(policy.requestTimeoutMs, machine);
    ec2Outages.set(eni, outage);
    return outage;
  }

  async function request(asked: AddressRequest): Promise<Given> {
    const startedAt = clock();
    const outage = ec2Outage(asked.pool.eni);
    const patiently = <T>(work: () => Promise<T>): Promise<T> =>
      outage.endure(isEc2Away, asked.gone, work, startedAt);
    const stopIfGone = () => {
      if (asked.gone()) throw new IpamError('caller-gone', 'the caller has gone');
    };
    return await storeOutage.endure(
      isStoreDown,
      asked.gone,
      async () => {
        const { eni } = asked.pool;
        // What costs EC2 nothing says nothing of EC2's outage.
        const home = enis.recall(eni) ?? (await patiently(() => enis.adopt(eni)));
        const until = () => Math.min(outage.deadline(startedAt), storeOutage.deadline(startedAt));
        const going: Asked = { ...asked, home, until, patiently, stopIfGone };
        return {
          row: await (asked.named === null ? claimAny(going) : claimNamed(machine, going, asked.named)),
          home,
        };
      },
      startedAt,
    );
  }

  async function claim(row: Allocation, { holder }: Asked): Promise<Allocation | null> {
    const [claimed] = await store.move([{ row, move: 'claim', holder }]);
    return claimed ?? null;
  }

  async function claimAny(asked: Asked): Promise<Allocation> {
    for (let pauseMs = LOOK_AGAIN_MIN_MS; ; ) {
      asked.stopIfGone();
      const { rows, now } = await store.readyOn(asked.home.eni.id, asked.pool.range, READY_LOOK);
      const rested = rows.filter(row => isRested(row, asked.home.eni.id, policy, now));
      for (const row of rested) {
        const claimed = await claim(row, asked);
        if (claimed !== null) return claimed;
      }
      const late = clock() >= asked.until();
      const cold = rested.length > 0 ? null : await asked.patiently(() => shareCold(asked));
      if (cold === null || cold.outcome === 'assigned') {
        if (late) throw beaten(asked);
        continue;
      }
      const early = policy.strictReuse ? null : await asked.patiently(() => reuseEarly(asked, cold));
      if (early !== null) return early;
      if (late || !(await mayChangeSoon(asked, cold))) throw exhausted(asked, cold);
      await wait(Math.min(pauseMs, Math.max(asked.until() - clock(), 0)));
      pauseMs = Math.min(pauseMs * 2, LOOK_AGAIN_MAX_MS);
    }
  }

  /** All who wait for one cold ENI share one assign. */
  async function shareCold({ pool, home, until }: Asked): Promise<Cold> {
    const key = `${pool.eni} ${pool.range === null ? '' : formatCidr(pool.range)}`;
    const shared = colds.get(key) ?? { waiting: 0, done: Promise.resolve<Cold>({ outcome: 'assigned' }) };
    shared.waiting++;
    if (!colds.has(key)) {
      colds.set(key, shared);
      const asked = { range: pool.range, waiting: () => shared.waiting, until: until() };
      shared.done = assignCold(machine, enis, home, asked).finally(() => colds.delete(key));
    }
    return await shared.done;
  }

  /** With nothing rested left: the address that has rested longest, of those ready here and those free. */
  async function reuseEarly(asked: Asked, cold: Cold): Promise<Allocation | null> {
    const { home, pool } = asked;
    const { rows, now } = await store.readyOn(home.eni.id, pool.range, READY_LOOK);
    const ready = rows.at(0) ?? null;
    const free = cold.outcome === 'subnet dry' ? cold.resting : null;
    const chosen = free === null || (ready !== null && since(ready) <= since(free)) ? ready : free;
    if (chosen === null) return null;
    const here = chosen.status === 'ready' ? chosen : await assignOne(chosen, asked);
    const claimed = here === null ? null : await claim(here, asked);
    if (claimed !== null && !isRested(chosen, home.eni.id, policy, now)) logEarly(chosen, asked, now);
    return claimed;
  }

  async function assignOne(row: Allocation, asked: Asked): Promise<Allocation | null> {
    const { ready, error } = await assign(machine, asked.home.eni.id, [row]);
    if (isError(error, 'ec2-limit')) throw exhausted(asked, { outcome: 'eni full', held: null });
    if (isError(error, 'ec2-subnet-full')) throw exhausted(asked, { outcome: 'subnet dry', resting: null });
    if (error !== null) throw error;
    return ready[0] ?? null;
  }

  function logEarly(row: Allocation, { home }: Asked, now: number): void {
    earlyReuses++;
    const restedMs = now - since(row);
    log('warn', 'early reuse', {
      eni: home.eni.id,
      ip: row.ip,
      restedMs,
      restedFrom: row.restedFrom,
      count: earlyReuses,
    });
  }

  /** Whether waiting could help: something rests, or a call that somebody has just sent is under way. */
  async function mayChangeSoon({ home, pool }: Asked, cold: Cold): Promise<boolean> {
    if (cold.outcome === 'subnet dry' && cold.resting !== null) return true;
    const { rows, now } = await store.onEni(home.eni.id);
    return rows.some(
      row =>
        (row.status === 'ready' && (pool.range === null || contains(pool.range, row.ip))) ||
        (row.status.endsWith('assigning') && now - row.movedAt < policy.callDeadlineMs),
    );
  }

  function exhausted({ home: { eni, subnet } }: Asked, full: Full): IpamError {
    const strict = policy.strictReuse ? ' that has rested (--strict-reuse is on)' : '';
    if (full.outcome === 'eni full')
      return new IpamError(
        'exhausted',
        `${eni.id} has no address left${strict}: it holds ${full.held ?? 'as many as it may'} beside its primary`,
        {
          hint: 'stop a container there, or use a larger instance type or a further ENI',
        },
      );
    return new IpamError(
      'exhausted',
      `${subnet.id} (${formatCidr(subnet.cidr)}) has no free address left${strict} for ${eni.id}`,
      {
        hint: 'run `ec2-ipam recycle` to take back idle ones, or use a larger subnet',
      },
    );
  }

  /** A try that failed for the store may have been made after all, and when the next one looks, somebody else may
   *  hold the address: only the holding of the first look is ended. */
  async function release(pool: Pool, ip: Ipv4): Promise<boolean> {
    const outage = ec2Outage(pool.eni);
    const here = () => false;
    let held: Allocation | null = null;
    return await storeOutage.endure(isStoreDown, here, async () => {
      const { eni, subnet } = await outage.endure(isEc2Away, here, () => enis.adopt(pool.eni));
      for (let tries = 0; tries < RELEASE_TRIES_MAX; tries++) {
        const [row] = (await store.get(subnet.id, [ip])).rows;
        const move =
          row === undefined || row.iface !== eni.id || ip === eni.primary ? null : moveToGiveUp(row);
        if (row === undefined || move === null) return held !== null;
        held ??= row;
        if (!isSameHolding(row, held)) return true;
        const [moved] = await store.move([{ row, move }]);
        if (moved !== undefined) return true;
      }
      throw new IpamError('unavailable', `${ip} changed each time it was to be released`, {
        hint: 'release it again',
      });
    });
  }

  async function undo(row: Allocation): Promise<void> {
    nobodys.add(row);
    try {
      await nobodys.settle();
    } catch (error) {
      if (!isStoreDown(error)) throw error; // the keeper goes on
    }
  }

  return { request, release, undo };
}

type Full =
  | Exclude<Cold, { outcome: 'assigned' | 'eni full' }>
  | { readonly outcome: 'eni full'; readonly held: number | null };

const since = (row: Allocation): number => row.restedSince ?? Number.NEGATIVE_INFINITY;

const beaten = ({ home }: Asked): IpamError =>
  new IpamError('unavailable', `others kept taking what became ready on ${home.eni.id}`, {
    hint: 'try again',
  });
