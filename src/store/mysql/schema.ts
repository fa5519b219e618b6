/** The schema of the ledger on MySQL. drizzle-kit makes the migrations from it. */
import type { Buffer } from 'node:buffer';
import { sql } from 'drizzle-orm';
import {
  bigint,
  customType,
  index,
  int,
  mysqlEnum,
  mysqlTable,
  primaryKey,
  text,
  timestamp,
  uniqueIndex,
  varchar,
} from 'drizzle-orm/mysql-core';
import type { Ipv4 } from '../../domain/address.ts';
import { HOLDER_CHARS_MAX, REASON_CHARS_MAX, STATUSES } from '../../domain/allocation.ts';
import { RESULT_CHARS_MAX } from '../../domain/history.ts';
import type { EniId, InstanceId, SubnetId } from '../../domain/ids.ts';
import { INCOMPLETE_CHARS_MAX } from '../../domain/sighting.ts';
import { bytesOf } from '../rows.ts';
import { VERSION_CHARS_MAX } from '../store.ts';

// sqlite/schema.ts has the same columns in the same order, without the generated ones, for which it has partial
// indexes. Times are milliseconds of the database's clock.

const bool = customType<{ data: boolean; driverData: number }>({
  dataType: () => 'tinyint(1)',
  fromDriver: value => value === 1,
  toDriver: value => (value ? 1 : 0),
});
const addressBytes = customType<{ data: Ipv4; driverData: Buffer }>({
  dataType: () => 'binary(16)',
  toDriver: bytesOf,
});
const id = (name: string) => varchar(name, { length: 32 });
const address = (name: string) => varchar(name, { length: 45 }).$type<Ipv4>();
const time = (name: string) => bigint(name, { mode: 'number' });
const containerId = (name: string) => varchar(name, { length: 64 });
const token = (name: string) => varchar(name, { length: 36 });
const ifFree = (name: string) => sql.raw(`IF(\`status\` = 'free',COALESCE(\`${name}\`,0),NULL)`);

/** One row for each address. The first six columns are those of the ancestor's table. */
export const allocation = mysqlTable(
  'allocation',
  {
    ip: address('ip').notNull(),
    subnet: id('subnet').$type<SubnetId>().notNull(),
    status: mysqlEnum('status', STATUSES).default('free').notNull(),
    iface: id('iface').$type<EniId>(),
    primary: bool('primary').notNull(),
    /** For people. The program does not read it. */
    ts: timestamp('ts').default(sql`CURRENT_TIMESTAMP`).onUpdateNow().notNull(),
    number: addressBytes('number').notNull(),
    /** CRC32(ip): the order of the search for a free address. */
    spread: int('spread', { unsigned: true }).notNull(),
    generation: int('generation', { unsigned: true }).default(0).notNull(),
    movedAt: time('moved_at').default(0).notNull(),
    restedSince: time('rested_since'),
    restedFrom: id('rested_from').$type<EniId>(),
    leftIface: id('left_iface').$type<EniId>(),
    leftAt: time('left_at'),
    missingSince: time('missing_since'),
    repairUnsureAt: time('repair_unsure_at'),
    absentSince: time('absent_since'),
    refusedAt: time('refused_at'),
    holder: varchar('holder', { length: HOLDER_CHARS_MAX }),
    token: token('token'),
    leftUnsure: bool('left_unsure').default(false).notNull(),
    placedAt: time('placed_at'),
    instance: id('instance').$type<InstanceId>(),
    requestId: token('request_id'),
    releaseId: token('release_id'),
    claimedAt: time('claimed_at'),
    repeatedAt: time('repeated_at'),
    reservedFor: varchar('reserved_for', { length: REASON_CHARS_MAX }),
    // For the history: the call and the server of the last claim, and the holding that ended last.
    claimCall: token('claim_call'),
    claimServer: token('claim_server'),
    heldSince: time('held_since'),
    heldBy: varchar('held_by', { length: HOLDER_CHARS_MAX }),
    heldInstance: id('held_instance').$type<InstanceId>(),
    // As a reading of the host has shown it, for the holding that began then; and that of the holding that ended last.
    containerId: containerId('container_id'),
    containerSince: time('container_since'),
    heldContainer: containerId('held_container'),
    // For the indexes below. Null for a row outside the index, 0 for never.
    freeRefusedAt: time('free_refused_at').generatedAlwaysAs(ifFree('refused_at'), { mode: 'stored' }),
    freeRestedSince: time('free_rested_since').generatedAlwaysAs(ifFree('rested_since'), { mode: 'stored' }),
    intentAt: time('intent_at').generatedAlwaysAs(
      sql.raw("IF(`status` IN ('assigning','unassigning'),`moved_at`,NULL)"),
      { mode: 'stored' },
    ),
  },
  // A claim or release changes no indexed column. With `status`, `moved_at` and `rested_since` in the indexes, each
  // needed 180 us of the server's CPU instead of 30 (MariaDB 11.8, 24 moves in a commit), most of it for purging.
  row => [
    // Two VPCs may have the same addresses.
    primaryKey({ columns: [row.subnet, row.ip] }),
    index('free').on(row.subnet, row.freeRefusedAt, row.freeRestedSince, row.spread, row.number),
    index('iface').on(row.iface, row.number),
    index('intent').on(row.intentAt, row.number, row.subnet),
    index('address').on(row.subnet, row.number),
    // Only requests of an agent have an id.
    uniqueIndex('request').on(row.requestId),
  ],
);

/** The holdings that have ended. Each is written with the move that ended it; `generation` is that of the row after it. */
export const history = mysqlTable(
  'history',
  {
    subnet: id('subnet').$type<SubnetId>().notNull(),
    ip: address('ip').notNull(),
    generation: int('generation', { unsigned: true }).notNull(),
    at: time('at').notNull(),
    iface: id('iface').$type<EniId>(),
    instance: id('instance').$type<InstanceId>(),
    holder: varchar('holder', { length: HOLDER_CHARS_MAX }),
    cause: varchar('cause', { length: 16 }).notNull(),
    request: token('request'),
    server: token('server').notNull(),
    since: time('since'),
    claimCall: token('claim_call'),
    claimServer: token('claim_server'),
    containerId: containerId('container_id'),
  },
  row => [primaryKey({ columns: [row.subnet, row.ip, row.generation] }), index('history_at').on(row.at)],
);

/** The calls that were to change EC2. Each is written with its intents. */
export const ec2Call = mysqlTable(
  'ec2_call',
  {
    id: token('id').primaryKey(),
    at: time('at').notNull(),
    action: varchar('action', { length: 16 }).notNull(),
    iface: id('iface').$type<EniId>().notNull(),
    ips: text('ips').notNull(),
    server: token('server').notNull(),
    endedAt: time('ended_at'),
    result: varchar('result', { length: RESULT_CHARS_MAX }),
  },
  row => [index('ec2_call_at').on(row.at)],
);

export const subnet = mysqlTable('subnet', {
  id: id('id').$type<SubnetId>().primaryKey(),
  vpc: id('vpc').notNull(),
  cidr: varchar('cidr', { length: 49 }).notNull(),
});

export const eni = mysqlTable(
  'eni',
  {
    id: id('id').$type<EniId>().primaryKey(),
    subnet: id('subnet').$type<SubnetId>().notNull(),
    primary: address('primary').notNull(),
    instance: id('instance').$type<InstanceId>(),
    attachment: varchar('attachment', { length: 64 }),
    addressLimit: int('address_limit'),
    prefixes: int('prefixes').notNull(),
    ours: bool('ours').notNull(),
    /** Only servers of the previous release read it. */
    countIntentAt: time('count_intent_at'),
    releasedAt: time('released_at'),
    generation: int('generation', { unsigned: true }).default(0).notNull(),
    token: token('token'),
    attachmentSeenAt: time('attachment_seen_at'),
    earlierAttachment: varchar('earlier_attachment', { length: 64 }),
    claimsEndBefore: time('claims_end_before'),
    tenant: varchar('tenant', { length: 64 }),
    mac: varchar('mac', { length: 17 }),
  },
  row => [index('eni_tenant').on(row.tenant)],
);

export const server = mysqlTable('server', {
  id: varchar('id', { length: 191 }).primaryKey(),
  startedAt: time('started_at').notNull(),
  seenAt: time('seen_at').notNull(),
  stoppedAt: time('stopped_at'),
  version: varchar('version', { length: VERSION_CHARS_MAX }),
});

export const lease = mysqlTable('lease', {
  name: varchar('name', { length: 191 }).primaryKey(),
  server: varchar('server', { length: 191 }).notNull(),
  until: time('until').notNull(),
});

/** A token bucket that all servers share; see store/token-bucket.ts. */
export const bucket = mysqlTable('bucket', {
  name: varchar('name', { length: 191 }).primaryKey(),
  emptyAt: time('empty_at').notNull(),
  halvings: int('halvings').notNull(),
  throttledAt: time('throttled_at').notNull(),
});

export const fact = mysqlTable('fact', {
  name: varchar('name', { length: 191 }).primaryKey(),
  value: text('value').notNull(),
});

/** Its row is changed in each transaction that gives addresses to the tenant, so that two of them cannot pass the quota
 *  together. */
export const tenant = mysqlTable('tenant', {
  name: varchar('name', { length: 64 }).primaryKey(),
  quota: int('quota').notNull(),
  profile: varchar('profile', { length: 128 }),
  generation: int('generation', { unsigned: true }).default(0).notNull(),
  token: token('token'),
});

/** A Docker host that proved which instance it is. */
export const host = mysqlTable('host', {
  instance: id('instance').$type<InstanceId>().primaryKey(),
  enrolledAt: time('enrolled_at'),
  expiresAt: time('expires_at'),
  seenAt: time('seen_at'),
  /** Certificates that were made before are not accepted, and until `allowedAt` none are. */
  revokedAt: time('revoked_at'),
  allowedAt: time('allowed_at'),
});

/** Nonces that were used for an enrolment. */
export const nonce = mysqlTable('nonce', {
  value: varchar('value', { length: 64 }).primaryKey(),
  until: time('until').notNull(),
  /** Of the call that used it. */
  token: token('token').notNull(),
});

/** What the witness of a host last showed of an address. */
export const sighting = mysqlTable(
  'sighting',
  {
    subnet: id('subnet').$type<SubnetId>().notNull(),
    ip: address('ip').notNull(),
    iface: id('iface').$type<EniId>().notNull(),
    generation: int('generation', { unsigned: true }).notNull(),
    boot: varchar('boot', { length: 64 }).notNull(),
    engine: varchar('engine', { length: 191 }).notNull(),
    attachment: varchar('attachment', { length: 64 }).notNull(),
    /** Held, and in use in no view since then. */
    unseenSince: time('unseen_since'),
    unseenReadings: int('unseen_readings').default(0).notNull(),
    /** Not held, and in use since then. */
    usedSince: time('used_since'),
    usedReadings: int('used_readings').default(0).notNull(),
    seenAt: time('seen_at'),
    container: varchar('container', { length: 64 }),
    name: varchar('name', { length: HOLDER_CHARS_MAX }),
    image: varchar('image', { length: 255 }),
    finding: varchar('finding', { length: 1024 }),
  },
  row => [
    primaryKey({ columns: [row.subnet, row.ip] }),
    index('sighting_iface').on(row.iface),
    index('sighting_used').on(row.usedSince),
  ],
);

/** What is known of the readings of a host. */
export const witness = mysqlTable('witness', {
  /** Empty: an embedded server that does not know its instance. */
  instance: id('instance').$type<InstanceId | ''>().primaryKey(),
  /** Of the reading that was begun last. */
  ticket: token('ticket').notNull(),
  begunAt: time('begun_at').notNull(),
  readAt: time('read_at'),
  incomplete: varchar('incomplete', { length: INCOMPLETE_CHARS_MAX }),
  engine: varchar('engine', { length: 191 }),
  engineSince: time('engine_since'),
});
