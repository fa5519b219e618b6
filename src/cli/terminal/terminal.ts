/** Standard streams, signals and questions of the process. */
import process from 'node:process';
import { createInterface } from 'node:readline/promises';
import type { Io, Output, Screen } from '../command.ts';

/** How long the end waits for the reader of stderr, in milliseconds. For the reader of stdout it waits without limit,
 *  as other programs do: it may be a pager. */
const STDERR_END_MAX_MS = 5000;

export interface Terminal extends Io {
  /** Resolves when all output is written or its readers have closed. False: a part of stdout could not be written.
   *  Nothing may be written afterwards. */
  end(): Promise<boolean>;
}

type Env = Readonly<Record<string, string | undefined>>;

export function createTerminal(env: Env): Terminal {
  const stop = new AbortController();
  // The first signal stops in good order. The second ends the process at once.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.abort());
  const [out, err] = [createStream(process.stdout, env), createStream(process.stderr, env)];
  return {
    out,
    err,
    ask,
    signal: stop.signal,
    crashed: uncaught(),
    async end() {
      await Promise.all([out.end(), Promise.race([err.end(), timeout(STDERR_END_MAX_MS)])]);
      return out.isWhole();
    },
  };
}

interface Stream extends Output {
  /** False when a write failed. A reader that closes the pipe early, as in `ec2-ipam status | head`, is no failure. */
  isWhole(): boolean;
  end(): Promise<void>;
}

/** A standard stream. After its first error further writes are dropped. */
function createStream(stream: NodeJS.WriteStream, env: Env): Stream {
  let error: { code?: string } | null = null;
  const failed = new Promise<void>(resolve =>
    stream.on('error', first => {
      error ??= first;
      resolve();
    }),
  );
  const write = (text: string) => {
    if (error === null) stream.write(text);
  };
  return {
    isTerminal: stream.isTTY === true,
    screen: screenOf(stream, env, write),
    write,
    reader: () => (error !== null ? 'gone' : stream.writableNeedDrain === true ? 'slow' : 'reads'),
    isWhole: () => error === null || error.code === 'EPIPE',
    // On Bun only the end of a stream reports that its bytes were written.
    end: () => Promise.race([failed, new Promise<void>(resolve => stream.end(() => resolve()))]),
  };
}

const COLUMNS = 80;
const ROWS = 24;

/** Colors are left out where NO_COLOR is set: https://no-color.org */
function screenOf(stream: NodeJS.WriteStream, env: Env, draw: (text: string) => void): Screen | null {
  if (stream.isTTY !== true || env.TERM === 'dumb') return null;
  return {
    isColored: !env.NO_COLOR,
    // A terminal that does not know its size has none, or 0 by 0.
    size: () => ({ columns: stream.columns || COLUMNS, rows: stream.rows || ROWS }),
    draw,
  };
}

const timeout = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms));

/** Rejects with the first error that nobody caught. */
function uncaught(): Promise<never> {
  const crashed = new Promise<never>((_, reject) => {
    for (const event of ['uncaughtException', 'unhandledRejection'] as const) process.on(event, reject);
  });
  crashed.catch(() => {}); // it may reject when nothing awaits it
  return crashed;
}

async function ask(question: string): Promise<string | null> {
  if (process.stdin.isTTY !== true) return null;
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return await Promise.race([
      lines.question(question),
      new Promise<null>(resolve => lines.once('close', () => resolve(null))), // Ctrl-D
    ]);
  } finally {
    lines.close();
  }
}
