/** The ledger in a SQLite file of this host. */
import { sql } from 'drizzle-orm';
import { numberOf, spreadOf } from '../../domain/address.ts';
import type { Allocation, Change } from '../../domain/allocation.ts';
import { actionOf, ec2CallsIn, endsHolding, RESULT_CHARS_MAX, serverOf } from '../../domain/history.ts';
import type { Observer } from '../../domain/observer.ts';
import { ifaceAfter, roomOf, startsToCount } from '../../domain/tenant.ts';
import { createGroupCommit, createTokens, keyOf } from '../group-commit.ts';
import { nextTurn } from '../next-turn.ts';
import type { Dialect } from '../reads.ts';
import { bytesOf, decode } from '../rows.ts';
import { createSharedStore, type Database } from '../sql-store.ts';
import type { NewAllocation, Store } from '../store.ts';
import { createTenantReads, limitedIn } from '../tenants.ts';
import { type Bucket, FULL, permitIn, slowed, withoutPermit } from '../token-bucket.ts';
import { portions, upsertInto } from '../upsert.ts';
import { fileErrorOf, openFile, type SqliteFile, whileLocked } from './file.ts';
import { migrateSqlite, outdatedSqlite } from './migrate.ts';
import { createMover, createNoter, type Mover, type Noter } from './move.ts';
import * as tables from './schema.ts';
import { tallyInParts } from './tally.ts';

/** Rows of `add` in one transaction, which blocks the event loop. */
const ADDED_MAX = 2_000;

export interface SqliteOptions {
  /** Milliseconds since 1970. */
  readonly clock?: () => number;
  /** The start of each token, which tells the process that made the last move of a row. */
  readonly origin?: string;
  readonly observer?: Observer | undefined;
  /** How long a call waits for the transaction of another process, in milliseconds. Then it throws store-down. */
  readonly lockedMaxMs?: number;
  /** Whether the history is written. Default: yes. */
  readonly history?: boolean;
}

export const DIALECT: Dialect = {
  tables,
  refusedAt: tables.allocation.refusedAt,
  restedSince: tables.allocation.restedSince,
  isNever: column => sql`${column} IS NULL`,
  // The + keeps SQLite from the index of addresses, after which it would have to sort.
  numberOfFree: sql`+${tables.allocation.number}`,
  intentAt: tables.allocation.movedAt,
  partMax: 512,
  fingerprint: column => sql`${column}`,
  onConflict: (key, replaced) =>
    replaced.length === 0
      ? 'ON CONFLICT DO NOTHING'
      : `ON CONFLICT (${key}) DO UPDATE SET ${replaced.map(name => `${name} = excluded.${name}`).join()}`,
};

interface Open extends SqliteFile {
  readonly moveOne: Mover;
  readonly note: Noter;
}

/** Several processes may use the file at once. It is opened at the first call. */
export function createSqliteStore(path: string, options: SqliteOptions = {}): Store {
  const clock = options.clock ?? Date.now;
  const newToken = createTokens(options.origin);
  const { history: hasHistory = true } = options;
  let opened: Open | null = null;

  /** Runs `work`, which must not await, on the open file; again while another process has it locked. */
  async function on<T>(work: (file: Open, now: number) => T): Promise<T> {
    try {
      return await whileLocked(() => {
        opened ??= withMover(openFile(path));
        return work(opened, clock());
      }, options.lockedMaxMs);
    } catch (error) {
      throw fileErrorOf(error, path);
    }
  }
  const write = <T>(work: (file: Open, now: number) => T): Promise<T> =>
    on(file => file.transaction(() => work(file, clock())));
  const commit = (changes: readonly Change[]): Promise<Allocation[]> =>
    write((file, now) => {
      const { moveOne } = file;
      const token = newToken();
      const moved = changes.flatMap(change => {
        const row = isWithinQuota(file, change) ? moveOne(change, now, token) : null;
        if (row !== null && hasHistory && endsHolding(change.move)) file.note(change, now, token);
        return row ?? [];
      });
      if (hasHistory) noteEc2Calls(file, changes, moved, now);
      return moved;
    });

  const database: Database = {
    read: (selects, limit = Number.POSITIVE_INFINITY) =>
      on((file, now) => {
        const rows = file.snapshot(() => {
          const found = [];
          for (const select of selects) if (found.length < limit) found.push(...file.rows(select, now));
          return found;
        });
        return { now, rows: rows.slice(0, limit) };
      }),
    write: (changes, select) =>
      write((file, now) => {
        for (const change of changes) file.rows(change, now);
        return { now, rows: select === undefined ? [] : file.rows(select, now) };
      }),
  };

  return {
    migrate: () => on(({ client }) => migrateSqlite(client)),
    outdated: () => on(({ client }) => outdatedSqlite(client, path)),
    async close() {
      opened?.client.close();
      opened = null;
    },

    async lateOutcomes() {
      return { moved: [], unsettled: 0 }; // the outcome of a commit is always known here
    },
    move: createGroupCommit(commit, { lanesMax: 1, observer: options.observer }),
    async add(list) {
      const token = newToken();
      let added = 0;
      for (const portion of portions(list, ADDED_MAX)) {
        added += await write((file, now) => addRows(file, portion, now, token));
        await nextTurn();
      }
      return added;
    },

    ...createSharedStore(database, DIALECT, hasHistory),
    tally: () => tallyInParts(database, DIALECT.partMax),
    noteAttachments: (seen, readAt) =>
      write(file => {
        for (const { id, attachment } of seen)
          file.rows(sql`UPDATE ${tables.eni} SET attachment_seen_at = ${readAt}
            WHERE ${tables.eni.id} = ${id} AND ${tables.eni.attachment} IS ${attachment}`);
      }),
    takePermit: query =>
      write((file, now) => {
        const taken = permitIn(bucketNamed(file, query.name), query, now);
        if (taken !== null) saveBucket(file, query.name, taken.after);
        return taken?.waitMs ?? null;
      }),
    giveBackPermit: query =>
      write((file, now) =>
        saveBucket(file, query.name, withoutPermit(bucketNamed(file, query.name), query, now)),
      ),
    slowBucket: ({ name, aheadMs }) =>
      write((file, now) => {
        const after = slowed(bucketNamed(file, name), aheadMs, now);
        if (after !== null) saveBucket(file, name, after);
        return after?.halvings ?? null;
      }),
  };
}

/** Counted anew for each change, since the ones before count too. */
function isWithinQuota(file: Open, change: Change): boolean {
  const eni = startsToCount(change.move) ? ifaceAfter(change) : null;
  return eni === null || roomOf(limitedIn(file.rows(TENANTS.of(eni)))) > 0;
}
const TENANTS = createTenantReads(tables);

function noteEc2Calls(
  { client }: Open,
  changes: readonly Change[],
  moved: readonly Allocation[],
  now: number,
): void {
  const { begun, ended } = ec2CallsIn(changes);
  for (const [id, same] of begun) {
    const keys = new Set(same.map(({ row }) => keyOf(row)));
    const own = moved.filter(row => keys.has(keyOf(row))).sort((a, b) => numberOf(a.ip) - numberOf(b.ip));
    const [first] = own;
    if (first === undefined) continue;
    const ips = own.map(row => row.ip).join();
    const server = serverOf(first.token ?? '');
    client
      .prepare(`INSERT INTO ec2_call (id, at, action, iface, ips, server) VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT (id) DO UPDATE SET ips = ips || ',' || excluded.ips`)
      .run(id, now, actionOf(same[0] as Change), first.iface, ips, server);
  }
  for (const [id, result] of ended)
    client
      .prepare('UPDATE ec2_call SET ended_at = ?, result = ? WHERE id = ?')
      .run(now, result.slice(0, RESULT_CHARS_MAX), id);
}

const withMover = (file: SqliteFile): Open => ({
  ...file,
  moveOne: createMover(file),
  note: createNoter(file),
});

function addRows({ client }: Open, list: readonly NewAllocation[], now: number, token: string): number {
  const insert = client.prepare(`INSERT INTO allocation
    (ip, subnet, status, iface, "primary", number, spread, moved_at, token) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO NOTHING`);
  let added = 0;
  for (const { ip, subnet, status, iface, primary } of list) {
    const values = [ip, subnet, status, iface, Number(primary), bytesOf(ip), spreadOf(ip), now, token];
    added += Number(insert.run(...values).changes);
  }
  return added;
}

function bucketNamed(file: Open, name: string): Bucket {
  const [row] = file.rows(sql`SELECT * FROM ${tables.bucket} WHERE ${tables.bucket.name} = ${name}`);
  if (row === undefined) return FULL;
  const { emptyAt, halvings, throttledAt } = tables.bucket;
  return decode<Bucket>({ emptyAt, halvings, throttledAt }, row);
}

function saveBucket(file: Open, name: string, { emptyAt, halvings, throttledAt }: Bucket): void {
  const set = { emptyAt, halvings, throttledAt };
  file.rows(upsertInto(DIALECT, tables.bucket, [{ name, ...set }], Object.keys(set)));
}
