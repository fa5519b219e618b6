/** Waits for the answer of one server: for as long as it is alive, since what it waits for may take long. */
import { IpamError } from '../domain/error.ts';
import { type Answer, type Call, formatServer, type SendCall, type ServerUrl } from './server-client.ts';

/** How often a server that has not answered is looked at, and how long it may take to answer that. */
const LOOK_EVERY_MS = 5_000;
const LOOK_MS_MAX = 4_000;
/** A call that every live server answers at once. */
const LOOK_PATH = '/Plugin.Activate';

interface PatienceDeps {
  readonly send: SendCall;
  /** A monotonic clock, in milliseconds. */
  readonly clock: () => number;
  readonly wait: (ms: number, signal?: AbortSignal) => Promise<void>;
}

/**
 * Returns a function that sends a call as `send` does, and gives up when the server does not answer a second, simple call
 * either. A server that was stopped, or whose host is gone, is silent. One that waits for EC2 is not, and must not be
 * left: a request that is sent elsewhere loses its place in the line.
 */
export function createPatience({ send, clock, wait }: PatienceDeps): SendCall {
  /** The last look at each server. All calls that wait for it share them. */
  const looks = new Map<string, { readonly at: number; readonly answer: Promise<unknown> }>();

  function look(server: ServerUrl, { agent, serverCa }: Call): Promise<unknown> {
    const name = formatServer(server);
    const last = looks.get(name);
    if (last !== undefined && clock() - last.at < LOOK_EVERY_MS) return last.answer;
    const call = { path: LOOK_PATH, body: '{}', withinMs: LOOK_MS_MAX, agent, serverCa };
    const answer = send(server, call);
    looks.set(name, { at: clock(), answer });
    return answer;
  }

  return async (server, call) => {
    const over = new AbortController();
    const answer = send(server, { ...call, signal: over.signal });
    async function whileAlive(): Promise<Answer> {
      for (;;) {
        await wait(LOOK_EVERY_MS, over.signal);
        if (over.signal.aborted) return await answer;
        await look(server, call).catch(() => {
          throw new IpamError('unavailable', `no answer from ${formatServer(server)}: it does not react`);
        });
      }
    }
    try {
      return await Promise.race([answer, whileAlive()]);
    } finally {
      over.abort();
    }
  };
}
