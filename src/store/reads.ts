/** The SELECT statements on the table `allocation`, for MySQL and SQLite. */
import { type Column, type SQL, sql } from 'drizzle-orm';
import { type AddressRange, type Cidr, fromNumber, type Ipv4, spreadOf } from '../domain/address.ts';
import { awayMs, INTENTS, SKIPPED_FOR_MS, type Status } from '../domain/allocation.ts';
import type { EniId, SubnetId } from '../domain/ids.ts';
import type * as mysql from './mysql/schema.ts';
import { ALLOCATION_KEYS, bytesOf } from './rows.ts';
import type * as sqlite from './sqlite/schema.ts';
import type { FreeQuery } from './store.ts';

/** The store's clock in a statement, in milliseconds. Each store puts in its own. */
export const NOW = sql.placeholder('now');

// SQLite uses a partial index only for a query with the same words.
export const IS_FREE = sql.raw("status = 'free'");
export const IS_INTENT = sql.raw(`status IN (${INTENTS.map(status => `'${status}'`).join(', ')})`);

type TableName =
  | 'allocation'
  | 'history'
  | 'ec2Call'
  | 'subnet'
  | 'eni'
  | 'server'
  | 'sighting'
  | 'lease'
  | 'fact'
  | 'host'
  | 'nonce'
  | 'tenant'
  | 'witness';

/** The differences between MySQL and SQLite. */
export interface Dialect {
  readonly tables: Pick<typeof mysql, TableName> | Pick<typeof sqlite, TableName>;
  /** The columns of the index `free`. */
  readonly refusedAt: Column;
  readonly restedSince: Column;
  /** Whether a column of the index `free` has no time. */
  isNever(column: Column): SQL;
  /** `number` in a condition that must not lead away from the index `free`. */
  readonly numberOfFree: SQL;
  /** The first column of the index `intent`. */
  readonly intentAt: Column;
  /** How many addresses of a large subnet, or on ENIs, are read in one statement for people: SQLite reads them while this
   *  process waits. */
  readonly partMax: number;
  /** The same for equal texts, and short: MySQL groups 30,000 long texts in a second, and their hashes in a tenth of
   *  that. */
  fingerprint(column: Column): SQL;
  /** The end of an INSERT for a row whose key is there already: the columns are replaced, or nothing if there are
   *  none. */
  onConflict(key: string, replaced: readonly string[]): string;
}

/** Each statement follows an index of schema.ts. An ORDER BY begins with the columns of the index, so that only the few
 *  rows of one ENI are sorted. */
export function createReads({ tables, refusedAt, restedSince, isNever, numberOfFree, intentAt }: Dialect) {
  const { allocation } = tables;
  const { iface, ip, leftAt, leftIface, leftUnsure, number, primary, restedFrom, spread, status } =
    allocation;
  const columns = sql.join(
    ALLOCATION_KEYS.map(key => sql`${allocation[key]}`),
    sql`, `,
  );
  const select = sql`SELECT ${columns} FROM ${allocation}`;
  const byAddress = sql`${number}, ${allocation.subnet}`;
  const isIn = (range: AddressRange | null, column: SQL | Column = number): SQL =>
    range === null
      ? sql`1 = 1`
      : sql`${column} BETWEEN ${bytesOf(fromNumber(range.first))} AND ${bytesOf(fromNumber(range.last))}`;

  return {
    select,
    isIn,
    ips: (subnet: SubnetId, ips: readonly Ipv4[]): SQL =>
      sql`${select} WHERE ${allocation.subnet} = ${subnet} AND ${ip} IN ${ips}`,
    /** The row, if it is held, with further columns. */
    held: (subnet: SubnetId, address: Ipv4, more: readonly Column[]): SQL =>
      sql`SELECT ${columns}, ${sql.join([...more], sql`, `)} FROM ${allocation}
        WHERE ${allocation.subnet} = ${subnet} AND ${ip} = ${address} AND ${status} = 'allocated'`,
    withRequest: (id: string): SQL => sql`${select} WHERE ${allocation.requestId} = ${id}`,
    onEni: (eni: EniId): SQL => sql`${select} WHERE ${iface} = ${eni} ORDER BY ${byAddress}`,
    readyOn: (eni: EniId, range: Cidr | null, limit: number): SQL =>
      sql`${select} WHERE ${iface} = ${eni} AND ${status} = 'ready' AND ${primary} = 0 AND ${isIn(range)}
        ORDER BY ${allocation.restedSince}, ${number} LIMIT ${limit}`,
    intents: (ageMs: number, limit: number): SQL =>
      sql`${select} WHERE ${IS_INTENT} AND ${intentAt} <= ${NOW} - ${ageMs}
        ORDER BY ${intentAt}, ${byAddress} LIMIT ${limit}`,
    withStatus: (subnet: SubnetId, statuses: readonly Status[]): SQL =>
      sql`${select} WHERE ${allocation.subnet} = ${subnet} AND ${status} IN ${statuses} ORDER BY ${byAddress}`,
    freeFor,
  };

  /** `Store.freeFor` as ranges of the index `free`. Their rows, one range after the other, are in its order. */
  function freeFor(query: FreeQuery): SQL[] {
    const start = spreadOf(query.eni);
    const { cooldownMs, quarantineMs } = query.rest;
    const due = sql`${NOW} - CASE WHEN ${restedFrom} = ${query.eni} THEN ${cooldownMs} ELSE ${quarantineMs} END`;
    const latest = sql`${NOW} - ${Math.min(cooldownMs, quarantineMs)}`;
    const earliest = sql`${NOW} - ${Math.max(cooldownMs, quarantineMs)}`;
    // As isRested in the domain. The first half of each bounds the range of the index.
    const rested = sql`${restedSince} <= ${latest} AND ${restedSince} <= ${due}`;
    const resting = sql`${restedSince} > ${earliest} AND ${restedSince} > ${due}`;
    const never = isNever(restedSince);
    const known = isNever(refusedAt);
    const suspect = sql`${refusedAt} > 0 AND ${refusedAt} <= ${NOW} - ${SKIPPED_FOR_MS}`;
    const skipped = sql`${refusedAt} > ${NOW} - ${SKIPPED_FOR_MS} AND (${never} OR (${rested}))`;
    const offered = [
      sql`${known} AND ${never} AND ${spread} >= ${start}`,
      sql`${known} AND ${never} AND ${spread} < ${start}`,
      sql`${known} AND ${restedSince} > 0 AND ${rested}`,
      sql`${suspect} AND (${never} OR (${rested}))`,
      ...(query.which === 'any' ? [sql`${known} AND ${resting}`, sql`${suspect} AND ${resting}`] : []),
    ];
    const ranges = query.which === 'skipped' ? [skipped] : offered;
    return ranges.map(
      range => sql`${select} WHERE ${allocation.subnet} = ${query.subnet} AND ${IS_FREE} AND ${range}
        AND ${isIn(query.range, numberOfFree)} AND ${mayReturn(query)}
        ORDER BY ${allocation.subnet}, ${refusedAt}, ${restedSince}, ${spread}, ${number} LIMIT ${query.limit}`,
    );
  }

  /** The opposite of mayStillLeave in the domain. */
  function mayReturn({ eni, rest }: FreeQuery): SQL {
    const away = sql`CASE WHEN ${leftUnsure} THEN ${awayMs(true, rest)} ELSE ${awayMs(false, rest)} END`;
    return sql`(${leftIface} IS NULL OR ${leftIface} <> ${eni} OR ${leftAt} IS NULL OR ${leftAt} <= ${NOW} - ${away})`;
  }
}
