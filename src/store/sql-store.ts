/** The part of the ledger that MySQL and SQLite share: all reads, and the writes of the small tables. */
import { getTableColumns, type SQL, sql, type Table } from 'drizzle-orm';
import { formatCidr, parseCidr } from '../domain/address.ts';
import { RESULT_CHARS_MAX } from '../domain/history.ts';
import { HOST_KEPT_MS, type Host, isBlocked } from '../domain/host.ts';
import type { ShownContainer } from '../domain/sighting.ts';
import { UNANSWERED_MAX_MS } from '../domain/suspects.ts';
import { historyReads, readEc2Calls, tenuresIn } from './history-reads.ts';
import { createLooks } from './looks.ts';
import { createReads, type Dialect, NOW } from './reads.ts';
import { decode, inKeyOrder, type Row, toAllocation } from './rows.ts';
import { createSightings } from './sightings.ts';
import {
  AGED_AT_ONCE_MS,
  type LedgerEni,
  type LedgerServer,
  type LedgerSubnet,
  type Reading,
  SERVER_KEPT_MS,
  type Store,
  type Tally,
  TRIMMED_MAX,
  VERSION_CHARS_MAX,
} from './store.ts';
import { createTenantReads, limitedIn, readTenants } from './tenants.ts';
import { portions, upsertInto, type Values } from './upsert.ts';

/** How the statements are sent. The database may execute a call twice. */
export interface Database {
  /** Returns the rows of all selects in their order, at most `limit`, from one state of the database. */
  read(selects: readonly SQL[], limit?: number): Promise<Reading<Row>>;
  /** Makes the changes in one transaction. Then it returns the rows of `select`. */
  write(changes: readonly SQL[], select?: SQL): Promise<Reading<Row>>;
}

export type SharedStore = Omit<
  Store,
  | 'migrate'
  | 'outdated'
  | 'close'
  | 'move'
  | 'lateOutcomes'
  | 'add'
  | 'noteAttachments'
  | 'takePermit'
  | 'giveBackPermit'
  | 'slowBucket'
>;

/** ENIs of one INSERT, and addresses of one list. They keep a statement well under 1 MiB. */
const ENIS_MAX = 500;
const IPS_MAX = 2_000;
/** Ids of containers that are noted at a time: their rows are locked for that long. */
const CONTAINERS_MAX = 100;
/** Servers that are deleted at a time. */
const OLD_SERVERS_MAX = 100;
/** Hosts that are deleted at a time, and hosts of one INSERT. */
const OLD_HOSTS_MAX = 100;
const HOSTS_MAX = 500;

/** `hasHistory`: whether the history is written. */
export function createSharedStore(
  { read, write }: Database,
  dialect: Dialect,
  hasHistory: boolean,
): SharedStore {
  const { allocation, history, ec2Call, subnet, eni, server, witness, lease, fact, host, nonce, tenant } =
    dialect.tables;
  const tenantReads = createTenantReads(dialect.tables);
  const reads = createReads(dialect);
  const { generation: _, token: _t, countIntentAt: _c, ...eniColumns } = getTableColumns(eni);
  const eniOf = (row: Row): LedgerEni => decode<LedgerEni>(eniColumns, row);
  /** Servers whose first heartbeat was sent from here. */
  const begun = new Set<string>();

  const readAllocations = async (selects: readonly SQL[], limit?: number) => {
    const { now, rows } = await read(selects, limit);
    return { now, rows: rows.map(toAllocation) };
  };
  const upsert = (table: Table, rows: readonly Values[], replaced: readonly string[]) =>
    upsertInto(dialect, table, rows, replaced);

  /** See SERVER_KEPT_MS and mayBeUnanswered in the domain. It is compared in hexadecimal, since the ancestor's table
   *  may have another collation. */
  async function forgetServers(): Promise<void> {
    const unanswered = sql`SELECT 1 FROM ${allocation} WHERE ${allocation.status} = 'allocated'
      AND ${allocation.movedAt} >= ${server.seenAt} - ${UNANSWERED_MAX_MS}
      AND SUBSTR(HEX(${allocation.token}), 1, LENGTH(HEX(${server.id}))) = HEX(${server.id})`;
    const old = sql`SELECT ${server.id} FROM ${server} WHERE ${server.seenAt} < ${NOW} - ${SERVER_KEPT_MS}
      AND (${server.stoppedAt} IS NOT NULL OR NOT EXISTS (${unanswered}))
      ORDER BY ${server.seenAt} LIMIT ${OLD_SERVERS_MAX}`;
    const ids = (await read([old])).rows.map(row => row.id);
    if (ids.length > 0) await write([sql`DELETE FROM ${server} WHERE ${server.id} IN ${ids}`]);
  }

  const hostColumns = getTableColumns(host);
  const blank = (instance: string) => upsert(host, [{ instance }], []);
  const selectHost = (instance: string) => sql`SELECT * FROM ${host} WHERE ${host.instance} = ${instance}`;

  const noteContainer = ({ row: { subnet: of, ip, iface, generation }, id }: ShownContainer): SQL =>
    sql`UPDATE ${allocation} SET container_id = ${id}, container_since = ${allocation.movedAt}
      WHERE ${allocation.subnet} = ${of} AND ${allocation.ip} = ${ip} AND ${allocation.status} = 'allocated'
        AND ${allocation.iface} = ${iface} AND ${allocation.generation} = ${generation}`;

  async function forgetHosts(): Promise<void> {
    const before = sql`${NOW} - ${HOST_KEPT_MS}`;
    const old = sql`SELECT ${host.instance} FROM ${host} WHERE ${host.revokedAt} IS NULL
      AND COALESCE(${host.expiresAt}, 0) < ${before} AND COALESCE(${host.seenAt}, 0) < ${before} LIMIT ${OLD_HOSTS_MAX}`;
    const ids = (await read([old])).rows.map(row => row.instance);
    await write([sql`DELETE FROM ${witness} WHERE ${witness.begunAt} < ${before}`]);
    // Any of them may have enrolled again since.
    if (ids.length > 0)
      await write([
        sql`DELETE FROM ${host} WHERE ${host.instance} IN ${ids} AND COALESCE(${host.expiresAt}, 0) < ${before}
          AND ${host.revokedAt} IS NULL`,
      ]);
  }

  const nthRecord = (table: typeof history | typeof ec2Call, order: SQL, before: number) =>
    sql`SELECT ${table.at} FROM ${table} ORDER BY ${table.at} ${order} LIMIT 1 OFFSET ${before}`;

  const selectFact = (name: string) => sql`SELECT ${fact.value} FROM ${fact} WHERE ${fact.name} = ${name}`;
  const factIn = ({ rows: [row] }: Reading<Row>): string | null =>
    row === undefined ? null : String(row.value);

  return {
    ...createLooks(read, eniOf, dialect),
    ...createSightings({ read, write }, dialect),
    get: (id, ips) => readAllocations(portions(ips, IPS_MAX).map(some => reads.ips(id, some))),
    withRequest: id => readAllocations([reads.withRequest(id)]),
    onEni: id => readAllocations([reads.onEni(id)]),
    readyOn: (id, range, limit) => readAllocations([reads.readyOn(id, range, limit)]),
    freeFor: query => readAllocations(reads.freeFor(query), query.limit),
    intents: (ageMs, limit) => readAllocations([reads.intents(ageMs, limit)]),
    withStatus: (id, statuses) =>
      readAllocations(statuses.length === 0 ? [] : [reads.withStatus(id, statuses)]),
    async history(id, ip, limit) {
      const { now, rows } = await read(historyReads(dialect, id, ip, limit));
      return { now, rows: tenuresIn(rows).slice(0, limit) };
    },
    async endEc2Call(id, result) {
      if (!hasHistory) return; // it was not begun either
      const short = result.slice(0, RESULT_CHARS_MAX);
      await write([
        sql`UPDATE ${ec2Call} SET ended_at = ${NOW}, result = ${short} WHERE ${ec2Call.id} = ${id}`,
      ]);
    },
    ec2Calls: (forMs, limit) => readEc2Calls(read, dialect, forMs, limit),
    async historyEnd(ageMs, recordsMax) {
      const { now, rows } = await read([nthRecord(history, sql`DESC`, recordsMax)]);
      const firsts = await read(
        [history, ec2Call].map(table => sql`SELECT MIN(${table.at}) AS at FROM ${table}`),
      );
      const oldest = Math.min(...firsts.rows.map(({ at }) => Number(at ?? now)));
      const byAge = Math.min(now - ageMs - 1, oldest + AGED_AT_ONCE_MS);
      return Math.max(byAge, Number(rows[0]?.at ?? 0));
    },
    async trimHistory(until) {
      const firstOf = async (table: typeof history | typeof ec2Call): Promise<number> => {
        const [last] = (await read([nthRecord(table, sql`ASC`, TRIMMED_MAX - 1)])).rows;
        return Math.min(until, Number(last?.at ?? until));
      };
      const [some, calls] = [await firstOf(history), await firstOf(ec2Call)];
      // Records of one time go together.
      await write([
        sql`DELETE FROM ${history} WHERE ${history.at} <= ${some}`,
        sql`DELETE FROM ${ec2Call} WHERE ${ec2Call.at} <= ${calls}`,
      ]);
      return some < until || calls < until;
    },
    async tally() {
      const { subnet: id, status } = allocation;
      const { rows } = await read([
        sql`SELECT ${id}, ${status}, COUNT(*) AS ${sql.raw('`count`')} FROM ${allocation} GROUP BY ${id}, ${status}`,
      ]);
      return rows.map(row => ({
        ...decode<Omit<Tally, 'count'>>({ subnet: id, status }, row),
        count: Number(row.count),
      }));
    },

    async subnets() {
      const { rows } = await read([sql`SELECT * FROM ${subnet}`]);
      const columns = getTableColumns(subnet);
      return rows
        .map(row => decode<LedgerSubnet & { cidr: string }>(columns, row))
        .map(row => ({ ...row, cidr: parseCidr(row.cidr) }));
    },
    async saveSubnet({ id, vpc, cidr }) {
      await write([upsert(subnet, [{ id, vpc, cidr: formatCidr(cidr) }], ['vpc', 'cidr'])]);
    },
    async eni(id) {
      const [row] = (await read([sql`SELECT * FROM ${eni} WHERE ${eni.id} = ${id}`])).rows;
      return row === undefined ? null : eniOf(row);
    },
    async enis() {
      return (await read([sql`SELECT * FROM ${eni}`])).rows.map(eniOf);
    },
    async saveEnis(list) {
      const replaced = Object.keys(eniColumns).filter(key => !['id', 'ours', 'releasedAt'].includes(key));
      if (list.length > 0)
        await write(portions(list, ENIS_MAX).map(some => upsert(eni, some.map(inOrder), replaced)));
    },
    async adopt(id) {
      await write([sql`UPDATE ${eni} SET ours = 1 WHERE ${eni.id} = ${id}`]);
    },
    async setReleased(id, released) {
      const value = released ? sql`COALESCE(${eni.releasedAt}, ${NOW})` : sql`NULL`;
      await write([sql`UPDATE ${eni} SET released_at = ${value} WHERE ${eni.id} = ${id}`]);
    },

    async noteContainers(shown) {
      const held = shown.filter(({ row }) => row.status === 'allocated');
      const notes = held.toSorted(inKeyOrder).map(noteContainer);
      for (const some of portions(notes, CONTAINERS_MAX)) await write(some);
    },

    async saveTenant({ name, quota, profile }) {
      const replaced = ['quota', ...(profile === null ? [] : ['profile'])];
      await write([upsert(tenant, [{ name, quota, profile }], replaced)]);
    },
    async removeTenant(name) {
      await write([sql`DELETE FROM ${tenant} WHERE ${tenant.name} = ${name}`]);
    },
    tenants: () => readTenants(read, dialect),
    async tenantProfiles() {
      const { rows } = await read([tenantReads.profiles]);
      return new Map(rows.map(row => [String(row.profile), String(row.name)]));
    },
    async tenantOf(id) {
      return limitedIn((await read([tenantReads.of(id)])).rows);
    },

    async beat(id, stopped, version = null) {
      if (!begun.has(id)) {
        begun.add(id); // if it fails, the next server that starts does it
        await forgetServers();
      }
      const cut = version?.slice(0, VERSION_CHARS_MAX) ?? null;
      const values = { id, startedAt: NOW, seenAt: NOW, stoppedAt: stopped ? NOW : null, version: cut };
      return (await write([upsert(server, [values], ['seenAt', 'stoppedAt', 'version'])])).now;
    },
    async servers() {
      const { now, rows } = await read([sql`SELECT * FROM ${server}`]);
      const columns = getTableColumns(server);
      return { now, rows: rows.map(row => decode<LedgerServer>(columns, row)) };
    },
    async lease(name, holder, forMs) {
      const until = sql`${NOW} + ${forMs}`;
      const free = upsert(lease, [{ name, server: holder, until: 0 }], []);
      const take = sql`UPDATE ${lease} SET server = ${holder}, until = ${until} WHERE ${lease.name} = ${name}
        AND (${lease.server} = ${holder} OR ${lease.until} <= ${NOW} OR ${lease.until} > ${until})`;
      const select = sql`SELECT ${lease.server} FROM ${lease} WHERE ${lease.name} = ${name}`;
      const { rows } = await write([free, take], select);
      return rows[0]?.server === holder;
    },
    fact: async name => factIn(await read([selectFact(name)])),
    async noteFact(name, value) {
      await write([upsert(fact, [{ name, value }], ['value'])]);
    },
    async addToFact(name, more) {
      // SQLite takes the parameter for a float, and the databases share this name of an integer only.
      const add = sql`UPDATE ${fact} SET value = CAST(value + ${more} AS SIGNED INTEGER) WHERE ${fact.name} = ${name}`;
      await write([upsert(fact, [{ name, value: '0' }], []), add]);
    },
    async noteFactOnce(name, value) {
      return factIn(await write([upsert(fact, [{ name, value }], [])], selectFact(name))) ?? value;
    },

    async hosts(which) {
      const where = which === 'revoked' ? sql` WHERE ${host.revokedAt} IS NOT NULL` : sql``;
      const { now, rows } = await read([sql`SELECT * FROM ${host}${where}`]);
      return { now, rows: rows.map(row => decode<Host>(hostColumns, row)) };
    },
    async enrolHost(instance, forMs) {
      const enrol = sql`UPDATE ${host} SET enrolled_at = ${NOW}, expires_at = ${NOW} + ${forMs}
        WHERE ${host.instance} = ${instance} AND (${host.revokedAt} IS NULL OR ${host.allowedAt} IS NOT NULL)`;
      const { rows } = await write([blank(instance), enrol], selectHost(instance));
      await forgetHosts();
      return decode<Host>(hostColumns, rows[0] ?? {});
    },
    async noteSeen(instances) {
      const insert = (some: readonly string[]) =>
        upsert(
          host,
          some.map(instance => ({ instance, seenAt: NOW })),
          ['seenAt'],
        );
      if (instances.length > 0) await write(portions([...instances].sort(), HOSTS_MAX).map(insert));
    },
    async revokeHost(instance) {
      const revoke = sql`UPDATE ${host} SET revoked_at = ${NOW}, allowed_at = NULL WHERE ${host.instance} = ${instance}`;
      await write([blank(instance), revoke]);
    },
    async allowHost(instance) {
      const [row] = (await read([selectHost(instance)])).rows;
      if (row === undefined || !isBlocked(decode<Host>(hostColumns, row))) return false;
      await write([sql`UPDATE ${host} SET allowed_at = ${NOW} WHERE ${host.instance} = ${instance}`]);
      return true;
    },
    async takeNonce(value, token, forMs) {
      const clean = sql`DELETE FROM ${nonce} WHERE ${nonce.until} < ${NOW}`;
      const take = upsert(nonce, [{ value, until: sql`${NOW} + ${forMs}`, token }], []);
      const select = sql`SELECT ${nonce.token} FROM ${nonce} WHERE ${nonce.value} = ${value}`;
      const { rows } = await write([clean, take], select);
      return rows[0]?.token === token;
    },
  };

  /** The ENI with its members in one order for all rows of an INSERT. */
  function inOrder(one: LedgerEni): Values {
    return Object.fromEntries(Object.keys(eniColumns).map(key => [key, one[key as keyof LedgerEni]]));
  }
}
