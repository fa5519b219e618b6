/** Sends a call of Docker on to one of the servers, and to another when that one is away. */
import { IpamError } from '../domain/error.ts';
import type { Log } from '../domain/log.ts';
import { REQUEST_ID, SENT_MS_AGO } from '../http/identity.ts';
import type { Identity } from './identity.ts';
import { type Answer, formatServer, moreTelling, type SendCall, type ServerUrl } from './server-client.ts';

export interface ForwardDeps {
  readonly servers: readonly ServerUrl[];
  readonly serverCa: string | null;
  readonly identity: Pick<Identity, 'current' | 'refused'>;
  readonly send: SendCall;
  /** The longest time for a call with all its repetitions, in milliseconds. */
  readonly boundMs: number;
  /** A monotonic clock, in milliseconds. */
  readonly clock: () => number;
  readonly wait: (ms: number) => Promise<void>;
  readonly log: Log;
}

/** Returns the body of the answer, in JSON. `id`: the call's, the same in each repetition. Throws unavailable or denied when no server has answered in time. */
export type Forward = (path: string, body: string, id: string) => Promise<unknown>;

/** The longest time for one server. Then another is asked; the id of the call tells that it is the same. */
const ATTEMPT_MS_MAX = 15_000;
/** Pauses after all servers were asked in vain. */
const PAUSE_MS_MIN = 100;
const PAUSE_MS_MAX = 2_000;

export function createForward(deps: ForwardDeps): Forward {
  const { servers, identity, send, boundMs, clock, wait, log } = deps;
  /** The index of the server that answered last. */
  let preferred = 0;

  async function ask(
    server: ServerUrl,
    path: string,
    body: string,
    id: string,
    since: number,
  ): Promise<Answer> {
    const until = since + boundMs;
    const credential = await identity.current(until);
    const answer = await send(server, {
      path,
      body,
      headers: { [REQUEST_ID]: id, [SENT_MS_AGO]: String(Math.round(clock() - since)) },
      withinMs: Math.max(1, Math.min(ATTEMPT_MS_MAX, until - clock())),
      agent: credential.agent,
      serverCa: deps.serverCa,
    });
    if (answer.status === 403) identity.refused(credential);
    return answer;
  }

  return async (path, body, id) => {
    const since = clock();
    let reason: IpamError | null = null;
    let logged = '';
    for (let tries = 0; ; tries++) {
      const index = preferred;
      const server = servers[index % servers.length] as ServerUrl;
      let failure: IpamError;
      try {
        const answer = await ask(server, path, body, id, since);
        const parsed = answer.status === 200 ? parse(answer.text) : undefined;
        if (parsed !== undefined) return parsed;
        failure = refusalIn(answer, server);
      } catch (error) {
        if (!(error instanceof IpamError)) throw error;
        failure = error;
      }
      if (failure.line !== logged)
        log('warn', 'call not answered', { path, request: id, error: failure.line });
      logged = failure.line;
      reason = moreTelling(reason, failure);
      if (preferred === index) preferred = (index + 1) % servers.length;
      const round = Math.floor((tries + 1) / servers.length);
      const pauseMs =
        (tries + 1) % servers.length === 0 ? Math.min(PAUSE_MS_MAX, PAUSE_MS_MIN * 2 ** (round - 1)) : 0;
      if (clock() + pauseMs >= since + boundMs) throw reason;
      if (pauseMs > 0) await wait(pauseMs);
    }
  };
}

/** Undefined: it is no JSON. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function refusalIn({ status, text }: Answer, server: ServerUrl): IpamError {
  const { Error: line } = (parse(text) ?? {}) as { Error?: unknown };
  const why = typeof line === 'string' ? line : `status ${status}`;
  return new IpamError(status === 403 ? 'denied' : 'unavailable', `${formatServer(server)} answers: ${why}`);
}
