/** The agent as Docker sees it: a driver that sends its calls on to a server. */
import { Hono } from 'hono';
import type { Log } from '../domain/log.ts';
import { shown } from '../domain/text.ts';
import { type Env, errorAnswer, handOver, send, watchCaller } from '../http/answer.ts';
import { BODY_MAX_MS, bodyText } from '../http/body.ts';
import { callId, nameCall } from '../http/call.ts';
import { addConstants } from '../http/constants.ts';
import type { InFlight } from '../http/in-flight.ts';
import { type Forwarding, RELEASE_ADDRESS, REQUEST_ADDRESS } from './forward.ts';

const OTHERS = ['/IpamDriver.RequestPool', '/IpamDriver.ReleasePool', RELEASE_ADDRESS];

export interface AgentAppDeps {
  readonly forwarding: Pick<Forwarding, 'forward' | 'giveBack'>;
  /** The longest time of `forward`, in milliseconds. */
  readonly boundMs: number;
  /** See domain/clock.ts. */
  readonly deadlineClock: () => number;
  readonly inFlight: InFlight;
  /** Makes an id of a call: a UUID. */
  readonly newId: () => string;
  /** Docker has released an address. */
  readonly released?: () => void;
  readonly log: Log;
}

/** An answer is this much older than the bound only when the host was suspended. Then the address may have been released
 *  by evidence of the host. */
const LATE_MS = 10_000;

export function createAgentApp(deps: AgentAppDeps): Hono<Env> {
  const { forwarding, boundMs, deadlineClock, inFlight, newId, log } = deps;
  const { forward, giveBack } = forwarding;
  const app = new Hono<Env>();
  app.use((c, next) => {
    nameCall(c, newId());
    return inFlight.track(next);
  });
  app.onError((error, c) => errorAnswer(c, error, log));
  app.notFound(c => c.json({ Error: `no such endpoint: ${c.req.method} ${shown(c.req.path)}` }, 404));
  addConstants(app);

  for (const path of OTHERS)
    app.post(path, async c => {
      const answer = await forward(path, await bodyText(c, BODY_MAX_MS), callId(c));
      if (path === RELEASE_ADDRESS) deps.released?.();
      return send(c, answer);
    });

  app.post(REQUEST_ADDRESS, async c => {
    const caller = watchCaller(c);
    const since = deadlineClock();
    const body = await bodyText(c, BODY_MAX_MS);
    // The answer is waited for also when Docker has gone: only then it is known what to give back.
    const answer = await forward(REQUEST_ADDRESS, body, callId(c));
    return await handOver(c, caller, answer, {
      undo: () => giveBack(body, answer, callId(c)),
      isStale: () => deadlineClock() - since > BODY_MAX_MS + boundMs + LATE_MS,
    });
  });
  return app;
}
