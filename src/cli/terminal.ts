import process from 'node:process';
import { createInterface } from 'node:readline/promises';
import type { Io, Output } from './command.ts';

/** The process's own standard streams and signals. */
export function terminal(): Io {
  const stop = new AbortController();
  // The first signal asks, the second ends the process as if nobody had listened.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.abort());
  // `ec2-ipam status | head` closes the pipe early; that is no error.
  process.stdout.on('error', error => process.exit((error as { code?: string }).code === 'EPIPE' ? 0 : 1));
  return { out: output(process.stdout), err: output(process.stderr), ask, signal: stop.signal };
}

const output = (stream: NodeJS.WriteStream): Output => ({
  write: text => void stream.write(text),
  isTerminal: stream.isTTY === true,
});

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
