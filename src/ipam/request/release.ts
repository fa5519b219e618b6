/** A container gives its address up. */
import type { Ipv4 } from '../../domain/address.ts';
import { type Allocation, moveToGiveUp } from '../../domain/allocation.ts';
import { IpamError } from '../../domain/error.ts';
import {
  afterLook,
  afterNo,
  afterTry,
  type Evidence,
  judge,
  type Moment,
  onArrival,
} from '../../domain/holding.ts';
import type { EniId, Pool } from '../../domain/ids.ts';
import type { IpamContext } from '../context.ts';
import type { Enis, Home } from '../ec2/enis.ts';
import type { Cache } from '../pool/cache.ts';
import type { WarmPools } from '../pool/warm-pool.ts';
import { isEc2Away, isStoreDown, type Outages } from './retry.ts';

/** Tries of a compare-and-set that others keep winning. */
const TRIES_MAX = 5;
/** Releases that are remembered while the store is away; more are lost, as the log says. */
const OWED_MAX = 10_000;
export interface Releases {
  /** Gives up the holding that the pool's ENI had of the address when this was called; false: it was not that ENI's to
   *  give up. `opened` resolves when the ledger can be used. */
  release(pool: Pool, ip: Ipv4, opened?: () => Promise<void>): Promise<boolean>;
  /** Resolves when those releases of the address have ended that are under way in this process, or owed; null: there is
   *  none. */
  underWay(eni: EniId, ip: Ipv4): Promise<unknown> | null;
  /** Makes the releases that failed since the store was away for longer than a request waits: Docker sends a release
   *  once. Throws store-down, and keeps what is left. */
  settleOwed(): Promise<void>;
  /** The addresses of those. */
  owed(): Ipv4[];
}

/** A release on its way. */
interface Release {
  readonly pool: Pool;
  readonly ip: Ipv4;
  /** The holding as this process remembered it when the release arrived. It may have ended at another server since: then
   *  the compare-and-set says no, and the ledger is read. */
  readonly remembered: Allocation | null;
  /** What is known of the holding that it is to end: it grows with each try and each look. */
  known: Evidence;
}

interface Parts {
  readonly enis: Enis;
  readonly cache: Cache;
  readonly warm: WarmPools;
  readonly outages: Outages;
}

/** The ENI, and whether it has left the instance of an embedded ledger. */
type Place = Home & { readonly isAway: boolean };

export function createReleases(context: IpamContext, { enis, cache, warm, outages }: Parts): Releases {
  const { log } = context;
  const moment = (): Moment => ({ least: context.clock(), most: context.deadlineClock() });
  const pending = new Map<string, Set<Promise<unknown>>>();
  /** Releases to be made later, and what tells that one has ended. */
  const owing = new Map<Release, () => void>();

  function release(
    pool: Pool,
    ip: Ipv4,
    opened: () => Promise<void> = () => Promise.resolve(),
  ): Promise<boolean> {
    const key = `${pool.eni} ${ip}`;
    const known = onArrival(moment(), cache.storeNow());
    const one: Release = { pool, ip, remembered: cache.holding(pool.eni, ip), known };
    const work = opened().then(() => carryOut(one, context.clock()));
    const over = () => forget(key, ended);
    const ended: Promise<void> = work.then(over, error => owe(one, error).then(over));
    pending.set(key, (pending.get(key) ?? new Set()).add(ended));
    return work;
  }

  /** Resolves when the release has been made after all, or can't be. */
  async function owe(one: Release, error: unknown): Promise<void> {
    if (!isStoreDown(error)) return;
    if (owing.size < OWED_MAX) return await new Promise<void>(ended => owing.set(one, ended));
    log('error', 'release lost', { eni: one.pool.eni, ip: one.ip, error: error.line });
  }

  async function settleOwed(): Promise<void> {
    const [first, ...others] = owing.keys();
    if (first === undefined) return;
    try {
      await settleOne(first);
    } catch (error) {
      // One is enough to find the store away; where somebody keeps its row locked, the others are made.
      if (!isStoreDown(error) || error.addresses.length === 0) throw error;
    }
    await Promise.all(others.map(settleOne));
  }

  async function settleOne(one: Release): Promise<void> {
    const { pool, ip } = one;
    try {
      const made = await carryOut(one, Number.NEGATIVE_INFINITY);
      log('info', 'release made late', { eni: pool.eni, ip, made });
    } catch (error) {
      if (isStoreDown(error)) throw error;
      log('error', 'release lost', { eni: pool.eni, ip, error });
    }
    owing.get(one)?.();
    owing.delete(one);
  }

  function forget(key: string, ended: Promise<unknown>): void {
    const left = pending.get(key);
    left?.delete(ended);
    if (left?.size === 0) pending.delete(key);
  }

  /** `startedAt`: since when it may wait for a store or EC2 that is away; long ago, it is tried once. */
  async function carryOut(one: Release, startedAt: number): Promise<boolean> {
    const { pool } = one;
    const own = () => enis.own(pool.eni);
    return await outages.store.retryWhile(
      isStoreDown,
      async () => {
        const known = enis.recall(pool.eni);
        const away = known === null ? await enis.away(pool.eni) : null;
        if (away !== null) return await endIn({ ...away, isAway: true }, one);
        const home = known ?? (await outages.ec2(pool.eni).retryWhile(isEc2Away, own, { startedAt }));
        // What stands on it is not this ledger's to give up, even where the ledger writes it down.
        return home !== null && (await endIn({ ...home, isAway: false }, one));
      },
      { startedAt },
    );
  }

  async function endIn(home: Place, one: Release): Promise<boolean> {
    const { ip, remembered } = one;
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      const isRead = remembered === null || one.known.tried !== null;
      const row = isRead ? await look(home, one) : remembered;
      if (row === 'again') continue;
      const isIts = row !== undefined && row.iface === home.eni.id && ip !== home.eni.primary;
      // What is not held on an ENI that has left may be another ledger's by now.
      const mayEnd = isIts && (!home.isAway || row.status === 'allocated');
      const move = mayEnd ? moveToGiveUp(row) : null;
      if (row === undefined || move === null) return one.known.tried !== null && row?.status !== 'occupied';
      one.known = afterTry(one.known, row, isRead, moment());
      const [moved] = await context.store.move([{ row, move }]);
      if (moved !== undefined) {
        cache.note(moved);
        warm.released({ home, range: one.pool.range });
        return true;
      }
      one.known = afterNo(one.known);
    }
    throw new IpamError('unavailable', `${ip} changed each time it was to be released`, {
      hint: 'release it again',
    });
  }

  /** The row if the release may end what it says; undefined: it may not, or there is none. */
  async function look({ subnet, eni }: Home, one: Release): Promise<Allocation | 'again' | undefined> {
    const { ip } = one;
    const sentAt = moment();
    const { rows, now } = await context.store.get(subnet.id, [ip]);
    const seen = { row: rows[0], now, sentAt, heardAt: moment() };
    one.known = afterLook(one.known, seen);
    const judged = judge(one.known, seen);
    if (judged === 'again') return 'again';
    if (judged === 'kept' || judged === 'unsure')
      log('warn', 'release refused: the address may have been given anew', {
        ...{ eni: eni.id, ip, holder: seen.row?.holder },
      });
    if (judged === 'unsure')
      throw new IpamError(
        'unavailable',
        `${ip} may have been given anew before this release came to the ledger`,
        { hint: `if nobody uses it, run \`ec2-ipam release ${subnet.id} ${ip}\`` },
      );
    return judged === 'meant' ? seen.row : undefined;
  }

  return {
    release,
    underWay: (eni, ip) => {
      const all = pending.get(`${eni} ${ip}`);
      return all === undefined ? null : Promise.all(all);
    },
    settleOwed,
    owed: () => [...owing.keys()].map(one => one.ip),
  };
}

/** What an operator's order to give up the address comes to: a move, or why there is none. `ours`: its ENI belongs
 *  to this ledger. */
export function operatorRelease(
  row: Allocation,
  ours: boolean,
): { move: ReturnType<typeof moveToGiveUp>; refusal: string } {
  const no = (refusal: string) => ({ move: null, refusal });
  const move = moveToGiveUp(row);
  if (row.primary) return no(`${row.ip} is the primary address of ${row.iface}, which is never given up`);
  if (row.status === 'occupied' && row.iface === null)
    return no(
      `${row.ip} is on no ENI that is known; it is free once EC2 has shown it on none for long enough`,
    );
  if (move === null) return no(`${row.ip} is ${row.status}: nobody holds it`);
  if (!ours)
    return no(
      `${row.iface} is not an ENI of this ledger: what it carries is somebody else's. If it is yours, run \`ec2-ipam adopt ${row.iface}\` first`,
    );
  return { move, refusal: '' };
}
