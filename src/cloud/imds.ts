/** Reads the instance metadata service, version 2.
 *  https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html */
import { request } from 'node:http';

const IMDS_ENDPOINT = 'http://169.254.169.254';
const IMDS_ENDPOINT_IPV6 = 'http://[fd00:ec2::254]';
/** The longest time of one request, in milliseconds. The service is slow while an instance boots, and on a busy one. */
const TIMEOUT_MS = 5_000;
const WITHOUT_TOKEN_MS = 2_000;
const TOKEN_SECONDS = 60;
const BODY_CHARS_MAX = 65_536;
/** The page of a proxy is none, and Node refuses a header with its line breaks. */
const TOKEN = /^[\x21-\x7e]+$/;

/** An answer of the service. `absent`: there is no such value, and a retry will not help. `late`: there was no usable
 *  answer, and a retry may get one. */
export type Metadata =
  | { readonly kind: 'value'; readonly text: string }
  | {
      readonly kind: 'absent' | 'late';
      /** For people. */
      readonly why: string;
      /** The HTTP status of the answer, or that there was none within the time. Not given: it failed in another way. */
      readonly got?: number | 'timeout';
    };

/** Reads one value, such as `instance-id`. */
export type ReadMetadata = (path: string) => Promise<Metadata>;

/** No process listens, or there is no route: this is no EC2 instance. */
const NOWHERE = ['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOTFOUND', 'EADDRNOTAVAIL'];
/** Statuses after which a retry may succeed. Other 400s mean that there is no such value, that the service is turned off
 *  (403), or that it belongs to no EC2 instance. */
const PASSING_STATUSES = [401, 408, 429];

export const metadataDisabled: ReadMetadata = async () => ({
  kind: 'absent',
  why: 'AWS_EC2_METADATA_DISABLED is set',
});

type Env = Readonly<Record<string, string | undefined>>;

/** The metadata service, at the address that the SDK's environment variables name. */
export function metadataOf(env: Env): ReadMetadata {
  const isDisabled = (env.AWS_EC2_METADATA_DISABLED ?? 'false').toLowerCase() !== 'false';
  return isDisabled ? metadataDisabled : metadataAt(endpointOf(env));
}

function endpointOf(env: Env): string {
  const isIpv6 = env.AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE?.toLowerCase() === 'ipv6';
  return env.AWS_EC2_METADATA_SERVICE_ENDPOINT || (isIpv6 ? IMDS_ENDPOINT_IPV6 : IMDS_ENDPOINT);
}

/** Whether there is an HTTP answer of whatever status to a request without a token, which the hop limit does not stop:
 *  it holds for the answer that brings the token. Never throws. */
export async function answersWithoutToken(env: Env, timeoutMs = WITHOUT_TOKEN_MS): Promise<boolean> {
  const answer = await ask('GET', `${endpointOf(env).replace(/\/$/, '')}/latest/meta-data/`, {}, timeoutMs);
  return answer.kind === 'value' || typeof answer.got === 'number';
}

/** Never throws. */
export function metadataAt(endpoint: string, timeoutMs = TIMEOUT_MS): ReadMetadata {
  const base = `${endpoint.replace(/\/$/, '')}/latest`;

  async function once(path: string): Promise<Metadata> {
    const ttl = { 'X-aws-ec2-metadata-token-ttl-seconds': String(TOKEN_SECONDS) };
    const token = await ask('PUT', `${base}/api/token`, ttl, timeoutMs);
    if (token.kind !== 'value') return token;
    if (!TOKEN.test(token.text)) return { kind: 'late', why: 'what answers gives no token', got: 200 };
    return await ask(
      'GET',
      `${base}/meta-data/${path}`,
      { 'X-aws-ec2-metadata-token': token.text },
      timeoutMs,
    );
  }

  return async path => {
    const first = await once(path);
    // The token may have expired: a new one tells.
    return first.kind === 'late' && first.got === 401 ? await once(path) : first;
  };
}

function ask(
  method: string,
  url: string,
  headers: Record<string, string>,
  timeoutMs: number,
): Promise<Metadata> {
  return new Promise(resolve => {
    const late = (why: string) => resolve({ kind: 'late', why });
    const sent = request(url, { method, headers, agent: false }, response => {
      const { statusCode = 0 } = response;
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => {
        text += part;
        if (text.length > BODY_CHARS_MAX) sent.destroy(new Error('the answer is too long'));
      });
      response.on('error', error => late(error.message));
      response.on('end', () => resolve(answered(statusCode, text.trim())));
    });
    const timer = setTimeout(() => {
      resolve({ kind: 'late', why: `no answer within ${timeoutMs} ms`, got: 'timeout' });
      sent.destroy();
    }, timeoutMs);
    sent.on('error', error => {
      const { code = '' } = error as { code?: string };
      resolve({ kind: NOWHERE.includes(code) ? 'absent' : 'late', why: code || error.message });
    });
    sent.on('close', () => {
      clearTimeout(timer);
      late('the connection was lost');
    });
    sent.end();
  });
}

function answered(status: number, text: string): Metadata {
  if (status >= 400 && status < 500 && !PASSING_STATUSES.includes(status))
    return { kind: 'absent', why: `HTTP status ${status}`, got: status };
  if (status !== 200) return { kind: 'late', why: `HTTP status ${status}`, got: status };
  return text === '' ? { kind: 'late', why: 'the answer is empty', got: status } : { kind: 'value', text };
}
