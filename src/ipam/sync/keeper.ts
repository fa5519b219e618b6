/** The one background loop: notes that this server lives, takes over what was left unfinished, reconciles. */
import { isIntent } from '../../domain/allocation.ts';
import { IpamError } from '../../domain/error.ts';
import type { SubnetId } from '../../domain/ids.ts';
import { type IpamContext, urgently } from '../context.ts';
import { type Enis, oursIn } from '../ec2/enis.ts';
import { takeOver } from '../ec2/recover.ts';
import type { Cache } from '../pool/cache.ts';
import type { WarmPools } from '../pool/warm-pool.ts';
import type { Releases } from '../request/release.ts';
import type { Rollbacks } from '../request/rollback.ts';
import { drain } from './drain.ts';
import { createEvidence } from './holders.ts';
import { reconcile, type Scope } from './reconcile.ts';

/** Between two notes that this server lives. */
const BEAT_EVERY_MS = 5_000;
const TAKE_OVER_EVERY_MS = 10_000;
const DRAIN_EVERY_MS = 60_000;
/** A subnet that is new in the ledger may wait so long for its first comparison. */
const NEW_SUBNETS_MS = 10_000;
const ROUND_MS = 1_000;
/** Embedded, each comparison reads this ledger's ENIs only, and every tenth, or each that comes as late as this after
 *  the one before, the whole subnet: hundreds of hosts share the account's reads. A central server reads the whole
 *  subnet each time: most of its ENIs are this ledger's, a page shows a thousand of them, and of all servers one does it. */
const WHOLE_EVERY = 10;
const WHOLE_EVERY_MS = 600_000;
/** An embedded ledger is at rest when none of its rows has moved for so long, and nothing is to be settled. Then only the
 *  whole subnet is read: 1,000 hosts at rest need a twelfth of what EC2 lets their account read. */
const REST_AFTER_MS = 600_000;
const OURS = ['ready', 'allocated', 'assigning', 'unassigning'] as const;
/** Parts of the pause between two comparisons of a subnet: servers that started together drift apart. */
const JITTER_MIN = 0.75;
const JITTER_MAX = 1.25;

export interface Keeper {
  /** Runs until `stop`. */
  run(): Promise<void>;
  /** Ends the loop after the chores in hand, and notes that the server stopped in good order: unless there is
   *  something left to roll back. Takes `boundMs` at most, and never throws. */
  stop(boundMs: number): Promise<void>;
  /** Logs what the ledger has not taken. `stop` does it too. Call it instead of `stop` when the ledger was never open and
   *  must not be written. */
  logLeft(): void;
}

export interface KeeperOptions {
  /** The id of this server process, which begins its tokens too. */
  readonly server: string;
  readonly reconcileEveryMs: number;
  /** Between two looks at what is due; absent: a second. */
  readonly pause?: () => Promise<void>;
}

export interface KeeperParts {
  readonly enis: Enis;
  readonly cache: Pick<Cache, 'hear'>;
  readonly rollbacks: Rollbacks;
  readonly releases: Pick<Releases, 'settleOwed' | 'owed'>;
  readonly warm: WarmPools;
}

export function createKeeper(foreground: IpamContext, parts: KeeperParts, options: KeeperOptions): Keeper {
  const { enis, cache, rollbacks, releases, warm } = parts;
  const context = urgently(foreground, () => 'reconcile');
  const { store, clock, wait, log } = context;
  const stopped = new AbortController();
  const { server, reconcileEveryMs, pause = () => wait(ROUND_MS, stopped.signal) } = options;
  const chores = [
    { name: 'beat', everyMs: BEAT_EVERY_MS, work: beat },
    { name: 'rollback', everyMs: ROUND_MS, work: () => rollbacks.settle() },
    { name: 'release', everyMs: ROUND_MS, work: () => releases.settleOwed() },
    { name: 'take over', everyMs: TAKE_OVER_EVERY_MS, work: takeOverDue },
    { name: 'reconcile', everyMs: ROUND_MS, work: reconcileDue },
    { name: 'drain', everyMs: DRAIN_EVERY_MS, work: drainAll },
  ].map(chore => ({ ...chore, dueAt: Number.NEGATIVE_INFINITY, busy: false }));
  const proof = createEvidence(context);
  const dueAt = new Map<SubnetId, number>();
  const wholeDueAt = new Map<SubnetId, number>();
  /** Until when a subnet is not at rest, whatever its rows say: something differed. Absent: it was never compared. */
  const busyUntil = new Map<SubnetId, number>();
  /** As of the last drain: the ancestor's ENIs may be in subnets that were never surveyed. */
  let subnetsOfEnis: readonly SubnetId[] = [];
  let nextDueAt = Number.NEGATIVE_INFINITY;
  const running = new Set<Promise<void>>();
  let stopping = false;
  let ended: Promise<void> | null = null;

  async function beat(): Promise<void> {
    cache.hear(await store.beat(server, false));
  }

  /** What is remembered of the ENIs is brought up to date by the way. */
  async function drainAll(): Promise<void> {
    const all = await enis.readAll();
    subnetsOfEnis = all.filter(eni => eni.ours).map(eni => eni.subnet);
    const bySubnet = Map.groupBy(oursIn(all, context.instance), eni => eni.subnet);
    for (const [subnet, ours] of bySubnet)
      if (!stopping && (await store.lease(`drain ${subnet}`, server, DRAIN_EVERY_MS)))
        await logged(`drain ${subnet}`, async () => void (await drain(context, warm, subnet, ours)));
  }

  /** One server does it for all. */
  async function takeOverDue(): Promise<void> {
    if (await store.lease('take over', server, TAKE_OVER_EVERY_MS)) await takeOver(context);
  }

  /** One subnet after the other, each at a pace of its own. A lease keeps several servers from doing the same
   *  work; nothing rests on it. */
  async function reconcileDue(): Promise<void> {
    if (clock() < nextDueAt) return;
    // Hundreds of servers look for new subnets all the time: a ledger has few of them, and many ENIs.
    const subnets = new Set([...subnetsOfEnis, ...(await store.subnets()).map(subnet => subnet.id)]);
    for (const subnet of subnets) {
      if (stopping) return;
      if (clock() < (dueAt.get(subnet) ?? Number.NEGATIVE_INFINITY)) continue;
      dueAt.set(subnet, clock() + jittered(reconcileEveryMs));
      if (!(await store.lease(`reconcile ${subnet}`, server, reconcileEveryMs * JITTER_MAX))) continue;
      if (!(await hasOurs(subnet))) continue;
      const scope = scopeFor(subnet);
      if (scope === 'own' && (await isAtRest(subnet))) continue;
      await logged(`reconcile ${subnet}`, () => compare(subnet, scope));
    }
    nextDueAt = Math.min(clock() + NEW_SUBNETS_MS, ...[...subnets].map(subnet => dueAt.get(subnet) ?? 0));
  }

  /** One that fails changes nothing: hosts at rest do not ask more often because EC2 is away or throttles them. */
  async function compare(subnet: SubnetId, scope: Scope): Promise<void> {
    const differed = await reconcile(context, enis, proof, subnet, scope);
    if (differed) busyUntil.set(subnet, clock() + REST_AFTER_MS);
    else if (!busyUntil.has(subnet)) busyUntil.set(subnet, clock());
  }

  async function isAtRest(subnet: SubnetId): Promise<boolean> {
    if (clock() < (busyUntil.get(subnet) ?? Number.POSITIVE_INFINITY)) return false;
    const { now, rows } = await store.withStatus(subnet, OURS);
    return !rows.some(row => isIntent(row) || now - row.movedAt < REST_AFTER_MS);
  }

  /** An ENI that has left counts too: its rows are to come back. */
  const hasOurs = async (subnet: SubnetId): Promise<boolean> =>
    (await store.enis()).some(eni => eni.ours && eni.subnet === subnet);

  const jittered = (ms: number): number => ms * (JITTER_MIN + (JITTER_MAX - JITTER_MIN) * context.random());

  /** What the comparison that is due now has to read. Hosts that started together begin at any moment. */
  function scopeFor(subnet: SubnetId): Scope {
    if (context.instance === null) return 'whole';
    const everyMs = Math.max(reconcileEveryMs, Math.min(reconcileEveryMs * WHOLE_EVERY, WHOLE_EVERY_MS));
    const due = wholeDueAt.get(subnet) ?? clock() + everyMs * context.random();
    const isDue = clock() >= due;
    wholeDueAt.set(subnet, isDue ? clock() + jittered(everyMs) : due);
    return isDue ? 'whole' : 'own';
  }

  /** Chores run beside each other, so that an EC2 call that hangs does not make this server look dead. */
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
    if (rollbacks.isEmpty) await logged('beat', async () => void (await store.beat(server, true)));
  }

  function logLeft(): void {
    const ips = releases.owed();
    if (ips.length > 0)
      log('error', 'stopped before the ledger took these releases: the addresses stay held', { ips });
    if (!rollbacks.isEmpty)
      log(
        'error',
        'stopped while claims are left that nobody was told of: `ec2-ipam status` lists them as suspects',
      );
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
