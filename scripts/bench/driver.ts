/** The load driver: a process of its own that generates load. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { burst, loadWindow, noopWindow } from './load.ts';
import { commitWindow, pairWindow } from './stores.ts';

/** Allowed in addition to the time that an operation asks for. */
const REPLY_LIMIT_MS = 30_000;
const OPERATIONS = {
  noop: noopWindow,
  load: loadWindow,
  burst,
  commits: commitWindow,
  pairs: pairWindow,
};
type Operations = typeof OPERATIONS;
type Asked<K extends keyof Operations> = Parameters<Operations[K]>[0];
type Result<K extends keyof Operations> = Awaited<ReturnType<Operations[K]>>;
interface Message {
  readonly operation: keyof Operations;
  readonly asked: never;
}
type Reply = { readonly result: unknown } | { readonly error: string };

export interface Driver {
  /** Runs one operation at a time. Throws its error. */
  ask<K extends keyof Operations>(operation: K, asked: Asked<K>): Promise<Result<K>>;
  stop(): Promise<unknown>;
}

export function startDriver(): Driver {
  const child = fork(fileURLToPath(import.meta.url));
  const hasEnded = new AbortController();
  const ended = once(child, 'exit').finally(() => hasEnded.abort());
  return {
    async ask<K extends keyof Operations>(operation: K, asked: Asked<K>): Promise<Result<K>> {
      const limitMs = REPLY_LIMIT_MS + ('ms' in asked ? asked.ms : 0);
      const signal = AbortSignal.any([hasEnded.signal, AbortSignal.timeout(limitMs)]);
      child.send({ operation, asked });
      const [reply]: Reply[] = await once(child, 'message', { signal }).catch(cause => {
        throw new Error(`the load driver, ${operation}: no reply within ${limitMs} ms`, { cause });
      });
      if (reply === undefined || 'error' in reply)
        throw new Error(`the load driver, ${operation}: ${reply?.error}`);
      return reply.result as Result<K>;
    },
    stop() {
      if (child.connected) child.disconnect();
      return ended;
    },
  };
}

async function answer({ operation, asked }: Message): Promise<Reply> {
  try {
    return { result: await OPERATIONS[operation](asked) };
  } catch (error) {
    return { error: (error as Error).stack ?? String(error) };
  }
}

if (import.meta.main) {
  process.on('message', async (message: Message) => process.send?.(await answer(message)));
  process.on('disconnect', () => process.exit());
}
