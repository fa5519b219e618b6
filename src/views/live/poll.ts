/** Finds what other servers and commands move, while somebody looks. */
import { IpamError } from '../../domain/error.ts';
import type { SubnetId } from '../../domain/ids.ts';
import type { Log } from '../../domain/log.ts';
import { nextTurn } from '../../store/next-turn.ts';
import type { Store } from '../../store/store.ts';
import { portions } from '../../store/upsert.ts';
import type { Live } from './live.ts';

/** Between two reads of the rows. They have no index of what moved last, since that would cost each claim more than a page
 *  is worth: so a large ledger is read less often, such that its reads take a twentieth of the time. */
const EVERY_MS_MIN = 2_000;
const EVERY_MS_MAX = 10_000;
const PAUSES_PER_READ = 20;
/** Each read begins so long before the end of the one before: a commit may show late. */
const OVERLAP_MS = 10_000;
/** The first read begins so long ago: a page may have been made before its stream was opened. */
const FIRST_MS = 30_000;
/** More rows than a part of a subnet has. */
const MOVED_MAX = 20_000;
/** Rows that are told in one turn of the event loop. */
const PUBLISHED_AT_ONCE = 250;

interface PollParts {
  readonly store: Pick<Store, 'subnets' | 'partsOf' | 'movedWithin'>;
  readonly live: Live;
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
  readonly wait: (ms: number, signal?: AbortSignal) => Promise<void>;
  readonly log: Log;
}

/** Polls while `live` has readers. Returns what ends that for good. */
export function pollFor({ store, live, clock, wait, log }: PollParts): () => void {
  const ended = new AbortController();
  let isRunning = false;
  let isAway = false;

  /** Reads what moved since that time of our clock. Returns whether it came to its end. */
  async function read(since: number): Promise<boolean> {
    for (const { id, cidr } of await store.subnets())
      for (const part of store.partsOf(cidr)) {
        if (live.readers() === 0 || ended.signal.aborted) return false;
        const withinMs = clock() - since; // it may be long since the read began
        const { rows } = await store.movedWithin(id as SubnetId, part, withinMs, MOVED_MAX);
        for (const some of portions(rows, PUBLISHED_AT_ONCE)) {
          await nextTurn();
          live.publish(some);
        }
        await nextTurn();
      }
    return true;
  }

  async function run(): Promise<void> {
    if (isRunning) return;
    isRunning = true;
    /** When the last read that came to its end began. */
    let readAt: number | null = null;
    while (live.readers() > 0 && !ended.signal.aborted) {
      const startedAt = clock();
      try {
        const isWhole = await read((readAt ?? startedAt - FIRST_MS) - OVERLAP_MS);
        if (isWhole) readAt = startedAt;
        isAway = false;
      } catch (error) {
        if (!isAway) log('warn', 'live view: the ledger was not read', { error: lineOf(error) });
        isAway = true;
      }
      const pauseMs = (clock() - startedAt) * PAUSES_PER_READ;
      await wait(Math.min(Math.max(pauseMs, EVERY_MS_MIN), EVERY_MS_MAX), ended.signal);
    }
    isRunning = false;
  }

  live.onFirst(() => void run());
  return () => ended.abort();
}

const lineOf = (error: unknown): unknown => (error instanceof IpamError ? error.line : error);
