/** A container gives its address up. */
import type { Ipv4 } from '../../domain/address.ts';
import { type Allocation, moveToGiveUp } from '../../domain/allocation.ts';
import { IpamError } from '../../domain/error.ts';
import type { EniId, Pool } from '../../domain/ids.ts';
import type { IpamContext } from '../context.ts';
import type { Enis, Home } from '../ec2/enis.ts';
import type { Cache } from '../pool/cache.ts';
import type { WarmPools } from '../pool/warm-pool.ts';
import { isEc2Away, isStoreDown, type Outages } from './retry.ts';
import { isSameHolding } from './rollback.ts';

/** Tries of a compare-and-set that others keep winning. */
const TRIES_MAX = 5;
/** Looks at a row that may have been given anew: the quicker the answer, the closer it tells when. */
const LOOKS_MAX = 3;
/** A look that is answered so soon after the release arrived finds the holding that was meant, where clocks don't tell:
 *  nobody gives an address up and gets it anew so quickly. */
const PROMPT_MS = 250;
/** Releases that are remembered while the store is away; more are lost, as the log says. */
const OWED_MAX = 10_000;
/** The store's clock may have stepped by as much between a release and a look. */
const STEP_MS = 5_000;
/** The store's clock is read in whole milliseconds. */
const ROUNDING_MS = 1;

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

interface Owed {
  readonly pool: Pool;
  readonly ip: Ipv4;
  readonly ending: Ending;
  readonly settled: () => void;
}

interface Parts {
  readonly enis: Enis;
  readonly cache: Cache;
  readonly warm: WarmPools;
  readonly outages: Outages;
}

/** The ENI, and whether it has left the instance of an embedded ledger. */
type Place = Home & { readonly isAway: boolean };

/** When a release arrived: by our clocks, and no later than that by the store's clock; null: not known. */
interface Arrival {
  readonly at: Moment;
  readonly storeAt: number | null;
}

/** A row as the ledger had it, and when that was asked for and heard. */
interface Look {
  readonly row: Allocation | undefined;
  readonly now: number;
  readonly sentAt: Moment;
  readonly heardAt: Moment;
}

/** In milliseconds: the one clock passes as fast as real time at most, the other at least. */
interface Moment {
  readonly least: number;
  readonly most: number;
}

const nobodyHangsUp = () => false;

export function createReleases(context: IpamContext, { enis, cache, warm, outages }: Parts): Releases {
  const { log } = context;
  const moment = (): Moment => ({ least: context.clock(), most: context.deadlineClock() });
  const pending = new Map<string, Set<Promise<unknown>>>();
  const owing = new Set<Owed>();

  function release(
    pool: Pool,
    ip: Ipv4,
    opened: () => Promise<void> = () => Promise.resolve(),
  ): Promise<boolean> {
    const key = `${pool.eni} ${ip}`;
    const arrival = { at: moment(), storeAt: cache.storeNow() };
    const ending = endingOf(moment, arrival, cache.holding(pool.eni, ip));
    const work = opened().then(() => carryOut(pool, ip, ending, context.clock()));
    const over = () => forget(key, ended);
    const ended: Promise<void> = work.then(over, error => owe(error, pool, ip, ending).then(over));
    pending.set(key, (pending.get(key) ?? new Set()).add(ended));
    return work;
  }

  /** Resolves when the release has been made after all, or can't be. */
  async function owe(error: unknown, pool: Pool, ip: Ipv4, ending: Ending): Promise<void> {
    if (!isStoreDown(error)) return;
    if (owing.size >= OWED_MAX) return log('error', 'release lost', { eni: pool.eni, ip, error: error.line });
    await new Promise<void>(settled => owing.add({ pool, ip, ending, settled }));
  }

  async function settleOwed(): Promise<void> {
    const [first, ...others] = owing;
    if (first === undefined) return;
    try {
      await settleOne(first);
    } catch (error) {
      // One is enough to find the store away; where somebody keeps its row locked, the others are made.
      if (!isStoreDown(error) || error.addresses.length === 0) throw error;
    }
    await Promise.all(others.map(settleOne));
  }

  async function settleOne(one: Owed): Promise<void> {
    const { pool, ip, ending, settled } = one;
    try {
      const made = await carryOut(pool, ip, ending, Number.NEGATIVE_INFINITY);
      log('info', 'release made late', { eni: pool.eni, ip, made });
    } catch (error) {
      if (isStoreDown(error)) throw error;
      log('error', 'release lost', { eni: pool.eni, ip, error });
    }
    owing.delete(one);
    settled();
  }

  function forget(key: string, ended: Promise<unknown>): void {
    const left = pending.get(key);
    left?.delete(ended);
    if (left?.size === 0) pending.delete(key);
  }

  /** `startedAt`: since when it may wait for a store or EC2 that is away; long ago, it is tried once. */
  async function carryOut(pool: Pool, ip: Ipv4, ending: Ending, startedAt: number): Promise<boolean> {
    const own = () => enis.own(pool.eni);
    return await outages.store.retryWhile(
      isStoreDown,
      nobodyHangsUp,
      async () => {
        const known = enis.recall(pool.eni);
        const away = known === null ? await enis.away(pool.eni) : null;
        if (away !== null) return await endIn({ ...away, isAway: true }, pool, ip, ending);
        const home =
          known ?? (await outages.ec2(pool.eni).retryWhile(isEc2Away, nobodyHangsUp, own, startedAt));
        // What stands on it is not this ledger's to give up, even where the ledger writes it down.
        return home !== null && (await endIn({ ...home, isAway: false }, pool, ip, ending));
      },
      startedAt,
    );
  }

  async function endIn(home: Place, pool: Pool, ip: Ipv4, ending: Ending): Promise<boolean> {
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      const row = ending.remembered() ?? (await look(home, ip, ending));
      if (row === 'again') continue;
      const isIts = row !== undefined && row.iface === home.eni.id && ip !== home.eni.primary;
      // What is not held on an ENI that has left may be another ledger's by now.
      const mayEnd = isIts && (!home.isAway || row.status === 'allocated');
      const move = mayEnd ? moveToGiveUp(row) : null;
      if (row === undefined || move === null) return ending.wasTried && row?.status !== 'occupied';
      ending.tries(row);
      const [moved] = await context.store.move([{ row, move }]);
      if (moved !== undefined) {
        cache.note(moved);
        warm.released({ home, range: pool.range });
        return true;
      }
    }
    throw new IpamError('unavailable', `${ip} changed each time it was to be released`, {
      hint: 'release it again',
    });
  }

  /** The row if the release may end what it says; undefined: it may not, or there is none. */
  async function look(
    { subnet, eni }: Home,
    ip: Ipv4,
    ending: Ending,
  ): Promise<Allocation | 'again' | undefined> {
    const sentAt = moment();
    const { rows, now } = await context.store.get(subnet.id, [ip]);
    const [row] = rows;
    const judged = ending.judge({ row, now, sentAt, heardAt: moment() });
    if (judged === 'kept' || judged === 'unsure')
      log('warn', 'not released: it may have been given anew since', {
        eni: eni.id,
        ip,
        holder: row?.holder,
      });
    if (judged === 'unsure')
      throw new IpamError(
        'unavailable',
        `${ip} may have been given anew before this release came to the ledger`,
        {
          hint: `if nobody uses it, run \`ec2-ipam release ${subnet.id} ${ip}\``,
        },
      );
    if (judged === 'again') return 'again';
    return judged === 'meant' ? row : undefined;
  }

  return {
    release,
    underWay: (eni, ip) => {
      const all = pending.get(`${eni} ${ip}`);
      return all === undefined ? null : Promise.all(all);
    },
    settleOwed,
    owed: () => [...owing].map(one => one.ip),
  };
}

/** Which holding a release is to end: the one that there was when it arrived, and none that began later. That is told by
 *  what this process remembers, or else by the store's clock, which a look compares with ours: whoever sets it between
 *  the arrival and the look makes that wrong by as much. */
interface Ending {
  /** The holding as this process remembered it when the release arrived, once. It may have ended at another server
   *  since; then the compare-and-set says no, and the ledger is read. */
  remembered(): Allocation | null;
  /** The row is about to be moved. */
  tries(row: Allocation): void;
  readonly wasTried: boolean;
  /** What the ledger says now: the holding that was meant; one that began later, when that of the release had
   *  been ended before (`later`) or by somebody else (`kept`); `again`: another look may tell; `unsure`: none can. */
  judge(look: Look): 'meant' | 'later' | 'kept' | 'again' | 'unsure';
}

function endingOf(moment: () => Moment, arrival: Arrival, remembered: Allocation | null): Ending {
  let memory = remembered;
  let tried: { readonly row: Allocation; readonly isRead: boolean; readonly at: Moment } | null = null;
  let looks = 0;
  /** The store's clock less ours, as the looks say. */
  let aheadMinMs = Number.NEGATIVE_INFINITY;
  let aheadMaxMs = Number.POSITIVE_INFINITY;

  /** No later than that by the store's clock. What we took for its time when the release arrived counts only if it fits
   *  the looks: the clock may have been set back before. */
  const earliest = ({ most }: Moment): number => {
    const { storeAt, at } = arrival;
    const fits = storeAt !== null && storeAt <= at.least + aheadMaxMs;
    return fits ? Math.max(most + aheadMinMs, storeAt) : most + aheadMinMs;
  };

  /** Whether the first try, which was made after all, has given up what was given anew since. What was remembered may as
   *  well have ended before, at another server: then the row was given up before the try was sent. `maybe`: it was if the
   *  store's clock has been set forward between the try and the look. */
  function follows({ restedSince }: Allocation, firstTry: Moment): 'yes' | 'maybe' | 'no' {
    if (restedSince === null) return 'no';
    if (restedSince > earliest(firstTry) - ROUNDING_MS) return 'yes';
    const { storeAt, at } = arrival;
    const triedAt = storeAt === null ? null : storeAt + (firstTry.least - at.least);
    return restedSince > (triedAt ?? earliest(firstTry) - STEP_MS) - ROUNDING_MS ? 'maybe' : 'no';
  }

  return {
    remembered() {
      const row = memory;
      memory = null;
      return row;
    },
    tries(row) {
      const isRead = row !== remembered;
      tried = { row, isRead, at: tried?.at ?? moment() };
    },
    get wasTried() {
      return tried !== null;
    },
    judge({ row, now, sentAt, heardAt }) {
      const unsure = ++looks < LOOKS_MAX ? 'again' : 'unsure';
      aheadMinMs = Math.max(aheadMinMs, now - heardAt.most);
      aheadMaxMs = Math.min(aheadMaxMs, now + ROUNDING_MS - sentAt.least);
      if (row === undefined) return 'meant';
      if (tried !== null && isSameHolding(row, tried.row)) return 'meant';
      if (tried?.isRead) return 'later';
      if (row.status !== 'allocated') return 'meant';
      const follow = tried === null ? 'no' : follows(row, tried.at);
      if (follow === 'yes') return unsure === 'unsure' ? 'kept' : unsure;
      const judged = byClock({ row, now, heardAt }, unsure);
      return judged === 'meant' && follow === 'maybe' ? unsure : judged;
    },
  };

  function byClock(
    { row, now, heardAt }: Pick<Look, 'now' | 'heardAt'> & { row: Allocation },
    unsure: 'again' | 'unsure',
  ) {
    const [from, to] = [earliest(arrival.at), arrival.at.least + aheadMaxMs];
    // Whatever ends a holding writes down when: since the release arrived nothing has.
    if (row.restedSince === null || row.restedSince < from - STEP_MS) return 'meant';
    const isPrompt = heardAt.most - arrival.at.most <= PROMPT_MS;
    // One that is dated after the look began before the store's clock was set back: before the release arrived, if what
    // we took for the store's time then fits the look, or we had not heard it since we started.
    const isDatedLater = row.movedAt > now && (isPrompt || arrival.storeAt === null || arrival.storeAt <= to);
    if (isDatedLater) return 'meant';
    if (row.movedAt > to) return 'kept';
    if (isPrompt) return 'meant';
    if (row.movedAt <= from) return 'meant';
    // It began while a statement was under way, or our clocks don't agree: we were suspended, or they were set.
    return to - from <= PROMPT_MS && unsure === 'unsure' ? 'meant' : unsure;
  }
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
