import { and, asc, eq, gt, gte, inArray, isNull, lt, lte, ne, or, type SQL, sql } from 'drizzle-orm';
import { type Cidr, fromNumber, type Ipv4, spreadOf } from '../../domain/address.ts';
import { awayMs, SKIPPED_FOR_MS, type Status } from '../../domain/allocation.ts';
import type { EniId, SubnetId } from '../../domain/ids.ts';
import type { FreeQuery } from '../store.ts';
import type { Statement } from './connection.ts';
import { allocation } from './schema.ts';
import { build, DOMAIN_COLUMNS, NOW, statement } from './sql.ts';

// The reads of the table `allocation`. Each runs along an index of schema.ts; orders name the index's
// columns from the first, so that no row is sorted but the few that an ENI can have.

const select = () => build.select(DOMAIN_COLUMNS).from(allocation);
const isIn = (range: Cidr | null): SQL | undefined =>
  range === null
    ? undefined
    : and(gte(allocation.number, fromNumber(range.first)), lte(allocation.number, fromNumber(range.last)));
const byAddress = [asc(allocation.number), asc(allocation.subnet)];

export const selectIps = (subnet: SubnetId, ips: readonly Ipv4[]): Statement =>
  statement(select().where(and(eq(allocation.subnet, subnet), inArray(allocation.ip, [...ips]))));

export const selectOnEni = (eni: EniId): Statement =>
  statement(
    select()
      .where(eq(allocation.iface, eni))
      .orderBy(...byAddress),
  );

export const selectReadyOn = (eni: EniId, range: Cidr | null, limit: number): Statement =>
  statement(
    select()
      .where(
        and(
          eq(allocation.iface, eni),
          eq(allocation.status, 'ready'),
          eq(allocation.primary, false),
          isIn(range),
        ),
      )
      .orderBy(asc(allocation.restedSince), asc(allocation.number))
      .limit(limit),
  );

export const selectIntents = (ageMs: number, limit: number): Statement =>
  statement(
    select()
      .where(lte(allocation.intentAt, sql`${NOW} - ${ageMs}`))
      .orderBy(asc(allocation.intentAt), ...byAddress)
      .limit(limit),
  );

export const selectWithStatus = (subnet: SubnetId, statuses: readonly Status[]): Statement =>
  statement(
    select()
      .where(and(eq(allocation.subnet, subnet), inArray(allocation.status, [...statuses])))
      .orderBy(...byAddress),
  );

/** The order of `Store.freeFor`, as one range of the index after the other; the answers, one behind the
 *  other, are in that order. */
export function selectFreeFor(query: FreeQuery): Statement[] {
  const start = spreadOf(query.eni);
  const { freeRefusedAt: refusedAt, freeRestedSince: restedSince, spread } = allocation;
  const { rested, resting } = restOf(query);
  const known = eq(refusedAt, 0);
  const suspect = and(gt(refusedAt, 0), lte(refusedAt, sql`${NOW} - ${SKIPPED_FOR_MS}`));
  const never = eq(restedSince, 0);
  const ranges: (SQL | undefined)[] = [
    and(known, never, gte(spread, start)),
    and(known, never, lt(spread, start)),
    and(known, gt(restedSince, 0), rested),
    and(suspect, rested),
  ];
  if (query.which === 'any') ranges.push(and(known, resting), and(suspect, resting));
  return ranges.map(range => selectFree(query, range));
}

const selectFree = (query: FreeQuery, where: SQL | undefined): Statement =>
  statement(
    select()
      .where(and(eq(allocation.subnet, query.subnet), where, isIn(query.range), hasLeft(query)))
      .orderBy(
        asc(allocation.subnet),
        asc(allocation.freeRefusedAt),
        asc(allocation.freeRestedSince),
        asc(allocation.spread),
        asc(allocation.number),
      )
      .limit(query.limit),
  );

/** `isRested` of the domain for rows that were given up once, and its opposite. The first half of each
 *  bounds the range of the index. */
function restOf({ eni, rest: { cooldownMs, quarantineMs } }: FreeQuery) {
  const { freeRestedSince: restedSince, restedFrom } = allocation;
  const due = sql`${NOW} - CASE WHEN ${restedFrom} <=> ${eni} THEN ${cooldownMs} ELSE ${quarantineMs} END`;
  return {
    rested: and(lte(restedSince, sql`${NOW} - ${Math.min(cooldownMs, quarantineMs)}`), lte(restedSince, due)),
    resting: and(gt(restedSince, sql`${NOW} - ${Math.max(cooldownMs, quarantineMs)}`), gt(restedSince, due)),
  };
}

/** The opposite of the domain's `mayStillLeave`. */
const hasLeft = ({ eni, rest }: FreeQuery): SQL | undefined =>
  or(
    isNull(allocation.leftIface),
    ne(allocation.leftIface, eni),
    isNull(allocation.leftAt),
    lte(
      allocation.leftAt,
      sql`${NOW} - CASE WHEN ${allocation.leftUnsure} THEN ${awayMs(true, rest)} ELSE ${awayMs(false, rest)} END`,
    ),
  );
