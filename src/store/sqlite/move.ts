import type { StatementSync } from 'node:sqlite';
import { and, eq, type SQL, sql } from 'drizzle-orm';
import { type Allocation, type Change, type MoveName, ruleOf } from '../../domain/allocation.ts';
import { toAllocation } from '../rows.ts';
import type { SqliteFile } from './file.ts';
import { type Db, DOMAIN_COLUMNS } from './queries.ts';
import { allocation } from './schema.ts';

/** Makes one change; the row as it now is, or null when it does not stand as the change says. */
export type Mover = (change: Change, now: number, token: string) => Allocation | null;

/** One prepared statement for each move, made when it is first needed. drizzle only words it: what it does to each
 *  row and parameter took longer than the move. */
export function createMover({ db, client }: SqliteFile): Mover {
  const prepared = new Map<MoveName, StatementSync>();
  return (change, now, token) => {
    const statement = prepared.get(change.move) ?? client.prepare(textOf(db, change.move));
    prepared.set(change.move, statement);
    const { subnet, ip, iface, generation } = change.row;
    const row = statement.get({ now, token, subnet, ip, iface, generation, ...givenBy(change, now) });
    return row === undefined ? null : toAllocation(row);
  };
}

/** SQLite takes no parameter that the statement doesn't name. */
function givenBy(change: Change, now: number): Record<string, string | number | null> {
  const rule = ruleOf(change.move);
  return {
    ...(rule.iface === 'give' && { giveIface: change.iface ?? null }),
    ...(rule.primary === 'give' && { givePrimary: change.primary ? 1 : 0 }),
    ...(rule.holder === 'give' && { giveHolder: change.holder ?? null }),
    ...(rule.refused === 'give' && { giveRefused: change.refused ? now : null }),
    ...(rule.leaves && { giveUnsure: change.unsure ? 1 : 0 }),
  };
}

const NULL = sql`NULL`;
const given = (name: string): SQL => sql.raw(`:${name}`);

/** What `moved` of the domain does, in SQL. SQLite reads the row as it was for all assignments. */
function textOf(db: Db, move: MoveName): string {
  const rule = ruleOf(move);
  const now = given('now');
  const { iface, missingSince, absentSince } = allocation;
  return db
    .update(allocation)
    .set({
      status: sql.raw(`'${rule.to}'`),
      generation: sql`${allocation.generation} + 1`,
      ...(!rule.goesOn && { movedAt: now }),
      token: given('token'),
      ...(rule.iface === 'give' && { iface: given('giveIface') }),
      ...(rule.iface === 'clear' && { iface: NULL }),
      ...(rule.primary === 'give' && { primary: given('givePrimary') }),
      ...(rule.primary === 'clear' && { primary: sql`0` }),
      ...(rule.holder === 'give' && { holder: given('giveHolder') }),
      ...(rule.holder === 'clear' && { holder: NULL }),
      ...(rule.rests && { restedSince: now, restedFrom: sql`${iface}` }),
      ...(rule.leaves && { leftAt: now, leftIface: sql`${iface}`, leftUnsure: given('giveUnsure') }),
      ...(rule.places && { placedAt: now }),
      ...(rule.missing === 'mark' && { missingSince: sql`coalesce(${missingSince}, ${now})` }),
      ...(rule.missing === 'clear' && { missingSince: NULL }),
      ...(rule.absent === 'mark' && { absentSince: sql`coalesce(${absentSince}, ${now})` }),
      ...(rule.absent === 'clear' && { absentSince: NULL }),
      ...(rule.refused === 'give' && { refusedAt: given('giveRefused') }),
      ...(rule.refused === 'clear' && { refusedAt: NULL }),
    })
    .where(
      and(
        eq(allocation.subnet, given('subnet')),
        eq(allocation.ip, given('ip')),
        sql`${allocation.status} = ${sql.raw(`'${rule.from}'`)}`,
        sql`${iface} IS ${given('iface')}`,
        eq(allocation.generation, given('generation')),
      ),
    )
    .returning(DOMAIN_COLUMNS)
    .toSQL().sql;
}
