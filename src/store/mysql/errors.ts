/** Failures of MySQL, by what they tell of the packet that failed. */

/**
 * The outcome of a packet that failed:
 * - `unsent`: there was no connection, so nothing was sent.
 * - `notApplied`: its transaction was rolled back, as the server confirmed. It may be sent again.
 * - `permanent`: the server will never execute the statement that failed: a missing table, a wrong password, a bug.
 *   The statements before it may have been executed.
 * - `unknown`: it may have been executed, or may be later. Most errors that the server reports are of this kind,
 *   since a cluster node without quorum reports an error after a COMMIT that the other nodes have made.
 */
export type Outcome = 'unsent' | 'notApplied' | 'permanent' | 'unknown';

/** A failed exchange. Its message is the reason, without SQL, address or password. Its cause is the driver's error. */
export class MysqlFailure extends Error {
  readonly outcome: Outcome;
  /** The error number of the server; 0: the server reported none. */
  readonly errno: number;
  /** The number of statements of the packet that were answered before, so the index of the one that failed. */
  readonly answered: number;
  constructor(outcome: Outcome, reason: string, cause?: unknown, errno = 0, answered = 0) {
    super(reason, { cause });
    this.outcome = outcome;
    this.errno = errno;
    this.answered = answered;
  }

  /** The same with another outcome. */
  as(outcome: Outcome): MysqlFailure {
    return new MysqlFailure(outcome, this.message, this.cause, this.errno, this.answered);
  }
}

export const LOCK_TIMEOUT = 1205;
/** Another row has the id of the request. */
export const DUPLICATE = 1062;
export const NO_SUCH_TABLE = 1146;
/** Another process that migrates has made the column, key or table. */
export const ALREADY_MADE = [1050, 1060, 1061, 1068, 1091];

// https://mariadb.com/docs/server/reference/error-codes/mariadb-error-code-reference
const PASSING: Record<number, string> = {
  1020: 'rows changed meanwhile',
  1040: 'the server has too many connections',
  1047: 'the cluster node has no quorum',
  [DUPLICATE]: 'another row has the same value',
  1203: 'the user has too many connections',
  [LOCK_TIMEOUT]: 'a lock was not given in time', // on Galera also a read of a node that cannot catch up
  1213: 'deadlock', // on Galera also a COMMIT that conflicts with another node's
  1226: 'the user has used up a limit of the server',
  1290: 'the server is read-only',
  1792: 'the server is read-only',
  1836: 'the server is read-only',
};
const PERMANENT: Record<number, string> = {
  1044: 'access to the database is denied',
  1045: 'user or password is wrong',
  1049: 'there is no such database',
  1054: 'a column is missing',
  1064: 'a statement is not understood',
  1142: 'a right is missing',
  1143: 'a right is missing',
  1146: 'a table is missing',
  1227: 'a right is missing',
  1406: 'a value is too long for its column',
  1698: 'user or password is wrong',
};
const NETWORK: Record<string, string> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'the connection was reset',
  EPIPE: 'the connection was reset',
  PROTOCOL_CONNECTION_LOST: 'the server closed the connection',
  ENOTFOUND: 'the host name is not known',
  EAI_AGAIN: 'the host name could not be looked up',
  EHOSTUNREACH: 'no route to the host',
  ENETUNREACH: 'no route to the host',
  ETIMEDOUT: 'no answer in time',
  HANDSHAKE_NO_SSL_SUPPORT: 'the server does not speak TLS',
  HANDSHAKE_SSL_ERROR: "no TLS: the server's certificate is not trusted, or not for this host name",
};

/** After such an error the open connections to the server are not used again. */
const STEPPED_DOWN = new Set([1047, 1290, 1792, 1836]);
export const hasSteppedDown = (failure: MysqlFailure): boolean =>
  failure.errno === 0 || STEPPED_DOWN.has(failure.errno);

interface DriverError {
  code?: unknown;
  errno?: unknown;
  sqlState?: unknown;
}

/** Whether the same statement may succeed later. */
export const isPassing = (failure: MysqlFailure): boolean => PASSING[failure.errno] !== undefined;

/** Converts an error of the driver. `answered`: how many statements were answered before it; null when no statement had
 *  been sent. */
export function failureOf(error: unknown, answered: number | null): MysqlFailure {
  const { code, errno, sqlState } = (error ?? {}) as DriverError;
  // Errors of the system have numbers too. Only those of the server have a SQL state.
  const number = typeof sqlState === 'string' && typeof errno === 'number' ? errno : 0;
  const name = typeof code === 'string' ? code : 'no code';
  const outcome = answered === null ? 'unsent' : 'unknown';
  const failure = (reason: string, what: Outcome = outcome) =>
    new MysqlFailure(what, reason, error, number, answered ?? 0);
  if (PERMANENT[number] !== undefined) return failure(PERMANENT[number], 'permanent');
  if (number !== 0) return failure(PASSING[number] ?? `error ${number}`);
  return failure(NETWORK[name] ?? `connection error ${name}`);
}
