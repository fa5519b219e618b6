/** The errors of the program: a closed set of codes, each with one line for people. */
import type { Ipv4 } from './address.ts';
import { cleaned } from './text.ts';

/** All error codes. The program branches on the code; people read the message. */
export const ERROR_CODES = [
  'bad-request', // the request or the configuration is wrong
  'denied', // the client has not this right; nothing was changed
  'conflict', // somebody else has the address, the ENI or the listener
  'exhausted', // no address can be given
  'unavailable', // a dependency did not answer in time
  'caller-gone', // the client disconnected
  'store-down', // the database cannot be used; nothing was changed
  'ec2-taken', // refused: an address is taken; `addresses` has those that EC2 named
  'ec2-invalid', // refused: a value is invalid; not known to mean a taken address
  'ec2-not-assigned', // refused: an address is not on the ENI
  'ec2-limit', // refused: the ENI would hold more addresses than its instance type allows
  'ec2-subnet-full', // refused: no address of the subnet is left
  'ec2-not-found', // refused: no such ENI or subnet
  'ec2-throttled', // refused: too many calls
  'ec2-denied', // refused: credentials or rights
  'ec2-refused', // refused for another reason
  'ec2-unreachable', // the call was not sent, or EC2 found it expired: it may be sent again
  'ec2-unknown', // no answer: the call may have been applied, or may be applied later
  'internal', // a bug: logged with its stack, not shown to clients
] as const;
export type ErrorCode = (typeof ERROR_CODES)[number];

/** The longest line: some errors quote EC2 or name addresses. */
const LINE_CHARACTERS_MAX = 4000;

interface Details {
  /** What the user can do, as an imperative without a full stop. */
  hint?: string;
  /** The addresses that EC2 named, or that are locked in the store. */
  addresses?: readonly Ipv4[];
  cause?: unknown;
}

/** An error for users, in one line: what went wrong, why, and what to do. */
export class IpamError extends Error {
  override readonly name = 'IpamError';
  readonly code: ErrorCode;
  readonly hint: string;
  readonly addresses: readonly Ipv4[];
  /** Message and hint in one line. Not a getter, since Bun sets a number `line` on every Error. */
  readonly line: string;

  constructor(code: ErrorCode, message: string, details: Details = {}) {
    super(message, 'cause' in details ? { cause: details.cause } : undefined);
    this.code = code;
    this.hint = details.hint ?? '';
    this.addresses = details.addresses ?? [];
    const text = this.hint === '' ? message : `${message}; ${this.hint}`;
    this.line = cleaned(text, LINE_CHARACTERS_MAX).replace(/\s+/g, ' ').trim();
  }
}

/** Whether `error` is an IpamError with one of these codes. */
export const isError = (error: unknown, ...codes: ErrorCode[]): error is IpamError =>
  error instanceof IpamError && codes.includes(error.code);

/** Whether EC2 refused the call: it was not applied and never will be. */
export const isRefusal = (error: unknown): error is IpamError =>
  error instanceof IpamError && error.code.startsWith('ec2-') && error.code !== 'ec2-unknown';
