/** Checks signatures of AWS requests, version 4.
 *  https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html */
import { createHash, createHmac } from 'node:crypto';
import { Ec2Error } from '../model/ec2-error.ts';

export interface SignedRequest {
  readonly method: string;
  /** Without a query. */
  readonly path: string;
  readonly body: string;
  header(name: string): string | undefined;
}

/** The Authorization header of a request. */
export interface Authorization {
  readonly accessKeyId: string;
  readonly region: string;
  readonly service: string;
  readonly signedHeaders: readonly string[];
  readonly signature: string;
  /** When it was signed: `20261126T010000Z`. */
  readonly date: string;
}

const FORM =
  /^AWS4-HMAC-SHA256 Credential=([^/\s,]+)\/(\d{8})\/([^/\s,]+)\/([^/\s,]+)\/aws4_request, ?SignedHeaders=([\w;-]+), ?Signature=([0-9a-f]{64})$/;
/** The largest age of a signature, and how far in the future it may be. */
const LIFE_MS = 15 * 60_000;
const FUTURE_MS_MAX = 5 * 60_000;

const denied = (code: string, message: string) => new Ec2Error(code, message, 403);
const incomplete = (message: string) => new Ec2Error('IncompleteSignature', message, 400);

/** Returns the parts of the header. Throws STS's refusal. */
export function authorizationOf(request: SignedRequest): Authorization {
  const header = request.header('authorization');
  if (header === undefined)
    throw denied('MissingAuthenticationToken', 'Request is missing Authentication Token');
  const [, accessKeyId = '', day, region = '', service = '', names = '', signature = ''] =
    FORM.exec(header) ?? [];
  if (signature === '') throw incomplete('Authorization header is not of the form that it must have.');
  const date = request.header('x-amz-date') ?? '';
  if (!/^\d{8}T\d{6}Z$/.test(date))
    throw incomplete("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.");
  if (!date.startsWith(day ?? ''))
    throw denied('SignatureDoesNotMatch', 'Date in Credential scope does not match YYYYMMDD from ISO-8601');
  return { accessKeyId, region, service, signedHeaders: names.split(';'), signature, date };
}

/** Throws STS's refusal when the request is not signed with the secret, or not about now. */
export function checkSignature(
  request: SignedRequest,
  authorization: Authorization,
  secret: string,
  now: number,
): void {
  const { signedHeaders, date, region, service, signature } = authorization;
  if (!signedHeaders.includes('host'))
    throw denied('SignatureDoesNotMatch', "'Host' must be a 'SignedHeader' in the AWS Authorization.");
  checkDate(date, now);
  const scope = `${date.slice(0, 8)}/${region}/${service}/aws4_request`;
  const canonical = [
    request.method,
    request.path,
    '',
    ...signedHeaders.map(name => `${name}:${(request.header(name) ?? '').trim().replace(/ +/g, ' ')}`),
    '',
    signedHeaders.join(';'),
    sha256(request.body),
  ].join('\n');
  const key = [date.slice(0, 8), region, service, 'aws4_request'].reduce<string | Buffer>(
    (secret, part) => hmac(secret, part),
    `AWS4${secret}`,
  );
  const expected = hmac(key, ['AWS4-HMAC-SHA256', date, scope, sha256(canonical)].join('\n'));
  if (expected.toString('hex') !== signature)
    throw denied(
      'SignatureDoesNotMatch',
      'The request signature we calculated does not match the signature you provided.',
    );
}

function checkDate(date: string, now: number): void {
  const at = Date.parse(date.replace(/^(....)(..)(..T..)(..)(..Z)$/, '$1-$2-$3:$4:$5'));
  const shown = new Date(now).toISOString();
  if (now - at > LIFE_MS)
    throw denied(
      'SignatureDoesNotMatch',
      `Signature expired: ${date} is now earlier than ${shown} - 15 min.`,
    );
  if (!(at - now <= FUTURE_MS_MAX))
    throw denied(
      'SignatureDoesNotMatch',
      `Signature not yet current: ${date} is still later than ${shown} + 5 min.`,
    );
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const hmac = (key: string | Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest();
