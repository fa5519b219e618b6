/** Counts all rows of the ledger in parts, between which the requests of Docker go on: a /16 takes 30 ms. */
import { type SQL, sql } from 'drizzle-orm';
import type { Status } from '../../domain/allocation.ts';
import type { SubnetId } from '../../domain/ids.ts';
import { nextTurn } from '../next-turn.ts';
import type { Row } from '../rows.ts';
import type { Database } from '../sql-store.ts';
import type { Tally } from '../store.ts';
import { allocation } from './schema.ts';

const { number, status, subnet } = allocation;

/** The parts are cut by the addresses of the rows, which never change: each row counts once, with the status that it has
 *  when its part is read. */
export async function tallyInParts({ read }: Pick<Database, 'read'>, partMax: number): Promise<Tally[]> {
  const first = async (select: SQL): Promise<Row | undefined> => (await read([select])).rows[0];

  async function subnetAfter(id: string): Promise<SubnetId | null> {
    const row = await first(
      sql`SELECT ${subnet} FROM ${allocation} WHERE ${subnet} > ${id} ORDER BY ${subnet} LIMIT 1`,
    );
    return row === undefined ? null : (row.subnet as SubnetId);
  }
  async function countIn(id: SubnetId): Promise<Tally[]> {
    const counts = new Map<Status, number>();
    for (let after: unknown = Buffer.alloc(0); ; ) {
      const rest = sql`${subnet} = ${id} AND ${number} > ${after}`;
      const last = await first(
        sql`SELECT ${number} FROM ${allocation} WHERE ${rest} ORDER BY ${number} LIMIT 1 OFFSET ${partMax - 1}`,
      );
      const part = last === undefined ? rest : sql`${rest} AND ${number} <= ${last.number}`;
      const { rows } = await read([
        sql`SELECT ${status}, COUNT(*) AS found FROM ${allocation} WHERE ${part} GROUP BY ${status}`,
      ]);
      for (const row of rows) {
        const one = row.status as Status;
        counts.set(one, (counts.get(one) ?? 0) + Number(row.found));
      }
      await nextTurn();
      if (last === undefined) return [...counts].map(([one, count]) => ({ subnet: id, status: one, count }));
      after = last.number;
    }
  }

  const tally: Tally[] = [];
  for (let id = await subnetAfter(''); id !== null; id = await subnetAfter(id))
    tally.push(...(await countIn(id)));
  return tally;
}
