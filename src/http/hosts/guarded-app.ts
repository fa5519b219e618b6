/** What all listeners serve: the driver, enrolment, readings of hosts, and refusals of clients that are not obeyed. */
import type { Env } from '../answer.ts';
import { type ClientGate, isEnrolment, type Refusal } from './client-gate.ts';
import { isTestimony } from './witness.ts';

type Bindings = Env['Bindings'];
interface App {
  fetch(request: Request, bindings: Bindings): Response | Promise<Response>;
}
interface Apps {
  readonly driver: App;
  readonly enrolment: App;
  readonly witness: App;
}
interface GuardedApp {
  /** `bindings`: what @hono/node-server passes. */
  fetch(request: Request, bindings: object): Response | Promise<Response>;
}

/** The gate sees each request before an app does. It decides by the request line as it came, not as a URL. */
export function createGuardedApp(gate: ClientGate, { driver, enrolment, witness }: Apps): GuardedApp {
  return {
    fetch(request, bindings: Bindings) {
      const { socket, method = '', url = '' } = bindings.incoming ?? {};
      const refusal = socket === undefined ? null : gate.refusalOf(socket, method, url);
      if (refusal !== null) return refusalAnswer(refusal);
      if (isTestimony(url)) return witness.fetch(request, bindings);
      if (!isEnrolment(url)) return driver.fetch(request, bindings);
      // A connection without a certificate must not stay.
      bindings.outgoing?.setHeader('Connection', 'close');
      return enrolment.fetch(request, bindings);
    },
  };
}

/** Under a status of failure engines show `Err`. The connection ends, so that the client shows another certificate. */
const refusalAnswer = ({ status, line }: Refusal): Response =>
  Response.json({ Err: line, Error: line }, { status, headers: { connection: 'close' } });
