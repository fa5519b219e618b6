/** Reads an ENI from time to time after an assign that had no answer, and makes the addresses that arrived ready. */
import { type Allocation, mayShowPastUntil } from '../../domain/allocation.ts';
import { IpamError } from '../../domain/error.ts';
import type { EniId } from '../../domain/ids.ts';
import type { FollowUps, IpamContext } from '../context.ts';
import { arrivedOn } from './survey.ts';

/** The times of the reads, in milliseconds after the call was sent. */
const READS_AFTER_MS = [1_000, 2_000, 5_000, 10_000, 30_000] as const;
/** The shortest time between two reads of an ENI whose calls are all older than the last of these times. */
const READ_AGAIN_MS = 30_000;
/** ENIs that are remembered; at this size the oldest entry is evicted. */
const ENIS_MAX = 10_000;

interface Read {
  /** The rows that it made ready. */
  readonly seen: readonly Allocation[];
  /** How many rows are left in doubt. */
  readonly left: number;
  /** The time until the first address that it shows can be believed, in milliseconds; 0: none is left. */
  readonly believedInMs: number;
}
const NOTHING_LEFT: Read = { seen: [], left: 0, believedInMs: 0 };

interface Watch {
  sentAt: number;
  /** The time of the last read, on the process's monotonic clock. */
  readAt: number;
  /** When an address that the last read showed can be believed, since it left the ENI long enough ago. */
  believedAt: number;
  /** Ends the wait for the next read. */
  wake: () => void;
  /** Resolves with the rows that the next read makes ready; null while the ENI is not watched. */
  next: PromiseWithResolvers<readonly Allocation[]> | null;
}

export function createFollowUps(context: IpamContext): FollowUps {
  const { store, cloud, clock, wait, log } = context;
  const watches = new Map<EniId, Watch>();
  const unsettled = new Set<Promise<unknown>>();
  let stopping = false;

  function watchOf(eni: EniId): Watch {
    const known = watches.get(eni);
    if (known !== undefined) return known;
    const [oldest] = watches.size >= ENIS_MAX ? watches.keys() : [];
    if (oldest !== undefined) watches.delete(oldest);
    const never = Number.NEGATIVE_INFINITY;
    const watch = { sentAt: never, readAt: never, believedAt: never, wake: () => {}, next: null };
    watches.set(eni, watch);
    return watch;
  }

  function watch(eni: EniId, sentAt: number): void {
    const watching = watchOf(eni);
    if (sentAt > watching.sentAt) watching.wake();
    watching.sentAt = Math.max(watching.sentAt, sentAt);
    if (watching.next !== null || dueAt(watching) === undefined) return;
    watching.next = Promise.withResolvers();
    void readUntilSettled(eni, watching);
  }

  const dueAt = ({ sentAt, readAt, believedAt }: Watch): number | undefined =>
    [...READS_AFTER_MS.map(ms => sentAt + ms), believedAt].find(at => at > readAt) ??
    (clock() - readAt >= READ_AGAIN_MS ? clock() : undefined);

  async function readUntilSettled(eni: EniId, watching: Watch): Promise<void> {
    for (let due = dueAt(watching); due !== undefined; due = dueAt(watching)) {
      await waitUntil(due, watching);
      if (stopping) break;
      if (clock() < due) continue; // a newer call has ended the wait: its first read is due later
      watching.readAt = clock();
      const { sentAt, next } = watching;
      const { seen, left, believedInMs } = await readOnce(eni);
      watching.believedAt = watching.readAt + believedInMs;
      watching.next = Promise.withResolvers();
      next?.resolve(seen);
      if (left === 0 && watching.sentAt === sentAt) break;
    }
    watching.next?.resolve([]);
    watching.next = null;
  }

  async function waitUntil(due: number, watching: Watch): Promise<void> {
    const waiting = new AbortController();
    watching.wake = () => waiting.abort();
    await wait(Math.max(due - clock(), 0), waiting.signal);
  }

  /** Reads the ENI once. The rows are read before EC2 is. */
  async function readOnce(eni: EniId): Promise<Read> {
    try {
      const { rows, now } = await store.onEni(eni);
      const asked = rows.filter(row => row.status === 'assigning');
      if (asked.length === 0) return NOTHING_LEFT;
      const shown = await cloud.eni(eni);
      const isOurs = context.host.instance === null || shown.instance === context.host.instance;
      const seen = isOurs ? await store.move(arrivedOn(shown, asked, now)) : [];
      if (seen.length > 0) log('info', 'assign confirmed by a read', { eni, ips: seen.map(row => row.ip) });
      const shownUntil = asked
        .filter(({ ip }) => isOurs && shown.secondaries.includes(ip))
        .map(row => mayShowPastUntil(row, eni));
      const later = shownUntil.filter(until => until > now);
      const believedInMs = later.length === 0 ? 0 : Math.min(...later) - now;
      return { seen, left: asked.length - seen.length, believedInMs };
    } catch (error) {
      log('warn', 'ENI not read after an unanswered assign', {
        eni,
        error: error instanceof IpamError ? error.line : error,
      });
      return { seen: [], left: Number.POSITIVE_INFINITY, believedInMs: 0 };
    }
  }

  return {
    watch,
    next: async eni => (await watches.get(eni)?.next?.promise) ?? [],
    sent(settled) {
      const ended: Promise<unknown> = settled.then(
        () => unsettled.delete(ended),
        () => unsettled.delete(ended),
      );
      unsettled.add(ended);
    },
    async stop() {
      stopping = true;
      for (const { wake } of watches.values()) wake();
      await Promise.all(unsettled);
    },
  };
}
