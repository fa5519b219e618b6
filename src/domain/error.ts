import type { Ipv4 } from './address.ts';

/** The closed set of things that go wrong. Machines branch on these; people read the message. */
export const ERROR_CODES = [
  'bad-request', // what was asked cannot be done as it was asked
  'conflict', // somebody else has it
  'exhausted', // no address left that may be given
  'unavailable', // something we depend on did not answer within the bound
  'caller-gone', // nobody waits for the answer any more
  'store-down', // the ledger cannot be reached; nothing was changed
  'ec2-taken', // refused: an address of the call cannot be had; `addresses` names those EC2 named
  'ec2-invalid', // refused: for some value of the call, and not known to be for an address that is taken
  'ec2-not-assigned', // refused: an address is not on the ENI
  'ec2-limit', // refused: the ENI would hold more addresses than its instance type allows
  'ec2-subnet-full', // refused: no address of the subnet is left
  'ec2-not-found', // refused: no such ENI or subnet
  'ec2-throttled', // refused: too many calls
  'ec2-denied', // refused: credentials or rights
  'ec2-refused', // refused for a reason we do not branch on
  'ec2-unreachable', // the call never left, or EC2 took it for expired: it may be made again
  'ec2-unknown', // no answer: the call may have been applied, or may yet be
  'internal', // a bug: logged whole, shown as nothing
] as const;
export type ErrorCode = (typeof ERROR_CODES)[number];

interface Details {
  /** What the operator can do about it, as an imperative sentence without a full stop. */
  hint?: string;
  /** The addresses that the error is about: those EC2 named, or that are locked in the store. */
  addresses?: readonly Ipv4[];
  cause?: unknown;
}

/** An error that may be shown: one line that says what went wrong and why, and what to do. */
export class IpamError extends Error {
  override readonly name = 'IpamError';
  readonly code: ErrorCode;
  readonly hint: string;
  readonly addresses: readonly Ipv4[];
  /** What a person gets, in one line. Not a getter: on Bun every Error has a `line` of its own, a number. */
  readonly line: string;

  constructor(code: ErrorCode, message: string, details: Details = {}) {
    super(message, 'cause' in details ? { cause: details.cause } : undefined);
    this.code = code;
    this.hint = details.hint ?? '';
    this.addresses = details.addresses ?? [];
    const text = this.hint === '' ? message : `${message}; ${this.hint}`;
    this.line = text.replace(/\s+/g, ' ').trim();
  }
}

/** Whether `error` is one of ours with one of these codes. */
export const isError = (error: unknown, ...codes: ErrorCode[]): error is IpamError =>
  error instanceof IpamError && codes.includes(error.code);

/** A definite answer of EC2 that a call was not applied and never will be. */
export const isRefusal = (error: unknown): error is IpamError =>
  error instanceof IpamError && error.code.startsWith('ec2-') && error.code !== 'ec2-unknown';
