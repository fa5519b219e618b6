/** INSERT with what happens to rows that are there, in the words of each dialect. */
import { type Column, getTableColumns, type SQL, sql, type Table } from 'drizzle-orm';
import type { Dialect } from './reads.ts';

export type Values = Readonly<Record<string, unknown>>;

interface UpsertOptions {
  /** How many of the first values are the key. */
  readonly keyColumns?: number;
  /** Under this condition only. */
  readonly only?: SQL;
}

/** Inserts the rows. Where the first of its values, or as many as `keyColumns`, are the key of a row that is there, it
 *  replaces `replaced` or nothing. */
export function upsertInto(
  { onConflict }: Pick<Dialect, 'onConflict'>,
  table: Table,
  rows: readonly Values[],
  replaced: readonly string[],
  { keyColumns = 1, only }: UpsertOptions = {},
): SQL {
  const columns: Record<string, Column> = getTableColumns(table);
  const keys = Object.keys(rows[0] ?? {});
  const nameOf = (key: string) => `\`${columns[key]?.name}\``;
  const key = keys.slice(0, keyColumns).map(nameOf).join();
  return sql`INSERT INTO ${table} (${sql.raw(keys.map(nameOf).join())}) ${only === undefined ? valuesOf() : selected(only)}
    ${sql.raw(onConflict(key, replaced.map(nameOf)))}`;

  function valuesOf(): SQL {
    const values = rows.map(row => sql`${keys.map(one => plain(row[one]))}`);
    return sql`VALUES ${sql.join(values, sql`, `)}`;
  }
  function selected(condition: SQL): SQL {
    const selects = rows.map(row => {
      const values = keys.map(one => sql`${plain(row[one])} AS ${sql.raw(nameOf(one))}`);
      return sql`SELECT ${sql.join(values, sql`, `)}`;
    });
    return sql`SELECT * FROM (${sql.join(selects, sql` UNION ALL `)}) AS fresh WHERE ${condition}`;
  }
}
// node:sqlite accepts no booleans.
const plain = (value: unknown): unknown => (typeof value === 'boolean' ? Number(value) : value);

/** `list` in portions of at most `max`. */
export const portions = <T>(list: readonly T[], max: number): T[][] =>
  Array.from({ length: Math.ceil(list.length / max) }, (_, i) => list.slice(i * max, (i + 1) * max));
