/** Keeps the certificate of this host valid: enrols at the start, and anew at half of its life. */
import type { ReadMetadata } from '../cloud/imds.ts';
import { IpamError } from '../domain/error.ts';
import type { Log } from '../domain/log.ts';
import type { Credential, CredentialFile } from './credential.ts';
import { type EnrolDeps, enrolAt } from './enrol.ts';
import { readHost, readInstance } from './host.ts';
import { moreTelling, type ServerUrl } from './server-client.ts';

export interface Identity {
  /** Returns the certificate. Waits for one until `until` on the clock; then it throws why there is none. */
  current(until: number): Promise<Credential>;
  /** A server does not accept the certificate: the host enrols anew. */
  refused(credential: Credential): void;
  /** Enrols as often as needed, until the signal is aborted. */
  run(signal: AbortSignal): Promise<void>;
}

export interface IdentityDeps extends EnrolDeps {
  readonly servers: readonly ServerUrl[];
  readonly metadata: ReadMetadata;
  readonly file: CredentialFile;
  /** A monotonic clock, in milliseconds. */
  readonly clock: () => number;
  readonly wait: (ms: number, signal?: AbortSignal) => Promise<void>;
  readonly random: () => number;
  readonly log: Log;
}

const LOOK_EVERY_MS = 100;
const IDLE_LOOK_EVERY_MS = 500;
/** The pauses between attempts to enrol. A server bounds the attempts of an address. */
const AGAIN_MS_MIN = 1_000;
const AGAIN_MS_MAX = 60_000;
/** While requests wait for a certificate. */
const WAITED_FOR_MS_MAX = 5_000;
/** The connections of an old certificate are closed after this time. */
const OLD_MS = 5 * 60_000;
/** Part of the life of a certificate after which a new one is asked for, and how much it differs by chance. */
const RENEW_AT = 0.5;
const RENEW_SPREAD = 0.1;

const NOT_YET = new IpamError('unavailable', 'this host has not enrolled yet', { hint: 'try again' });

export function createIdentity(deps: IdentityDeps): Identity {
  const { servers, metadata, file, clock, wait, random, log, timeOfDay, serverCa } = deps;
  let credential: Credential | null = null;
  let reason = NOT_YET;
  let renewAt = 0;
  let waiting = 0;
  let next = 0;

  const isValid = (one: Credential | null): one is Credential => one !== null && one.expiresAt > timeOfDay();

  function use(fresh: Credential): void {
    const old = credential;
    credential = fresh;
    renewAt = fresh.issuedAt + (fresh.expiresAt - fresh.issuedAt) * (RENEW_AT + RENEW_SPREAD * random());
    if (old !== null) setTimeout(() => old.agent.destroy(), OLD_MS).unref();
  }

  /** The saved certificate may be that of the instance whose image this host was made from. */
  async function useSaved(): Promise<void> {
    const saved = file.load(serverCa);
    if (isValid(saved) && saved.instance === (await readInstance(metadata))) use(saved);
  }

  async function enrol(): Promise<void> {
    const host = await readHost(metadata);
    const server = servers[next++ % servers.length] as ServerUrl;
    const fresh = await enrolAt(server, host, deps);
    save(fresh);
    use(fresh);
    reason = NOT_YET;
    log('info', 'enrolled', { instance: fresh.instance, until: new Date(fresh.expiresAt).toISOString() });
  }

  /** Without the file the agent needs a server at its next start. */
  function save(fresh: Credential): void {
    try {
      file.save(fresh);
    } catch (error) {
      log('warn', 'certificate not saved', { error: (error as { code?: string }).code ?? String(error) });
    }
  }

  /** Returns the pause before the next attempt. */
  async function attempt(failures: number): Promise<number> {
    try {
      await enrol();
      return 0;
    } catch (error) {
      if (!(error instanceof IpamError) || error.code === 'internal') throw error;
      if (error.line !== reason.line || failures === 0)
        log('warn', 'not enrolled, retrying', { error: error.line });
      reason = moreTelling(reason, error);
      // The next server may answer.
      return failures + 1 < servers.length
        ? 0
        : Math.min(AGAIN_MS_MAX, AGAIN_MS_MIN * 2 ** Math.min(failures, 6));
    }
  }

  async function pauseOf(ms: number, signal: AbortSignal): Promise<void> {
    const until = clock() + ms * (0.5 + random() / 2);
    const soon = clock() + WAITED_FOR_MS_MAX;
    while (!signal.aborted && clock() < until && !(waiting > 0 && clock() >= soon))
      await wait(LOOK_EVERY_MS, signal);
  }

  return {
    async current(until) {
      waiting++;
      try {
        while (!isValid(credential)) {
          if (clock() >= until) throw reason;
          await wait(Math.min(LOOK_EVERY_MS, Math.max(1, until - clock())));
        }
        return credential;
      } finally {
        waiting--;
      }
    },
    refused(one) {
      if (credential !== one) return;
      log('warn', 'certificate refused by a server', { instance: one.instance });
      credential = null;
      one.agent.destroy();
    },
    async run(signal) {
      await useSaved().catch(error => {
        if (!(error instanceof IpamError)) throw error;
      });
      let failures = 0;
      while (!signal.aborted) {
        if (isValid(credential) && timeOfDay() < renewAt) {
          await wait(IDLE_LOOK_EVERY_MS, signal);
          continue;
        }
        const pauseMs = await attempt(failures);
        failures = credential !== null && timeOfDay() < renewAt ? 0 : failures + 1;
        await pauseOf(Math.max(pauseMs, AGAIN_MS_MIN), signal);
      }
      credential?.agent.destroy();
    },
  };
}
