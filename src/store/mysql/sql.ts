import { type Column, getTableColumns, sql } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/mysql2';
import type { Row, Statement } from './connection.ts';
import { allocation } from './schema.ts';

/** Only builds: connection.ts sends, since several statements go in one packet. */
export const build = drizzle.mock();

export const statement = (query: { toSQL(): { sql: string; params: unknown[] } }): Statement => query.toSQL();
export const plain = (text: string, params: readonly unknown[] = []): Statement => ({ sql: text, params });

/** Opens every packet that needs the time, which is then the same in all its statements: the database's
 *  clock in milliseconds, set forward by `skewMs`. */
export const setNow = (skewMs: number): Statement =>
  plain('SET @now = CAST(ROUND(UNIX_TIMESTAMP(NOW(3)) * 1000) AS SIGNED) + ?', [Math.round(skewMs)]);
export const NOW = sql<number>`@now`;
export const SELECT_NOW = plain('SELECT @now AS now');

export const BEGIN = plain('START TRANSACTION');
export const COMMIT = plain('COMMIT');
export const ROLLBACK = plain('ROLLBACK');

const {
  ts: _ts,
  number: _number,
  spread: _spread,
  freeRefusedAt: _freeRefusedAt,
  freeRestedSince: _freeRestedSince,
  intentAt: _intentAt,
  ...domain
} = getTableColumns(allocation);
/** The columns that an Allocation is made of. */
export const DOMAIN_COLUMNS = domain;

type Fields = Record<string, Column>;
type Decoded<F extends Fields> = {
  [K in keyof F]: F[K]['_']['notNull'] extends true ? F[K]['_']['data'] : F[K]['_']['data'] | null;
};
/** A row of the driver as the schema types it. */
export function decode<F extends Fields>(fields: F, row: Row): Decoded<F> {
  const pairs = Object.entries(fields).map(([key, column]) => {
    const value = row[column.name] ?? null;
    return [key, value === null ? null : column.mapFromDriverValue(value)];
  });
  return Object.fromEntries(pairs) as Decoded<F>;
}
