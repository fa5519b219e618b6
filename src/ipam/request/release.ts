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
import { isEc2Away, isLocked, isStoreDown, type Outages } from './retry.ts';

/** Tries of a compare-and-set that others keep winning. */
const TRIES_MAX = 5;
/** Releases that are remembered while the store is away; more are lost, as the log says. */
const OWED_MAX = 10_000;
/** Owed releases that are made at a time: the requests of the server share the store's connections with them. */
const OWED_AT_ONCE = 50;

export interface Releases {
  /** Gives up the holding that the pool's ENI had of the address when this was called; false: it was not that ENI's
   *  to give up. `opened` resolves when the ledger can be used. */
  release(pool: Pool, ip: Ipv4, opened?: () => Promise<void>): Promise<boolean>;
  /** Resolves when those releases of the address have ended that are under way in this process, or owed; null:
   *  there is none. */
  underWay(eni: EniId, ip: Ipv4): Promise<unknown> | null;
  /** The addresses whose releases are under way in this process, or owed: those on the ENI, or on all ENIs of its
   *  subnet. */
  pending(home: Home, on: 'eni' | 'subnet'): Ipv4[];
  /** Makes the releases that failed since the store was away for longer than a request waits: Docker sends a
   *  release once. Keeps those whose row somebody has locked. Throws store-down, and keeps what is left. Calls made
   *  while one is under way share it. */
  settleOwed(): Promise<void>;
  /** The addresses of those. */
  owed(): Ipv4[];
}

/** A release on its way. */
interface Release {
  readonly pool: Pool;
  readonly ip: Ipv4;
  /** The holding as this process remembered it when the release arrived. It may have ended at another server since:
   *  then the compare-and-set says no, and the ledger is read. */
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
  const underWay = new Map<EniId, Map<Ipv4, Set<Promise<unknown>>>>();
  /** Releases to be made later, and what tells that one has ended. */
  const owing = new Map<Release, () => void>();
  let settling: Promise<void> | null = null;

  function release(
    pool: Pool,
    ip: Ipv4,
    opened: () => Promise<void> = () => Promise.resolve(),
  ): Promise<boolean> {
    const known = onArrival(moment(), cache.storeNow());
    const one: Release = { pool, ip, remembered: cache.holding(pool.eni, ip), known };
    const work = opened().then(() => makeInTime(one));
    const over = () => forget(one, ended);
    const ended: Promise<void> = work.then(over, error => owe(one, error).then(over));
    const onEni = underWay.get(pool.eni) ?? new Map<Ipv4, Set<Promise<unknown>>>();
    underWay.set(pool.eni, onEni.set(ip, (onEni.get(ip) ?? new Set()).add(ended)));
    return work;
  }

  /** Resolves when the release has been made after all, or can't be. */
  async function owe(one: Release, error: unknown): Promise<void> {
    if (!isStoreDown(error)) return;
    if (owing.size < OWED_MAX) return await new Promise<void>(ended => owing.set(one, ended));
    log('error', 'release lost', { eni: one.pool.eni, ip: one.ip, error: error.line });
  }

  async function settleOwed(): Promise<void> {
    settling ??= settleAll().finally(() => {
      settling = null;
    });
    await settling;
  }

  /** The first alone: one is enough to find the store away. */
  async function settleAll(): Promise<void> {
    const left = [...owing.keys()];
    let isAway = false;
    const settleNext = async () => {
      const one = left.shift();
      if (one !== undefined) await settleOne(one);
    };
    const settleLeft = async () => {
      try {
        while (left.length > 0 && !isAway) await settleNext();
      } catch (error) {
        isAway = true;
        throw error;
      }
    };
    await settleNext();
    const results = await Promise.allSettled(Array.from({ length: OWED_AT_ONCE }, settleLeft));
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  async function settleOne(one: Release): Promise<void> {
    const { pool, ip } = one;
    const ended = owing.get(one);
    try {
      const made = await make(one);
      log('info', 'release made late', { eni: pool.eni, ip, made });
    } catch (error) {
      if (isStoreDown(error) && !isLocked(error)) throw error;
      if (isStoreDown(error) || isEc2Away(error)) {
        // Its row is locked, or EC2 does not say whose its ENI is: next time the others go first.
        owing.delete(one);
        if (ended !== undefined) owing.set(one, ended);
        return;
      }
      log('error', 'release lost', { eni: pool.eni, ip, error });
    }
    ended?.();
    owing.delete(one);
  }

  function forget({ pool, ip }: Release, ended: Promise<unknown>): void {
    const onEni = underWay.get(pool.eni);
    const left = onEni?.get(ip);
    left?.delete(ended);
    if (left?.size === 0) onEni?.delete(ip);
    if (onEni?.size === 0) underWay.delete(pool.eni);
  }

  /** Tries again while the store or EC2 is away, for as long as a request waits. */
  async function makeInTime(one: Release): Promise<boolean> {
    const { eni } = one.pool;
    const patience = { startedAt: context.clock() };
    const own = () => outages.ec2(eni).retryWhile(isEc2Away, () => enis.own(eni), patience);
    return await outages.store.retryWhile(isStoreDown, () => make(one, own), patience);
  }

  /** Once. What fails here is no outage that a request has met: it shortens no request's wait. */
  async function make(one: Release, own = () => enis.own(one.pool.eni)): Promise<boolean> {
    const { eni } = one.pool;
    const known = enis.recall(eni);
    const away = known === null ? await enis.away(eni) : null;
    if (away !== null) return await endIn({ ...away, isAway: true }, one);
    const home = known ?? (await own());
    // What stands on it is not this ledger's to give up, even where the ledger writes it down.
    return home !== null && (await endIn({ ...home, isAway: false }, one));
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
    underWay(eni, ip) {
      const all = underWay.get(eni)?.get(ip);
      return all === undefined ? null : Promise.all(all);
    },
    pending({ eni, subnet }, on) {
      // An ENI that this process has not read yet may be in any subnet.
      const isOfUse = (id: EniId) =>
        id === eni.id || (on === 'subnet' && (enis.recall(id)?.subnet.id ?? subnet.id) === subnet.id);
      return [...underWay].flatMap(([id, onEni]) => (isOfUse(id) ? [...onEni.keys()] : []));
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
