/** Releases addresses: Docker's ReleaseAddress, and the operator's `ec2-ipam release`. */
import { randomUUID } from 'node:crypto';
import type { Ipv4 } from '../../domain/address.ts';
import { type Allocation, moveToGiveUp } from '../../domain/allocation.ts';
import { IpamError } from '../../domain/error.ts';
import {
  afterLook,
  afterNo,
  afterTry,
  type Evidence,
  isGivenTo,
  isMade,
  judge,
  type Moment,
  onArrival,
} from '../../domain/holding.ts';
import type { EniId, InstanceId, Pool } from '../../domain/ids.ts';
import type { Log } from '../../domain/log.ts';
import { ANYBODY, isForgotten, ledgerWaitMs, type Origin } from '../../domain/origin.ts';
import { isStray } from '../../domain/sighting.ts';
import { atQuota } from '../../domain/tenant.ts';
import type { IpamContext } from '../context.ts';
import { tenantAtQuota } from '../ec2/assign.ts';
import type { Attachments } from '../ec2/attachments.ts';
import type { Enis, Home } from '../ec2/enis.ts';
import type { Cache } from '../pool/cache.ts';
import type { WarmPools } from '../pool/warm-pool.ts';
import { authorityOver } from './authority.ts';
import { isEc2Away, isLocked, isStoreDown, type Outages } from './retry.ts';

/** Moves that one release tries. Each may fail because another request has changed the row. */
const TRIES_MAX = 5;
/** Releases that are kept while the store is unavailable. Further ones are lost, and logged as such. */
const OWED_MAX = 10_000;
/** Owed releases that are made at the same time. They share the store's connections with the requests. */
const OWED_AT_ONCE = 50;

export interface Releases {
  /** Ends the holding of the address that the pool's ENI had at the time of this call. Returns false if it had
   *  none. `opened` resolves when the ledger can be used. Throws denied if the client may not end it. */
  release(pool: Pool, ip: Ipv4, opened?: () => Promise<void>, client?: Client): Promise<boolean>;
  /** Resolves when the releases of the address that are under way in this process, or owed, have ended; null if
   *  there are none. */
  underWay(eni: EniId, ip: Ipv4): Promise<unknown> | null;
  /** Returns the addresses whose releases are under way in this process, or owed, on the ENI or on all ENIs of its
   *  subnet. */
  pending(home: Home, on: 'eni' | 'subnet'): Ipv4[];
  /** Makes the owed releases: those that failed because the store was unavailable for longer than a request waits.
   *  Docker sends a release once. Keeps those whose row is locked. Throws store-down, and keeps the rest.
   *  Concurrent calls share one run. */
  settleOwed(): Promise<void>;
  /** Returns the addresses of the owed releases. */
  owed(): Ipv4[];
  /** When the last release was made, on the process's monotonic clock. */
  readonly lastAt: number;
}

/** Who sent a release. */
export interface Client {
  readonly from: Origin;
  /** Whether its connection was closed when the release was read; known once `opened` has resolved. From an agent it is a
   *  late copy then, that a server found when it went on after a stop: the agent has sent the release to another one. */
  isLate(): boolean;
  /** Where what happens to the release is logged. Default: the log of the server. */
  readonly log?: Log;
  /** The id of the call, for the history. */
  readonly call?: string | null;
}
const LOCAL: Client = { from: ANYBODY, isLate: () => false };

/** A release that is under way or owed. */
interface Release {
  readonly pool: Pool;
  readonly ip: Ipv4;
  readonly client: Required<Client>;
  /** The cached row of the holding when the release arrived. If another server has ended that holding since, the
   *  move fails and the ledger is read. */
  readonly remembered: Allocation | null;
  /** What is known of the holding that the release is to end. Updated after each move and each read. */
  known: Evidence;
}

interface Parts {
  readonly enis: Enis;
  readonly attachments: Attachments;
  readonly cache: Cache;
  readonly warm: WarmPools;
  readonly outages: Outages;
}

/** Repeats the work while EC2 is unavailable, where somebody waits. */
type WhileAway = <T>(work: () => Promise<T>) => Promise<T>;

/** An ENI, and whether it has left the instance of an embedded ledger. */
type Place = Home & { readonly isAway: boolean };

export function createReleases(context: IpamContext, parts: Parts): Releases {
  const { enis, attachments, cache, warm, outages } = parts;
  const moment = (): Moment => ({ least: context.clock(), most: context.deadlineClock() });
  const underWay = new Map<EniId, Map<Ipv4, Set<Promise<unknown>>>>();
  /** Owed releases, each with the function to call when it has ended. */
  const owing = new Map<Release, () => void>();
  let settling: Promise<void> | null = null;
  let lastAt = Number.NEGATIVE_INFINITY;

  function release(
    pool: Pool,
    ip: Ipv4,
    opened: () => Promise<void> = () => Promise.resolve(),
    client = LOCAL,
  ): Promise<boolean> {
    const { from } = client;
    const id = from.id ?? randomUUID();
    const { sentMsAgo: agoMs, givenTo } = from;
    const known = onArrival(id, moment(), cache.storeNow(), { agoMs, atMost: from.id === null, givenTo });
    const held = cache.holding(pool.eni, ip);
    const one: Release = {
      pool,
      ip,
      client: { log: context.log, call: null, ...client },
      remembered: isSurely(held, from, known) ? held : null,
      known,
    };
    const work = opened().then(() => makeInTime(one));
    const over = () => forget(one, ended);
    const ended: Promise<void> = work.then(over, error => owe(one, error).then(over));
    const onEni = underWay.get(pool.eni) ?? new Map<Ipv4, Set<Promise<unknown>>>();
    underWay.set(pool.eni, onEni.set(ip, (onEni.get(ip) ?? new Set()).add(ended)));
    return work;
  }

  /** Keeps a release that failed with store-down. Resolves when it has been made or is lost. */
  async function owe(one: Release, error: unknown): Promise<void> {
    if (!isStoreDown(error) || isOwed(one)) return;
    if (owing.size < OWED_MAX) return await new Promise<void>(ended => owing.set(one, ended));
    one.client.log('error', 'release lost', { eni: one.pool.eni, ip: one.ip, error: error.line });
  }

  /** Whether the same release is owed: an agent repeats it. */
  const isOwed = ({ client: { from } }: Release): boolean =>
    from.id !== null && [...owing.keys()].some(one => one.client.from.id === from.id);

  async function settleOwed(): Promise<void> {
    if (owing.size === 0) return;
    settling ??= settleAll().finally(() => {
      settling = null;
    });
    await settling;
  }

  /** Makes the first release alone: if the store is unavailable, one failure is enough. */
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
    const { pool, ip, client } = one;
    const ended = owing.get(one);
    try {
      const made = await make(one);
      client.log('info', 'release made late', { eni: pool.eni, ip, made });
    } catch (error) {
      if (isStoreDown(error) && !isLocked(error)) throw error;
      if (isStoreDown(error) || isEc2Away(error)) {
        // Its row is locked, or EC2 does not show its ENI: the release goes to the end of the queue.
        owing.delete(one);
        if (ended !== undefined) owing.set(one, ended);
        return;
      }
      client.log('error', 'release lost', { eni: pool.eni, ip, error });
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

  /** Retries while the store or EC2 is unavailable, until the deadline of a request. */
  async function makeInTime(one: Release): Promise<boolean> {
    const { eni } = one.pool;
    const options = { startedAt: context.clock() };
    const whileAway = <T>(work: () => Promise<T>) => outages.ec2(eni).retryWhile(isEc2Away, work, options);
    const withinMs = ledgerWaitMs(one.client.from);
    return await outages.store.retryWhile(isStoreDown, () => make(one, whileAway), { ...options, withinMs });
  }

  /** Makes the release, by default without a retry. A failure here does not start an outage, which would shorten the
   *  waits of requests. */
  async function make(one: Release, whileAway: WhileAway = work => work()): Promise<boolean> {
    const { eni } = one.pool;
    if (isForgotten(one.client.from)) return false;
    const known = enis.recall(eni);
    const away = known === null ? await enis.away(eni) : null;
    if (away !== null) return await endIn({ ...away, isAway: true }, one, whileAway);
    const home = known ?? (await whileAway(() => enis.own(eni))) ?? (await adopted(one, whileAway));
    // Addresses of an ENI that is not this ledger's are not released, even if the ledger has rows for them.
    return home !== null && (await endIn({ ...home, isAway: false }, one, whileAway));
  }

  /** Adopts the ENI that the client's certificate proves to be its own; null: it has none. */
  async function adopted(
    { pool: { eni }, client: { from } }: Release,
    whileAway: WhileAway,
  ): Promise<Home | null> {
    if (from.instance === null) return null;
    await whileAway(authorityOver(attachments, eni, from).prove);
    return await whileAway(() => enis.adopt(eni));
  }

  async function endIn(home: Place, one: Release, whileAway: WhileAway): Promise<boolean> {
    const { ip, remembered, client } = one;
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      const isRead = remembered === null || one.known.tried !== null;
      const row = isRead ? await look(home, one) : remembered;
      if (row === 'again') continue;
      const isIts = row !== undefined && row.iface === home.eni.id && ip !== home.eni.primary;
      // On an ENI that has left, an address that is not held may belong to another ledger by now.
      const mayEnd = isIts && (!home.isAway || row.status === 'allocated');
      const move = mayEnd && !(await isUsed(row)) ? moveToGiveUp(row) : null;
      await authorize(one, move === null ? undefined : row, whileAway);
      if (row === undefined || move === null) return one.known.tried !== null && row?.status !== 'occupied';
      // When a late copy was sent is not known, so it ends only the holding that it is surely for.
      if (isRead && client.from.id !== null && client.isLate()) return false;
      // Whoever put it there may have taken it off since the last read, and it may be in use elsewhere by now.
      if (move === 'surrender' && !(await whileAway(() => isShownOn(home.eni.id, ip)))) return false;
      one.known = afterTry(one.known, row, isRead);
      const [moved] = await context.store.move([{ row, move, releaseId: one.known.id, call: client.call }]);
      if (moved !== undefined) {
        lastAt = context.clock();
        cache.note(moved);
        warm.released({ home, range: one.pool.range });
        return true;
      }
      one.known = afterNo(one.known);
      const full = move === 'surrender' ? await tenantAtQuota(context, home.eni.id) : null;
      if (full !== null) {
        const why = `${atQuota(full).message}; run \`ec2-ipam release\` for it when there is room`;
        client.log('warn', 'release changed nothing, the address would count', {
          eni: home.eni.id,
          ip,
          error: why,
        });
        return false;
      }
    }
    throw new IpamError('unavailable', `other requests changed ${ip} at each try to release it`, {
      hint: 'release it again',
    });
  }

  /** Throws denied if the client may not end the holding of the row, or, without a row, may not use the ENI. The
   *  instance that the address was given to ends the holding wherever the ENI is now. Any other may not, even if the ENI
   *  has moved to it. A holding without a recorded instance is ended by the instance that has the ENI. */
  async function authorize(one: Release, row: Allocation | undefined, whileAway: WhileAway): Promise<void> {
    const { pool, client } = one;
    const { instance } = client.from;
    if (instance === null || (row?.status === 'allocated' && row.instance === instance)) return;
    const { isProved, prove } = authorityOver(attachments, pool.eni, client.from);
    if (!isProved())
      try {
        await (row === undefined ? prove() : whileAway(prove));
      } catch (error) {
        if (row !== undefined || !isEc2Away(error)) throw error; // else nothing would change
      }
    if (row?.status === 'allocated' && row.instance !== null) throw givenToAnother(row, row.instance, instance);
  }

  /** Whether a process of the host uses the occupied address without holding it. A release does not say that this has
   *  ended: Docker releases an address whose process runs on. */
  async function isUsed(row: Allocation): Promise<boolean> {
    if (row.status !== 'occupied' || row.iface === null) return false;
    const { rows } = await context.store.sightings([row.iface]);
    return rows.some(one => isStray(row, one));
  }

  const isShownOn = async (eni: EniId, ip: Ipv4): Promise<boolean> =>
    (await context.cloud.eni(eni)).secondaries.includes(ip);

  /** Reads the row and judges whether the release may end its holding. Returns the row if so; 'again' if another
   *  read may tell; undefined if not, or if there is no row. Throws unavailable if it cannot be known. */
  async function look({ subnet, eni }: Home, one: Release): Promise<Allocation | 'again' | undefined> {
    const { ip } = one;
    const sentAt = moment();
    const { rows, now } = await context.store.get(subnet.id, [ip]);
    const seen = { row: rows[0], now, sentAt, heardAt: moment() };
    one.known = afterLook(one.known, seen);
    const judged = judge(one.known, seen);
    if (judged === 'again') return 'again';
    if (judged === 'kept' || judged === 'unsure')
      one.client.log('warn', 'release refused, address perhaps given anew', {
        ...{ eni: eni.id, ip, holder: seen.row?.holder },
      });
    if (judged === 'unsure')
      throw new IpamError(
        'unavailable',
        `${ip} may have been given anew before this release reached the ledger`,
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
      // An ENI that this process has not read yet may be in this subnet.
      const counts = (id: EniId) =>
        id === eni.id || (on === 'subnet' && (enis.recall(id)?.subnet.id ?? subnet.id) === subnet.id);
      return [...underWay].flatMap(([id, onEni]) => (counts(id) ? [...onEni.keys()] : []));
    },
    settleOwed,
    owed: () => [...owing.keys()].map(one => one.ip),
    get lastAt() {
      return lastAt;
    },
  };
}

/** Whether the holding that this process remembers is the one that the release is to end. One from dockerd ends what is
 *  there when it arrives, unless it may have waited for this process. One from an agent may be a late copy of a release
 *  that another server has made. */
function isSurely(held: Allocation | null, from: Origin, { id, storeAt }: Evidence): boolean {
  if (from.id === null) return from.sentMsAgo === 0 || isOlder(held, storeAt);
  if (held === null || isMade(held, id)) return false;
  return isGivenTo(held, from.givenTo) ?? isOlder(held, storeAt);
}
const isOlder = (held: Allocation | null, storeAt: number | null): boolean =>
  held !== null && storeAt !== null && held.movedAt < storeAt;

const givenToAnother = ({ ip, iface }: Allocation, holder: InstanceId, client: InstanceId): IpamError =>
  new IpamError(
    'denied',
    `${ip} on ${iface} was given to ${holder}, and the client certificate names ${client}`,
    {
      hint: 'its own instance releases it, or an operator by `ec2-ipam release`',
    },
  );

/** Returns the move of an operator's release, or why the address cannot be released. `ours` says whether its ENI
 *  belongs to this ledger. */
export function operatorRelease(
  row: Allocation,
  ours: boolean,
): { move: ReturnType<typeof moveToGiveUp>; refusal: string } {
  const no = (refusal: string) => ({ move: null, refusal });
  const move = moveToGiveUp(row);
  if (row.primary) return no(`${row.ip} is the primary address of ${row.iface}, which is never released`);
  if (row.status === 'occupied' && row.iface === null)
    return no(
      `${row.ip} is not on a known ENI; it becomes free when EC2 has shown it on no ENI for long enough`,
    );
  if (move === null) return no(`${row.ip} is ${row.status}: nobody holds it`);
  if (!ours)
    return no(
      `${row.iface} is not an ENI of this ledger, so its addresses are not released. If the ENI is yours, run \`ec2-ipam adopt ${row.iface}\` first`,
    );
  return { move, refusal: '' };
}
