import {
  and,
  asc,
  eq,
  getTableColumns,
  gt,
  gte,
  inArray,
  isNull,
  lt,
  lte,
  ne,
  or,
  type SQL,
  sql,
} from 'drizzle-orm';
import type { BaseSQLiteDatabase } from 'drizzle-orm/sqlite-core';
import { type Cidr, fromNumber, type Ipv4, spreadOf } from '../../domain/address.ts';
import { awayMs, SKIPPED_FOR_MS, type Status } from '../../domain/allocation.ts';
import type { EniId, SubnetId } from '../../domain/ids.ts';
import { bytesOf } from '../rows.ts';
import type { FreeQuery } from '../store.ts';
import { allocation, IS_FREE, IS_INTENT } from './schema.ts';

export type Db = BaseSQLiteDatabase<'sync', { changes: number | bigint }>;

const { ts: _ts, number: _number, spread: _spread, ...domain } = getTableColumns(allocation);
/** The columns that an Allocation is made of. */
export const DOMAIN_COLUMNS = domain;

// The reads of the table `allocation`. Each runs along an index of schema.ts; orders name the index's
// columns from the first, so that no row is sorted but the few that an ENI can have.

const select = (db: Db) => db.select(DOMAIN_COLUMNS).from(allocation);
const isIn = (range: Cidr | null): SQL | undefined =>
  range === null
    ? undefined
    : and(gte(allocation.number, fromNumber(range.first)), lte(allocation.number, fromNumber(range.last)));
/** The same, without SQLite taking the index of addresses for it and sorting what it finds there. */
const isWithin = (range: Cidr | null): SQL | undefined =>
  range === null
    ? undefined
    : sql`+${allocation.number} BETWEEN ${bytesOf(fromNumber(range.first))} AND ${bytesOf(fromNumber(range.last))}`;
const byAddress = [asc(allocation.number), asc(allocation.subnet)];

export const selectIps = (db: Db, subnet: SubnetId, ips: readonly Ipv4[]) =>
  select(db).where(and(eq(allocation.subnet, subnet), inArray(allocation.ip, [...ips])));

export const selectOnEni = (db: Db, eni: EniId) =>
  select(db)
    .where(eq(allocation.iface, eni))
    .orderBy(...byAddress);

export const selectReadyOn = (db: Db, eni: EniId, range: Cidr | null, limit: number) =>
  select(db)
    .where(
      and(
        eq(allocation.iface, eni),
        eq(allocation.status, 'ready'),
        eq(allocation.primary, false),
        isIn(range),
      ),
    )
    .orderBy(asc(allocation.restedSince), asc(allocation.number))
    .limit(limit);

export const selectIntents = (db: Db, before: number, limit: number) =>
  select(db)
    .where(and(IS_INTENT, lte(allocation.movedAt, before)))
    .orderBy(asc(allocation.movedAt), ...byAddress)
    .limit(limit);

export const selectWithStatus = (db: Db, subnet: SubnetId, statuses: readonly Status[]) =>
  select(db)
    .where(and(eq(allocation.subnet, subnet), inArray(allocation.status, [...statuses])))
    .orderBy(...byAddress);

/** The order of `Store.freeFor`, as one range of the index after the other; the answers, one behind the
 *  other, are in that order. */
export function selectFreeFor(db: Db, query: FreeQuery, now: number) {
  const start = spreadOf(query.eni);
  const { restedSince, refusedAt, spread } = allocation;
  const { rested, resting } = restOf(query, now);
  const known = isNull(refusedAt);
  const suspect = lte(refusedAt, now - SKIPPED_FOR_MS);
  const ranges: (SQL | undefined)[] = [
    and(known, isNull(restedSince), gte(spread, start)),
    and(known, isNull(restedSince), lt(spread, start)),
    and(known, rested),
    and(suspect, or(isNull(restedSince), rested)),
  ];
  if (query.which === 'any') ranges.push(and(known, resting), and(suspect, resting));
  return ranges.map(range => selectFree(db, query, now, range));
}

const selectFree = (db: Db, query: FreeQuery, now: number, where: SQL | undefined) =>
  select(db)
    .where(
      and(eq(allocation.subnet, query.subnet), IS_FREE, where, isWithin(query.range), hasLeft(query, now)),
    )
    .orderBy(
      asc(allocation.subnet),
      asc(allocation.status),
      asc(allocation.refusedAt),
      asc(allocation.restedSince),
      asc(allocation.spread),
      asc(allocation.number),
    )
    .limit(query.limit);

/** `isRested` of the domain for rows that were given up once, and its opposite. The first half of each
 *  bounds the range of the index. */
function restOf({ eni, rest: { cooldownMs, quarantineMs } }: FreeQuery, now: number) {
  const { restedSince, restedFrom } = allocation;
  const due = sql`CASE WHEN ${restedFrom} IS ${eni} THEN ${now - cooldownMs} ELSE ${now - quarantineMs} END`;
  return {
    rested: and(lte(restedSince, now - Math.min(cooldownMs, quarantineMs)), lte(restedSince, due)),
    resting: and(gt(restedSince, now - Math.max(cooldownMs, quarantineMs)), gt(restedSince, due)),
  };
}

/** The opposite of the domain's `mayStillLeave`. */
const hasLeft = ({ eni, rest }: FreeQuery, now: number): SQL | undefined =>
  or(
    isNull(allocation.leftIface),
    ne(allocation.leftIface, eni),
    isNull(allocation.leftAt),
    lte(
      allocation.leftAt,
      sql`CASE WHEN ${allocation.leftUnsure} THEN ${now - awayMs(true, rest)} ELSE ${now - awayMs(false, rest)} END`,
    ),
  );
