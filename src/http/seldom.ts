/** Logs what happens often in at most one line a second, with a count, so that nobody can fill a disk by failing. */
import type { Log, LogLevel } from '../domain/log.ts';

const EVERY_MS = 1000;

/** Logs the first of a kind at once. Those that follow within a second are one line at its end: the last one's fields,
 *  and `count`. The message is the kind: it has no names in it. */
export function createSeldom(log: Log, later: (work: () => void, ms: number) => void = unreferenced): Log {
  const kinds = new Map<string, { count: number; tell: () => void }>();

  function wait(message: string): void {
    later(() => {
      const kind = kinds.get(message);
      if (kind === undefined) return;
      kinds.delete(message);
      if (kind.count === 0) return;
      kind.tell();
      open(message);
    }, EVERY_MS);
  }

  function open(message: string): void {
    kinds.set(message, { count: 0, tell: () => {} });
    wait(message);
  }

  return (level: LogLevel, message, fields = {}) => {
    const kind = kinds.get(message);
    if (kind === undefined) {
      log(level, message, fields);
      open(message);
      return;
    }
    kind.count++;
    kind.tell = () => log(level, message, { ...fields, count: kind.count });
  };
}

const unreferenced = (work: () => void, ms: number): void => void setTimeout(work, ms).unref();
