/**
 * What moves in the ledger, for those who look at it now. Each reader gets the newest state of the addresses that moved,
 * in messages of server-sent events.
 *
 * All readers share one log, which has the newest cell of each address. A reader only has a place in it, so that a slow
 * one costs no memory. One who is too far behind is told to begin anew. Nothing is kept while nobody looks.
 */
import { randomBytes } from 'node:crypto';
import type { Allocation } from '../../domain/allocation.ts';
import type { Observer } from '../../domain/observer.ts';
import { nextTurn } from '../../store/next-turn.ts';
import { type Cell, cellOf, type RestTimes } from '../shapes.ts';
import { eventId, numberIn } from './event-id.ts';
import type { MovedEvent } from './events.ts';

/** The most readers at a time. */
export const READERS_MAX = 100;
/** Addresses in the log, and for how long each stays there. */
const LOG_MAX = 20_000;
const LOG_MS = 60_000;
/** For how long the log is kept for one who comes back, or who has read a view and opens a stream next. */
const RESUME_MS = 30_000;
/** Addresses of one message. */
const MESSAGE_MAX = 500;
/** Messages that are kept for other readers. */
const MESSAGES_MAX = 8;
/** So much is told in one turn of the event loop, and one message more. */
const TOLD_AT_ONCE_CHARS = 500_000;
/** What moved meanwhile is told together. */
const GATHER_MS = 200;
/** So often readers are told that the connection works. A comment would not reach the script of a page. */
const BEAT_MS = 15_000;
const BEAT = 'event: beat\ndata: {}\n\n';
/** A reader who has taken nothing for so long is dropped. */
const STUCK_MS = 60_000;

export interface Reader {
  /** Returns the next message as text, when there is one; null: no more will come. It must not be called again before it
   *  has resolved. */
  next(): Promise<string | null>;
  end(): void;
}

interface ReaderOptions {
  /** The id of the last event that the reader has; null: it begins now. */
  readonly after: string | null;
  /** Only of this subnet; null: of all. */
  readonly subnet: string | null;
  /** Ends the connection of a reader who takes nothing. */
  readonly drop: () => void;
}

export interface Live {
  readonly observer: Pick<Observer, 'committed'>;
  /** The id of the last event. What moves after it is kept for RESUME_MS. */
  lastEvent(): string;
  /** Tells readers of rows. Those that they know are left out. */
  publish(rows: readonly Allocation[]): void;
  /** Null: READERS_MAX read already, or it was closed. */
  open(options: ReaderOptions): Reader | null;
  readonly readers: () => number;
  /** `begin` is called when the first reader has come. */
  onFirst(begin: () => void): void;
  /** Ends all readers. */
  close(): void;
}

interface Entry {
  readonly seq: number;
  readonly at: number;
  readonly cell: Cell;
}

interface Place {
  /** The last event that it was given. */
  seq: number;
  readonly subnet: string | null;
  readonly drop: () => void;
  /** Set while it waits for the next message. */
  tell: ((text: string | null) => void) | null;
  takenAt: number;
  mustBegin: boolean;
}

/** `clock`: milliseconds, monotonic. `later` runs `work` once after a time, and returns what prevents that. */
export function createLive(
  rest: RestTimes,
  clock: () => number,
  later: (work: () => void, ms: number) => () => void = timer,
): Live {
  const epoch = randomBytes(4).toString('hex');
  const log = new Map<string, Entry>();
  const places = new Set<Place>();
  let seq = 0;
  /** The last event that is no longer in the log. */
  let forgotten = 0;
  let isRecording = false;
  let keptUntil = Number.NEGATIVE_INFINITY;
  let isClosed = false;
  let cancelFlush: (() => void) | null = null;
  let cancelBeat: (() => void) | null = null;
  let onFirst = () => {};

  const idOf = (number: number): string => eventId(epoch, number);

  /** Whether somebody looks, or may come back. Forgets all when nobody does. */
  function record(): boolean {
    if (isRecording && places.size === 0 && clock() >= keptUntil) {
      isRecording = false;
      log.clear();
    }
    return isRecording;
  }
  function keepFor(ms: number): void {
    if (!record()) {
      isRecording = true;
      forgotten = ++seq; // what has moved since the last recording is not known
    }
    keptUntil = Math.max(keptUntil, clock() + ms);
  }
  function forgetOld(): void {
    const before = clock() - LOG_MS;
    for (const [key, entry] of log) {
      if (log.size <= LOG_MAX && entry.at >= before) return;
      log.delete(key);
      forgotten = entry.seq;
    }
  }

  function publish(rows: readonly Allocation[]): void {
    if (!record()) return;
    for (const row of rows) {
      const key = `${row.subnet} ${row.ip}`;
      if ((log.get(key)?.cell.generation ?? -1) >= row.generation) continue; // it is known, or newer
      log.delete(key); // so that the log stays in the order of its events
      log.set(key, { seq: ++seq, at: clock(), cell: cellOf(row, rest, row.movedAt) });
    }
    forgetOld();
    if (places.size > 0) cancelFlush ??= later(() => void flush(), GATHER_MS);
  }

  /** The last messages that were made, which most readers share. */
  const messages = new Map<string, { text: string; seq: number } | null>();
  function messageFor(place: Place): string | null {
    if (place.mustBegin || place.seq < forgotten) {
      place.mustBegin = false;
      place.seq = seq;
      return `id: ${idOf(seq)}\nevent: reset\ndata: {}\n\n`;
    }
    const key = `${place.seq} ${seq} ${place.subnet}`;
    const message = messages.has(key) ? (messages.get(key) ?? null) : written(place);
    if (messages.size >= MESSAGES_MAX) messages.clear();
    messages.set(key, message);
    if (message === null) {
      place.seq = seq;
      return null;
    }
    place.seq = message.seq;
    count(message.text);
    return message.text;
  }
  function written({ seq: after, subnet }: Place): { text: string; seq: number } | null {
    const cells: Cell[] = [];
    let last = after;
    for (const entry of log.values()) {
      if (entry.seq <= after || (subnet !== null && entry.cell.subnet !== subnet)) continue;
      if (cells.length >= MESSAGE_MAX) break;
      cells.push(entry.cell);
      last = entry.seq;
    }
    if (cells.length === 0) return null;
    const data: MovedEvent = { cells };
    return { text: `id: ${idOf(last)}\nevent: moved\ndata: ${JSON.stringify(data)}\n\n`, seq: last };
  }

  function give(place: Place, text: string | null): void {
    const { tell } = place;
    place.tell = null;
    place.takenAt = clock();
    tell?.(text);
  }
  async function flush(): Promise<void> {
    cancelFlush = null;
    for (const place of places) {
      while (toldNow > TOLD_AT_ONCE_CHARS) await nextTurn();
      const text = place.tell === null ? null : messageFor(place);
      if (text !== null) give(place, text);
    }
  }

  /** What was told in this turn of the event loop, in characters. */
  let toldNow = 0;
  function count(text: string): void {
    if (toldNow === 0)
      setImmediate(() => {
        toldNow = 0;
      });
    toldNow += text.length;
  }

  function beat(): void {
    cancelBeat = places.size > 0 ? later(beat, BEAT_MS) : null;
    for (const place of places) {
      if (place.tell !== null) give(place, BEAT);
      else if (clock() - place.takenAt > STUCK_MS) {
        end(place);
        place.drop();
      }
    }
  }

  function end(place: Place): void {
    if (!places.delete(place)) return;
    give(place, null);
    if (places.size > 0) return;
    keptUntil = clock() + RESUME_MS;
    messages.clear();
  }

  function open({ after, subnet, drop }: ReaderOptions): Reader | null {
    if (isClosed || places.size >= READERS_MAX) return null;
    keepFor(RESUME_MS);
    const known = after === null ? seq : seqIn(after);
    const place: Place = {
      ...{ seq: known ?? seq, subnet, drop, tell: null, takenAt: clock() },
      mustBegin: known === null,
    };
    places.add(place);
    cancelBeat ??= later(beat, BEAT_MS);
    if (places.size === 1) onFirst();
    let isFirst = true;
    return {
      async next() {
        if (!places.has(place)) return null;
        if (isFirst) {
          isFirst = false;
          return `retry: 2000\nid: ${idOf(place.seq)}\n: \n\n`;
        }
        const isBehind = place.mustBegin || place.seq !== seq;
        if (isBehind) while (toldNow > TOLD_AT_ONCE_CHARS) await nextTurn();
        if (!places.has(place)) return null;
        const text = isBehind ? messageFor(place) : null;
        if (text !== null) {
          place.takenAt = clock();
          return text;
        }
        return await new Promise(resolve => {
          place.tell = resolve;
        });
      },
      end: () => end(place),
    };
  }

  /** Null: it is no event of this process. */
  function seqIn(id: string): number | null {
    const number = numberIn(epoch, id);
    return number !== null && number <= seq ? number : null;
  }

  return {
    observer: { committed: publish },
    lastEvent() {
      keepFor(RESUME_MS);
      return idOf(seq);
    },
    publish,
    open,
    readers: () => places.size,
    onFirst(begin) {
      onFirst = begin;
    },
    close() {
      isClosed = true;
      for (const place of [...places]) end(place);
      cancelFlush?.();
      cancelBeat?.();
    },
  };
}

function timer(work: () => void, ms: number): () => void {
  const timeout = setTimeout(work, ms);
  timeout.unref();
  return () => clearTimeout(timeout);
}
