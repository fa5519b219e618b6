/** EC2's errors as ours. */
import { type Ipv4, toNumber } from '../domain/address.ts';
import { type ErrorCode, IpamError, isError } from '../domain/error.ts';
import type { EniId } from '../domain/ids.ts';

interface Rule {
  /** EC2's error code. */
  readonly when: RegExp;
  /** What the message must match, where the code alone does not decide. */
  readonly says?: RegExp;
  readonly code: Extract<ErrorCode, `ec2-${string}`>;
  readonly hint?: string;
}

/** All known texts of EC2 for an address that is in use: on assigning "[10.0.0.5] assigned, but move is
 *  not allowed.", on making an ENI "10.0.0.5 is already assigned." and "The specified address is already in use.",
 *  on starting an instance "Address 10.0.0.5 is in use." */
const TAKEN =
  /assigned, but move is not allowed|is already assigned\.?$|address\b.* already in use|^Address \S+ is in use/i;

/** The credentials have expired, or the date of the signature is wrong: EC2 says RequestExpired for both. A retry may have
 *  new credentials, and has the right date, since the SDK learns EC2's time from its answers. */
const EXPIRED = /^(ExpiredToken\w*|RequestExpired|RequestTimeTooSkewed)$/;
const WRONG_TIME = /^Signature (expired|not yet current)/i;
export const isExpired = (code: string): boolean => EXPIRED.test(code);

/** The first rule that matches decides. Codes are those of
 *  https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html; InvalidParameterValue has
 *  several meanings that only EC2's texts distinguish. */
const RULES: readonly Rule[] = [
  {
    when: /^(InvalidParameterValue|PrivateIpAddress\w*)$/,
    says: TAKEN,
    code: 'ec2-taken',
  },
  { when: /^InvalidIPAddress\.InUse$/, code: 'ec2-taken' },
  {
    when: /^InvalidParameterValue$/,
    says: /not assigned to (network )?interface/i,
    code: 'ec2-not-assigned',
  },
  {
    when: /^PrivateIpAddressLimitExceeded$/,
    code: 'ec2-limit',
    hint: 'use another ENI, or an instance type that takes more addresses per ENI',
  },
  {
    when: /^(InsufficientFreeAddressesInSubnet|InsufficientCidrBlocks)$/,
    code: 'ec2-subnet-full',
    hint: 'run `ec2-ipam recycle`, or use another subnet',
  },
  {
    when: /^InvalidParameterValue$/,
    says: /aren't sufficient free/i,
    code: 'ec2-subnet-full',
    hint: 'run `ec2-ipam recycle`, or use another subnet',
  },
  // Other codes of the family may be for a reserved address, for the ENI, or for a reason that is not known yet.
  {
    when: /^(InvalidParameterValue|InvalidIPAddress(\.\w+)?|InvalidPrivateIpAddress[\w.]*)$/,
    code: 'ec2-invalid',
    hint: 'what EC2 says is all that is known of the cause',
  },
  {
    when: /^Invalid(NetworkInterface|Subnet|Instance)I[dD]\.NotFound$/,
    code: 'ec2-not-found',
    hint: 'check the id, the region and the account',
  },
  {
    when: /^(RequestLimitExceeded|Throttling\w*|ThrottledException|TooManyRequestsException|RequestThrottled\w*|Client\.RequestLimitExceeded|EC2ThrottledException|SlowDown)$/,
    code: 'ec2-throttled',
    hint: 'it is tried again; lower --ec2-share if other programs of the account need the calls',
  },
  {
    when: EXPIRED,
    code: 'ec2-unreachable',
    hint: "it is tried again; see that this machine's clock is right and that it gets new credentials",
  },
  {
    when: /^SignatureDoesNotMatch$/,
    says: WRONG_TIME,
    code: 'ec2-unreachable',
    hint: "it is tried again; set this machine's clock right",
  },
  {
    when: /^(UnauthorizedOperation|AccessDenied\w*|AuthFailure|MissingAuthenticationToken|IncompleteSignature|SignatureDoesNotMatch|InvalidSignature\w*|InvalidClientTokenId|InvalidAccessKeyId|UnrecognizedClientException|OptInRequired|PendingVerification|Blocked)$/,
    code: 'ec2-denied',
    hint: 'check the credentials and the rights: see scripts/provision/README.md, IAM',
  },
  {
    when: /^(Internal\w*|ServerInternal|Unavailable|ServiceUnavailable\w*|RequestTimeout\w*)$/,
    code: 'ec2-unknown',
  },
];

/** Returns EC2's error as ours. Its `addresses` are those that the message names. */
export function refusal(code: string, message: string, requestId?: string): IpamError {
  const rule = RULES.find(({ when, says }) => when.test(code) && (says === undefined || says.test(message)));
  const ours = rule?.code ?? 'ec2-refused';
  if (ours === 'ec2-unknown') return failure(code, message, requestId);
  return new IpamError(ours, `EC2 refused: ${quoted(code, message, requestId)}`, {
    hint: rule?.hint ?? '',
    addresses: addressesIn(message),
  });
}

/** Returns the error of an answer by which EC2 neither makes nor refuses the call, whatever its code. */
export const failure = (code: string, message: string, requestId?: string): IpamError =>
  new IpamError('ec2-unknown', `EC2 failed: ${quoted(code, message, requestId)}`, {
    hint: 'the call may have been applied; it is settled by reading',
  });

/** The error for an ENI that is read by id and has no IPv4 address; lists leave such an ENI out. */
export const withoutIpv4 = (id: EniId): IpamError =>
  new IpamError('bad-request', `${id} has no IPv4 address: it is an EFA-only or IPv6-only ENI`, {
    hint: 'use an ENI that has one',
  });

/** Returns null for a refusal, where EC2 may not know or not say; throws any other error. */
export function nullWhenRefused(error: unknown): null {
  if (isError(error, 'ec2-denied', 'ec2-not-found', 'ec2-refused', 'ec2-invalid')) return null;
  throw error;
}

const MESSAGE_LENGTH_MAX = 500;
const oneLine = (message: string): string =>
  message.replace(/\s+/g, ' ').trim().replace(/\.$/, '').slice(0, MESSAGE_LENGTH_MAX);

const quoted = (code: string, message: string, requestId?: string): string =>
  `${oneLine(message)} (${code}${requestId === undefined ? '' : `, request ${requestId}`})`;

/** EC2 names addresses as "[10.0.0.5, 10.0.0.6] assigned…", "10.0.0.5 is already…" or "… address 10.0.0.3 is…". */
function addressesIn(message: string): Ipv4[] {
  const listed =
    /^\[([^\]]*)\] assigned/.exec(message)?.[1] ??
    /(?:^|\baddress )(\S+) (?:is|does) /i.exec(message)?.[1] ??
    '';
  return listed.split(/[\s,]+/).filter(text => toNumber(text) !== null) as Ipv4[];
}
