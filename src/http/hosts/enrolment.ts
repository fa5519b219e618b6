/** Answers hosts that enrol: the only requests that need no client certificate. */
import { type Context, Hono } from 'hono';
import * as v from 'valibot';
import { IpamError } from '../../domain/error.ts';
import type { Log } from '../../domain/log.ts';
import type { Trust } from '../../trust/trust.ts';
import type { Env } from '../answer.ts';
import { BODY_MAX_MS, bodyText } from '../body.ts';
import { createSeldom } from '../seldom.ts';

/** Requests of one address, and of all, in a minute. A host needs two of them twice a day, and is answered so many
 *  however much the others ask: one host with many addresses must not keep the rest from enrolling. */
const WINDOW_MS = 60_000;
const OF_ADDRESS_MAX = 60;
const OF_ADDRESS_ALWAYS = 10;
const OF_ALL_MAX = 1200;
/** Addresses that are counted. Beyond it, others are refused. */
const ADDRESSES_MAX = 50_000;

/** What a host sends. The longest part of it is the security token, of some hundred characters. */
const text = (max: number) => v.pipe(v.string(), v.maxLength(max));
const Proof = v.strictObject({
  server: text(255),
  nonce: text(64),
  publicKey: text(200),
  date: text(16),
  securityToken: text(8192),
  authorization: text(1024),
});

export interface EnrolmentOptions {
  /** The certificate of the https listeners, in PEM. */
  readonly serverCertificate: () => string;
  /** A monotonic clock, in milliseconds. */
  readonly clock: () => number;
}

/** `POST /enroll/nonce` and `POST /enroll`. A refusal has the status of its kind, and one line under `Error`. */
export function createEnrolmentApp(trust: Trust, log: Log, options: EnrolmentOptions): Hono<Env> {
  const admit = createAdmission(options.clock);
  const seldom = createSeldom(log); // anybody may be refused here
  const app = new Hono<Env>();
  app.onError((error, c) => refusalAnswer(c, error, seldom));
  app.use((c, next) => {
    admit(addressOf(c));
    return next();
  });
  app.post('/enroll/nonce', async c => c.json(await trust.challenge()));
  app.post('/enroll', async c => {
    const { server, nonce, publicKey, ...signed } = parseProof(await bodyText(c, BODY_MAX_MS));
    const proof = { server, nonce, publicKey, signed };
    const { certificate } = await trust.enrol(options.serverCertificate(), proof, addressOf(c));
    return c.json({ certificate });
  });
  return app;
}

/** The client's address, by the connection. Throws denied for a connection that the server's certificate does not
 *  protect. */
function addressOf(c: Context<Env>): string {
  const socket = c.env?.incoming?.socket;
  if (socket === undefined || !('encrypted' in socket))
    throw new IpamError('denied', 'hosts enrol over https only', { hint: 'name an https listener' });
  return (socket.remoteAddress ?? '').replace(/^::ffff:/, '');
}

/** Returns a function that throws unavailable past the bounds. */
function createAdmission(clock: () => number): (address: string) => void {
  let counts = new Map<string, number>();
  let total = 0;
  let since = clock();
  return address => {
    if (clock() - since >= WINDOW_MS) {
      counts = new Map();
      total = 0;
      since = clock();
    }
    const count = (counts.get(address) ?? 0) + 1;
    const isCrowd = total >= OF_ALL_MAX && count > OF_ADDRESS_ALWAYS;
    if (count > OF_ADDRESS_MAX || isCrowd || (count === 1 && counts.size >= ADDRESSES_MAX))
      throw new IpamError(
        'unavailable',
        `too many enrolments${count > OF_ADDRESS_MAX ? ` from ${address}` : ''}`,
        {
          hint: 'try again in a minute',
        },
      );
    total++;
    counts.set(address, count);
  };
}

function parseProof(body: string): v.InferOutput<typeof Proof> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    throw new IpamError('bad-request', 'the body is not JSON');
  }
  const result = v.safeParse(Proof, parsed);
  if (!result.success) throw new IpamError('bad-request', 'the body is not a proof of a host');
  return result.output;
}

function refusalAnswer(c: Context<Env>, error: unknown, log: Log): Response {
  const peer = c.env?.incoming?.socket.remoteAddress ?? null;
  if (!(error instanceof IpamError) || error.code === 'internal') {
    log('error', 'internal error', { path: c.req.path, peer, error });
    return c.json({ Error: 'ec2-ipam: internal error; look into the log of the server' }, 500);
  }
  log('warn', 'enrolment refused', { peer, code: error.code, error: error.line });
  return c.json({ Error: error.line }, statusOf(error));
}

function statusOf({ code }: IpamError): 400 | 403 | 503 {
  if (code === 'denied') return 403;
  return code === 'bad-request' ? 400 : 503;
}
