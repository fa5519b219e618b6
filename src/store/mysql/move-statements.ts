/** The statements of `Store.move` on MySQL. */
import { type Change, MOVES, type MoveName, ruleOf } from '../../domain/allocation.ts';
import {
  actionOf,
  causeOf,
  ec2CallsIn,
  endsHolding,
  RESULT_CHARS_MAX,
  serverOf,
} from '../../domain/history.ts';
import type { EniId } from '../../domain/ids.ts';
import { COUNTED, ifaceAfter, startsToCount } from '../../domain/tenant.ts';
import { groupBy, keyOf } from '../group-commit.ts';
import {
  type Assignment,
  AT_MOVE,
  assignmentsOf,
  BY_SERVER,
  type Given,
  insertRecord,
} from '../move-effects.ts';
import { ALLOCATION_KEYS, inKeyOrder } from '../rows.ts';
import { CHANGES_MAX } from '../store.ts';
import type { Statement } from './connection.ts';
import { DUPLICATE, LOCK_TIMEOUT, type MysqlFailure } from './errors.ts';
import { allocation } from './schema.ts';
import { AT_NOW, BEGIN, COMMIT, plain, ROLLBACK, setNow } from './sql.ts';

// Written by hand and built once for each move: to build a statement with drizzle took longer than the move. The driver
// expands an array to a list. Values are compared as bytes, which is fast and independent of the collation.
const WHO = "CAST(CONCAT_WS(' ', `subnet`, `ip`) AS BINARY)";
const STATE = "CAST(CONCAT_WS(' ', `subnet`, `ip`, `generation`, COALESCE(`iface`, '')) AS BINARY)";
/** Without it MySQL may scan a small table, which waits for every locked row. */
const BY_KEY = 'FORCE INDEX (PRIMARY)';
const stateOf = ({ row }: Change): string => `${row.subnet} ${row.ip} ${row.generation} ${row.iface ?? ''}`;

/** Makes all changes in one transaction and one round trip. The last answer has the rows that moved. It is read after
 *  the COMMIT: a Galera node rolls a transaction back without an error when it conflicts with another node's between
 *  two statements of a packet, and answers its COMMIT with success. */
export function moveStatements(
  batch: readonly Change[],
  token: string,
  skewMs: number,
  hasHistory = true,
): Statement[] {
  const sorted = batch.toSorted(inKeyOrder);
  const [counting, others] = [true, false].map(counts =>
    sorted.filter(({ move }) => startsToCount(move) === counts),
  ) as [Change[], Change[]];
  const updates = [
    ...[...groupBy(others, change => change.move)].map(([move, same]) => updateFor(move, same, token)),
    // Last, so that the rows of tenants are locked for the shortest time.
    ...withinQuotas([...groupBy(counting, ifaceAfter)], token),
  ];
  const ends = hasHistory ? sorted.filter(({ move }) => endsHolding(move)) : [];
  if (ends.length > 0) updates.push(noteStatement(ends, token));
  if (hasHistory) updates.push(...ec2CallStatements(sorted, token));
  const transaction = updates.length === 1 ? updates : [BEGIN, ...updates, COMMIT];
  return [setNow(skewMs), ...transaction, selectMoved(sorted, token)];
}

/** Writes the records of the holdings that were ended: their rows have the token. A record of the same row and generation
 *  is of a ledger that was restored from a copy, and stays. */
function noteStatement(changes: readonly Change[], token: string): Statement {
  const cause = valuePerRow(changes, causeOf, token);
  const call = valuePerRow(changes, change => change.call ?? null, token);
  const are = areOf(changes);
  return plain(
    `${insertRecord([cause.sql, call.sql, '?'])} FROM \`allocation\` ${BY_KEY} WHERE \`token\` = ? AND ${are.sql}
    ON DUPLICATE KEY UPDATE \`at\` = \`history\`.\`at\``,
    [...cause.params, ...call.params, serverOf(token), token, ...are.params],
  );
}

/** Notes the EC2 calls whose intents were written, and the results of those that are settled. The intents of one call may
 *  be written by several moves. */
function ec2CallStatements(changes: readonly Change[], token: string): Statement[] {
  const { begun, ended } = ec2CallsIn(changes);
  return [
    ...[...begun].map(([id, same]) => {
      const are = areOf(same);
      return plain(
        `INSERT INTO \`ec2_call\` (\`id\`, \`at\`, \`action\`, \`iface\`, \`ips\`, \`server\`)
        SELECT ?, @now, ?, \`iface\`, GROUP_CONCAT(\`ip\` ORDER BY \`number\`), ?
        FROM \`allocation\` ${BY_KEY} WHERE \`token\` = ? AND ${are.sql} GROUP BY \`iface\`
        ON DUPLICATE KEY UPDATE \`ips\` = CONCAT(\`ec2_call\`.\`ips\`, ',', VALUES(\`ips\`))`,
        [id, actionOf(same[0] as Change), serverOf(token), token, ...are.params],
      );
    }),
    ...[...ended].map(([id, result]) =>
      plain('UPDATE `ec2_call` SET `ended_at` = @now, `result` = ? WHERE `id` = ?', [
        result.slice(0, RESULT_CHARS_MAX),
        id,
      ]),
    ),
  ];
}

/** Whether a failed packet of `moveStatements` ended before its commit. The first error ends a packet, so the number
 *  of answers tells which statement failed. On Galera the statement that commits, and the read after it, may fail
 *  although the cluster has committed. */
export function endedBeforeCommit(statements: readonly Statement[], failure: MysqlFailure): boolean {
  if (failure.errno === 0) return false;
  const committing = statements.length - 2;
  if (failure.answered !== committing) return failure.answered < committing;
  // An UPDATE without a transaction commits at its end: it has changed nothing when it fails for a lock, for the value
  // of another row, or permanently.
  const isUnmade = failure.outcome === 'permanent' || [LOCK_TIMEOUT, DUPLICATE].includes(failure.errno);
  return statements[committing] !== COMMIT && isUnmade;
}

/** Rolls back a packet that failed. The last answer has the rows that moved nevertheless. */
export const undoStatements = (batch: readonly Change[], token: string): Statement[] => [
  ROLLBACK,
  selectMoved(batch, token),
];

/** Finds the rows that have the ids of the requests of the batch. */
export const requestStatement = (batch: readonly Change[]): Statement =>
  plain('SELECT `subnet`, `ip`, `request_id` FROM `allocation` WHERE `request_id` IN (?)', [
    batch.flatMap(({ requestId }) => requestId ?? []),
  ]);

/** Finds locked rows: the second answer has all rows of the batch, the third those without a lock. */
export function lockStatements(batch: readonly Change[]): Statement[] {
  const { sql, params } = areOf(batch);
  const select = `SELECT \`subnet\`, \`ip\` FROM \`allocation\` ${BY_KEY} WHERE ${sql}`;
  return [BEGIN, plain(select, params), plain(`${select} FOR UPDATE SKIP LOCKED`, params), ROLLBACK];
}

/** Settles a move with an unknown outcome. It raises the generation of rows that have not moved, so that a statement
 *  which is still under way does not apply; then it reads the rows. On a cluster node that is behind, a row has an
 *  older generation: the cluster refuses to raise it, and the packet is sent again when the node has caught up. */
export function settleStatements(batch: readonly Change[], token: string): Statement[] {
  const sorted = batch.toSorted(inKeyOrder);
  const groups = groupBy(sorted, ({ row }) => `${row.subnet} ${row.generation}`);
  const older = [...groups.values()].map(same => {
    const [{ row }] = same as [Change];
    const { sql, params } = areOf(same);
    return plain(`(\`generation\` <= ? AND ${sql})`, [row.generation, ...params]);
  });
  const bump = plain(
    `UPDATE \`allocation\` ${BY_KEY} SET \`generation\` = \`generation\` + 1, \`ts\` = \`ts\` WHERE ${older.map(one => one.sql).join(' OR ')}`,
    older.flatMap(one => one.params),
  );
  return [bump, selectMoved(sorted, token)];
}

/** The condition for the rows of the changes, by primary key. */
function areOf(changes: readonly Change[]): Statement {
  const bySubnet = [...groupBy(changes, change => change.row.subnet)];
  const sql = bySubnet.map(() => '(`subnet` = ? AND `ip` IN (?))').join(' OR ');
  return plain(
    `(${sql})`,
    bySubnet.flatMap(([subnet, same]) => [subnet, same.map(change => change.row.ip)]),
  );
}

const selectMoved = (changes: readonly Change[], token: string): Statement => {
  const { sql, params } = areOf(changes);
  return plain(`${SELECT_MOVED} AND ${sql}`, [token, ...params]);
};
const columns = ALLOCATION_KEYS.map(key => `\`${allocation[key].name}\``);
const SELECT_MOVED = `SELECT ${columns.join()} FROM \`allocation\` WHERE \`token\` = ?`;

function updateFor(move: MoveName, changes: readonly Change[], token: string): Statement {
  return updateWhere(move, changes, token, plain(`${STATE} IN (?)`, [changes.map(stateOf)]));
}

/** `which` chooses the rows of the changes whose state is unchanged. */
function updateWhere(move: MoveName, changes: readonly Change[], token: string, which: Statement): Statement {
  const { sets, from } = UPDATES[move];
  const given = sets.map(set => set(changes, token));
  const { sql, params } = areOf(changes);
  return plain(
    `UPDATE \`allocation\` ${BY_KEY} SET ${given.map(one => one.sql).join(', ')} WHERE ${from} AND ${sql} AND ${which.sql}`,
    [...given.flatMap(one => one.params), ...params, ...which.params],
  );
}

/**
 * Makes changes that count against the quota of the tenant of their ENI: the first ones, as many as it has room for. The
 * rows of the tenants are changed, and so locked, before the first addresses are counted. On Galera, where a lock is known
 * on one node only, two transactions that change one of them conflict, and one of the two is rolled back. That may happen
 * without an error between two statements, and the rest of the packet then is no transaction any more: so the UPDATE
 * checks that the tenant's row still has the token. An ENI without a declared tenant has room for all.
 */
function withinQuotas(byEni: readonly [EniId | null, readonly Change[]][], token: string): Statement[] {
  const which = (same: readonly Change[]) =>
    plain(`FIELD(${STATE}, ?) BETWEEN 1 AND @room AND ${IS_LOCKED}`, [same.map(stateOf), token]);
  return [
    ...byEni.flatMap(([eni]) => [setTenant(eni), plain(LOCK_TENANT, [token])]),
    ...byEni.flatMap(([eni, changes]) =>
      [...groupBy(changes, change => change.move)].flatMap(([move, same]) => [
        setTenant(eni),
        plain(SELECT_ROOM, [COUNTED, CHANGES_MAX]),
        updateWhere(move, same, token, which(same)),
      ]),
    ),
  ];
}
const setTenant = (eni: EniId | null): Statement =>
  plain('SET @tenant = (SELECT `tenant` FROM `eni` WHERE `id` = ?)', [eni]);
const LOCK_TENANT = 'UPDATE `tenant` SET `generation` = `generation` + 1, `token` = ? WHERE `name` = @tenant';
/** A plain read, since SET would lock all addresses that it counts. The first plain read of a transaction fixes what it
 *  sees: so all tenants are locked before. */
const SELECT_ROOM =
  'SELECT COALESCE((SELECT `quota` FROM `tenant` WHERE `name` = @tenant) - (SELECT COUNT(*) FROM `eni` ' +
  'JOIN `allocation` ON `allocation`.`iface` = `eni`.`id` WHERE `eni`.`tenant` = @tenant ' +
  'AND `allocation`.`status` IN (?) AND `allocation`.`primary` = 0), ?) INTO @room';
const IS_LOCKED = 'NOT EXISTS (SELECT 1 FROM `tenant` WHERE `name` = @tenant AND NOT `tenant`.`token` <=> ?)';

type Setter = (changes: readonly Change[], token: string) => Statement;

function setterOf(assignment: Assignment): Setter {
  if (typeof assignment !== 'string') return (changes, token) => perRow(assignment, changes, token);
  const set = plain(assignment);
  return () => set;
}

function perRow({ column, given, isKept }: Given, changes: readonly Change[], token: string): Statement {
  const { sql, params } = valuePerRow(changes, given, token);
  return plain(`\`${column}\` = ${isKept ? `COALESCE(${sql}, \`${column}\`)` : sql}`, params);
}

/** One value if all changes give the same, else the value by row. */
function valuePerRow(
  changes: readonly Change[],
  given: (change: Change) => unknown,
  token: string,
): Statement {
  const meant = (value: unknown) =>
    value === AT_MOVE ? AT_NOW : value === BY_SERVER ? serverOf(token) : value;
  const values = changes.map(change => meant(given(change)));
  if (values.every(value => value === values[0])) return plain('?', [values[0]]);
  return plain(`ELT(FIELD(${WHO}, ?), ?)`, [changes.map(({ row }) => keyOf(row)), values]);
}

const UPDATES = Object.fromEntries(
  (Object.keys(MOVES) as MoveName[]).map(move => {
    const { from, to } = ruleOf(move);
    const always = `\`status\` = '${to}', \`generation\` = \`generation\` + 1, \`token\` = ?`;
    const sets: Setter[] = [...assignmentsOf(move).map(setterOf), (_, token) => plain(always, [token])];
    return [move, { sets, from: `\`status\` = '${from}'` }];
  }),
) as Record<MoveName, { sets: Setter[]; from: string }>;
