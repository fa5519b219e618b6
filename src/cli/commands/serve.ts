/** The command `serve`: starts the server, opens the ledger, and stops in good order. */
import { mkdirSync, readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import process from 'node:process';
import { aborted } from '../../domain/abort.ts';
import { IpamError, isError } from '../../domain/error.ts';
import type { Log } from '../../domain/log.ts';
import { type Observer, tellAll } from '../../domain/observer.ts';
import { once } from '../../domain/once.ts';
import type { AdminParts } from '../../http/admin/admin.ts';
import { createDriver, type Service } from '../../http/driver.ts';
import { type ClientGate, createClientGate } from '../../http/hosts/client-gate.ts';
import { createEnrolmentApp } from '../../http/hosts/enrolment.ts';
import { createGuardedApp } from '../../http/hosts/guarded-app.ts';
import { createWitnessApp } from '../../http/hosts/witness.ts';
import { createInFlight } from '../../http/in-flight.ts';
import { type Listener, type Listening, listen } from '../../http/listener/listen.ts';
import { createPulse } from '../../http/pulse.ts';
import { checkIdentity } from '../../ipam/ec2/account.ts';
import { createOutage } from '../../ipam/request/retry.ts';
import type { Metrics } from '../../metrics/metrics.ts';
import { nextTurn } from '../../store/next-turn.ts';
import type { Live } from '../../views/live/live.ts';
import type { Recent } from '../../views/live/recent.ts';
import { type Context, command, type Parts } from '../command.ts';
import { runtimeName, version } from '../runtime.ts';
import type { Config } from '../settings/config.ts';
import { FORMER_LISTEN, SERVE_SETTINGS } from '../settings/settings.ts';

/** The pause before the ledger is opened again. */
const OPEN_AGAIN_MS = 1000;
/** At the start: how long the check of account and Region may take. */
const IDENTITY_MAX_MS = 5000;
/** Of the admin listener. Those who look after a server are few, and idle connections of some never keep others out. */
const ADMIN_BOUNDS = {
  ...{ silentMaxMs: 30_000, totalMax: 50, ofAddressMax: 50 },
  ...{ roomMax: 250, openMax: 500, servesPages: true },
};
/** At the end: how long the last requests may take beyond `--request-timeout`, since a request may arrive while the
 *  server stops; and how long the rollback of interrupted ones may take. */
const LAST_REQUESTS_MS = 5000;
const ROLLBACK_MAX_MS = 5000;
/** At the end: how long the background loop may take to stop, and the store to close. */
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
      context.log('info', 'stopping');
    } finally {
      await server.stop();
    }
    return 0;
  },
});

export interface RunningServer {
  readonly addresses: readonly string[];
  /** Resolves when the ledger is open. Rejects with an error that a retry cannot repair. */
  readonly opened: Promise<void>;
  /** The address of the admin listener when it has been opened; null: there is none. Never rejects. */
  readonly admin: Promise<string | null>;
  /** Finishes the requests in flight and those that still arrive on open connections. It takes at most
   *  `--request-timeout` and 30 s. Never throws. */
  stop(): Promise<void>;
}

/** Listens first, so that Docker reaches the server also while the store is down. */
export async function startServer(
  context: Pick<Context, 'config' | 'io' | 'log' | 'assemble'>,
): Promise<RunningServer> {
  const { config, io, log } = context;
  io.crashed.catch(error => log('error', 'uncaught error', { error }));
  const watch = await createWatchOf(config);
  const observer = watch?.observer;
  const parts = await context.assemble(config, log, observer);
  const gate = createClientGate(parts.trust, Date.now, log);
  const ledger = createOpening(parts, gate, context);
  const inFlight = createInFlight();
  const { authorize } = config;
  const inputAgeMs = createPulse(parts.context.deadlineClock);
  const apps = {
    driver: createDriver(parts.service(ledger.opened), log, { inFlight, authorize, inputAgeMs, observer }),
    enrolment: enrolmentApp(parts, context),
    witness: createWitnessApp(parts.testimony, log, { isOpen: ledger.isOpen, inFlight }),
  };
  const listening: Listening[] = [];
  let admin: Admin | null = null;
  const stop = async () => {
    admin?.cut();
    const lastMs = config.requestTimeoutMs + LAST_REQUESTS_MS;
    const until = performance.now() + lastMs;
    ledger.stop();
    await Promise.all(listening.map(one => one.close(lastMs)));
    await inFlight.ended(Math.max(ROLLBACK_MAX_MS, until - performance.now()));
    if (ledger.isOpen()) await parts.keeper.stop(KEEPER_STOP_MAX_MS);
    else parts.keeper.logLeft();
    await closeStore(parts, log);
  };
  try {
    createStateFolder(config);
    const app = createGuardedApp(gate, apps);
    for (const listener of config.listen) listening.push(await listen(app, guarded(listener, gate), log));
    listening.push(...(await listenWhereUntilNow(app, context)));
  } catch (error) {
    await stop();
    throw error;
  }
  const addresses = listening.map(one => one.address);
  for (const address of addresses)
    log('info', `listening on ${address}`, { runtime: runtimeName(process.versions), pid: process.pid });
  const opened = ledger.open().then(() => {
    if (!ledger.isOpen()) return;
    void parts.keeper.run();
    if (hasHttps(config)) void parts.trust.hosts.run(gate.connected, gate.refresh, ledger.stopping);
  });
  opened.catch(() => {}); // it may reject before the caller awaits it
  admin = openAdmin(parts, watch, ledger, context);
  return { addresses, opened, admin: admin.address, stop };
}

/** What tells those who look after the server. */
interface Watch {
  readonly observer: Observer;
  readonly metrics: Metrics;
  readonly recent: Recent;
  readonly live: Live;
}

/** It is loaded only where it is used: the library of metrics takes time to start and memory. */
async function createWatchOf(config: Config): Promise<Watch | null> {
  if (config.adminListen === null) return null;
  const { createMetrics } = await import('../../metrics/metrics.ts');
  const { createRecent } = await import('../../views/live/recent.ts');
  const { createLive } = await import('../../views/live/live.ts');
  const clock = () => performance.now();
  const runtime = runtimeName(process.versions);
  const metrics = createMetrics({ ...config, version: version(), runtime, clock, timeOfDay: Date.now });
  const recent = createRecent(clock);
  const live = createLive(config, clock);
  const observer = tellAll([metrics.observer, recent.observer, live.observer]);
  return { observer, metrics, recent, live };
}

interface Admin {
  readonly address: RunningServer['admin'];
  /** Ends all of it at once, and waits for nothing. Never throws. */
  cut(): void;
}

/** Opens the admin listener beside the server, which does not wait for it and does not need it. */
function openAdmin(
  parts: Parts,
  watch: Watch | null,
  { isOpen }: Opening,
  { config, log }: Pick<Context, 'config' | 'log'>,
): Admin {
  const { adminListen } = config;
  let endPolling = () => {};
  async function open(): Promise<Listening | null> {
    if (adminListen === null || watch === null) return null;
    try {
      const { createAdminApp, createReadyCheck } = await import('../../http/admin/admin.ts');
      const { pollFor } = await import('../../views/live/poll.ts');
      const { store, context } = parts;
      const { metrics, live } = watch;
      const { clock, wait } = context;
      endPolling = pollFor({ store, live, clock, wait, log });
      const app = createAdminApp({
        kind: adminListen.kind,
        ready: createReadyCheck({ store, isOpen, clock, wait, ec2: metrics.ec2 }),
        metrics: { contentType: metrics.contentType, text: metrics.textOf(store, wait) },
        ...(await shownOf(parts, watch, log)),
      });
      const listening = await listen(app, adminListen, log, ADMIN_BOUNDS);
      log('info', `admin listener on ${listening.address}`);
      return listening;
    } catch (error) {
      log('warn', 'admin listener not opened', { error });
      return null;
    }
  }
  const opening = open();
  const close = async () => {
    watch?.live.close();
    endPolling();
    await (await opening)?.close(0);
  };
  return {
    address: opening.then(listening => listening?.address ?? null),
    cut: () => void close().catch(error => log('warn', 'admin listener not closed', { error })),
  };
}

/** What people look at. It is loaded when somebody does. */
async function shownOf(
  { server: id, store, context: { clock, policy } }: Parts,
  { recent, live }: Watch,
  log: Log,
): Promise<Pick<AdminParts, 'api' | 'pages'>> {
  const { createLazyPages } = await import('../../http/admin/pages.ts');
  const { createViews } = await import('../../views/views.ts');
  const server = { id, version: version(), runtime: runtimeName(process.versions) };
  const { lastEvent } = live;
  const views = createViews({ store, policy, recent, clock, lastEvent, server });
  return {
    api: once(async () => {
      await nextTurn(); // the requests of Docker go on between the parts of the work
      const { createApi } = await import('../../http/admin/api.ts');
      await nextTurn();
      return createApi(views, live, server.version, log);
    }),
    pages: createLazyPages({ views, version: server.version, log }),
  };
}

/** The folder of an embedded ledger is its owner's only, and listen() would make it for others to pass through. */
function createStateFolder({ listen, adminListen, stateDir }: Config): void {
  const folder = resolve(stateDir);
  if (![...listen, adminListen].some(one => one?.kind === 'unix' && dirname(one.path) === folder)) return;
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch {} // listen() says why
}

/** Listens on the former default too, for one release, and says what to change. */
async function listenWhereUntilNow(
  app: ReturnType<typeof createGuardedApp>,
  { config, log }: Pick<Context, 'config' | 'log'>,
): Promise<Listening[]> {
  const {
    formerListen,
    listen: [now],
  } = config;
  if (formerListen === null || now?.kind !== 'unix') return [];
  const { host, port } = FORMER_LISTEN;
  log(
    'warn',
    `without --listen the server is at unix:${now.path}, and until the next release also at http://${host}:${port}: ` +
      'remove /etc/docker/plugins/ec2-ipam.json or write ' +
      `"Addr": "unix://${now.path}" into it, restart dockerd, and start serve with --listen unix:${now.path}`,
  );
  try {
    return [await listen(app, formerListen, log)];
  } catch (error) {
    log('warn', 'former default of --listen not served', { error });
    return [];
  }
}

const hasHttps = ({ listen }: Context['config']): boolean => listen.some(({ kind }) => kind === 'https');

const guarded = (listener: Listener, gate: ClientGate): Listener =>
  listener.kind === 'https' ? { ...listener, tls: { ...listener.tls, gate } } : listener;

function enrolmentApp({ context, trust }: Parts, { config, log }: Pick<Context, 'config' | 'log'>) {
  const serverCertificate = () => (config.tlsCert === null ? '' : readFileSync(config.tlsCert, 'utf8'));
  return createEnrolmentApp(trust, log, { serverCertificate, clock: context.clock });
}

/** Throws conflict when the account or the Region is not the ledger's. When EC2 does not answer it only logs, so that
 *  containers start with ready addresses. */
async function checkInTime(context: Parts['context']): Promise<void> {
  const tooLate = context.wait(IDENTITY_MAX_MS).then(() => {
    throw new IpamError('ec2-unreachable', `EC2 did not answer within ${IDENTITY_MAX_MS / 1000} s`);
  });
  const checked = checkIdentity(context);
  for (const one of [tooLate, checked]) one.catch(() => {}); // the later one is not awaited
  try {
    await Promise.race([checked, tooLate]);
  } catch (error) {
    if (!(error instanceof IpamError && error.code.startsWith('ec2-'))) throw error;
    context.log('warn', 'account and Region not checked', { error: error.line });
  }
}

/** Logs when the store cannot be closed, since the exit status must not depend on it. */
async function closeStore({ store }: Parts, log: Log): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      reject,
      STORE_CLOSE_MAX_MS,
      new IpamError('unavailable', `not closed within ${STORE_CLOSE_MAX_MS / 1000} s`),
    );
  });
  try {
    await Promise.race([store.close(), late]);
  } catch (error) {
    log('warn', 'store not closed', { error });
  } finally {
    clearTimeout(timer);
  }
}

interface Opening {
  readonly isOpen: () => boolean;
  /** Resolves when the ledger is open. Throws the reason after the longest wait of a request, and when the server
   *  stops. */
  readonly opened: Service['opened'];
  /** Opens the ledger, with retries until that succeeds or the server stops. Throws what a retry cannot repair. */
  readonly open: () => Promise<void>;
  readonly stop: () => void;
  /** Aborts when the server stops. */
  readonly stopping: AbortSignal;
}

function createOpening(
  { context, open, trust }: Parts,
  gate: ClientGate,
  { config, log }: Pick<Context, 'config' | 'log'>,
): Opening {
  const outage = createOutage(config.requestTimeoutMs, context);
  const stopping = new AbortController();
  let isOpen = false;
  let reason = new IpamError('store-down', 'the ledger is not open yet', { hint: 'try again' });

  async function opened(caller?: AbortSignal, withinMs = Number.POSITIVE_INFINITY): Promise<void> {
    if (isOpen) return;
    const check = async () => {
      if (!isOpen) throw reason;
    };
    const { signal } = stopping;
    await outage.retryWhile(isStoreDown, check, {
      caller: caller === undefined ? signal : AbortSignal.any([caller, signal]),
      withinMs,
    });
  }

  async function openWithRetry(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        await open();
        await checkInTime(context);
        if (hasHttps(config)) await trust.open();
        gate.refresh();
        if (stopping.signal.aborted) return;
        isOpen = true;
        log('info', 'ledger opened');
        return;
      } catch (error) {
        if (!isStoreDown(error)) throw error;
        if (error.line !== reason.line) log('error', 'ledger not opened, retrying', { error: error.line });
        reason = error;
        await context.wait(OPEN_AGAIN_MS, stopping.signal);
      }
    }
  }

  const stop = () => stopping.abort(new IpamError('unavailable', 'the server stops', { hint: 'try again' }));
  return { isOpen: () => isOpen, opened, open: openWithRetry, stop, stopping: stopping.signal };
}

const isStoreDown = (error: unknown): error is IpamError => isError(error, 'store-down');
