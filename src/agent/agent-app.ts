/** The agent as Docker sees it: a driver that sends its calls on to a server. */
import { Hono } from 'hono';
import * as v from 'valibot';
import type { Log } from '../domain/log.ts';
import { type Env, errorAnswer, handOver, send, watchCaller } from '../http/answer.ts';
import { BODY_MAX_MS, bodyText } from '../http/body.ts';
import { callId, logOf, nameCall } from '../http/call.ts';
import { addConstants } from '../http/constants.ts';
import type { InFlight } from '../http/in-flight.ts';
import type { Forward } from './forward.ts';

const REQUEST_ADDRESS = '/IpamDriver.RequestAddress';
const RELEASE_ADDRESS = '/IpamDriver.ReleaseAddress';
const OTHERS = ['/IpamDriver.RequestPool', '/IpamDriver.ReleasePool', RELEASE_ADDRESS];

const Asked = v.object({ PoolID: v.string() });
const Given = v.object({ Address: v.pipe(v.string(), v.minLength(1)) });

export interface AgentAppDeps {
  readonly forward: Forward;
  /** The longest time of `forward`, in milliseconds. */
  readonly boundMs: number;
  /** See domain/clock.ts. */
  readonly deadlineClock: () => number;
  readonly inFlight: InFlight;
  /** Makes an id of a call: a UUID. */
  readonly newId: () => string;
  readonly log: Log;
}

/** An answer is this much older than the bound only when the host was suspended. Then the address may have been released
 *  by evidence of the host. */
const LATE_MS = 10_000;

export function createAgentApp(deps: AgentAppDeps): Hono<Env> {
  const { forward, boundMs, deadlineClock, inFlight, newId, log } = deps;
  const app = new Hono<Env>();
  app.use((c, next) => {
    nameCall(c, newId());
    return inFlight.track(next);
  });
  app.onError((error, c) => errorAnswer(c, error, log));
  app.notFound(c => c.json({ Error: `no such endpoint: ${c.req.method} ${c.req.path.slice(0, 100)}` }, 404));
  addConstants(app);

  for (const path of OTHERS)
    app.post(path, async c => send(c, await forward(path, await bodyText(c, BODY_MAX_MS), callId(c))));

  app.post(REQUEST_ADDRESS, async c => {
    const caller = watchCaller(c);
    const since = deadlineClock();
    const body = await bodyText(c, BODY_MAX_MS);
    // The answer is waited for also when Docker has gone: only then it is known what to give back.
    const answer = await forward(REQUEST_ADDRESS, body, callId(c));
    return await handOver(c, caller, answer, {
      undo: () => giveBack(body, answer, logOf(c, log)),
      isStale: () => deadlineClock() - since > BODY_MAX_MS + boundMs + LATE_MS,
    });
  });

  /** Releases an address that Docker has not received. */
  async function giveBack(body: string, answer: unknown, log: Log): Promise<void> {
    const asked = v.safeParse(Asked, JSON.parse(body));
    const given = v.safeParse(Given, answer);
    if (!asked.success || !given.success) return;
    const [ip = ''] = given.output.Address.split('/');
    log('info', 'address released: the caller has gone', { ip });
    await forward(RELEASE_ADDRESS, JSON.stringify({ PoolID: asked.output.PoolID, Address: ip }), newId());
  }
  return app;
}
