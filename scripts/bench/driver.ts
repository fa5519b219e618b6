/** The load driver as the benchmark holds it. It always runs on Node: what differs is the server. */
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Message, Reply, Results } from './messages.ts';
import { start } from './programs.ts';

const SCRIPT = fileURLToPath(new URL('./load-driver.ts', import.meta.url));
/** Beyond the time that a message asks for. */
const REPLY_LIMIT_MS = 30_000;

export interface Driver {
  /** One message at a time. Throws what the driver says went wrong. */
  ask<M extends Message>(message: M): Promise<Results[M['kind']]>;
  stop(): Promise<unknown>;
}

export function startDriver(): Driver {
  const program = start('node', SCRIPT, [], {});
  const lines = createInterface({ input: program.stdout })[Symbol.asyncIterator]();
  return {
    async ask<M extends Message>(message: M) {
      program.stdin.write(`${JSON.stringify(message)}\n`);
      const limitMs = REPLY_LIMIT_MS + ('ms' in message ? message.ms : 0);
      // Whoever asks it again would get the late answer.
      const late = setTimeout(() => program.kill(), limitMs);
      const { value, done } = await lines.next();
      clearTimeout(late);
      if (done) {
        const whom = 'url' in message ? ` to ${message.url}` : '';
        throw new Error(
          `${message.kind}${whom} had no answer within ${limitMs} ms, or failed: ${program.output()}`,
        );
      }
      const reply = JSON.parse(value) as Reply;
      if ('error' in reply) throw new Error(`the load driver, asked for ${message.kind}: ${reply.error}`);
      return reply.result as Results[M['kind']];
    },
    stop() {
      program.stdin.end();
      return program.ended;
    },
  };
}
