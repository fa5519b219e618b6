import process from 'node:process';
import { IpamError, isError } from '../../domain/error.ts';
import type { Log } from '../../domain/log.ts';
import { createDriver } from '../../http/driver.ts';
import { InFlight } from '../../http/in-flight.ts';
import { type Listening, listen } from '../../http/listen.ts';
import { checkIdentity } from '../../ipam/ec2/identity.ts';
import { Outage } from '../../ipam/request/retry.ts';
import { type Context, command } from '../command.ts';
import type { Parts } from '../parts.ts';
import { runtimeName } from '../runtime.ts';
import { SERVE_SETTINGS } from '../settings/command-settings.ts';

/** Between two tries to open a ledger that cannot be reached. */
const OPEN_AGAIN_MS = 1000;
/** At the start: how long EC2 may take to show of which account this server is. */
const IDENTITY_MAX_MS = 5000;
/** At the end: by how much the last requests may outlast the longest wait of one, since they come while the server
 *  stops already, and how long the undoing of what is cut off then may take. */
const LAST_REQUESTS_MS = 5000;
const UNDO_MAX_MS = 5000;
/** At the end: how long the keeper may take for its chores in hand, and the store for its connections. */
const KEEPER_STOP_MAX_MS = 15_000;
const STORE_CLOSE_MAX_MS = 5000;

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
  /** Answers what is in flight and what still comes on open connections. Takes the longest wait of a request and half
   *  a minute at most; never throws. */
  stop(): Promise<void>;
}

/** Listens first, so that Docker finds a server even while the ledger cannot be reached. */
export async function startServer(
  context: Pick<Context, 'config' | 'io' | 'log' | 'assemble'>,
): Promise<RunningServer> {
  const { config, io, log } = context;
  io.crashed.catch(error => log('error', 'ended by an error that nobody caught', { error }));
  const parts = context.assemble(config, log);
  const ledger = new Ledger(parts, context);
  const inFlight = new InFlight();
  const app = createDriver(parts.service(ledger.opened), log, { inFlight });
  const listening: Listening[] = [];
  const stop = async () => {
    const lastMs = config.requestTimeoutMs + LAST_REQUESTS_MS;
    const until = performance.now() + lastMs;
    ledger.stop();
    await Promise.all(listening.map(one => one.close(lastMs)));
    await inFlight.ended(Math.max(UNDO_MAX_MS, until - performance.now()));
    if (ledger.isOpen) await parts.keeper.stop(KEEPER_STOP_MAX_MS);
    await closeStore(parts, log);
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

/** Throws conflict where the server is at the wrong place. EC2 may be away, and then containers start from what is
 *  ready. */
async function checkInTime(context: Parts['context']): Promise<void> {
  const tooLate = context.wait(IDENTITY_MAX_MS).then(() => {
    throw new IpamError('ec2-unreachable', `EC2 did not answer within ${IDENTITY_MAX_MS / 1000} s`);
  });
  const checked = checkIdentity(context);
  for (const one of [tooLate, checked]) one.catch(() => {}); // the one that loses
  try {
    await Promise.race([checked, tooLate]);
  } catch (error) {
    if (!(error instanceof IpamError && error.code.startsWith('ec2-'))) throw error;
    context.log('warn', "whether this server is of the ledger's account and Region is not known yet", {
      error: error.line,
    });
  }
}

/** A store that is away must not turn a stop in good order into a failure. */
async function closeStore({ store }: Parts, log: Log): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(reject, STORE_CLOSE_MAX_MS, new IpamError('unavailable', 'it took too long'));
  });
  try {
    await Promise.race([store.close(), late]);
  } catch (error) {
    log('warn', 'the store could not be closed', { error });
  } finally {
    clearTimeout(timer);
  }
}

/** The ledger on its way to being open. */
class Ledger {
  isOpen = false;
  readonly #parts: Parts;
  readonly #log: Log;
  readonly #outage: Outage;
  #error = new IpamError('store-down', 'the ledger is not open yet', { hint: 'try again' });
  #isStopped = false;
  #tellStopped = () => {};
  readonly #stopped = new Promise<void>(resolve => {
    this.#tellStopped = resolve;
  });

  constructor(parts: Parts, { config, log }: Pick<Context, 'config' | 'log'>) {
    this.#parts = parts;
    this.#log = log;
    this.#outage = new Outage(config.requestTimeoutMs, parts.context);
  }

  /** Resolves when it is open; throws what keeps it from that when the longest wait of a request is over, and
   *  when the server stops. */
  opened = async (gone: () => boolean): Promise<void> => {
    // Whoever waits is remembered by what it waits for, until the server stops.
    if (this.isOpen) return;
    const isOpen = async () => {
      if (!this.isOpen) throw this.#error;
    };
    const stopped = this.#stopped.then(() => {
      if (!this.isOpen) throw new IpamError('unavailable', 'the server stops', { hint: 'try again' });
    });
    await Promise.race([
      this.#outage.retryWhile(isStoreDown, () => gone() || this.#isStopped, isOpen),
      stopped,
    ]);
  };

  stop(): void {
    this.#isStopped = true;
    this.#tellStopped();
  }

  /** Opens it, however long that takes. */
  async open(): Promise<void> {
    while (!this.#isStopped) {
      try {
        await this.#parts.open();
        await checkInTime(this.#parts.context);
        if (this.#isStopped) return;
        this.isOpen = true;
        this.#log('info', 'the ledger is open');
        return;
      } catch (error) {
        if (!isStoreDown(error)) throw error;
        if (error.line !== this.#error.line)
          this.#log('error', 'the ledger cannot be opened, and is tried again', { error: error.line });
        this.#error = error;
        await Promise.race([this.#parts.context.wait(OPEN_AGAIN_MS), this.#stopped]);
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
