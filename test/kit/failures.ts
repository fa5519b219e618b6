/** Errors of ours as tests expect them. */
import { type ErrorCode, IpamError, isError } from '../../src/domain/error.ts';
import { assert } from './uvu.ts';

/** The line of the error that the work throws, which has this code if one is given. */
export function lineOf(work: () => unknown, code?: ErrorCode): string {
  try {
    work();
  } catch (error) {
    if (error instanceof IpamError && (code ?? error.code) === error.code) return error.line;
    throw error;
  }
  throw new Error('it was accepted');
}

/** The line that an answer of the driver has for the docker user, without the id of the request at its end. */
export function toldIn({ Error: line }: { readonly Error?: unknown }): string {
  const [, told = ''] = /^(.*) \(request [0-9a-f]{8}\)$/.exec(String(line)) ?? [];
  assert.is.not(told, '', `without an id: ${line}`);
  return told;
}

/** Fails unless the work throws an error of ours whose line matches. */
export const refuses = (work: () => unknown, says: RegExp): void => assert.match(lineOf(work), says);

/** Fails unless the call ends with an error of ours that has one of the codes; returns its line. */
export async function failureOf(call: Promise<unknown>, ...codes: ErrorCode[]): Promise<string> {
  const error = await call.then(
    () => assert.unreachable('it succeeded'),
    (thrown: unknown) => thrown,
  );
  assert.ok(isError(error, ...codes), String(error));
  return error.line;
}
