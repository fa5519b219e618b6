/** The one background loop: notes that this server lives, takes over what was left unfinished, reconciles. */
import type { Allocation } from '../domain/allocation.ts';
import { IpamError } from '../domain/error.ts';
import type { SubnetId } from '../domain/ids.ts';
import { CHANGES_MAX } from '../store/store.ts';
import { closeCounts } from './count.ts';
import { evidence } from './evidence.ts';
import { takeOver } from './intents.ts';
import type { Machine } from './machine.ts';
import { reconcile } from './reconciler.ts';

/** Between two notes that this server lives. */
const BEAT_EVERY_MS = 5_000;
const TAKE_OVER_EVERY_MS = 10_000;
const ROUND_MS = 1_000;
/** Parts of the pause between two comparisons of a subnet: servers that started together drift apart. */
const JITTER_MIN = 0.75;
const JITTER_MAX = 1.25;

export interface Keeper {
  /** Runs until `stop`. */
  run(): Promise<void>;
  /** Ends the loop after the chores in hand, and notes that the server stopped in good order. */
  stop(): Promise<void>;
}

export function keeper(machine: Machine, server: string, reconcileEveryMs: number): Keeper {
  const { store, clock, wait, log } = machine;
  const chores = [
    { name: 'beat', everyMs: BEAT_EVERY_MS, work: async () => void (await store.beat(server, false)) },
    { name: 'give back', everyMs: ROUND_MS, work: giveBack },
    { name: 'take over', everyMs: TAKE_OVER_EVERY_MS, work: settleUnfinished },
    { name: 'reconcile', everyMs: ROUND_MS, work: reconcileDue },
  ].map(chore => ({ ...chore, dueAt: Number.NEGATIVE_INFINITY, busy: false }));
  const proof = evidence(machine);
  const dueAt = new Map<SubnetId, number>();
  const unheard: Allocation[] = [];
  const running = new Set<Promise<void>>();
  let stopping = false;
  let ended: Promise<void> | null = null;

  /** A claim that was reported as failed, and was made after all, is nobody's: it is undone. */
  async function giveBack(): Promise<void> {
    for (const { change, row } of await store.unheard()) if (change.move === 'claim') unheard.push(row);
    if (unheard.length === 0) return;
    log('warn', 'undone: claims that were made after the store had failed', {
      ips: unheard.map(row => row.ip),
    });
    await store.move(unheard.slice(0, CHANGES_MAX).map(row => ({ row, move: 'release' })));
    unheard.splice(0, CHANGES_MAX);
  }

  async function settleUnfinished(): Promise<void> {
    await takeOver(machine);
    await closeCounts(machine, (await store.beat(server, false)).now);
  }

  /** One subnet after the other, each at a pace of its own. A lease keeps several servers from doing the same
   *  work; nothing rests on it. */
  async function reconcileDue(): Promise<void> {
    const subnets = new Set((await store.enis()).filter(eni => eni.ours).map(eni => eni.subnet));
    for (const subnet of subnets) {
      if (stopping) return;
      if (clock() < (dueAt.get(subnet) ?? Number.NEGATIVE_INFINITY)) continue;
      dueAt.set(
        subnet,
        clock() + reconcileEveryMs * (JITTER_MIN + (JITTER_MAX - JITTER_MIN) * machine.random()),
      );
      if (await store.lease(`reconcile ${subnet}`, server, reconcileEveryMs * JITTER_MAX))
        await reconcile(machine, proof, subnet);
    }
  }

  /** Chores run beside each other, so that an EC2 call that hangs does not make this server look dead. */
  async function loop(): Promise<void> {
    while (!stopping) {
      for (const chore of chores) {
        if (chore.busy || clock() < chore.dueAt) continue;
        chore.dueAt = clock() + chore.everyMs;
        const run = attempt(chore).finally(() => running.delete(run));
        running.add(run);
      }
      await wait(ROUND_MS);
    }
    await Promise.all(running);
  }

  async function attempt(chore: (typeof chores)[number]): Promise<void> {
    chore.busy = true;
    try {
      await chore.work();
    } catch (error) {
      log('warn', `${chore.name} failed, and is tried again`, {
        error: error instanceof IpamError ? error.line : error,
      });
    } finally {
      chore.busy = false;
    }
  }

  return {
    run: () => {
      ended = loop();
      return ended;
    },
    stop: async () => {
      stopping = true;
      await ended;
      await store.beat(server, true);
    },
  };
}
