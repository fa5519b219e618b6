/** Runs the background loop: heartbeat, rollbacks, owed releases, take-over of intents, reconciliation, drain, readings of
 *  the host, and the trim of the history. */
import { isIntent } from '../../domain/allocation.ts';
import { IpamError, isError } from '../../domain/error.ts';
import type { SubnetId } from '../../domain/ids.ts';
import { AFTER_RELEASE_MS } from '../../domain/witness.ts';
import { type IpamContext, urgently } from '../context.ts';
import type { Attachments } from '../ec2/attachments.ts';
import { type Enis, oursIn } from '../ec2/enis.ts';
import { takeOver } from '../ec2/recover.ts';
import type { Cache } from '../pool/cache.ts';
import type { WarmPools } from '../pool/warm-pool.ts';
import type { Releases } from '../request/release.ts';
import type { Rollbacks } from '../request/rollback.ts';
import { drain } from './drain.ts';
import { createEvidence } from './holders.ts';
import type { OwnHost } from './own-host.ts';
import { reconcile, type Scope } from './reconcile.ts';
import { recallWithheld } from './withheld.ts';

/** The interval of the heartbeats. */
const BEAT_EVERY_MS = 5_000;
const TAKE_OVER_EVERY_MS = 10_000;
/** What EC2 has shown of the ENIs of clients with certificates is read again before it is a minute old. */
const ATTACHMENTS_EVERY_MS = 10_000;
const DRAIN_EVERY_MS = 60_000;
/** The longest wait of a subnet that is new in the ledger for its first comparison. */
const NEW_SUBNETS_MS = 10_000;
const ROUND_MS = 1_000;
/** Within this time a server withholds what a host has shown to another one. */
const WITHHELD_EVERY_MS = 5_000;
/** How long the history goes back at most: 30 days, and five million records. */
const HISTORY_MS = 30 * 24 * 3_600_000;
const HISTORY_RECORDS_MAX = 5_000_000;
const TRIM_EVERY_MS = 3_600_000;
/** The trims of one run, and the pause between two, so that the ledger serves requests meanwhile. */
const TRIMS_MAX = 500;
const TRIM_PAUSE_MS = 100;
/** Embedded, a comparison reads only this ledger's ENIs, since hundreds of hosts share the account's reads. Every
 *  tenth one, and at least one in ten minutes, reads the whole subnet. A central server always reads the whole
 *  subnet: most of its ENIs are this ledger's, a page has a thousand of them, and only one of the servers does it. */
const WHOLE_EVERY = 10;
const WHOLE_EVERY_MS = 600_000;
/** An embedded ledger is at rest if no row has moved for this long and nothing is to be settled. Then only the
 *  reads of the whole subnet are made: 1,000 hosts at rest use a twelfth of the reads that EC2 allows their
 *  account. */
const REST_AFTER_MS = 600_000;
/** A server is blind if its comparisons fail, or show it no ENI of the ledger and none of its account, for so many
 *  intervals. */
const BLIND_AFTER = 3;
const OURS = ['ready', 'allocated', 'assigning', 'unassigning'] as const;
/** The random factor of each interval, so that servers that started together do not stay in step. */
const JITTER_MIN = 0.75;
const JITTER_MAX = 1.25;

export interface Keeper {
  /** Runs until `stop`. */
  run(): Promise<void>;
  /** Ends the loop after the running chores. Records a clean stop unless claims are left to roll back. Takes
   *  `boundMs` at most, and never throws. */
  stop(boundMs: number): Promise<void>;
  /** Logs the releases and rollbacks that the ledger has not taken. `stop` does it too. Call it instead of `stop`
   *  when the ledger was never open and must not be written. */
  logLeft(): void;
}

export interface KeeperOptions {
  /** The id of this server process. Its tokens begin with it. */
  readonly server: string;
  /** Of the program. */
  readonly version?: string;
  readonly reconcileEveryMs: number;
  /** Milliseconds since 1970, by the clock of this machine. Undefined: the ledger's clock is taken as right. */
  readonly timeOfDay?: () => number;
  /** The pause of the loop. Default: one second. */
  readonly pause?: () => Promise<void>;
}

export interface KeeperParts {
  readonly enis: Enis;
  readonly attachments: Pick<Attachments, 'refresh'>;
  readonly cache: Pick<Cache, 'noteStoreTime' | 'recallWithheld'>;
  readonly rollbacks: Rollbacks;
  readonly releases: Pick<Releases, 'settleOwed' | 'owed' | 'lastAt'>;
  readonly warm: WarmPools;
  /** Embedded, if the host is to be read. */
  readonly ownHost?: OwnHost | null;
}

export function createKeeper(foreground: IpamContext, parts: KeeperParts, options: KeeperOptions): Keeper {
  const { enis, attachments, cache, rollbacks, releases, warm, ownHost = null } = parts;
  const context = urgently(foreground, () => 'reconcile');
  const { store, clock, wait, log } = context;
  const stopped = new AbortController();
  const {
    server,
    version,
    reconcileEveryMs,
    timeOfDay,
    pause = () => wait(ROUND_MS, stopped.signal),
  } = options;
  const chores = [
    { name: 'beat', everyMs: BEAT_EVERY_MS, work: beat },
    { name: 'rollback', everyMs: ROUND_MS, work: () => rollbacks.settle() },
    { name: 'release', everyMs: ROUND_MS, work: () => releases.settleOwed() },
    { name: 'take over', everyMs: TAKE_OVER_EVERY_MS, work: takeOverDue },
    { name: 'attachments', everyMs: ATTACHMENTS_EVERY_MS, work: () => attachments.refresh(context) },
    { name: 'reconcile', everyMs: ROUND_MS, work: reconcileDue },
    { name: 'drain', everyMs: DRAIN_EVERY_MS, work: drainAll },
    { name: 'withheld', everyMs: WITHHELD_EVERY_MS, work: () => recallWithheld(store, cache) },
    { name: 'witness', everyMs: ROUND_MS, work: witnessDue },
    { name: 'history', everyMs: TRIM_EVERY_MS, work: trimHistory },
  ].map(chore => ({ ...chore, dueAt: Number.NEGATIVE_INFINITY, busy: false }));
  const proof = createEvidence(context);
  const dueAt = new Map<SubnetId, number>();
  const wholeDueAt = new Map<SubnetId, number>();
  /** Until when a subnet is not at rest, since a comparison found a difference. Without an entry it was never
   *  compared. */
  const busyUntil = new Map<SubnetId, number>();
  /** The subnets of our ENIs at the last drain. The ancestor's ENIs may be in subnets that were never surveyed. */
  let subnetsOfEnis: readonly SubnetId[] = [];
  let nextDueAt = Number.NEGATIVE_INFINITY;
  let witnessedAt = Number.NEGATIVE_INFINITY;
  let sawAt = Number.NEGATIVE_INFINITY;
  let failedAt = Number.NEGATIVE_INFINITY;
  const running = new Set<Promise<void>>();
  let stopping = false;
  let ended: Promise<void> | null = null;

  async function beat(): Promise<void> {
    cache.noteStoreTime(await store.beat(server, false, version));
  }

  /** Whether EC2 shows this server nothing of the ledger, or denies it: what needs EC2 is left to others. A server without
   *  a pass, since another one does the work, is not blind. */
  const isBlind = (): boolean => failedAt > sawAt && clock() - sawAt > BLIND_AFTER * reconcileEveryMs;

  /** Drains our subnets. Also updates the cache of ENIs. */
  async function drainAll(): Promise<void> {
    const all = await enis.readAll();
    subnetsOfEnis = all.filter(eni => eni.ours).map(eni => eni.subnet);
    const bySubnet = Map.groupBy(oursIn(all, context.host.instance), eni => eni.subnet);
    for (const [subnet, ours] of bySubnet)
      if (!stopping && !isBlind() && (await store.lease(`drain ${subnet}`, server, DRAIN_EVERY_MS)))
        await logged(`drain ${subnet}`, async () => void (await drain(context, warm, subnet, ours)));
  }

  /** Takes over old intents, on one server for all. */
  async function takeOverDue(): Promise<void> {
    if (!isBlind() && (await store.lease('take over', server, TAKE_OVER_EVERY_MS))) await takeOver(context);
  }

  /** Compares the subnets that are due, one after the other. A lease keeps several servers from doing the same
   *  work; safety does not depend on it. */
  async function reconcileDue(): Promise<void> {
    if (clock() < nextDueAt) return;
    // Subnets are read here, not ENIs: a ledger has few subnets and many ENIs, and hundreds of servers do this.
    const subnets = new Set([...subnetsOfEnis, ...(await store.subnets()).map(subnet => subnet.id)]);
    for (const subnet of subnets) {
      if (stopping) return;
      if (clock() < (dueAt.get(subnet) ?? Number.NEGATIVE_INFINITY)) continue;
      dueAt.set(subnet, clock() + jittered(reconcileEveryMs));
      if (!(await store.lease(leaseOf(subnet), server, reconcileEveryMs * JITTER_MAX))) continue;
      if (!(await hasOurs(subnet))) continue;
      const scope = scopeFor(subnet);
      if (scope === 'own' && (await isAtRest(subnet))) continue;
      await logged(`reconcile ${subnet}`, () => compare(subnet, scope));
    }
    nextDueAt = Math.min(clock() + NEW_SUBNETS_MS, ...[...subnets].map(subnet => dueAt.get(subnet) ?? 0));
  }

  /** Compares one subnet. A failure does not count as a difference, so that hosts at rest do not read more often
   *  while EC2 is unavailable or throttles them. The lease ends with a pass that fails or sees nothing: renewed before
   *  its end each time, it would keep others, which may do better, from the subnet for ever. */
  async function compare(subnet: SubnetId, scope: Scope): Promise<void> {
    try {
      const pass = await reconcile(context, enis, proof, subnet, scope);
      if (pass.differed) busyUntil.set(subnet, clock() + REST_AFTER_MS);
      else if (!busyUntil.has(subnet)) busyUntil.set(subnet, clock());
      if (pass.isBlind) await leave(subnet);
      else sawAt = clock();
    } catch (error) {
      // EC2 throttles the account: the others would do no better, and make it worse.
      if (isError(error, 'ec2-throttled')) failedAt = clock();
      else await leave(subnet);
      throw error;
    }
  }
  async function leave(subnet: SubnetId): Promise<void> {
    failedAt = clock();
    await store.lease(leaseOf(subnet), server, 0);
  }
  const leaseOf = (subnet: SubnetId): string => `reconcile ${subnet}`;

  async function isAtRest(subnet: SubnetId): Promise<boolean> {
    if (clock() < (busyUntil.get(subnet) ?? Number.POSITIVE_INFINITY)) return false;
    const { now, rows } = await store.withStatus(subnet, OURS);
    return !rows.some(row => isIntent(row) || now - row.movedAt < REST_AFTER_MS);
  }

  /** Reads the host when that is due, or soon after a release. */
  async function witnessDue(): Promise<void> {
    if (ownHost === null) return;
    const isSoon = releases.lastAt > witnessedAt && clock() - witnessedAt >= AFTER_RELEASE_MS;
    if (clock() - witnessedAt < ownHost.everyMs && !isSoon) return;
    witnessedAt = clock();
    await ownHost.look();
  }

  /** Deletes old records of the history, on one server for all. */
  async function trimHistory(): Promise<void> {
    if (!(await store.lease('history', server, TRIM_EVERY_MS))) return;
    const until = await store.historyEnd(HISTORY_MS + (await aheadMs()), HISTORY_RECORDS_MAX);
    for (let trims = 0; trims < TRIMS_MAX && !stopping && (await store.trimHistory(until)); trims++)
      await wait(TRIM_PAUSE_MS, stopped.signal);
  }

  /** How far the ledger's clock is ahead of this machine's. One of them is wrong: what is old by
   *  the ledger's only is kept. */
  async function aheadMs(): Promise<number> {
    if (timeOfDay === undefined) return 0;
    const { now } = await store.servers();
    return Math.max(0, now - timeOfDay());
  }

  /** An ENI that has left the host counts too, since its rows have to be settled. */
  const hasOurs = async (subnet: SubnetId): Promise<boolean> =>
    (await store.enis()).some(eni => eni.ours && eni.subnet === subnet);

  const jittered = (ms: number): number => ms * (JITTER_MIN + (JITTER_MAX - JITTER_MIN) * context.random());

  /** Returns what the comparison that is due now has to read. The first read of the whole subnet is at a random
   *  time, so that hosts that started together do not stay in step. */
  function scopeFor(subnet: SubnetId): Scope {
    if (context.host.instance === null) return 'whole';
    const everyMs = Math.max(reconcileEveryMs, Math.min(reconcileEveryMs * WHOLE_EVERY, WHOLE_EVERY_MS));
    const due = wholeDueAt.get(subnet) ?? clock() + everyMs * context.random();
    const isDue = clock() >= due;
    wholeDueAt.set(subnet, isDue ? clock() + jittered(everyMs) : due);
    return isDue ? 'whole' : 'own';
  }

  /** Starts the chores that are due, concurrently: an EC2 call that hangs must not delay the heartbeat. */
  async function loop(): Promise<void> {
    while (!stopping) {
      for (const chore of chores) {
        if (chore.busy || clock() < chore.dueAt) continue;
        chore.dueAt = clock() + jittered(chore.everyMs);
        const run = attempt(chore).finally(() => running.delete(run));
        running.add(run);
      }
      await pause();
    }
    await Promise.all(running);
  }

  async function attempt(chore: (typeof chores)[number]): Promise<void> {
    chore.busy = true;
    await logged(chore.name, chore.work);
    chore.busy = false;
  }

  async function logged(what: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      log('warn', `${what} failed, retrying`, {
        error: error instanceof IpamError ? error.line : error,
      });
    }
  }

  async function lastChores(): Promise<void> {
    stopping = true;
    stopped.abort();
    await Promise.all([ended, warm.stop()]);
    await logged('rollback', () => rollbacks.settle());
    await logged('release', () => releases.settleOwed());
    if (rollbacks.isEmpty) await logged('beat', async () => void (await store.beat(server, true, version)));
  }

  function logLeft(): void {
    const ips = releases.owed();
    if (ips.length > 0) log('error', 'releases not made before the stop, addresses still held', { ips });
    if (!rollbacks.isEmpty)
      log('error', 'claims not rolled back before the stop, listed as suspects by `ec2-ipam status`');
  }

  return {
    run: () => {
      ended = loop();
      return ended;
    },
    stop: async boundMs => {
      await Promise.race([lastChores(), wait(boundMs)]);
      logLeft();
    },
    logLeft,
  };
}
