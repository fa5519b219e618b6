/** Signs and sends requests to STS that tell who signed them, with a statement that the signature covers.
 *  https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html */
import { createHash, createHmac } from 'node:crypto';
import { SignatureV4 } from '@smithy/signature-v4';
import * as v from 'valibot';
import { IpamError } from '../domain/error.ts';

/** What a host states: to which server, in answer to which nonce, and for which public key. */
export interface Statement {
  readonly server: string;
  readonly nonce: string;
  /** SHA-256 of the public key in DER (SPKI), in hexadecimal. */
  readonly keyHash: string;
}

/** A signed statement, as a host sends it. It can be used for this one request to STS only. */
export interface SignedStatement {
  /** `20261126T010000Z` */
  readonly date: string;
  readonly securityToken: string;
  /** The header Authorization. */
  readonly authorization: string;
}

/** The credentials of an instance's role. */
export interface RoleCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
}

export interface CallerIdentity {
  readonly account: string;
  readonly arn: string;
}

const BODY = 'Action=GetCallerIdentity&Version=2011-06-15';
const CONTENT_TYPE = 'application/x-www-form-urlencoded; charset=utf-8';
const SIGNED_HEADERS =
  'content-type;host;x-amz-date;x-amz-security-token;x-ec2-ipam-key;x-ec2-ipam-nonce;x-ec2-ipam-server';
const ANSWER_MS_MAX = 5_000;
const ANSWER_CHARS_MAX = 65_536;

/** The partitions whose domain is another than amazonaws.com.
 *  https://docs.aws.amazon.com/general/latest/gr/sts.html */
const DOMAINS: readonly [region: RegExp, domain: string][] = [
  [/^cn-/, 'amazonaws.com.cn'],
  [/^eusc-/, 'amazonaws.eu'],
  [/^us-iso-/, 'c2s.ic.gov'],
  [/^us-isob-/, 'sc2s.sgov.gov'],
  [/^eu-isoe-/, 'cloud.adc-e.uk'],
  [/^us-isof-/, 'csp.hci.ic.gov'],
];

/** STS of the Region, or `override` (AWS_ENDPOINT_URL_STS). Throws bad-request for what is no Region. */
export function stsEndpoint(region: string, override: string | undefined): URL {
  if (!/^[a-z]{2,4}(-[a-z]+)+-\d$/.test(region))
    throw new IpamError('bad-request', `"${region.slice(0, 40)}" is not an AWS Region`);
  const domain = DOMAINS.find(([pattern]) => pattern.test(region))?.[1] ?? 'amazonaws.com';
  return new URL(override || `https://sts.${region}.${domain}`);
}

const headersOf = (endpoint: URL, { server, nonce, keyHash }: Statement) => ({
  'content-type': CONTENT_TYPE,
  host: endpoint.host,
  'x-ec2-ipam-key': keyHash,
  'x-ec2-ipam-nonce': nonce,
  'x-ec2-ipam-server': server,
});

/** Signs the statement. The request that it makes is the one that `callerIdentity` sends. */
export async function signStatement(
  statement: Statement,
  credentials: RoleCredentials,
  { region, endpoint, now }: { region: string; endpoint: URL; now: number },
): Promise<SignedStatement> {
  const signer = new SignatureV4({
    credentials,
    region,
    service: 'sts',
    sha256: Sha256,
    applyChecksum: false,
  });
  const { headers } = await signer.sign(
    {
      method: 'POST',
      protocol: endpoint.protocol,
      hostname: endpoint.hostname,
      path: '/',
      query: {},
      headers: headersOf(endpoint, statement),
      body: BODY,
    },
    { signingDate: new Date(now) },
  );
  return {
    date: headers['x-amz-date'] ?? '',
    securityToken: headers['x-amz-security-token'] ?? '',
    authorization: headers.authorization ?? '',
  };
}

/** Asks STS who signed the statement. The request is built here: nothing of it but the signature, its date and the token
 *  is the host's. Throws denied when the signature is not one for this request or STS refuses it, and unavailable when STS
 *  does not answer. */
export async function callerIdentity(
  statement: Statement,
  signed: SignedStatement,
  { region, endpoint }: { region: string; endpoint: URL },
): Promise<CallerIdentity> {
  checkSigned(signed, region);
  const { host: _, ...headers } = headersOf(endpoint, statement);
  const [status, text] = await post(endpoint, {
    ...headers,
    accept: 'application/json',
    authorization: signed.authorization,
    'x-amz-date': signed.date,
    'x-amz-security-token': signed.securityToken,
  });
  if (status === 200) return identityIn(text);
  const code = codeIn(text);
  if (status >= 400 && status < 500 && code !== null)
    throw new IpamError('denied', `STS refuses the proof: ${code}`, {
      hint: "see that the host's clock is right and that its role has not been deleted",
    });
  throw new IpamError('unavailable', `STS answered with status ${status}`, { hint: 'try again' });
}

const AUTHORIZATION = new RegExp(
  `^AWS4-HMAC-SHA256 Credential=\\w{16,128}/(\\d{8})/([a-z0-9-]+)/sts/aws4_request, SignedHeaders=${SIGNED_HEADERS}, Signature=[0-9a-f]{64}$`,
);

/** AWS checks what the signature covers, and not what it leaves out. */
function checkSigned({ authorization, date, securityToken }: SignedStatement, region: string): void {
  const [, day, signedRegion] = AUTHORIZATION.exec(authorization) ?? [];
  const isOfForm =
    day !== undefined &&
    /^\d{8}T\d{6}Z$/.test(date) &&
    date.startsWith(day) &&
    /^[\w+/=-]{16,8192}$/.test(securityToken);
  if (!isOfForm) throw new IpamError('denied', 'the proof is not a signature over what it must state');
  if (signedRegion !== region)
    throw new IpamError('denied', `the proof is signed for the Region ${signedRegion?.slice(0, 40)}`, {
      hint: `this server asks STS of ${region}`,
    });
}

async function post(endpoint: URL, headers: Record<string, string>): Promise<[number, string]> {
  try {
    const answer = await fetch(new URL('/', endpoint), {
      method: 'POST',
      headers,
      body: BODY,
      redirect: 'error',
      signal: AbortSignal.timeout(ANSWER_MS_MAX),
    });
    return [answer.status, (await answer.text()).slice(0, ANSWER_CHARS_MAX)];
  } catch (error) {
    const { cause, message } = error as Error & { cause?: { code?: string } };
    throw new IpamError('unavailable', `STS can't be reached: ${cause?.code ?? message}`, {
      hint: `see that ${endpoint.host} can be reached from the server`,
      cause: error,
    });
  }
}

const Identity = v.object({
  GetCallerIdentityResponse: v.object({
    GetCallerIdentityResult: v.object({
      Account: v.pipe(v.string(), v.regex(/^\d{12}$/)),
      Arn: v.pipe(v.string(), v.maxLength(2048)),
    }),
  }),
});
const Refusal = v.object({ Error: v.object({ Code: v.pipe(v.string(), v.regex(/^[\w.]{1,80}$/)) }) });

function identityIn(text: string): CallerIdentity {
  const result = v.safeParse(Identity, parsed(text));
  if (!result.success) throw new IpamError('unavailable', 'STS answered with what is no identity');
  const { Account: account, Arn: arn } = result.output.GetCallerIdentityResponse.GetCallerIdentityResult;
  return { account, arn };
}

function codeIn(text: string): string | null {
  const result = v.safeParse(Refusal, parsed(text));
  return result.success ? result.output.Error.Code : null;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

type Data = string | ArrayBuffer | ArrayBufferView;
/** The hash that SignatureV4 asks for. */
class Sha256 {
  readonly #hash: ReturnType<typeof createHash> | ReturnType<typeof createHmac>;

  constructor(secret?: Data) {
    this.#hash = secret === undefined ? createHash('sha256') : createHmac('sha256', bytes(secret));
  }
  update(data: Data): void {
    this.#hash.update(bytes(data));
  }
  async digest(): Promise<Uint8Array> {
    return new Uint8Array(this.#hash.digest());
  }
  reset(): void {}
}

function bytes(data: Data): Uint8Array {
  if (typeof data === 'string') return new TextEncoder().encode(data);
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return new Uint8Array(data);
}
