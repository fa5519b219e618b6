/** The load driver's process: does what standard input asks, one line after another, and answers on standard output. */
import process from 'node:process';
import { createInterface } from 'node:readline';
import { type Connection, openConnection } from './connection.ts';
import { limits } from './limits.ts';
import { burst, loadWindow, noopWindow, release } from './load.ts';
import type { Message, Reply, Results } from './messages.ts';

const CONNECTIONS_MAX = 1_000;

const stores = limits();
/** By server, and kept from window to window: our servers close none. */
const open = new Map<string, Connection[]>();

for await (const line of createInterface({ input: process.stdin }))
  process.stdout.write(`${JSON.stringify(await reply(JSON.parse(line)))}\n`);
process.exit();

async function reply(message: Message): Promise<Reply> {
  try {
    return { result: await answer(message) };
  } catch (error) {
    return { error: (error as Error).stack ?? String(error) };
  }
}

async function answer(message: Message): Promise<Results[keyof Results]> {
  switch (message.kind) {
    case 'noop':
      return noopWindow(message, await connectionsTo(message.url, message.clients));
    case 'load':
      return loadWindow(message, await connectionsTo(message.url, message.clients));
    case 'burst': {
      const asked = message.enis.flatMap(eni => Array<string>(message.each).fill(eni));
      return burst(asked, await connectionsTo(message.url, message.atOnce ? asked.length : 1));
    }
    case 'release': {
      const [connection] = await connectionsTo(message.url, 1);
      if (connection === undefined) throw new Error('no connection');
      return release(message.leases, connection);
    }
    case 'commits':
    case 'pairs':
      return stores.window(message);
  }
}

async function connectionsTo(url: string, count: number): Promise<readonly Connection[]> {
  if (count > CONNECTIONS_MAX) throw new RangeError(`${count} connections, more than ${CONNECTIONS_MAX}`);
  const kept = (open.get(url) ?? []).filter(connection => connection.isOpen());
  open.set(url, kept);
  const missing = Array.from({ length: Math.max(count - kept.length, 0) }, () => openConnection(url, lost));
  kept.push(...(await Promise.all(missing)));
  return kept.slice(0, count);
}

/** Whoever waits on the connection would wait for ever. */
function lost(error: Error): void {
  console.error(error.message);
  process.exit(1);
}
