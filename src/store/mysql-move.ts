import { and, eq, inArray, lte, or, type SQL, sql } from 'drizzle-orm';
import { type Allocation, type Change, type MoveName, type RowState, ruleOf } from '../domain/allocation.ts';
import type { SubnetId } from '../domain/ids.ts';
import { groupBy } from './batch.ts';
import type { Statement } from './mysql-link.ts';
import { allocation } from './mysql-schema.ts';
import { BEGIN, build, COMMIT, DOMAIN_COLUMNS, NOW, setNow, statement } from './mysql-sql.ts';
import type { Moved } from './store.ts';

/** All changes in one transaction and one round trip; the last answer has the rows that moved. It is asked after
 *  the COMMIT: on a Galera node a transaction that loses to another node's between two statements of one packet
 *  is undone without a word, and its COMMIT is answered as if it had been made. */
export function moveStatements(batch: readonly Change[], token: string, skewMs: number): Statement[] {
  const sorted = inKeyOrder(batch);
  const byMove = groupBy(sorted, change => change.move);
  const updates = [...byMove].map(([move, changes]) => updateFor(move, changes, token));
  return [setNow(skewMs), BEGIN, ...updates, COMMIT, selectMoved(sorted, token)];
}

/** Ends a move of which nobody knows what became: where the old generation still stands, it stands no more,
 *  so that a statement that is still under way somewhere finds nothing; then the rows are read. A cluster node
 *  that lags has the row in an older generation yet: bumping that meets what is on its way to it, is refused by
 *  the cluster, and comes again once the node has caught up. */
export function settleStatements(batch: readonly Change[], token: string): Statement[] {
  const sorted = inKeyOrder(batch);
  const bump = build
    .update(allocation)
    .set({ generation: sql`${allocation.generation} + 1`, ts: sql`${allocation.ts}` })
    .where(standAtMost(sorted));
  return [statement(bump), selectMoved(sorted, token)];
}

/** Batches that lock rows in one and the same order seldom deadlock. */
const inKeyOrder = (batch: readonly Change[]): Change[] =>
  batch.toSorted((a, b) => compare(a.row.subnet, b.row.subnet) || compare(a.row.ip, b.row.ip));
const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

const updateFor = (move: MoveName, changes: readonly Change[], token: string): Statement =>
  statement(
    build
      .update(allocation)
      .set(effectsOf(move, changes, token))
      .where(stand(changes)),
  );

// Lists of addresses in one IN are found by halving; 500 conditions in one OR would be tried one by one,
// for each of 500 rows.
const isOneOf = (subnet: SubnetId, changes: readonly Change[]): SQL | undefined =>
  and(
    inArray(
      allocation.ip,
      changes.map(change => change.row.ip),
    ),
    eq(allocation.subnet, subnet),
  );
const areOf = (changes: readonly Change[]): SQL | undefined =>
  or(...[...groupBy(changes, change => change.row.subnet)].map(([subnet, same]) => isOneOf(subnet, same)));

/** The rows of the changes, as far as they still are as the changes say. */
function stand(changes: readonly Change[]): SQL | undefined {
  const alike = groupBy(changes, ({ row }) => [row.subnet, row.status, row.iface, row.generation].join());
  return or(
    ...[...alike.values()].map(same => {
      const [{ row }] = same as [Change];
      return and(
        eq(allocation.generation, row.generation),
        eq(allocation.status, row.status),
        sql`${allocation.iface} <=> ${row.iface}`,
        isOneOf(row.subnet, same),
      );
    }),
  );
}

/** The rows of the changes, as far as they have not gone beyond the generation that the changes name. */
const standAtMost = (changes: readonly Change[]): SQL | undefined =>
  or(
    ...[...groupBy(changes, ({ row }) => [row.subnet, row.generation].join()).values()].map(same => {
      const [{ row }] = same as [Change];
      return and(lte(allocation.generation, row.generation), isOneOf(row.subnet, same));
    }),
  );

/** What `moved` of the domain does, in SQL. MySQL assigns from left to right and a later column sees the
 *  earlier ones' new values, so `iface` as it was comes from the change, which holds only while that stands. */
function effectsOf(move: MoveName, changes: readonly Change[], token: string) {
  const rule = ruleOf(move);
  const each = (given: (change: Change) => Given) => eachOf(changes, given);
  const iface = (change: Change) => change.row.iface;
  return {
    status: rule.to,
    generation: sql`${allocation.generation} + 1`,
    movedAt: NOW,
    token,
    ...(rule.iface === 'give' && { iface: each(change => change.iface ?? null) }),
    ...(rule.iface === 'clear' && { iface: null }),
    ...(rule.primary === 'give' && { primary: each(change => (change.primary ? 1 : 0)) }),
    ...(rule.primary === 'clear' && { primary: false }),
    ...(rule.holder === 'give' && { holder: each(change => change.holder ?? null) }),
    ...(rule.holder === 'clear' && { holder: null }),
    ...(rule.rests && { restedSince: NOW, restedFrom: each(iface) }),
    ...(rule.leaves && { leftAt: NOW, leftIface: each(iface) }),
    ...(rule.missing === 'mark' && { missingSince: sql`COALESCE(${allocation.missingSince}, ${NOW})` }),
    ...(rule.missing === 'clear' && { missingSince: null }),
    ...(rule.absent === 'mark' && { absentSince: sql`COALESCE(${allocation.absentSince}, ${NOW})` }),
    ...(rule.absent === 'clear' && { absentSince: null }),
    ...(rule.refused === 'give' && { refusedAt: each(change => (change.refused ? NOW : null)) }),
    ...(rule.refused === 'clear' && { refusedAt: null }),
  };
}

type Given = string | number | null | SQL;
/** One value if all changes give the same, else the value by row. */
function eachOf(changes: readonly Change[], given: (change: Change) => Given): SQL {
  const byValue = [...groupBy(changes, given)];
  const [first, ...others] = byValue;
  if (first === undefined || others.length === 0) return sql`${first?.[0]}`;
  const cases = byValue.map(([value, same]) => sql`WHEN ${areOf(same)} THEN ${value}`);
  return sql`CASE ${sql.join(cases, sql` `)} END`;
}

const selectMoved = (changes: readonly Change[], token: string): Statement =>
  statement(
    build
      .select(DOMAIN_COLUMNS)
      .from(allocation)
      .where(and(eq(allocation.token, token), areOf(changes))),
  );

/** The changes that moved these rows, each with its row, in the order of the changes. */
export function movedBy(batch: readonly Change[], rows: readonly Allocation[]): Moved[] {
  const keyOf = (row: RowState): string => `${row.subnet} ${row.ip}`;
  const byKey = new Map(rows.map(row => [keyOf(row), row]));
  return batch.flatMap(change => {
    const row = byKey.get(keyOf(change.row));
    return row === undefined ? [] : [{ change, row }];
  });
}

export const inOrderOf = (batch: readonly Change[], rows: readonly Allocation[]): Allocation[] =>
  movedBy(batch, rows).map(({ row }) => row);
