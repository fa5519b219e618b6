/** Standard streams, signals and questions of the process. */
import process from 'node:process';
import { createInterface } from 'node:readline/promises';
import type { Io, Output } from '../command.ts';

/** How long the end waits for the reader of stderr, in milliseconds. For the reader of stdout it waits without limit,
 *  as other programs do: it may be a pager. */
const STDERR_END_MAX_MS = 5000;

export interface Terminal extends Io {
  /** Resolves when all output is written or its readers have closed. False: a part of stdout could not be written.
   *  Nothing may be written afterwards. */
  end(): Promise<boolean>;
}

export function createTerminal(): Terminal {
  const stop = new AbortController();
  // The first signal stops in good order. The second ends the process at once.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.abort());
  const [out, err] = [createStream(process.stdout), createStream(process.stderr)];
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
function createStream(stream: NodeJS.WriteStream): Stream {
  let error: { code?: string } | null = null;
  const failed = new Promise<void>(resolve =>
    stream.on('error', first => {
      error ??= first;
      resolve();
    }),
  );
  return {
    isTerminal: stream.isTTY === true,
    write(text) {
      if (error === null) stream.write(text);
    },
    isWhole: () => error === null || error.code === 'EPIPE',
    // On Bun only the end of a stream reports that its bytes were written.
    end: () => Promise.race([failed, new Promise<void>(resolve => stream.end(() => resolve()))]),
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
