/** Connections to MySQL: a pool, one packet for several statements, and timeouts. */
import { type Connection, type ConnectionOptions, createConnection } from 'mysql2';
import type { Row } from '../rows.ts';
import type { MysqlSpec } from '../url.ts';
import { failureOf, hasSteppedDown, MysqlFailure } from './errors.ts';
import { tlsOptions } from './tls.ts';

/** A statement with `?` for each parameter. */
export interface Statement {
  readonly sql: string;
  readonly params: readonly unknown[];
}

/** The bounds of a link. Tests shorten them. */
export interface LinkBounds {
  /** For one packet, from sending it to the end of its answer. */
  readonly statementTimeoutMs: number;
  /** To connect, log in and set up the session. */
  readonly connectTimeoutMs: number;
  readonly connectionsMax: number;
  readonly waitersMax: number;
  /** A connection that was idle for longer is not used again, since a firewall may have dropped it. */
  readonly idleMaxMs: number;
}
const STATEMENT_TIMEOUT_MS = 5_000;
export const LINK_BOUNDS: LinkBounds = {
  statementTimeoutMs: STATEMENT_TIMEOUT_MS,
  connectTimeoutMs: 3_000,
  connectionsMax: 8,
  waitersMax: 1_000,
  idleMaxMs: 60_000,
};

/** A pool of connections to the database. */
export interface Link {
  /** Sends the statements as one packet, in one round trip, and returns the rows of each. Throws MysqlFailure, at the
   *  latest at `deadline` (of `performance.now()`). A connection that fails is destroyed, which rolls back its
   *  transaction. */
  exchange(statements: readonly Statement[], deadline: number, timeoutMs?: number): Promise<Row[][]>;
  /** Runs `work` with one connection, for statements that depend on the session. */
  session<T>(deadline: number, work: (exchange: Link['exchange']) => Promise<T>): Promise<T>;
  close(): void;
}

/** How long a statement waits for a locked row, in seconds: the minimum of InnoDB, since all calls of a batch wait. */
export const LOCK_WAIT_S = 1;
/** The settings for rows and for tables. */
export const lockWaitLimits = (seconds: number): string =>
  `innodb_lock_wait_timeout = ${seconds}, lock_wait_timeout = ${seconds}`;
// Set explicitly, since the defaults of the server change the meaning of SQL: with NO_BACKSLASH_ESCAPES the escaping
// of the driver would be wrong. A lock wait ends before the deadline of the statement, so that the server reports it.
const SESSION = [
  `SET time_zone = '+00:00', autocommit = 1, group_concat_max_len = 65536, ${lockWaitLimits(LOCK_WAIT_S)}, ` +
    "sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'",
  'SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED',
  "SHOW VARIABLES LIKE 'wsrep_on'",
].join('; ');
// A Galera node may be behind the others, and then shows a held address as free. With this variable, reads and
// transactions wait until the node has caught up. Other servers do not have it.
// https://mariadb.com/docs/galera-cluster/reference/galera-cluster-system-variables
const CATCH_UP = 'SET SESSION wsrep_sync_wait = 1';

interface Idle {
  readonly connection: Connection;
  readonly since: number;
}

export function createLink(spec: MysqlSpec, password: string | null, bounds: LinkBounds = LINK_BOUNDS): Link {
  const options = optionsOf(spec, password, bounds);
  const waiters: (() => void)[] = [];
  let idle: Idle[] = [];
  let busy = 0;
  let closed = false;

  async function takePlace(deadline: number): Promise<void> {
    if (closed) throw new MysqlFailure('unsent', 'the store is closed');
    if (busy < bounds.connectionsMax) {
      busy++;
      return;
    }
    if (waiters.length >= bounds.waitersMax)
      throw new MysqlFailure('unsent', `over ${bounds.waitersMax} requests wait for a connection`);
    await new Promise<void>((resolve, reject) => {
      const waiter = () => {
        clearTimeout(timer);
        resolve();
      };
      const timer = setTimeout(() => {
        waiters.splice(waiters.indexOf(waiter), 1);
        reject(new MysqlFailure('unsent', 'no connection became free in time'));
      }, deadline - performance.now());
      waiters.push(waiter);
    });
  }
  function leavePlace(): void {
    const next = waiters.shift();
    if (next === undefined) busy--;
    else next(); // it gets this place
  }

  async function connectionFor(deadline: number): Promise<Connection> {
    for (let spare = idle.pop(); spare !== undefined; spare = idle.pop()) {
      if (performance.now() - spare.since < bounds.idleMaxMs) return spare.connection;
      sever(spare.connection);
    }
    const timeoutMs = Math.min(bounds.connectTimeoutMs, deadline - performance.now());
    return connect(options, timeoutMs, connection => {
      idle = idle.filter(one => one.connection !== connection);
    });
  }

  function dropIdle(): void {
    for (const { connection } of idle) sever(connection);
    idle = [];
  }

  const session: Link['session'] = async (deadline, work) => {
    await takePlace(deadline);
    try {
      const connection = await connectionFor(deadline);
      try {
        const result = await work((statements, until, timeoutMs = bounds.statementTimeoutMs) =>
          send(connection, statements, Math.min(timeoutMs, until - performance.now())),
        );
        if (closed) sever(connection);
        else idle.push({ connection, since: performance.now() });
        return result;
      } catch (error) {
        sever(connection);
        throw error;
      }
    } catch (error) {
      if (error instanceof MysqlFailure && hasSteppedDown(error)) dropIdle();
      throw error;
    } finally {
      leavePlace();
    }
  };

  return {
    session,
    exchange: (statements, deadline, timeoutMs) =>
      session(deadline, exchange => exchange(statements, deadline, timeoutMs)),
    close() {
      closed = true;
      dropIdle();
    },
  };
}

function optionsOf(spec: MysqlSpec, password: string | null, bounds: LinkBounds): ConnectionOptions {
  const secret = password ?? spec.password;
  const ssl = tlsOptions(spec.ssl);
  return {
    host: spec.host,
    port: spec.port,
    user: spec.user,
    database: spec.database,
    ...(secret === null ? {} : { password: secret }),
    ...(ssl === null ? {} : { ssl }),
    charset: 'utf8mb4',
    timezone: 'Z',
    multipleStatements: true,
    stringifyObjects: true,
    connectTimeout: bounds.connectTimeoutMs,
    enableKeepAlive: true,
  };
}

/** The driver's destroy() only sends a quit, which a peer that hangs never answers. */
function sever(connection: Connection): void {
  connection.destroy();
  (connection as unknown as { stream: { destroy(): void } }).stream.destroy();
}

function connect(
  options: ConnectionOptions,
  timeoutMs: number,
  onLost: (connection: Connection) => void,
): Promise<Connection> {
  return new Promise((resolve, reject) => {
    const connection = createConnection(options);
    const fail = (failure: MysqlFailure) => {
      clearTimeout(timer);
      sever(connection);
      onLost(connection);
      reject(failure);
    };
    const timer = setTimeout(
      () => fail(new MysqlFailure('unsent', 'no connection in time')),
      Math.max(timeoutMs, 0),
    );
    // For the whole life of the connection: the server may close it while it is idle.
    connection.on('error', error => fail(failureOf(error, null)));
    connection.on('end', () => onLost(connection));
    const done = (error: unknown) => {
      if (error) return fail(failureOf(error, null));
      clearTimeout(timer);
      resolve(connection);
    };
    connection.query(SESSION, (error, results) => {
      const [variable] = error ? [] : rowsIn((results as unknown[]).at(-1));
      if (variable?.Value === 'ON') connection.query(CATCH_UP, done);
      else done(error);
    });
  });
}

function send(connection: Connection, statements: readonly Statement[], timeoutMs: number): Promise<Row[][]> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => {
        sever(connection);
        reject(new MysqlFailure('unknown', 'no answer in time'));
      },
      Math.max(timeoutMs, 0),
    );
    const sql = statements.map(one => one.sql).join('; ');
    const values = statements.flatMap(one => one.params);
    let answered = 0;
    const query = connection.query({ sql, values }, (error, results) => {
      clearTimeout(timer);
      if (error) reject(failureOf(error, answered));
      else resolve(statements.length === 1 ? [rowsIn(results)] : (results as unknown[]).map(rowsIn));
    });
    query.on('fields', () => answered++); // once for each statement, also for one without rows
  });
}

/** The rows of one statement; none for an UPDATE and the like. */
const rowsIn = (result: unknown): Row[] => (Array.isArray(result) ? (result as Row[]) : []);
