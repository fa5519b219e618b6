/** Shows something again and again, until Ctrl-C. */
import { IpamError } from '../../domain/error.ts';
import type { Log } from '../../domain/log.ts';
import type { Io } from '../command.ts';
import { drawn, type Line, wrapped } from './styled.ts';

const HOME = '\u001b[H';
const CLEAR_SCREEN = '\u001b[2J';
const CLEAR_LINE = '\u001b[K';
const CLEAR_BELOW = '\u001b[J';
/** A line that is wider than the terminal takes it to be is cut, so that a screen keeps its lines. */
const NO_WRAP = '\u001b[?7l';
const WRAP = '\u001b[?7h';

interface Watched<T> {
  /** Reads what is shown. */
  read(): Promise<T>;
  /** Of a list with more than `rowsMax` lines the first are enough. */
  lines(what: T, columns: number, rowsMax: number): Line[];
  readonly title: string;
  readonly asJson: boolean;
  readonly everyMs: number;
  readonly io: Pick<Io, 'out' | 'signal'>;
  readonly log: Log;
  /** The time of day, in milliseconds since 1970. */
  readonly now: () => number;
  /** Resolves earlier when the signal aborts. */
  readonly wait: (ms: number, signal: AbortSignal) => Promise<void>;
}

/**
 * On a terminal it draws over what it drew before, and leaves the cursor and the screen's mode alone, so that nothing
 * has to be restored, however it ends. Elsewhere it prints all anew each time; as JSON, one object a line. Resolves
 * when the signal aborts or the reader has gone. Throws what the first reading throws; a later one that fails is told,
 * and tried again.
 */
export async function watch<T>({
  read,
  lines,
  title,
  asJson,
  everyMs,
  io,
  log,
  now,
  wait,
}: Watched<T>): Promise<void> {
  const { out, signal } = io;
  const screen = asJson ? null : out.screen;
  const stopped = new Promise<null>(resolve => {
    if (signal.aborted) resolve(null);
    signal.addEventListener('abort', () => resolve(null), { once: true });
  });
  let known: { what: T; readAt: number } | null = null;
  let isFirst = true;

  function show(what: T, failure: string | null): void {
    if (asJson) out.write(`${JSON.stringify(what)}\n`);
    else if (screen === null)
      out.write(
        `${isFirst ? '' : '\n'}${drawn([head(), ...lines(what, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY)], false)}`,
      );
    else {
      const { columns, rows } = screen.size();
      const warning = failure === null ? [] : wrapped([{ text: failure, style: 'red' }], columns);
      const all = [...wrapped(head(), columns), ...warning, ...lines(what, columns, rows)];
      const text = drawn(fitting(all, rows - 1), screen.isColored).replaceAll('\n', `${CLEAR_LINE}\n`);
      screen.draw(`${isFirst ? CLEAR_SCREEN : ''}${HOME}${NO_WRAP}${text}${CLEAR_BELOW}${WRAP}`);
    }
    isFirst = false;
  }
  const head = (): Line => [
    {
      text: `${title}, ${new Date(now()).toISOString().slice(0, 19)}Z, every ${everyMs / 1000} s`,
      style: 'dim',
    },
  ];

  for (;;) {
    const reading = read().then(
      what => ({ what }),
      error => ({ error }),
    );
    const done = await Promise.race([reading, stopped]);
    if (done === null || out.reader() === 'gone') return;
    if ('what' in done) {
      known = { what: done.what, readAt: now() };
      if (out.reader() === 'reads') show(done.what, null);
    } else {
      if (known === null) throw done.error;
      const why = done.error instanceof IpamError ? done.error.line : 'internal error';
      const since = new Date(known.readAt).toISOString().slice(11, 19);
      if (screen === null) log('warn', 'reading failed, it is repeated', { error: done.error });
      else show(known.what, `As it was at ${since}Z, since it cannot be read now: ${why}`);
    }
    await wait(everyMs, signal);
    if (signal.aborted) return;
  }
}

/** The first lines; the last one says that there are more. */
function fitting(lines: readonly Line[], rows: number): readonly Line[] {
  if (lines.length <= rows) return lines;
  const shown = lines.slice(0, Math.max(rows - 1, 0));
  return [...shown, [{ text: '… more than fits here', style: 'dim' }]];
}
