/** The ledger on MySQL or MariaDB. */
import { sql } from 'drizzle-orm';
import type { Observer } from '../../domain/observer.ts';
import { createTokens } from '../group-commit.ts';
import type { Dialect } from '../reads.ts';
import type { Row } from '../rows.ts';
import { createSharedStore } from '../sql-store.ts';
import type { Reading, Store } from '../store.ts';
import { portions } from '../upsert.ts';
import type { MysqlSpec } from '../url.ts';
import { createLink, LINK_BOUNDS, type LinkBounds, type Statement } from './connection.ts';
import { MysqlFailure } from './errors.ts';
import { addStatements, portionsOf } from './insert.ts';
import { migrateMysql, outdatedMysql } from './migrate.ts';
import { createMover } from './move.ts';
import { CALL_TIMEOUT_MS, insist, ipamErrorOf, placeOf, repeat } from './retry.ts';
import * as tables from './schema.ts';
import { BEGIN, COMMIT, plain, SELECT_NOW, setNow, statement } from './sql.ts';
import * as bucket from './token-bucket.ts';

export interface MysqlOptions {
  readonly spec: MysqlSpec;
  /** Used instead of the password in the spec. */
  readonly password?: string | null;
  /** The start of each token, which tells the process that made the last move of a row. */
  readonly origin?: string;
  /** How far the store's clock is ahead of the database's, in milliseconds. Tests set it forward. */
  readonly skewMs?: () => number;
  /** For a call with all its tries, in milliseconds. The settling of an unknown outcome has the same time again. */
  readonly callTimeoutMs?: number;
  readonly bounds?: Partial<LinkBounds>;
  /** Whether the history is written. Default: yes. */
  readonly history?: boolean;
  readonly observer?: Observer | undefined;
}

/** ENIs in one statement, well under 1 MiB. */
const ENIS_MAX = 500;
/** An ENI that is not attached has an empty text here, since `NULL IN (…)` is not true. */
const NOTE_ATTACHMENTS =
  "UPDATE `eni` SET `attachment_seen_at` = ? WHERE (`id`, COALESCE(`attachment`, '')) IN (?)";

export const DIALECT: Dialect = {
  tables,
  refusedAt: tables.allocation.freeRefusedAt,
  restedSince: tables.allocation.freeRestedSince,
  isNever: column => sql`${column} = 0`,
  numberOfFree: sql`${tables.allocation.number}`,
  intentAt: tables.allocation.intentAt,
  partMax: 16_384,
  fingerprint: column => sql`CRC32(${column})`,
  onConflict(key, replaced) {
    const sets = (replaced.length > 0 ? replaced : [key]).map(name => `${name} = VALUES(${name})`);
    return `ON DUPLICATE KEY UPDATE ${sets.join()}`;
  },
};

/** Its clock is the database's. It connects at the first call. */
export function createMysqlStore(options: MysqlOptions): Store {
  const { spec, skewMs = () => 0, callTimeoutMs = CALL_TIMEOUT_MS, history = true } = options;
  const place = placeOf(spec);
  const newToken = createTokens(options.origin);
  const link = createLink(spec, options.password ?? null, { ...LINK_BOUNDS, ...options.bounds });

  async function throwing<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      throw error instanceof MysqlFailure ? ipamErrorOf(error, place) : error;
    }
  }
  /** Sends the statements as one packet, with the time. Returns the rows of all. */
  async function send(statements: readonly Statement[], again = repeat): Promise<Reading<Row>> {
    const packet = [setNow(skewMs()), SELECT_NOW, ...statements];
    const [, clock, ...answers] = await throwing(again(link, packet, callTimeoutMs));
    return { now: Number(clock?.[0]?.now), rows: answers.flat() };
  }

  return {
    migrate: () => throwing(migrateMysql(link, place, callTimeoutMs)),
    outdated: () => throwing(outdatedMysql(link, place, callTimeoutMs)),
    async close() {
      link.close();
    },

    ...createMover(link, { place, newToken, skewMs, callTimeoutMs, history, observer: options.observer }),
    async add(list) {
      const token = newToken();
      let added = 0;
      for (const portion of portionsOf(list)) {
        const { rows } = await send(addStatements(portion, token));
        added += Number(rows.at(-1)?.count);
      }
      return added;
    },

    ...createSharedStore(
      {
        async read(selects, limit) {
          const { now, rows } = await send(selects.map(statement));
          return { now, rows: rows.slice(0, limit) };
        },
        // On Galera a SELECT in the transaction could return what its COMMIT then loses.
        write(changes, select) {
          const made = changes.map(statement);
          const transaction = made.length > 1 ? [BEGIN, ...made, COMMIT] : made;
          return send(select === undefined ? transaction : [...transaction, statement(select)]);
        },
      },
      DIALECT,
      history,
    ),
    async noteAttachments(seen, readAt) {
      const statements = portions(seen, ENIS_MAX).map(some =>
        plain(NOTE_ATTACHMENTS, [readAt, some.map(({ id, attachment }) => [id, attachment ?? ''])]),
      );
      if (statements.length > 0) await send(statements);
    },
    async takePermit(query) {
      const { rows } = await send(bucket.takePermit(query), insist);
      return bucket.waitOf(rows.at(-1));
    },
    async giveBackPermit(query) {
      await send(bucket.giveBackPermit(query));
    },
    async slowBucket({ name, aheadMs }) {
      const { rows } = await send(bucket.slowBucket(name, aheadMs));
      return bucket.halvingsOf(rows.at(-1));
    },
  };
}
