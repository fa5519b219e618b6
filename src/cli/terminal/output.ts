/** Text output of commands: tables, JSON, durations and progress. */
import type { Output } from '../command.ts';
import { drawn, tableLines } from './styled.ts';

/** A table with a head, as wide as its longest cells. */
export const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  drawn(tableLines(head, rows, Number.POSITIVE_INFINITY), false);

export const printJson = (out: Output, data: unknown): void =>
  out.write(`${JSON.stringify(data, null, 2)}\n`);

/** Prints the data with `--json`, else the text. */
export const print = (out: Output, json: boolean, data: unknown, text: string): void =>
  json ? printJson(out, data) : out.write(text);

/** A duration for people, as `1m30s`. */
export function ago(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first === -1) return '0s';
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count}${unit}`)
    .join('');
}

export interface Progress {
  /** `total` is null while it is not known. */
  readonly show: (what: string, done: number, total: number | null) => void;
  readonly end: () => void;
}

const BAR_CELLS = 30;
const FRAME_EVERY_MS = 100;
const LINE_EVERY_MS = 5000;
const CLEAR_LINE = '\r\u001b[K';

/** Shows progress: a bar on a terminal, else a line every LINE_EVERY_MS. It shows nothing before the first interval is
 *  over. */
export function createProgress(to: Output, subject: string, clock = () => performance.now()): Progress {
  const everyMs = to.screen !== null ? FRAME_EVERY_MS : LINE_EVERY_MS;
  let shownAt = clock();
  let drawn = false;
  return {
    show(what, done, total) {
      if (clock() - shownAt < everyMs) return;
      shownAt = clock();
      const amount = total === null ? `${done} ${what}` : `${done} of ${total} ${what}`;
      if (to.screen === null) {
        to.write(`${subject}: ${amount}\n`);
        return;
      }
      drawn = true;
      to.write(`${CLEAR_LINE}${subject} ${total === null ? '' : `${bar(done / total)} `}${amount}`);
    },
    end() {
      if (drawn) to.write(CLEAR_LINE);
    },
  };
}

function bar(part: number): string {
  const full = Math.round(Math.min(Math.max(part, 0), 1) * BAR_CELLS);
  return `[${'#'.repeat(full)}${'.'.repeat(BAR_CELLS - full)}]`;
}
