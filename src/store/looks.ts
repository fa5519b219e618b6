/** The reads of the ledger that people are shown something by. They decide nothing. What concerns the addresses on all ENIs
 *  is read in parts of the ENIs (parts.ts). */
import { getTableColumns, type SQL, sql } from 'drizzle-orm';
import type { AddressRange, Ipv4 } from '../domain/address.ts';
import { type Allocation, STATUSES, type Status } from '../domain/allocation.ts';
import { isIdStart } from '../domain/container.ts';
import type { EniId, InstanceId, SubnetId } from '../domain/ids.ts';
import type { LedgerSighting } from '../domain/sighting.ts';
import { UNANSWERED_MAX_MS } from '../domain/suspects.ts';
import { inEniParts } from './parts.ts';
import { createReads, type Dialect, NOW } from './reads.ts';
import { decode, type Row, toAllocation } from './rows.ts';
import type { LedgerEni, Reading } from './store.ts';

/** The addresses of a /24 that have one status. */
export interface BlockCount {
  /** The first address of the /24. */
  readonly first: number;
  readonly status: Status;
  readonly count: number;
  /** How many of them operators have reserved, and how many are held but not on their ENIs. */
  readonly reservedByOperators: number;
  readonly missing: number;
  /** How many are held since less than LATELY_MS ago. */
  readonly begun: number;
}

/** An ENI with few ready addresses. Its primary does not count. */
export interface LowPool {
  readonly eni: EniId;
  readonly ready: number;
  /** When one of them moved last; 0: it has none. */
  readonly movedAt: number;
}

/** The end of a holding, and when that began; null: not known. */
export interface RecentEnd {
  readonly subnet: SubnetId;
  readonly ip: Ipv4;
  /** That of the row after the end. */
  readonly generation: number;
  readonly at: number;
  readonly since: number | null;
}

/** What has been held for less counts as begun lately, in milliseconds. */
export const LATELY_MS = 3_600_000;

export interface Looks {
  /** Cuts a range into parts that the next three read within a few milliseconds of this process, each at a time. */
  partsOf(range: AddressRange): AddressRange[];
  /** Counts a part of the subnet, in /24s. */
  blocks(subnet: SubnetId, range: AddressRange): Promise<BlockCount[]>;
  /** The rows of a part of the subnet, in the order of their addresses. */
  inRange(subnet: SubnetId, range: AddressRange): Promise<Reading<Allocation>>;
  /** Those of a part of the subnet that moved, went missing or were put on their ENIs within the last `withinMs`, at most
   *  `limit`. Rows that were only added do not count. It reads the part. */
  movedWithin(
    subnet: SubnetId,
    range: AddressRange,
    withinMs: number,
    limit: number,
  ): Promise<Reading<Allocation>>;
  /** The holdings that ended within the last `withinMs`, the newest `limit`, in no order. A claim writes no record: what
   *  began is seen in the rows alone, by `movedWithin`. */
  recentHistory(withinMs: number, limit: number): Promise<Reading<RecentEnd>>;
  /** Held rows that may be wrong: missing from their ENIs; last moved by one of these servers, at most UNANSWERED_MAX_MS
   *  before it was last seen; or with a name that another on the ENI has too, or seldom one that only has
   *  the same hash. At most `limit` of each kind. At most 100 servers: each is looked for in all rows that moved lately. */
  doubtful(servers: readonly { id: string; seenAt: number }[], limit: number): Promise<Reading<Allocation>>;
  /** The ENIs of this ledger in use with fewer than `low` ready addresses, at most `limit`. */
  lowPools(low: number, limit: number): Promise<Reading<LowPool>>;
  /** The held rows whose container has this text in its name, or an id that begins with it, at most `limit`; upper and lower
   *  case may count or not. */
  heldBy(text: string, limit: number): Promise<Reading<Allocation>>;
  /** Those of the ENIs that are in the ledger. */
  enisNamed(ids: readonly EniId[]): Promise<LedgerEni[]>;
  enisOf(instance: InstanceId): Promise<LedgerEni[]>;
  /** What the hosts have shown of these addresses. */
  sightingsAt(subnet: SubnetId, ips: readonly Ipv4[]): Promise<Reading<LedgerSighting>>;
}

export type Read = (selects: readonly SQL[], limit?: number) => Promise<Reading<Row>>;

export function createLooks(read: Read, eniOf: (row: Row) => LedgerEni, dialect: Dialect): Looks {
  const { allocation, eni, history, sighting } = dialect.tables;
  const { select, isIn } = createReads(dialect);
  const { containerId, containerSince, generation, holder, iface, missingSince, movedAt } = allocation;
  const { number, placedAt, reservedFor, status, token } = allocation;
  const isHeld = sql`${status} = 'allocated'`;

  const rowsOf = async (selects: readonly SQL[]): Promise<Reading<Allocation>> => {
    const { now, rows } = await read(selects);
    return { now, rows: rows.map(toAllocation) };
  };
  const inPart = (subnet: SubnetId, range: AddressRange): SQL =>
    sql`${allocation.subnet} = ${subnet} AND ${isIn(range)}`;
  /** The rows on ENIs. Those that are on none are not read: the index of ENIs leads. */
  const onEnis = async (limit: number, selectIn: (isOnEni: SQL, left: number) => SQL) => {
    const { now, rows } = await inEniParts(read, dialect, limit, (isPart, left) =>
      selectIn(isPart(iface), left),
    );
    return { now, rows: rows.map(toAllocation) };
  };

  return {
    partsOf: range => partsOf(range, dialect.partMax),
    async blocks(subnet, range) {
      const block = sql`SUBSTR(${number}, 13, 3)`;
      const { rows } = await read([
        sql`SELECT HEX(MIN(${block})) AS ${sql.raw('`block`')}, ${status}, COUNT(*) AS ${sql.raw('`count`')},
          SUM(${reservedFor} IS NOT NULL) AS reserved, SUM(${missingSince} IS NOT NULL) AS missing,
          SUM(${isHeld} AND ${movedAt} > ${NOW} - ${LATELY_MS}) AS begun
          FROM ${allocation} WHERE ${inPart(subnet, range)} GROUP BY ${block}, ${status}`,
      ]);
      return rows.map(row => ({
        first: Number.parseInt(String(row.block), 16) * 256,
        status: STATUSES.find(one => one === row.status) ?? 'occupied',
        ...{
          count: Number(row.count),
          reservedByOperators: Number(row.reserved),
          missing: Number(row.missing),
        },
        begun: Number(row.begun),
      }));
    },
    inRange: (subnet, range) => rowsOf([sql`${select} WHERE ${inPart(subnet, range)} ORDER BY ${number}`]),
    movedWithin(subnet, range, withinMs, limit) {
      const since = sql`${NOW} - ${withinMs}`;
      return rowsOf([
        sql`${select} WHERE ${inPart(subnet, range)} AND ${generation} > 0 AND (${movedAt} >= ${since} OR ${missingSince} >= ${since}
          OR ${placedAt} >= ${since}) LIMIT ${limit}`,
      ]);
    },
    async recentHistory(withinMs, limit) {
      const { subnet, ip, generation, at, since } = history;
      const columns = { subnet, ip, generation, at, since };
      const { now, rows } = await read([
        sql`SELECT ${sql.join(Object.values(columns), sql`, `)} FROM ${history}
          WHERE ${at} >= ${NOW} - ${withinMs} ORDER BY ${at} DESC LIMIT ${limit}`,
      ]);
      return { now, rows: rows.map(row => decode(columns, row)) };
    },
    async doubtful(servers, limit) {
      // One scan for all of them. The first comparison spares most rows the others.
      const since = Math.min(...servers.map(({ seenAt }) => seenAt)) - UNANSWERED_MAX_MS;
      const isBy = servers.map(
        ({ id, seenAt }) =>
          sql`(${movedAt} >= ${seenAt - UNANSWERED_MAX_MS} AND SUBSTR(${token}, 1, ${id.length}) = ${id})`,
      );
      const missing = await onEnis(
        limit,
        (isOnEni, left) =>
          sql`${select} WHERE ${isOnEni} AND ${isHeld} AND ${missingSince} IS NOT NULL LIMIT ${left}`,
      );
      const by =
        servers.length === 0
          ? []
          : (
              await onEnis(
                limit,
                (isOnEni, left) => sql`${select} WHERE ${isOnEni} AND ${isHeld} AND ${movedAt} >= ${since}
                  AND (${sql.join(isBy, sql` OR `)}) LIMIT ${left}`,
              )
            ).rows;
      const name = dialect.fingerprint(holder);
      const doubles = await onEnis(limit, (isOnEni, left) => {
        const named = sql`SELECT ${iface} AS on_eni, ${name} AS named FROM ${allocation}
          WHERE ${isOnEni} AND ${isHeld} AND ${holder} IS NOT NULL GROUP BY ${iface}, ${name} HAVING COUNT(*) > 1`;
        return sql`${select} JOIN (${named}) AS doubles ON ${iface} = on_eni AND ${name} = named
          WHERE ${isHeld} LIMIT ${left}`;
      });
      return { now: doubles.now, rows: withoutDoubles([...missing.rows, ...by, ...doubles.rows]) };
    },
    async lowPools(low, limit) {
      const isReady = sql`SUM(CASE WHEN ${status} = 'ready' THEN 1 ELSE 0 END)`;
      const { now, rows } = await inEniParts(
        read,
        dialect,
        limit,
        (isPart, left) =>
          sql`SELECT ${eni.id}, ${isReady} AS ready, COALESCE(MAX(${movedAt}), 0) AS moved
            FROM ${eni} LEFT JOIN ${allocation} ON ${iface} = ${eni.id} AND ${allocation.primary} = 0
            WHERE ${isPart(eni.id)} AND ${eni.ours} = 1 AND ${eni.releasedAt} IS NULL AND ${eni.instance} IS NOT NULL
            GROUP BY ${eni.id} HAVING ${isReady} < ${low} ORDER BY ${eni.id} LIMIT ${left}`,
      );
      return {
        now,
        rows: rows.map(row => ({
          eni: row.id as EniId,
          ...{ ready: Number(row.ready), movedAt: Number(row.moved) },
        })),
      };
    },
    heldBy(text, limit) {
      const hasId = isIdStart(text)
        ? sql`${containerSince} = ${movedAt} AND SUBSTR(${containerId}, 1, ${text.length}) = ${text}`
        : sql`1 = 0`;
      return onEnis(
        limit,
        (isOnEni, left) =>
          sql`${select} WHERE ${isOnEni} AND ${isHeld} AND (INSTR(${holder}, ${text}) > 0 OR (${hasId}))
            ORDER BY ${iface}, ${number} LIMIT ${left}`,
      );
    },
    async enisNamed(ids) {
      if (ids.length === 0) return [];
      return (await read([sql`SELECT * FROM ${eni} WHERE ${eni.id} IN ${ids}`])).rows.map(eniOf);
    },
    async enisOf(instance) {
      return (await read([sql`SELECT * FROM ${eni} WHERE ${eni.instance} = ${instance}`])).rows.map(eniOf);
    },
    async sightingsAt(subnet, ips) {
      const columns = getTableColumns(sighting);
      const selects =
        ips.length === 0
          ? []
          : [
              sql`SELECT * FROM ${sighting} WHERE ${sighting.subnet} = ${subnet} AND ${sighting.ip} IN ${ips}`,
            ];
      const { now, rows } = await read(selects);
      return { now, rows: rows.map(row => decode<LedgerSighting>(columns, row)) };
    },
  };
}

/** The rows once each, in the order of their addresses. */
export const withoutDoubles = (rows: readonly Allocation[]): Allocation[] => [
  ...new Map(rows.map(row => [`${row.subnet} ${row.ip}`, row])).values(),
];

/** The parts of a range of at most `max` addresses each. */
function partsOf({ first, last }: AddressRange, max: number): AddressRange[] {
  const count = Math.ceil((last - first + 1) / max);
  return Array.from({ length: count }, (_, i) => ({
    first: first + i * max,
    last: Math.min(first + (i + 1) * max - 1, last),
  }));
}
/** The first address of the /24 that has the address. */
export const blockOf = (number: number): number => number - (number % 256);
