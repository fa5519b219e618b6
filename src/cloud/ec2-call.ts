/** Sends single requests to EC2, and turns every failure into one of our errors. */
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import process from 'node:process';
import { EC2Client, EC2ServiceException } from '@aws-sdk/client-ec2';
import { IpamError } from '../domain/error.ts';
import type { Log } from '../domain/log.ts';
import { cleaned, shown } from '../domain/text.ts';
import type { Ec2Time } from './ec2-time.ts';
import type { Metadata, ReadMetadata } from './imds.ts';
import { failure, isExpired, refusal } from './refusals.ts';

export interface Ec2Options {
  /** Null: the Region is found by the SDK: AWS_REGION, the profile, the instance's metadata. */
  readonly region: string | null;
  /** Null: credentials are found by the SDK: the environment, the profile, the instance's role and others. */
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string } | null;
  /** The instance's metadata, which the SDK asks last. */
  readonly metadata: ReadMetadata;
  readonly time: Ec2Time;
  /** The clock of `sendBefore`, in milliseconds: see domain/clock.ts. */
  readonly deadlineClock: () => number;
  readonly log: Log;
  /** The longest time until EC2 begins its answer, in milliseconds. */
  readonly requestTimeoutMs?: number;
  /** The longest time of each request of the SDK to the metadata service, in milliseconds. */
  readonly metadataTimeoutMs?: number;
}

const CONNECTION_TIMEOUT_MS = 2000;
const REQUEST_TIMEOUT_MS = 10_000;
/** The SDK's defaults are 1 s and no second try. */
const METADATA_TIMEOUT_MS = 5_000;
const METADATA_RETRIES = 1;

/** The first element of an answer that says success: `<DescribeSubnetsResponse xmlns=…>`. That of an error is
 *  `<Response>`. */
const ANSWER_OF_EC2 = /<[A-Z]\w+Response[\s>]/;
/** It is within these. */
const START_BYTES_MAX = 1024;

type Limits = { readonly abortSignal: AbortSignal };
type Ask<T> = (client: EC2Client, limits: Limits) => Promise<T>;

/** Sends one request to EC2, once. Throws IpamErrors. */
export type Ec2Call = <T>(action: string, ask: Ask<T>) => Promise<T>;

export function createEc2Call(options: Ec2Options): Ec2Call {
  const { requestTimeoutMs = REQUEST_TIMEOUT_MS, metadataTimeoutMs = METADATA_TIMEOUT_MS, time } = options;
  /** What is called when a request has been sent, by the signal of that request. */
  const leaving = new WeakMap<object, () => void>();
  let client = clientFor(options.region);

  function clientFor(region: string | null): EC2Client {
    const made = new EC2Client({
      ...(region === null ? {} : { region }),
      // A copy: the SDK notes in it where they come from, and the configuration is frozen.
      ...(options.credentials === null ? {} : { credentials: { ...options.credentials } }),
      // The SDK passes its settings to the providers of credentials, which use these two.
      ...({ timeout: metadataTimeoutMs, maxRetries: METADATA_RETRIES } as object),
      // No retries: a repeated change would need an intent of its own.
      maxAttempts: 1,
      requestHandler: {
        connectionTimeout: CONNECTION_TIMEOUT_MS,
        requestTimeout: requestTimeoutMs,
        throwOnRequestTimeout: true, // without this the SDK only logs a warning
        // Each request has a connection of its own. Deno repeats a POST by itself when a kept connection breaks, which
        // would be a second call for one intent. The SDK's own agents also have at most 50 sockets, so that 50 hung calls
        // would block all others.
        httpAgent: new HttpAgent({ keepAlive: false }),
        httpsAgent: new HttpsAgent({ keepAlive: false }),
      },
    });
    const { requestHandler } = made.config;
    const handle = requestHandler.handle.bind(requestHandler);
    requestHandler.handle = async (request, limits) => {
      const { abortSignal } = (limits ?? {}) as Partial<Limits>;
      if (abortSignal !== undefined) leaving.get(abortSignal)?.();
      const answer = await handle(request, limits);
      const { response } = answer;
      time.heard(response.headers);
      if (response.statusCode < 300) response.body = await bodyOfEc2(response);
      return answer;
    };
    return made;
  }

  async function once<T>(action: string, ask: Ask<T>): Promise<T> {
    const ending = new AbortController();
    let hasLeft = false;
    let timer: NodeJS.Timeout | undefined;
    leaving.set(ending.signal, () => {
      hasLeft = true;
      // requestTimeout ends with the first byte of an answer; this bounds the rest of the answer too.
      timer = setTimeout(() => ending.abort(), CONNECTION_TIMEOUT_MS + requestTimeoutMs);
    });
    try {
      return await ask(client, { abortSignal: ending.signal });
    } catch (error) {
      if (!hasLeft) throw error instanceof IpamError ? error : new NeverLeft(error);
      // The next try asks for new credentials. Without this the SDK keeps those of a role for minutes.
      if (error instanceof EC2ServiceException && isExpired(error.name))
        await client.config.credentials({ forceRefresh: true }).catch(() => {});
      throw asIpamError(action, error);
    } finally {
      clearTimeout(timer);
    }
  }

  return async (action, ask) => {
    try {
      return await once(action, ask);
    } catch (error) {
      if (!(error instanceof NeverLeft)) throw error;
      // The SDK may have taken a page of a proxy for the region, and would keep it.
      if (error.message.startsWith('Region not accepted')) client = clientFor(options.region);
      if (!NO_REGION.test(error.message)) throw await notSent(action, error, options);
    }
    // The SDK has asked the metadata service once, for a second, and does not ask again for a minute.
    const region = await options.metadata('placement/region');
    if (region.kind !== 'value') throw noRegion(action, region);
    if (!REGION.test(region.text))
      throw noRegion(action, { kind: 'late', why: `what answers there says "${shown(region.text)}"` });
    client = clientFor(region.text);
    try {
      return await once(action, ask);
    } catch (error) {
      throw error instanceof NeverLeft ? await notSent(action, error, options) : error;
    }
  };
}

/** Returns the body of an answer that says success. Throws if it is not EC2's, such as the page of a proxy: the SDK would
 *  take that as a change that was made, or as an empty list. */
async function bodyOfEc2({ statusCode, body }: { statusCode: number; body?: AsyncIterable<Uint8Array> }) {
  const parts: Uint8Array[] = [];
  for await (const part of body ?? []) parts.push(part);
  const whole = Buffer.concat(parts);
  const start = whole.toString('utf8', 0, START_BYTES_MAX);
  if (ANSWER_OF_EC2.test(start)) return whole;
  throw new Error(`what answered with HTTP status ${statusCode} is not EC2: "${shown(start)}"`);
}

const TOO_LATE = 'they came too late';
/** The longest wait for what the metadata say of a role: the SDK has waited for it already. */
const ROLE_MS_MAX = 1_000;
/** The longest text about a role that is quoted. */
const ROLE_CHARS_MAX = 300;

/** The SDK's errors for a region that is not set, and for one that is set and empty. */
const NO_REGION = /^Region is missing$|^Region not accepted: region=""/;
/** Such as `eu-central-1` and `us-gov-west-1`. */
const REGION = /^[a-z]{2,}(-[a-z0-9]+)+$/;

/** The error of a request that was not sent. */
class NeverLeft extends Error {
  override readonly name = 'NeverLeft';

  constructor(cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

const noRegion = (action: string, { kind, why }: Exclude<Metadata, { kind: 'value' }>): IpamError =>
  kind === 'absent'
    ? new IpamError('ec2-denied', `${action} was not sent: no AWS region is known`, {
        hint: 'set AWS_REGION',
      })
    : new IpamError(
        'ec2-unreachable',
        `${action} was not sent: instance metadata does not say the region: ${why}`,
        {
          hint: 'see that the instance metadata service answers here, or set AWS_REGION',
        },
      );

/** The SDK throws the same error for missing credentials and for a slow metadata service; this asks the service. */
async function notSent(
  action: string,
  { cause, message }: NeverLeft,
  { metadata }: Pick<Ec2Options, 'metadata'>,
): Promise<IpamError> {
  const name = cause instanceof Error ? cause.name : '';
  if (name !== 'CredentialsProviderError' && name !== 'TokenProviderError')
    return new IpamError('ec2-unreachable', `${action} was not sent: ${reasonOf(cause, name, message)}`, {
      hint: 'see that what the AWS settings name can be reached from here',
      cause,
    });
  const { AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: relative, AWS_CONTAINER_CREDENTIALS_FULL_URI: full } =
    process.env;
  const role: Metadata =
    (relative ?? full) === undefined
      ? await metadata('iam/security-credentials/')
      : { kind: 'late', why: 'the address that the environment names for them does not give any' };
  // The settings name a profile or a file that is wrong.
  const isChosen = !message.startsWith('Could not load credentials from any providers');
  if (isChosen || role.kind === 'absent')
    return new IpamError(
      'ec2-denied',
      `${action} was not sent: no AWS credentials were found${isChosen ? `: ${message}` : ''}`,
      {
        hint: 'give the instance a role, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY',
        cause,
      },
    );
  const why = role.kind === 'value' ? await whyNone(role.text, metadata) : role.why;
  return new IpamError(
    'ec2-unreachable',
    `${action} was not sent: no AWS credentials from instance metadata: ${why}`,
    {
      hint: 'see that the instance metadata service answers here',
      cause,
    },
  );
}

/** Returns what the metadata say of the role, such as that EC2 cannot assume it. The SDK does not tell. */
async function whyNone(role: string, metadata: ReadMetadata): Promise<string> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<null>(resolve => {
    timer = setTimeout(resolve, ROLE_MS_MAX, null);
  });
  const asked = metadata(`iam/security-credentials/${encodeURIComponent(role)}`);
  const answer = await Promise.race([asked, late]).finally(() => clearTimeout(timer));
  if (answer === null) return TOO_LATE;
  if (answer.kind !== 'value') return answer.why;
  try {
    const { Code: code = 'Success', Message: message = '' } = JSON.parse(answer.text);
    if (code !== 'Success') return `${cleaned(String(message), ROLE_CHARS_MAX)} (${shown(String(code))})`;
  } catch {
    return 'what answers there says nothing of the role'; // not quoted, since a part of a key may be in it
  }
  return TOO_LATE;
}

/**
 * Returns a middleware after the signature that refuses to send when the deadline clock is past `sendBefore`. A process may
 * be frozen (a paused host, a long stall) between its decision and the send, and another server may have taken over its
 * intent meanwhile. A request that was signed before the freeze passes this check, but EC2 refuses it 15 minutes after the
 * signature. That time, the call deadline and a margin are the grace of 930 s after which intents are taken over.
 */
export function sentBefore(action: string, sendBefore: number, { deadlineClock, time }: SendChecks) {
  return <Handler extends (args: never) => Promise<unknown>>(next: Handler): Handler =>
    (async (args: { request: { headers: Record<string, string> } }) => {
      checkDeadline(action, sendBefore, deadlineClock);
      time.check(action, signedFor(args.request.headers));
      return next(args as never);
    }) as never;
}

export type SendChecks = Pick<Ec2Options, 'deadlineClock' | 'time'>;

export function checkDeadline(action: string, sendBefore: number, deadlineClock: () => number): void {
  if (deadlineClock() >= sendBefore)
    throw new IpamError('ec2-unreachable', `not sent: ${action} came too late for its intent`);
}

/** The SDK signs with its estimate of EC2's time, from this process's time of day and the last answer's Date. */
function signedFor({ 'x-amz-date': date = '' }: Record<string, string>): number {
  const iso = date.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z');
  const at = Date.parse(iso);
  if (Number.isNaN(at))
    throw new IpamError('internal', `a request is signed for "${date}", which is no time`);
  return at;
}

export const AFTER_SIGNING = {
  name: 'sentBefore',
  relation: 'after',
  toMiddleware: 'httpSigningMiddleware',
} as const;

/** The SDK's name for an error without a code: it comes from a proxy, not from EC2. */
const FORMLESS = ['Unknown', 'NotFound'];
/** Whether EC2 itself formed the error. */
export const isFormed = (error: unknown): error is EC2ServiceException =>
  error instanceof EC2ServiceException && !FORMLESS.includes(error.name);

/** System errors before a connection is established. A connection timeout is not among them: it comes from the handler's
 *  timer, which does not know what the system has sent. */
const NEVER_CONNECTED = ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH'];

/** Returns the error as ours. Only an error that EC2 itself formed is a refusal; any other means that the outcome is
 *  unknown. */
function asIpamError(action: string, error: unknown): IpamError {
  if (error instanceof IpamError && error.code.startsWith('ec2-')) return error;
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  if (isFormed(error)) {
    const { httpStatusCode = 0, requestId } = error.$metadata;
    const refused = refusal(name, message, requestId);
    // EC2 throttles with status 503.
    if (refused.code === 'ec2-throttled' || (httpStatusCode >= 400 && httpStatusCode < 500)) return refused;
    return failure(name, message, requestId);
  }
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
