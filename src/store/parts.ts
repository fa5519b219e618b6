/** What people are shown of many rows is read in parts, since SQLite reads while this process waits. Between two of them
 *  the requests of Docker go on. Each part is of its own state of the database: a row that moves to another ENI meanwhile
 *  may be read twice, or not at all. */
import { type Column, type SQL, sql } from 'drizzle-orm';
import type { Read } from './looks.ts';
import { nextTurn } from './next-turn.ts';
import type { Dialect } from './reads.ts';
import type { Row } from './rows.ts';
import type { Reading } from './store.ts';

/** Whether the ENI in the column belongs to the part. */
type IsPart = (id: Column) => SQL;

/** Returns at most `limit` rows of a select that reads all addresses on ENIs, which it is asked for each part of the ENIs.
 *  An ENI is in one part whole. `left`: how many rows are wanted still. */
export async function inEniParts(
  read: Read,
  dialect: Pick<Dialect, 'tables' | 'partMax'>,
  limit: number,
  selectIn: (isPart: IsPart, left: number) => SQL,
): Promise<Reading<Row>> {
  const found: Row[] = [];
  for (let after = ''; ; ) {
    const last = await lastOfPart(read, dialect, after);
    const isPart: IsPart = id =>
      last === null ? sql`${id} > ${after}` : sql`${id} > ${after} AND ${id} <= ${last}`;
    const { now, rows } = await read([selectIn(isPart, limit - found.length)]);
    found.push(...rows);
    if (last === null || found.length >= limit) return { now, rows: found };
    after = last;
    await nextTurn();
  }
}

/** The last ENI of the part that begins after this one; null: there are no more. Only the index is read. */
async function lastOfPart(
  read: Read,
  { tables: { allocation }, partMax }: Pick<Dialect, 'tables' | 'partMax'>,
  after: string,
): Promise<string | null> {
  const { iface, number } = allocation;
  const { rows } = await read([
    sql`SELECT ${iface} FROM ${allocation} WHERE ${iface} > ${after} ORDER BY ${iface}, ${number}
      LIMIT 1 OFFSET ${partMax - 1}`,
  ]);
  return rows[0] === undefined ? null : String(rows[0].iface);
}
