/** The schema of the ledger on SQLite. drizzle-kit makes the migrations from it. */
import type { Buffer } from 'node:buffer';
import { sql } from 'drizzle-orm';
import {
  customType,
  index,
  integer,
  primaryKey,
  sqliteTable,
  text,
  uniqueIndex,
} from 'drizzle-orm/sqlite-core';
import type { Ipv4 } from '../../domain/address.ts';
import { STATUSES } from '../../domain/allocation.ts';
import type { EniId, InstanceId, SubnetId } from '../../domain/ids.ts';
import { IS_FREE, IS_INTENT } from '../reads.ts';
import { bytesOf } from '../rows.ts';

// mysql/schema.ts has the same columns in the same order, and generated ones besides. Times are milliseconds of the
// host's clock.

const bool = (name: string) => integer(name, { mode: 'boolean' });
const addressBytes = customType<{ data: Ipv4; driverData: Buffer }>({
  dataType: () => 'blob',
  toDriver: bytesOf,
});
const id = (name: string) => text(name);
const address = (name: string) => text(name).$type<Ipv4>();
const time = (name: string) => integer(name);
const containerId = (name: string) => text(name);
const token = (name: string) => text(name);

/** One row for each address. */
export const allocation = sqliteTable(
  'allocation',
  {
    ip: address('ip').notNull(),
    subnet: id('subnet').$type<SubnetId>().notNull(),
    status: text('status', { enum: STATUSES }).default('free').notNull(),
    iface: id('iface').$type<EniId>(),
    primary: bool('primary').notNull(),
    /** For people. The program does not read it. */
    ts: text('ts').default(sql`CURRENT_TIMESTAMP`).notNull(),
    number: addressBytes('number').notNull(),
    /** CRC32(ip): the order of the search for a free address. */
    spread: integer('spread').notNull(),
    generation: integer('generation').default(0).notNull(),
    movedAt: time('moved_at').default(0).notNull(),
    restedSince: time('rested_since'),
    restedFrom: id('rested_from').$type<EniId>(),
    leftIface: id('left_iface').$type<EniId>(),
    leftAt: time('left_at'),
    missingSince: time('missing_since'),
    repairUnsureAt: time('repair_unsure_at'),
    absentSince: time('absent_since'),
    refusedAt: time('refused_at'),
    holder: text('holder'),
    token: token('token'),
    leftUnsure: bool('left_unsure').default(false).notNull(),
    placedAt: time('placed_at'),
    instance: id('instance').$type<InstanceId>(),
    requestId: token('request_id'),
    releaseId: token('release_id'),
    claimedAt: time('claimed_at'),
    repeatedAt: time('repeated_at'),
    reservedFor: text('reserved_for'),
    claimCall: token('claim_call'),
    claimServer: token('claim_server'),
    heldSince: time('held_since'),
    heldBy: text('held_by'),
    heldInstance: id('held_instance').$type<InstanceId>(),
    containerId: containerId('container_id'),
    containerSince: time('container_since'),
    heldContainer: containerId('held_container'),
  },
  row => [
    // Two VPCs may have the same addresses.
    primaryKey({ columns: [row.subnet, row.ip] }),
    // A claim or release changes no index.
    index('free').on(row.subnet, row.refusedAt, row.restedSince, row.spread, row.number).where(IS_FREE),
    index('iface').on(row.iface, row.number),
    index('intent').on(row.movedAt, row.number, row.subnet).where(IS_INTENT),
    index('address').on(row.subnet, row.number),
    uniqueIndex('request').on(row.requestId),
  ],
);

export const history = sqliteTable(
  'history',
  {
    subnet: id('subnet').$type<SubnetId>().notNull(),
    ip: address('ip').notNull(),
    generation: integer('generation').notNull(),
    at: time('at').notNull(),
    iface: id('iface').$type<EniId>(),
    instance: id('instance').$type<InstanceId>(),
    holder: text('holder'),
    cause: text('cause').notNull(),
    request: token('request'),
    server: token('server').notNull(),
    since: time('since'),
    claimCall: token('claim_call'),
    claimServer: token('claim_server'),
    containerId: containerId('container_id'),
  },
  row => [primaryKey({ columns: [row.subnet, row.ip, row.generation] }), index('history_at').on(row.at)],
);

export const ec2Call = sqliteTable(
  'ec2_call',
  {
    id: token('id').primaryKey(),
    at: time('at').notNull(),
    action: text('action').notNull(),
    iface: id('iface').$type<EniId>().notNull(),
    ips: text('ips').notNull(),
    server: token('server').notNull(),
    endedAt: time('ended_at'),
    result: text('result'),
  },
  row => [index('ec2_call_at').on(row.at)],
);

export const subnet = sqliteTable('subnet', {
  id: id('id').$type<SubnetId>().primaryKey(),
  vpc: id('vpc').notNull(),
  cidr: text('cidr').notNull(),
});

export const eni = sqliteTable(
  'eni',
  {
    id: id('id').$type<EniId>().primaryKey(),
    subnet: id('subnet').$type<SubnetId>().notNull(),
    primary: address('primary').notNull(),
    instance: id('instance').$type<InstanceId>(),
    attachment: text('attachment'),
    addressLimit: integer('address_limit'),
    prefixes: integer('prefixes').notNull(),
    ours: bool('ours').notNull(),
    /** Only servers of the previous release read it. */
    countIntentAt: time('count_intent_at'),
    releasedAt: time('released_at'),
    generation: integer('generation').default(0).notNull(),
    token: token('token'),
    attachmentSeenAt: time('attachment_seen_at'),
    earlierAttachment: text('earlier_attachment'),
    claimsEndBefore: time('claims_end_before'),
    tenant: text('tenant'),
    mac: text('mac'),
  },
  row => [index('eni_tenant').on(row.tenant)],
);

export const server = sqliteTable('server', {
  id: text('id').primaryKey(),
  startedAt: time('started_at').notNull(),
  seenAt: time('seen_at').notNull(),
  stoppedAt: time('stopped_at'),
  version: text('version'),
});

export const lease = sqliteTable('lease', {
  name: text('name').primaryKey(),
  server: text('server').notNull(),
  until: time('until').notNull(),
});

export const bucket = sqliteTable('bucket', {
  name: text('name').primaryKey(),
  emptyAt: time('empty_at').notNull(),
  halvings: integer('halvings').notNull(),
  throttledAt: time('throttled_at').notNull(),
});

export const fact = sqliteTable('fact', {
  name: text('name').primaryKey(),
  value: text('value').notNull(),
});

export const tenant = sqliteTable('tenant', {
  name: text('name').primaryKey(),
  quota: integer('quota').notNull(),
  profile: text('profile'),
  generation: integer('generation').default(0).notNull(),
  token: token('token'),
});

export const host = sqliteTable('host', {
  instance: id('instance').$type<InstanceId>().primaryKey(),
  enrolledAt: time('enrolled_at'),
  expiresAt: time('expires_at'),
  seenAt: time('seen_at'),
  revokedAt: time('revoked_at'),
  allowedAt: time('allowed_at'),
});

export const nonce = sqliteTable('nonce', {
  value: text('value').primaryKey(),
  until: time('until').notNull(),
  token: token('token').notNull(),
});

export const sighting = sqliteTable(
  'sighting',
  {
    subnet: id('subnet').$type<SubnetId>().notNull(),
    ip: address('ip').notNull(),
    iface: id('iface').$type<EniId>().notNull(),
    generation: integer('generation').notNull(),
    boot: text('boot').notNull(),
    engine: text('engine').notNull(),
    attachment: text('attachment').notNull(),
    unseenSince: time('unseen_since'),
    unseenReadings: integer('unseen_readings').default(0).notNull(),
    usedSince: time('used_since'),
    usedReadings: integer('used_readings').default(0).notNull(),
    seenAt: time('seen_at'),
    container: text('container'),
    name: text('name'),
    image: text('image'),
    finding: text('finding'),
  },
  row => [
    primaryKey({ columns: [row.subnet, row.ip] }),
    index('sighting_iface').on(row.iface),
    index('sighting_used').on(row.usedSince),
  ],
);

export const witness = sqliteTable('witness', {
  instance: id('instance').$type<InstanceId | ''>().primaryKey(),
  ticket: token('ticket').notNull(),
  begunAt: time('begun_at').notNull(),
  readAt: time('read_at'),
  incomplete: text('incomplete'),
  engine: text('engine'),
  engineSince: time('engine_since'),
});
