/** Makes one move of one row in SQLite, by a statement that is prepared once for each move. */
import type { SQLInputValue, StatementSync } from 'node:sqlite';
import { type Allocation, type Change, type MoveName, ruleOf } from '../../domain/allocation.ts';
import { causeOf, serverOf } from '../../domain/history.ts';
import { AT_MOVE, assignmentsOf, BY_SERVER, type Given, insertRecord } from '../move-effects.ts';
import { ALLOCATION_KEYS, allocationOf } from '../rows.ts';
import type { SqliteFile } from './file.ts';
import { allocation } from './schema.ts';

/** Returns the row as it is after the change; null when the row has another state than the change says. */
export type Mover = (change: Change, now: number, token: string) => Allocation | null;

type Values<T> = (change: Change, now: number, token: string) => T;

/** A statement, and the values of its parameters in their order: to bind them by name makes a move a seventh slower. */
interface Prepared {
  readonly statement: StatementSync;
  readonly values: Values<SQLInputValue[]>;
}

export function createMover({ client }: SqliteFile): Mover {
  const prepared = new Map<MoveName, Prepared>();
  return (change, now, token) => {
    const { move } = change;
    const { statement, values } = prepared.get(move) ?? prepareMove(client, move);
    if (!prepared.has(move)) prepared.set(move, { statement, values });
    const row = unlessTaken(() => statement.get(...values(change, now, token)) as unknown[] | undefined);
    return row === undefined ? null : allocationOf(row);
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

function prepareMove(client: SqliteFile['client'], move: MoveName): Prepared {
  const { from, to } = ruleOf(move);
  const assignments = assignmentsOf(move);
  const sets = assignments.map(one =>
    typeof one === 'string' ? one : `\`${one.column}\` = ${newValue(one)}`,
  );
  const columns = ALLOCATION_KEYS.map(key => `\`${allocation[key].name}\``);
  const given = assignments.flatMap(one =>
    typeof one === 'string' ? [] : [[`new_${one.column}`, givenBy(one)] as const],
  );
  const prepared = prepare(
    client,
    `UPDATE \`allocation\`
    SET ${[...sets, `\`status\` = '${to}'`].join(', ')}, \`generation\` = \`generation\` + 1, \`token\` = @token,
      \`ts\` = CURRENT_TIMESTAMP
    WHERE \`subnet\` = @subnet AND \`ip\` = @ip AND \`status\` = '${from}' AND \`iface\` IS @iface
      AND \`generation\` = @generation
    RETURNING ${columns.join()}`,
    Object.fromEntries(given),
  );
  prepared.statement.setReturnArrays(true); // in half the time of an object
  return prepared;
}

const OF_CHANGE: Readonly<Record<string, Values<unknown>>> = {
  now: (_change, now) => now,
  token: (_change, _now, token) => token,
  server: (_change, _now, token) => serverOf(token),
  subnet: ({ row }) => row.subnet,
  ip: ({ row }) => row.ip,
  iface: ({ row }) => row.iface,
  generation: ({ row }) => row.generation,
  cause: change => causeOf(change),
  call: change => change.call ?? null,
};

/** Prepares a statement whose parameters have names in its text: those of a change, and `given`. */
function prepare(
  client: SqliteFile['client'],
  text: string,
  given: Readonly<Record<string, Values<unknown>>> = {},
): Prepared {
  const all = { ...OF_CHANGE, ...given };
  const each: Values<SQLInputValue>[] = [];
  // Each place has a parameter of its own: Node 22 does not bind a numbered one by its place.
  const placed = text.replace(/@(\w+)/g, (_, name: string) => {
    each.push(all[name] as Values<SQLInputValue>);
    return '?';
  });
  return {
    statement: client.prepare(placed),
    values: (change, now, token) => each.map(of => of(change, now, token)),
  };
}

const givenBy =
  ({ given }: Given): Values<unknown> =>
  (change, now, token) => {
    const value = given(change);
    return value === AT_MOVE ? now : value === BY_SERVER ? serverOf(token) : value;
  };

const newValue = ({ column, isKept }: Given): string =>
  isKept ? `COALESCE(@new_${column}, \`${column}\`)` : `@new_${column}`;

/** Notes the holding that a change ended, after the change. */
export type Noter = (change: Change, now: number, token: string) => void;

/** A record of the same row and generation stays: it is of a ledger that was restored from a copy. */
export function createNoter({ client }: SqliteFile): Noter {
  let insert: Prepared | null = null;
  return (change, now, token) => {
    insert ??= prepare(
      client,
      `${insertRecord(['@cause', '@call', '@server'])} FROM allocation
        WHERE subnet = @subnet AND ip = @ip ON CONFLICT DO NOTHING`,
    );
    insert.statement.run(...insert.values(change, now, token));
  };
}
