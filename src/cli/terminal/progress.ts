import type { Output } from '../command.ts';

export interface Progress {
  /** `total` is null while nobody knows it. */
  readonly show: (what: string, done: number, total: number | null) => void;
  readonly end: () => void;
}

const BAR_CELLS = 30;
const FRAME_EVERY_MS = 100;
const LINE_EVERY_MS = 5000;
const CLEAR_LINE = '\r\u001b[K';

/** Shows how far something has come: a bar that stays in its line on a terminal, else a line now and then.
 *  Says nothing of what is over before the first pause. */
export function createProgress(to: Output, subject: string, clock = () => performance.now()): Progress {
  const everyMs = to.isTerminal ? FRAME_EVERY_MS : LINE_EVERY_MS;
  let shownAt = clock();
  let drawn = false;
  return {
    show(what, done, total) {
      if (clock() - shownAt < everyMs) return;
      shownAt = clock();
      const amount = total === null ? `${done} ${what}` : `${done} of ${total} ${what}`;
      if (!to.isTerminal) {
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
