import { and, asc, eq, getTableColumns, gt, inArray, isNotNull, lt, lte, or, sql } from 'drizzle-orm';
import { formatCidr } from '../../domain/address.ts';
import type { EniId } from '../../domain/ids.ts';
import { UNANSWERED_MAX_MS } from '../../domain/suspects.ts';
import { type LedgerEni, type LedgerSubnet, SERVER_KEPT_MS } from '../store.ts';
import type { Row, Statement } from './connection.ts';
import { allocation, eni, fact, lease, server, subnet } from './schema.ts';
import { BEGIN, build, COMMIT, decode, NOW, plain, setNow, statement } from './sql.ts';

// The small tables beside `allocation`. Every write may be repeated.

/** ENIs in one statement, well under 1 MiB. */
const ENIS_MAX = 500;
/** Servers forgotten at a time. */
const OLD_SERVERS_MAX = 100;
const values = (column: { name: string }) => sql.raw(`VALUES(\`${column.name}\`)`);

export const selectSubnets = (): Statement => statement(build.select().from(subnet));
export const upsertSubnet = ({ id, vpc, cidr }: LedgerSubnet): Statement =>
  statement(
    build
      .insert(subnet)
      .values({ id, vpc, cidr: formatCidr(cidr) })
      .onDuplicateKeyUpdate({ set: { vpc: values(subnet.vpc), cidr: values(subnet.cidr) } }),
  );

export const selectEni = (id: EniId): Statement => statement(build.select().from(eni).where(eq(eni.id, id)));
export const selectEnis = (): Statement => statement(build.select().from(eni));

const {
  generation: _generation,
  token: _token,
  countIntentAt: _countIntentAt,
  ...ENI_COLUMNS
} = getTableColumns(eni);
export const eniOf = (row: Row): LedgerEni => decode(ENI_COLUMNS, row);
const ENI_KEYS = Object.keys(ENI_COLUMNS) as (keyof typeof ENI_COLUMNS)[];
const REFRESHED = [
  'subnet',
  'primary',
  'instance',
  'attachment',
  'attachmentSeenAt',
  'earlierAttachment',
  'claimsEndBefore',
  'addressLimit',
  'prefixes',
] as const;
const nameOf = (key: keyof typeof ENI_COLUMNS): string => `\`${ENI_COLUMNS[key].name}\``;
// By hand: drizzle took 200 ms for 3,000 of them.
const UPSERT_ENIS =
  `INSERT INTO \`eni\` (${ENI_KEYS.map(nameOf).join()}) VALUES ? ` +
  `ON DUPLICATE KEY UPDATE ${REFRESHED.map(key => `${nameOf(key)} = VALUES(${nameOf(key)})`).join()}`;
export function upsertEnis(list: readonly LedgerEni[]): Statement[] {
  const statements: Statement[] = [];
  for (let i = 0; i < list.length; i += ENIS_MAX) {
    const rows = list.slice(i, i + ENIS_MAX).map(one => ENI_KEYS.map(key => one[key]));
    statements.push(plain(UPSERT_ENIS, [rows]));
  }
  return [BEGIN, ...statements, COMMIT];
}
/** A detached ENI has an empty text here, which no attachment is. */
const UPDATE_ATTACHMENTS =
  "UPDATE `eni` SET `attachment_seen_at` = ? WHERE (`id`, COALESCE(`attachment`, '')) IN (?)";
export function updateAttachments(
  seen: readonly Pick<LedgerEni, 'id' | 'attachment'>[],
  readAt: number,
): Statement[] {
  const statements: Statement[] = [];
  for (let i = 0; i < seen.length; i += ENIS_MAX) {
    const pairs = seen.slice(i, i + ENIS_MAX).map(({ id, attachment }) => [id, attachment ?? '']);
    statements.push(plain(UPDATE_ATTACHMENTS, [readAt, pairs]));
  }
  return statements;
}
export const updateOurs = (id: EniId): Statement =>
  statement(build.update(eni).set({ ours: true }).where(eq(eni.id, id)));
/** `@now` in the packet is when; a mark that is set stays as it is. */
export const updateReleased = (id: EniId, released: boolean): Statement =>
  statement(
    build
      .update(eni)
      .set({ releasedAt: released ? sql`COALESCE(${eni.releasedAt}, ${NOW})` : null })
      .where(eq(eni.id, id)),
  );

export const upsertServer = (id: string, stopped: boolean): Statement =>
  statement(
    build
      .insert(server)
      .values({ id, startedAt: NOW, seenAt: NOW, stoppedAt: stopped ? NOW : null })
      .onDuplicateKeyUpdate({ set: { seenAt: values(server.seenAt), stoppedAt: values(server.stoppedAt) } }),
  );
/** Servers that need not be noted any more, the oldest first: see SERVER_KEPT_MS. It reads all held rows for each that
 *  died without a word. */
export const selectOldServers = (): Statement =>
  statement(
    build
      .select({ id: server.id })
      .from(server)
      .where(
        and(
          lt(server.seenAt, sql`${NOW} - ${SERVER_KEPT_MS}`),
          or(isNotNull(server.stoppedAt), sql`NOT EXISTS (${MAY_BE_UNANSWERED})`),
        ),
      )
      .orderBy(asc(server.seenAt))
      .limit(OLD_SERVERS_MAX),
  );
/** As `mayBeUnanswered`. Compared as bytes, since the ancestor's table may have another collation. */
const MAY_BE_UNANSWERED = sql`SELECT 1 FROM ${allocation} WHERE ${allocation.status} = 'allocated'
  AND ${allocation.movedAt} >= ${server.seenAt} - ${UNANSWERED_MAX_MS}
  AND CAST(LEFT(${allocation.token}, CHAR_LENGTH(${server.id})) AS BINARY) = CAST(${server.id} AS BINARY)`;
export const deleteServers = (ids: readonly string[]): Statement =>
  statement(build.delete(server).where(inArray(server.id, [...ids])));
export const selectServers = (): Statement => statement(build.select().from(server));

/** Takes or renews the lease where that may be; the last answer says whose it is. */
export const takeLease = (name: string, holder: string, forMs: number, skewMs: number): Statement[] => [
  setNow(skewMs),
  statement(build.insert(lease).ignore().values({ name, server: holder, until: 0 })),
  statement(
    build
      .update(lease)
      .set({ server: holder, until: sql`${NOW} + ${forMs}` })
      .where(
        and(
          eq(lease.name, name),
          or(eq(lease.server, holder), lte(lease.until, NOW), gt(lease.until, sql`${NOW} + ${forMs}`)),
        ),
      ),
  ),
  statement(build.select({ server: lease.server }).from(lease).where(eq(lease.name, name))),
];

export const selectFact = (name: string): Statement =>
  statement(build.select().from(fact).where(eq(fact.name, name)));
export const upsertFact = (name: string, value: string): Statement =>
  statement(
    build
      .insert(fact)
      .values({ name, value })
      .onDuplicateKeyUpdate({ set: { value: values(fact.value) } }),
  );
/** Inserts the fact unless it is there; the last answer has what is there now. */
export const insertFact = (name: string, value: string): Statement[] => [
  statement(
    build
      .insert(fact)
      .values({ name, value })
      .onDuplicateKeyUpdate({ set: { name: sql`${fact.name}` } }),
  ),
  selectFact(name),
];
