import process from 'node:process';
import { IpamError, isError } from '../domain/error.ts';
import type { Log } from '../domain/log.ts';
import { driver } from '../http/driver.ts';
import { type Listening, listen } from '../http/listen.ts';
import { Outage } from '../ipam/outage.ts';
import { type Context, command } from './command.ts';
import type { Parts } from './parts.ts';
import { runtimeName } from './runtime.ts';
import { SERVE_SETTINGS } from './uses.ts';

/** Between two tries to open a ledger that cannot be reached. */
const OPEN_AGAIN_MS = 1000;

export const serve = command({
  name: 'serve',
  summary: 'answer Docker, keep the ledger and EC2 in agreement',
  usage: '',
  args: { min: 0, max: 0 },
  settings: SERVE_SETTINGS,
  options: {},
  async run(context) {
    const server = await startServer(context);
    try {
      await Promise.race([aborted(context.io.signal), server.opened.then(() => aborted(context.io.signal))]);
      context.log('info', 'stopping: finishing what is in flight');
    } finally {
      await server.stop();
    }
    return 0;
  },
});

export interface RunningServer {
  readonly addresses: readonly string[];
  /** Settles when the ledger is open; rejects for what waiting cannot mend. */
  readonly opened: Promise<void>;
  /** Finishes what is in flight. */
  stop(): Promise<void>;
}

/** Listens first, so that Docker finds a server even while the ledger cannot be reached. */
export async function startServer(
  context: Pick<Context, 'config' | 'io' | 'log' | 'assemble'>,
): Promise<RunningServer> {
  const { config, log } = context;
  const parts = context.assemble(config, log);
  const ledger = new Ledger(parts, context);
  const app = driver(parts.service(ledger.opened), log);
  const listening: Listening[] = [];
  const stop = async () => {
    ledger.stopped = true;
    await Promise.all(listening.map(one => one.close(config.requestTimeoutMs)));
    if (ledger.isOpen) await parts.keeper.stop();
    await parts.store.close();
  };
  try {
    for (const listener of config.listen) listening.push(await listen(app, listener, log));
  } catch (error) {
    await stop();
    throw error;
  }
  const addresses = listening.map(one => one.address);
  for (const address of addresses)
    log('info', `listening on ${address}`, { runtime: runtimeName(process.versions), pid: process.pid });
  const opened = ledger.open().then(() => {
    if (ledger.isOpen) void parts.keeper.run();
  });
  opened.catch(() => {}); // whoever awaits it is told
  return { addresses, opened, stop };
}

/** The ledger on its way to being open. */
class Ledger {
  isOpen = false;
  stopped = false;
  readonly #parts: Parts;
  readonly #log: Log;
  readonly #outage: Outage;
  #error = new IpamError('store-down', 'the ledger is not open yet', { hint: 'try again' });

  constructor(parts: Parts, { config, log }: Pick<Context, 'config' | 'log'>) {
    this.#parts = parts;
    this.#log = log;
    this.#outage = new Outage(config.requestTimeoutMs, parts.machine);
  }

  /** Resolves when it is open; throws what keeps it from that when the longest wait of a request is over. */
  opened = (gone: () => boolean): Promise<void> =>
    this.#outage.endure(isStoreDown, gone, async () => {
      if (!this.isOpen) throw this.#error;
    });

  /** Opens it, however long that takes. */
  async open(): Promise<void> {
    while (!this.stopped) {
      try {
        await this.#parts.open();
        this.isOpen = true;
        this.#log('info', 'the ledger is open');
        return;
      } catch (error) {
        if (!isStoreDown(error)) throw error;
        if (error.line !== this.#error.line)
          this.#log('error', 'the ledger cannot be opened, and is tried again', { error: error.line });
        this.#error = error;
        await this.#parts.machine.wait(OPEN_AGAIN_MS);
      }
    }
  }
}

const isStoreDown = (error: unknown): error is IpamError => isError(error, 'store-down');

/** Resolves when the signal aborts. */
export const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise(resolve => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
