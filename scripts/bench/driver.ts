/** The load driver: a process that generates load, and the messages to it, one line of JSON each way. */
import process from 'node:process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { burst, keptConnections, loadWindow, noopWindow, openConnection, release } from './load.ts';
import { start } from './programs.ts';
import { type LedgerCopy, limitWindows } from './stores.ts';

/** Allowed in addition to the time that a message asks for. */
const REPLY_LIMIT_MS = 30_000;

/** Clients send one request after another until the time is over. */
export interface HttpWindow {
  /** `noop`: POSTs as large as RequestAddress, on which the server does no work.
   *  `load`: RequestAddress, then ReleaseAddress of what it returned. */
  readonly kind: 'noop' | 'load';
  readonly url: string;
  readonly clients: number;
  /** Client `i` is a host with the ENI `i` modulo their number. */
  readonly enis: readonly string[];
  readonly ms: number;
}
/** RequestAddress for each of the ENIs, `each` times; the addresses stay allocated. */
interface Burst {
  readonly kind: 'burst';
  readonly url: string;
  readonly enis: readonly string[];
  readonly each: number;
  /** Otherwise one after another, as dockerd does for one network. */
  readonly atOnce: boolean;
}
interface Releases {
  readonly kind: 'release';
  readonly url: string;
  readonly leases: readonly Lease[];
}
export interface Lease {
  readonly eni: string;
  readonly ip: string;
}
/** What the store does without a server: the limit for any ledger that is as durable. */
export interface StoreWindow {
  /** `commits`: an UPDATE of one row by its key, each in a commit of its own. Each client has its own row, so
   *  nobody waits for a lock.
   *  `pairs`: an UPDATE that finds a ready row of the ENI and claims it, then one that releases it, each in a
   *  commit of its own. MariaDB only. */
  readonly kind: 'commits' | 'pairs';
  readonly store: LedgerCopy;
  readonly clients: number;
  readonly enis: readonly string[];
  readonly ms: number;
}
type Message = HttpWindow | Burst | Releases | StoreWindow;

/** A histogram as text. */
export type Latencies = string;
export interface Answers {
  /** Addresses given while another client held them. */
  duplicates: number;
  errors: number;
  firstError: string | null;
}
export interface WindowResult extends Answers {
  /** Responses within the time. */
  readonly calls: number;
  /** Of RequestAddress, or of the no-op. */
  readonly requests: Latencies;
  readonly releases: Latencies;
}
export interface BurstResult extends Answers {
  readonly leases: Lease[];
  /** In the order of the responses. */
  readonly latenciesMs: number[];
}
export interface StoreResult {
  /** Commits, or pairs of them, done within the time. */
  readonly done: number;
  readonly latencies: Latencies;
}
/** The result of each kind of message. */
interface Results {
  noop: WindowResult;
  load: WindowResult;
  burst: BurstResult;
  release: Answers;
  commits: StoreResult;
  pairs: StoreResult;
}
type Reply = { readonly result: Results[keyof Results] } | { readonly error: string };

export interface Driver {
  /** One message at a time. Throws the error that the driver reports. */
  ask<M extends Message>(message: M): Promise<Results[M['kind']]>;
  stop(): Promise<unknown>;
}

/** Starts the process, on Node whatever the runtime of the server is. */
export function startDriver(): Driver {
  const program = start('node', fileURLToPath(import.meta.url), [], {});
  const lines = createInterface({ input: program.stdout })[Symbol.asyncIterator]();
  return {
    async ask<M extends Message>(message: M) {
      program.stdin.write(`${JSON.stringify(message)}\n`);
      const limitMs = REPLY_LIMIT_MS + ('ms' in message ? message.ms : 0);
      const late = setTimeout(() => program.kill(), limitMs); // a late reply would be taken for the next one
      const { value, done } = await lines.next();
      clearTimeout(late);
      if (done)
        throw new Error(`${message.kind}: no reply within ${limitMs} ms, or failed: ${program.output()}`);
      const reply = JSON.parse(value) as Reply;
      if ('error' in reply) throw new Error(`the load driver failed, ${message.kind}: ${reply.error}`);
      return reply.result as Results[M['kind']];
    },
    stop() {
      program.stdin.end();
      return program.ended;
    },
  };
}

async function serve(): Promise<void> {
  const servers = keptConnections(
    url => openConnection(url, lost),
    connection => connection.isOpen(),
  );
  const limit = limitWindows();

  async function perform(message: Message): Promise<Results[keyof Results]> {
    switch (message.kind) {
      case 'noop':
        return noopWindow(message, await servers(message.url, message.clients));
      case 'load':
        return loadWindow(message, await servers(message.url, message.clients));
      case 'burst': {
        const enis = message.enis.flatMap(eni => Array<string>(message.each).fill(eni));
        return burst(enis, await servers(message.url, message.atOnce ? enis.length : 1));
      }
      case 'release':
        return release(message.leases, await servers(message.url, 1));
      case 'commits':
      case 'pairs':
        return limit(message);
    }
  }
  for await (const line of createInterface({ input: process.stdin })) {
    const reply: Reply = await perform(JSON.parse(line)).then(
      result => ({ result }),
      error => ({ error: error.stack ?? String(error) }),
    );
    process.stdout.write(`${JSON.stringify(reply)}\n`);
  }
  process.exit();
}

/** Without a response, the client of this connection would wait for ever. */
function lost(error: Error): void {
  console.error(error.message);
  process.exit(1);
}

if (import.meta.main) await serve();
