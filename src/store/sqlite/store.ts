import { and, count, eq, getTableColumns, isNotNull, lt, or, sql } from 'drizzle-orm';
import { formatCidr, parseCidr, spreadOf } from '../../domain/address.ts';
import type { Allocation, Change } from '../../domain/allocation.ts';
import { UNANSWERED_MAX_MS } from '../../domain/suspects.ts';
import { createGroupCommit, tokensOf } from '../group-commit.ts';
import { type LedgerEni, type NewAllocation, type Reading, SERVER_KEPT_MS, type Store } from '../store.ts';
import { type Bucket, FULL, slowed, turnIn } from '../turns.ts';
import { fileErrorOf, openFile, type SqliteFile, whileLocked } from './file.ts';
import { migrateSqlite, outdatedSqlite } from './migrate.ts';
import { createMover, type Mover } from './move.ts';
import * as rows from './queries.ts';
import { allocation, bucket, eni, fact, lease, server, subnet } from './schema.ts';

/** Rows of one `add` in one transaction, so that the event loop is never held for long. */
const ADDED_MAX = 2_000;
/** Addresses of one `get` in one statement. */
const IPS_MAX = 2_000;

export interface SqliteOptions {
  /** Milliseconds since 1970. */
  readonly clock?: () => number;
  /** Begins the tokens, so that a row tells which process moved it last. */
  readonly origin?: string;
  /** How long a call waits for another process's transaction; then it is store-down. */
  readonly lockedMaxMs?: number;
}

interface Open extends SqliteFile {
  readonly moveOne: Mover;
}

/** The ledger in a file of this host, which several processes may use at once. Opened when first asked. */
export function openSqlite(path: string, options: SqliteOptions = {}): Store {
  const clock = options.clock ?? Date.now;
  const newToken = tokensOf(options.origin);
  let opened: Open | null = null;
  /** Servers whose first beat was noted here: old ones are looked for with that. */
  const begun = new Set<string>();

  /** Runs `work`, which must not await, on the open file; again while another process has it locked. */
  async function on<T>(work: (file: Open) => T): Promise<T> {
    try {
      return await whileLocked(() => {
        opened ??= withMover(openFile(path));
        return work(opened);
      }, options.lockedMaxMs);
    } catch (error) {
      throw fileErrorOf(error, path);
    }
  }
  const read = <T>(select: (file: Open, now: number) => T[]): Promise<Reading<T>> =>
    on(file => {
      const now = clock();
      return { now, rows: file.snapshot(() => select(file, now)) };
    });
  const write = <T>(work: (file: Open) => T): Promise<T> => on(file => file.transaction(() => work(file)));
  const commit = (changes: readonly Change[]): Promise<Allocation[]> =>
    write(({ moveOne }) => {
      const now = clock();
      const token = newToken();
      return changes.flatMap(change => moveOne(change, now, token) ?? []);
    });

  return {
    migrate: () => on(({ client }) => migrateSqlite(client)),
    outdated: () => on(({ client }) => outdatedSqlite(client, path)),
    async close() {
      opened?.client.close();
      opened = null;
    },

    async lateOutcomes() {
      return { moved: [], unsettled: 0 }; // a commit here is done or not done, and the caller hears which
    },
    move: createGroupCommit(commit, { lanesMax: 1 }),
    async add(list) {
      const token = newToken();
      let added = 0;
      for (let i = 0; i < list.length; i += ADDED_MAX) {
        const portion = list.slice(i, i + ADDED_MAX);
        added += await write(file => addRows(file, portion, clock(), token));
        await new Promise(setImmediate);
      }
      return added;
    },

    get: (of, ips) =>
      read(({ db }) => {
        const found: Allocation[] = [];
        for (let i = 0; i < ips.length; i += IPS_MAX)
          found.push(...rows.selectIps(db, of, ips.slice(i, i + IPS_MAX)).all());
        return found;
      }),
    onEni: id => read(({ db }) => rows.selectOnEni(db, id).all()),
    readyOn: (id, range, limit) => read(({ db }) => rows.selectReadyOn(db, id, range, limit).all()),
    freeFor: query =>
      read(({ db }, now) => {
        const best: Allocation[] = [];
        for (const range of rows.selectFreeFor(db, query, now))
          if (best.length < query.limit) best.push(...range.all());
        return best.slice(0, query.limit);
      }),
    intents: (ageMs, limit) => read(({ db }, now) => rows.selectIntents(db, now - ageMs, limit).all()),
    withStatus: (of, statuses) => read(({ db }) => rows.selectWithStatus(db, of, statuses).all()),
    tally: () =>
      on(({ db }) =>
        db
          .select({ subnet: allocation.subnet, status: allocation.status, count: count() })
          .from(allocation)
          .groupBy(allocation.subnet, allocation.status)
          .all(),
      ),

    subnets: () =>
      on(({ db }) =>
        db
          .select()
          .from(subnet)
          .all()
          .map(row => ({ ...row, cidr: parseCidr(row.cidr) })),
      ),
    saveSubnet: ({ id, vpc, cidr }) =>
      on(({ db }) => {
        const set = { vpc, cidr: formatCidr(cidr) };
        db.insert(subnet)
          .values({ id, ...set })
          .onConflictDoUpdate({ target: subnet.id, set })
          .run();
      }),
    eni: id => on(({ db }) => db.select(ENI_COLUMNS).from(eni).where(eq(eni.id, id)).get() ?? null),
    enis: () => on(({ db }) => db.select(ENI_COLUMNS).from(eni).all()),
    saveEnis: list =>
      write(({ db }) => {
        for (const one of list) saveEni(db, one);
      }),
    noteAttachments: (seen, readAt) =>
      write(({ db }) => {
        for (const { id, attachment } of seen)
          db.update(eni)
            .set({ attachmentSeenAt: readAt })
            .where(and(eq(eni.id, id), sql`${eni.attachment} IS ${attachment}`))
            .run();
      }),
    adopt: id =>
      on(({ db }) => {
        db.update(eni).set({ ours: true }).where(eq(eni.id, id)).run();
      }),
    setReleased: (id, released) =>
      on(({ db }) => {
        const releasedAt = released ? sql`coalesce(${eni.releasedAt}, ${clock()})` : null;
        db.update(eni).set({ releasedAt }).where(eq(eni.id, id)).run();
      }),

    beat: (id, stopped) =>
      write(({ db }) => {
        const now = clock();
        const set = { seenAt: now, stoppedAt: stopped ? now : null };
        db.insert(server)
          .values({ id, startedAt: now, ...set })
          .onConflictDoUpdate({ target: server.id, set })
          .run();
        if (!begun.has(id)) forgetServers(db, now);
        begun.add(id);
        return now;
      }),
    servers: () => read(({ db }) => db.select().from(server).all()),
    lease: (name, holder, forMs) =>
      on(({ db }) => {
        const now = clock();
        const set = { server: holder, until: now + forMs };
        const result = db
          .insert(lease)
          .values({ name, ...set })
          .onConflictDoUpdate({
            target: lease.name,
            set,
            setWhere: sql`${lease.server} = ${holder} OR ${lease.until} NOT BETWEEN ${now + 1} AND ${now + forMs}`,
          })
          .run();
        return Number(result.changes) === 1;
      }),
    takeTurn: turn =>
      write(file => {
        const taken = turnIn(bucketNamed(file, turn.name), turn, clock());
        if (taken !== null) saveBucket(file, turn.name, taken.after);
        return taken?.waitMs ?? null;
      }),
    slowTurns: ({ name, aheadMs }) =>
      write(file => {
        const after = slowed(bucketNamed(file, name), aheadMs, clock());
        if (after !== null) saveBucket(file, name, after);
        return after?.halvings ?? null;
      }),
    fact: name => on(({ db }) => db.select().from(fact).where(eq(fact.name, name)).get()?.value ?? null),
    noteFact: (name, value) =>
      on(({ db }) => {
        db.insert(fact)
          .values({ name, value })
          .onConflictDoUpdate({ target: fact.name, set: { value } })
          .run();
      }),
    noteFactOnce: (name, value) =>
      on(
        ({ db }) =>
          db
            .insert(fact)
            .values({ name, value })
            .onConflictDoUpdate({ target: fact.name, set: { name: sql`${fact.name}` } })
            .returning()
            .get().value,
      ),
  };
}

const withMover = (file: SqliteFile): Open => ({ ...file, moveOne: createMover(file) });

const {
  generation: _generation,
  token: _token,
  countIntentAt: _countIntentAt,
  ...ENI_COLUMNS
} = getTableColumns(eni);

function addRows({ db }: Open, list: readonly NewAllocation[], now: number, token: string): number {
  const place = (name: string) => sql.placeholder(name);
  const insert = db
    .insert(allocation)
    .values({
      ip: place('ip'),
      subnet: place('subnet'),
      status: place('status'),
      iface: place('iface'),
      primary: place('primary'),
      number: place('ip'),
      spread: place('spread'),
      movedAt: now,
      token,
    })
    .onConflictDoNothing()
    .prepare();
  let added = 0;
  for (const row of list) added += Number(insert.run({ ...row, spread: spreadOf(row.ip) }).changes);
  return added;
}

/** See SERVER_KEPT_MS and `mayBeUnanswered`. */
function forgetServers(db: SqliteFile['db'], now: number): void {
  const unanswered = sql`SELECT 1 FROM ${allocation} WHERE ${allocation.status} = 'allocated'
    AND ${allocation.movedAt} >= ${server.seenAt} - ${UNANSWERED_MAX_MS}
    AND substr(${allocation.token}, 1, length(${server.id})) = ${server.id}`;
  db.delete(server)
    .where(
      and(
        lt(server.seenAt, now - SERVER_KEPT_MS),
        or(isNotNull(server.stoppedAt), sql`NOT EXISTS (${unanswered})`),
      ),
    )
    .run();
}

function saveEni(db: SqliteFile['db'], one: LedgerEni): void {
  const { id: _id, ours: _ours, releasedAt: _releasedAt, ...set } = one;
  db.insert(eni).values(one).onConflictDoUpdate({ target: eni.id, set }).run();
}

const bucketNamed = ({ db }: Open, name: string): Bucket =>
  db.select().from(bucket).where(eq(bucket.name, name)).get() ?? FULL;

function saveBucket({ db }: Open, name: string, { emptyAt, halvings, throttledAt }: Bucket): void {
  const set = { emptyAt, halvings, throttledAt };
  db.insert(bucket)
    .values({ name, ...set })
    .onConflictDoUpdate({ target: bucket.name, set })
    .run();
}
