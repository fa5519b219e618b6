import process from 'node:process';
import { createInterface } from 'node:readline/promises';
import type { Io, Output } from '../command.ts';

/** How long the end waits for the reader of stderr. That of stdout is waited for as every program does: it may be
 *  a person with a pager. */
const STDERR_END_MAX_MS = 5000;

export interface Terminal extends Io {
  /** Resolves when what was written has gone to its readers, or these are gone. False: some of stdout could not
   *  be written. Nothing may be written after it. */
  end(): Promise<boolean>;
}

/** The process's own standard streams and signals. */
export function createTerminal(): Terminal {
  const stop = new AbortController();
  // The first signal asks, the second ends the process as if nobody had listened.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.abort());
  const [out, err] = [new Stream(process.stdout), new Stream(process.stderr)];
  return {
    out,
    err,
    ask,
    signal: stop.signal,
    crashed: uncaught(),
    async end() {
      await Promise.all([out.end(), Promise.race([err.end(), timeout(STDERR_END_MAX_MS)])]);
      return out.isWhole;
    },
  };
}

/** A stream whose reader may go: then what is written is lost, and nothing else. */
class Stream implements Output {
  readonly isTerminal: boolean;
  readonly #stream: NodeJS.WriteStream;
  /** With what the first write failed that did. */
  #error: { code?: string } | null = null;
  readonly #failed: Promise<void>;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
    this.isTerminal = stream.isTTY === true;
    this.#failed = new Promise(resolve =>
      stream.on('error', error => {
        this.#error ??= error;
        resolve();
      }),
    );
  }

  write(text: string): void {
    if (this.#error === null) this.#stream.write(text);
  }

  /** All that was written could be, or nobody wanted it: `ec2-ipam status | head` closes the pipe early. */
  get isWhole(): boolean {
    return this.#error === null || this.#error.code === 'EPIPE';
  }

  /** On Bun only the end of a stream is told when its bytes have gone. */
  async end(): Promise<void> {
    await Promise.race([this.#failed, new Promise<void>(resolve => this.#stream.end(() => resolve()))]);
  }
}

const timeout = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms));

/** Rejects with the first error that nobody caught. */
function uncaught(): Promise<never> {
  const crashed = new Promise<never>((_, reject) => {
    for (const event of ['uncaughtException', 'unhandledRejection'] as const) process.on(event, reject);
  });
  crashed.catch(() => {}); // perhaps nobody waits any more
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
