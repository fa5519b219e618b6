import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { EC2Client, EC2ServiceException } from '@aws-sdk/client-ec2';
import { IpamError } from '../domain/error.ts';
import type { Log } from '../domain/log.ts';
import { refusal } from './refusals.ts';

export interface Ec2Options {
  /** Null: the SDK's own chain: AWS_REGION, the profile, the instance's metadata. */
  readonly region: string | null;
  /** Null: the SDK's own chain: the environment, the profile, the instance's role and others. */
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string } | null;
  /** Against which `sendBefore` is held, in milliseconds: see domain/clock.ts. */
  readonly deadlineClock: () => number;
  readonly log: Log;
  /** How long EC2 may take to begin its answer. */
  readonly requestTimeoutMs?: number;
}

const CONNECTION_TIMEOUT_MS = 2000;
const REQUEST_TIMEOUT_MS = 10_000;

type Ask<T> = (client: EC2Client, limits: { abortSignal: AbortSignal }) => Promise<T>;

/** Sends one request to EC2, once; its errors are ours. */
export type Ec2Call = <T>(action: string, ask: Ask<T>) => Promise<T>;

export function ec2Call(options: Ec2Options): Ec2Call {
  const { requestTimeoutMs = REQUEST_TIMEOUT_MS } = options;
  const client = new EC2Client({
    ...(options.region === null ? {} : { region: options.region }),
    ...(options.credentials === null ? {} : { credentials: options.credentials }),
    // Retries belong to us: a repeated change is a second intent.
    maxAttempts: 1,
    requestHandler: {
      connectionTimeout: CONNECTION_TIMEOUT_MS,
      requestTimeout: requestTimeoutMs,
      throwOnRequestTimeout: true, // without it the timeout only warns
      // Deno sends a POST again by itself when a connection that it kept alive breaks under it, which would
      // be a second call of one intent: each request has a connection of its own. The SDK's own agents also
      // hold no more than 50 sockets: as many hung calls would hold up all others.
      httpAgent: new HttpAgent({ keepAlive: false }),
      httpsAgent: new HttpsAgent({ keepAlive: false }),
    },
  });
  return async (action, ask) => {
    try {
      // requestTimeout ends with the first byte of an answer; this also bounds the rest of it.
      const abortSignal = AbortSignal.timeout(CONNECTION_TIMEOUT_MS + requestTimeoutMs);
      return await ask(client, { abortSignal });
    } catch (error) {
      throw asIpamError(action, error);
    }
  };
}

/**
 * A middleware behind the signature that doesn't send once the deadline clock is past `sendBefore`. A process
 * may be frozen (a paused machine, a long stall) between its decision and the send, and others may meanwhile
 * have taken its intent over. What was signed before the freeze, and so passes here with the old time, EC2
 * refuses 15 minutes after the signature; that, the call deadline and a margin are why intents rest for 930 s
 * before anybody takes them over.
 */
export function sentBefore(action: string, deadlineClock: () => number, sendBefore: number) {
  const check = (): void => {
    if (deadlineClock() >= sendBefore)
      throw new IpamError('ec2-unreachable', `not sent: ${action} came too late for its intent`);
  };
  return <Handler extends (args: never) => Promise<unknown>>(next: Handler): Handler =>
    (async (args: never) => {
      check();
      return next(args);
    }) as Handler;
}
export const AFTER_SIGNING = {
  name: 'sentBefore',
  relation: 'after',
  toMiddleware: 'httpSigningMiddleware',
} as const;

/** What the SDK calls an error without a code: some proxy's, not EC2's. */
const FORMLESS = ['Unknown', 'NotFound'];

/** What the system says before a connection stands. A connection that times out is not among them: the
 *  handler's timer says nothing of what the system has sent. */
const NEVER_CONNECTED = ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH'];

/** No answer is told apart from a refusal: only an error that EC2 itself formed is one. */
function asIpamError(action: string, error: unknown): IpamError {
  if (error instanceof IpamError && error.code.startsWith('ec2-')) return error;
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  if (error instanceof EC2ServiceException && !FORMLESS.includes(name)) {
    const { httpStatusCode = 0, requestId } = error.$metadata;
    const refused = refusal(name, message, requestId);
    // Throttling comes with status 503.
    if (refused.code === 'ec2-throttled' || (httpStatusCode >= 400 && httpStatusCode < 500)) return refused;
  }
  if (name === 'CredentialsProviderError' || name === 'TokenProviderError')
    return new IpamError('ec2-denied', `${action} was not sent: no AWS credentials were found`, {
      hint: 'give the instance a role, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY',
      cause: error,
    });
  if (message === 'Region is missing')
    return new IpamError('ec2-denied', `${action} was not sent: no AWS region is known`, {
      hint: 'set AWS_REGION',
      cause: error,
    });
  const reason = reasonOf(error, name, message);
  if (NEVER_CONNECTED.includes(reason))
    return new IpamError('ec2-unreachable', `${action} was not sent: EC2 can't be reached: ${reason}`, {
      hint: 'check the network, AWS_REGION and AWS_ENDPOINT_URL_EC2',
      cause: error,
    });
  return new IpamError('ec2-unknown', `EC2 gave no answer to ${action}: ${reason}`, {
    hint: 'check that the EC2 endpoint can be reached from here',
    cause: error,
  });
}

function reasonOf(error: unknown, name: string, message: string): string {
  if (name === 'TimeoutError' || name === 'AbortError') return 'timeout';
  const { code, $metadata } = error as { code?: string; $metadata?: { httpStatusCode?: number } };
  const status = $metadata?.httpStatusCode;
  return code ?? (status === undefined ? message : `${name}, HTTP status ${status}`);
}
