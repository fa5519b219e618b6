/** Rolls back claims whose client disconnected before the response was written. Retries until the store accepts. */
import { type Allocation, type Change, moveToUndo } from '../../domain/allocation.ts';
import type { IpamError } from '../../domain/error.ts';
import { isSameHolding } from '../../domain/holding.ts';
import type { Log } from '../../domain/log.ts';
import { CHANGES_MAX } from '../../store/store.ts';
import type { IpamContext } from '../context.ts';
import { isLocked, isStoreDown } from './retry.ts';

/** With so many rollbacks waiting, no address is given any more. None is dropped: the address would stay allocated,
 *  and `status` would not list it as a suspect while this server lives. */
const WAITING_MAX = 10_000;
/** Reads of rows that other servers change, in one call of `settle`. */
const ROUNDS_MAX = 5;

export interface Rollbacks {
  /** Records a claim that has to be rolled back. `log`: that of its request; default: the server's. */
  add(claimed: Allocation, log?: Log): void;
  /** Rolls back the claims recorded before the call, and those whose commit had an unknown outcome and was applied.
   *  Concurrent calls share the next run. Throws store-down, and keeps the claims that are left. */
  settle(): Promise<void>;
  /** Whether no claim is recorded, and the last run left no commit with an unknown outcome. */
  readonly isEmpty: boolean;
  /** Whether so many claims are recorded that no address may be claimed. */
  readonly isFull: boolean;
}

/** A claim whose client does not know of it. */
interface Unheard {
  readonly claimed: Allocation;
  readonly log: Log;
}

export function createRollbacks(context: IpamContext): Rollbacks {
  const { store } = context;
  const waiting = new Map<string, Unheard>();
  let areOutcomesKnown = true;
  let running: Promise<void> | null = null;
  let next: Promise<void> | null = null;

  const add = (claimed: Allocation, log = context.log): void =>
    void waiting.set(claimKeyOf(claimed), { claimed, log });

  function settle(): Promise<void> {
    if (running === null) {
      running = settleAll().finally(() => {
        running = null;
      });
      return running;
    }
    const runNext = () => {
      next = null;
      return settle();
    };
    next ??= running.then(runNext, runNext);
    return next;
  }

  async function settleAll(): Promise<void> {
    areOutcomesKnown = false;
    const { moved, unsettled } = await store.lateOutcomes();
    areOutcomesKnown = unsettled === 0;
    for (const { change, row } of moved) if (change.move === 'claim') add(row);
    let left = [...waiting.values()];
    for (let rounds = 0; rounds < ROUNDS_MAX && left.length > 0; rounds++) left = await settleOnce(left);
  }

  /** Returns the claims whose row changed between read and move; they have to be read again. Throws store-down for a
   *  locked row when the others have been rolled back. */
  async function settleOnce(claims: readonly Unheard[]): Promise<Unheard[]> {
    const again: Unheard[] = [];
    let locked: IpamError | null = null;
    for (const ofSubnet of Map.groupBy(claims, ({ claimed }) => claimed.subnet).values())
      for (let from = 0; from < ofSubnet.length; from += CHANGES_MAX)
        try {
          again.push(...(await rollBack(ofSubnet.slice(from, from + CHANGES_MAX))));
        } catch (error) {
          if (!isLock(error)) throw error;
          locked = error;
        }
    if (locked !== null) throw locked;
    return again;
  }

  /** Rolls back claims of one subnet, in one move. Returns those whose row changed between read and move. */
  async function rollBack(claims: readonly Unheard[]): Promise<Unheard[]> {
    const [first] = claims;
    if (first === undefined) return [];
    const ips = [...new Set(claims.map(({ claimed }) => claimed.ip))];
    const rows = new Map((await store.get(first.claimed.subnet, ips)).rows.map(row => [row.ip, row]));
    const standing: Unheard[] = [];
    const changes: Change[] = [];
    for (const one of claims) {
      const { claimed } = one;
      const row = rows.get(claimed.ip);
      if (row === undefined || !isUnheard(row, claimed)) waiting.delete(claimKeyOf(claimed));
      else {
        standing.push(one);
        changes.push({ row, move: moveToUndo(row) });
      }
    }
    const { moved, locked } = await moveUnlocked(changes);
    const rolledBack = new Map(moved.map(row => [row.ip, row]));
    for (const { claimed, log } of standing) {
      const row = rolledBack.get(claimed.ip);
      if (row === undefined) continue;
      waiting.delete(claimKeyOf(claimed));
      log('warn', 'claim rolled back', {
        eni: row.iface,
        ip: row.ip,
        holder: claimed.holder,
      });
    }
    if (locked !== null) throw locked;
    return standing.filter(({ claimed }) => !rolledBack.has(claimed.ip));
  }

  /** Makes the changes in one move, or each by itself when another transaction has locked one of their rows. Returns the
   *  error of the locked ones. */
  async function moveUnlocked(changes: readonly Change[]) {
    try {
      return { moved: await store.move(changes), locked: null };
    } catch (error) {
      if (!isLock(error) || changes.length === 1) throw error;
    }
    const results = await Promise.allSettled(changes.map(change => store.move([change])));
    const errors = results.flatMap(result => (result.status === 'rejected' ? [result.reason] : []));
    for (const error of errors) if (!isLock(error)) throw error;
    const moved = results.flatMap(result => (result.status === 'fulfilled' ? result.value : []));
    return { moved, locked: errors.at(0) ?? null };
  }

  return {
    add,
    settle,
    get isEmpty() {
      return waiting.size === 0 && areOutcomesKnown;
    },
    get isFull() {
      return waiting.size >= WAITING_MAX;
    },
  };
}

/** Whether the row is still held by the claim, and nobody was told since: after a repeat of the request, another server
 *  has told its client. */
const isUnheard = (row: Allocation, claimed: Allocation): boolean =>
  isSameHolding(row, claimed) && row.repeatedAt === claimed.repeatedAt;

/** Another transaction has locked rows that the move names. */
const isLock = (error: unknown): error is IpamError => isStoreDown(error) && isLocked(error);

const claimKeyOf = ({ subnet, ip, generation }: Allocation): string => `${subnet} ${ip} ${generation}`;
