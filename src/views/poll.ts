/** Finds what other servers and commands move, while somebody looks. */
import type { Allocation } from '../domain/allocation.ts';
import { IpamError } from '../domain/error.ts';
import type { SubnetId } from '../domain/ids.ts';
import type { Log } from '../domain/log.ts';
import { PART_MAX, partsOf } from '../store/looks.ts';
import type { Store } from '../store/store.ts';
import { nextTurn } from './counts.ts';
import type { Live } from './live.ts';

/** Between two reads of the history, and of the ledger itself, which has no index of what moved last. */
const HISTORY_EVERY_MS = 2_000;
const LEDGER_EVERY_MS = 10_000;
/** Each read begins so long before the end of the one before: a commit may show late. */
const OVERLAP_MS = 10_000;
/** The first read begins so long ago: a page may have been made before its stream was opened. */
const FIRST_MS = 30_000;
/** An EC2 call is settled within so long; what takes longer is found in the ledger. */
const CALLS_MS = 30_000;
const RECORDS_MAX = 5_000;
const CALLS_MAX = 500;

interface PollParts {
  readonly store: Pick<Store, 'subnets' | 'movedWithin' | 'recentHistory' | 'ec2Calls' | 'get'>;
  readonly live: Live;
  readonly hasHistory: boolean;
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
  readonly wait: (ms: number, signal?: AbortSignal) => Promise<void>;
  readonly log: Log;
}

/** Polls while `live` has readers. Returns what ends that for good. */
export function pollFor({ store, live, hasHistory, clock, wait, log }: PollParts): () => void {
  const ended = new AbortController();
  let isRunning = false;
  let isAway = false;

  async function readHistory(): Promise<void> {
    const { now, rows } = await store.recentHistory(HISTORY_EVERY_MS + OVERLAP_MS, RECORDS_MAX);
    const since = now - HISTORY_EVERY_MS - OVERLAP_MS;
    const moved = rows.filter(one => !live.isKnown(one));
    for (const [subnet, some] of Map.groupBy(moved, one => one.subnet))
      live.publish((await store.get(subnet, [...new Set(some.map(({ ip }) => ip))])).rows);
    const { rows: calls } = await store.ec2Calls(CALLS_MS, CALLS_MAX);
    const recent = calls.filter(({ at, endedAt }) => Math.max(at, endedAt ?? 0) >= since);
    const ips = [...new Set(recent.flatMap(call => call.ips))];
    if (ips.length === 0) return;
    for (const { id } of await store.subnets()) {
      const { rows: named } = await store.get(id, ips);
      live.publish(named.filter(row => movedAfter(row, since)));
    }
  }

  async function readLedger(withinMs: number): Promise<void> {
    for (const { id, cidr } of await store.subnets())
      for (const part of partsOf(cidr)) {
        if (live.readers() === 0 || ended.signal.aborted) return;
        live.publish((await store.movedWithin(id as SubnetId, part, withinMs, PART_MAX)).rows);
        await nextTurn();
      }
  }

  async function run(): Promise<void> {
    if (isRunning) return;
    isRunning = true;
    let ledgerAt: number | null = null;
    while (live.readers() > 0 && !ended.signal.aborted) {
      const startedAt = clock();
      try {
        if (hasHistory) await readHistory();
        if (ledgerAt === null || startedAt - ledgerAt >= LEDGER_EVERY_MS) {
          await readLedger((ledgerAt === null ? FIRST_MS : startedAt - ledgerAt) + OVERLAP_MS);
          ledgerAt = startedAt;
        }
        isAway = false;
      } catch (error) {
        if (!isAway) log('warn', 'live view: the ledger was not read', { error: lineOf(error) });
        isAway = true;
      }
      await wait(hasHistory ? HISTORY_EVERY_MS : LEDGER_EVERY_MS, ended.signal);
    }
    isRunning = false;
  }

  live.onFirst(() => void run());
  return () => ended.abort();
}

const movedAfter = ({ movedAt, missingSince, placedAt }: Allocation, at: number): boolean =>
  Math.max(movedAt, missingSince ?? 0, placedAt ?? 0) >= at;

const lineOf = (error: unknown): unknown => (error instanceof IpamError ? error.line : error);
