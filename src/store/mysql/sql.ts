/** Statements of MySQL, and the values that several of them share. */
import type { SQL } from 'drizzle-orm';
import { MySqlDialect } from 'drizzle-orm/mysql-core';
import { raw } from 'mysql2';
import { NOW } from '../reads.ts';
import type { Statement } from './connection.ts';

export const plain = (text: string, params: readonly unknown[] = []): Statement => ({ sql: text, params });

/** The time of the packet, as a parameter. */
export const AT_NOW = raw('@now');
const dialect = new MySqlDialect();
/** drizzle only builds the text. connection.ts sends it, since several statements go in one packet. */
export function statement(query: SQL): Statement {
  const { sql, params } = dialect.sqlToQuery(query);
  return plain(
    sql,
    params.map(param => (param === NOW ? AT_NOW : param)),
  );
}

/** The first statement of a packet that needs the time: the database's clock in milliseconds, set forward by
 *  `skewMs`. All statements of the packet then have the same time. */
export const setNow = (skewMs: number): Statement =>
  plain('SET @now = CAST(ROUND(UNIX_TIMESTAMP(NOW(3)) * 1000) AS SIGNED) + ?', [Math.round(skewMs)]);
export const SELECT_NOW = plain('SELECT @now AS now');

export const BEGIN = plain('START TRANSACTION');
export const COMMIT = plain('COMMIT');
export const ROLLBACK = plain('ROLLBACK');
