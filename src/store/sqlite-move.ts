import { and, eq, type SQL, sql } from 'drizzle-orm';
import { type Allocation, type Change, type MoveName, ruleOf } from '../domain/allocation.ts';
import { allocation } from './sqlite-schema.ts';
import { type Db, DOMAIN_COLUMNS } from './sqlite-sql.ts';

/** Makes one change; the row as it now is, or null when it does not stand as the change says. */
export type Mover = (change: Change, now: number, token: string) => Allocation | null;

/** One prepared statement for each move, made when it is first needed. */
export function moverOn(db: Db): Mover {
  const prepared = new Map<MoveName, ReturnType<typeof prepareMove>>();
  return (change, now, token) => {
    const statement = prepared.get(change.move) ?? prepareMove(db, change.move);
    prepared.set(change.move, statement);
    const { subnet, ip, iface, generation } = change.row;
    const given = {
      giveIface: change.iface ?? null,
      givePrimary: change.primary ? 1 : 0,
      giveHolder: change.holder ?? null,
      giveRefused: change.refused ? now : null,
    };
    return statement.get({ now, token, subnet, ip, iface, generation, ...given }) ?? null;
  };
}

const given = (name: string): SQL => sql`${sql.placeholder(name)}`;

/** What `moved` of the domain does, in SQL. SQLite reads the row as it was for all assignments. */
function prepareMove(db: Db, move: MoveName) {
  const rule = ruleOf(move);
  const now = given('now');
  const { iface, missingSince, absentSince } = allocation;
  return db
    .update(allocation)
    .set({
      status: rule.to,
      generation: sql`${allocation.generation} + 1`,
      movedAt: now,
      token: given('token'),
      ...(rule.iface === 'give' && { iface: given('giveIface') }),
      ...(rule.iface === 'clear' && { iface: null }),
      ...(rule.primary === 'give' && { primary: given('givePrimary') }),
      ...(rule.primary === 'clear' && { primary: false }),
      ...(rule.holder === 'give' && { holder: given('giveHolder') }),
      ...(rule.holder === 'clear' && { holder: null }),
      ...(rule.rests && { restedSince: now, restedFrom: sql`${iface}` }),
      ...(rule.leaves && { leftAt: now, leftIface: sql`${iface}` }),
      ...(rule.missing === 'mark' && { missingSince: sql`coalesce(${missingSince}, ${now})` }),
      ...(rule.missing === 'clear' && { missingSince: null }),
      ...(rule.absent === 'mark' && { absentSince: sql`coalesce(${absentSince}, ${now})` }),
      ...(rule.absent === 'clear' && { absentSince: null }),
      ...(rule.refused === 'give' && { refusedAt: given('giveRefused') }),
      ...(rule.refused === 'clear' && { refusedAt: null }),
    })
    .where(
      and(
        eq(allocation.subnet, given('subnet')),
        eq(allocation.ip, given('ip')),
        eq(allocation.status, rule.from),
        sql`${iface} IS ${given('iface')}`,
        eq(allocation.generation, given('generation')),
      ),
    )
    .returning(DOMAIN_COLUMNS)
    .prepare();
}
