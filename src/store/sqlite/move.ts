/** Makes one move of one row in SQLite, by a statement that is prepared once for each move. */
import type { StatementSync } from 'node:sqlite';
import { type Allocation, type Change, type MoveName, ruleOf } from '../../domain/allocation.ts';
import { causeOf, serverOf } from '../../domain/history.ts';
import { AT_MOVE, assignmentsOf, BY_SERVER, type Given, insertRecord } from '../move-effects.ts';
import { ALLOCATION_KEYS, toAllocation } from '../rows.ts';
import type { SqliteFile } from './file.ts';
import { allocation } from './schema.ts';

/** Returns the row as it is after the change; null when the row has another state than the change says. */
export type Mover = (change: Change, now: number, token: string) => Allocation | null;

interface Prepared {
  readonly statement: StatementSync;
  /** Whether it names the time. SQLite accepts only parameters that the statement names. */
  readonly isTimed: boolean;
  /** The parameters of the change itself. */
  readonly given: readonly { readonly name: string; of(change: Change): unknown }[];
}

export function createMover({ client }: SqliteFile): Mover {
  const prepared = new Map<MoveName, Prepared>();
  return (change, now, token) => {
    const known = prepared.get(change.move);
    const { statement, isTimed, given } = known ?? prepare(client, change.move);
    if (known === undefined) prepared.set(change.move, { statement, isTimed, given });
    const { subnet, ip, iface, generation } = change.row;
    const values: Record<string, string | number | null> = { token, subnet, ip, iface, generation };
    if (isTimed) values.now = now;
    for (const { name, of } of given) {
      const value = of(change);
      values[name] =
        value === AT_MOVE ? now : value === BY_SERVER ? serverOf(token) : (value as string | number | null);
    }
    const row = unlessTaken(() => statement.get(values));
    return row === undefined ? null : toAllocation(row);
  };
}

// By SQLite's text, since not every runtime passes on the code. The error ends the statement, not the transaction.
const ID_TAKEN = 'UNIQUE constraint failed: allocation.request_id';

/** Returns undefined if another row has the id of the request. */
function unlessTaken<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (error instanceof Error && error.message.startsWith(ID_TAKEN)) return undefined;
    throw error;
  }
}

function prepare(client: SqliteFile['client'], move: MoveName): Prepared {
  const { from, to } = ruleOf(move);
  const assignments = assignmentsOf(move);
  const sets = assignments.map(one =>
    typeof one === 'string' ? one : `\`${one.column}\` = ${newValue(one)}`,
  );
  const columns = ALLOCATION_KEYS.map(key => `\`${allocation[key].name}\``);
  const statement = client.prepare(`UPDATE \`allocation\`
    SET ${[...sets, `\`status\` = '${to}'`].join(', ')}, \`generation\` = \`generation\` + 1, \`token\` = @token,
      \`ts\` = CURRENT_TIMESTAMP
    WHERE \`subnet\` = @subnet AND \`ip\` = @ip AND \`status\` = '${from}' AND \`iface\` IS @iface
      AND \`generation\` = @generation
    RETURNING ${columns.join()}`);
  const given = assignments.flatMap(one =>
    typeof one === 'string' ? [] : { name: `new_${one.column}`, of: one.given },
  );
  return { statement, isTimed: sets.some(set => set.includes('@now')), given };
}

const newValue = ({ column, isKept }: Given): string =>
  isKept ? `COALESCE(@new_${column}, \`${column}\`)` : `@new_${column}`;

/** Notes the holding that a change ended, after the change. */
export type Noter = (change: Change, now: number, token: string) => void;

/** A record of the same row and generation stays: it is of a ledger that was restored from a copy. */
export function createNoter({ client }: SqliteFile): Noter {
  let insert: StatementSync | null = null;
  return (change, now, token) => {
    insert ??= client.prepare(`${insertRecord(['@cause', '@call', '@server'])} FROM allocation
      WHERE subnet = @subnet AND ip = @ip ON CONFLICT DO NOTHING`);
    const { subnet, ip } = change.row;
    const given = { cause: causeOf(change), call: change.call ?? null, server: serverOf(token) };
    insert.run({ now, subnet, ip, ...given });
  };
}
