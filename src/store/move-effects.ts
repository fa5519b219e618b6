/** The effects of a move as SQL assignments, for MySQL and SQLite. They do what `moved` of the domain does. */
import { type Change, type MoveName, ruleOf } from '../domain/allocation.ts';
import { endsHolding } from '../domain/history.ts';

/** In place of a value: the time of the move, and the id of the server that makes it. */
export const AT_MOVE = Symbol('the time of the move');
export const BY_SERVER = Symbol('the id of the server');

/** SQL text in which `@now` is the time of the move; or a column whose value each change gives. */
export type Assignment = string | Given;
export interface Given {
  readonly column: string;
  readonly given: (change: Change) => unknown;
  /** Where the change gives null, the column is unchanged. */
  readonly isKept?: true;
}

// The end of a holding clears its row. The record of it is written afterwards, and only from a row that has the token of
// the batch: so the same statement puts aside what it clears.
const KEEP_HOLDING =
  '`held_since` = `moved_at`, `held_by` = `holder`, ' +
  '`held_instance` = CASE WHEN COALESCE(`claimed_at`, `moved_at`) = `moved_at` THEN `instance` END, ' +
  '`held_container` = CASE WHEN `container_since` = `moved_at` THEN `container_id` END';
/** Of a holding whose record was lost nothing is known. */
const FORGET_HOLDING =
  '`held_since` = NULL, `held_by` = NULL, `held_instance` = NULL, `held_container` = NULL';

/** What a record of the history has of the row, and how it is called there. A server of the release before claims without
 *  writing the call. */
const ofClaim = (column: string): string => `CASE WHEN \`claimed_at\` = \`held_since\` THEN ${column} END`;
const FROM_ROW: Readonly<Record<string, string>> = {
  subnet: '`subnet`',
  ip: '`ip`',
  generation: '`generation`',
  since: '`held_since`',
  at: '@now',
  iface: '`iface`',
  instance: '`held_instance`',
  holder: '`held_by`',
  container_id: '`held_container`',
  claim_call: ofClaim('`claim_call`'),
  claim_server: ofClaim('`claim_server`'),
};

/** INSERT … SELECT of a record of the history, without FROM. `given`: the values of `cause`, `request` and `server`,
 *  as SQL. */
export const insertRecord = (given: readonly string[]): string =>
  `INSERT INTO \`history\` (${[...Object.keys(FROM_ROW), 'cause', 'request', 'server'].map(name => `\`${name}\``).join()})
  SELECT ${[...Object.values(FROM_ROW), ...given].join()}`;

/** MySQL assigns from left to right and a later expression sees the new values. So what reads `iface` stands before the
 *  assignment to `iface`. Status, generation and token are not in the list. */
export function assignmentsOf(move: MoveName): Assignment[] {
  const rule = ruleOf(move);
  const all: (Assignment | false | undefined)[] = [
    endsHolding(move) && (rule.from === 'allocated' ? KEEP_HOLDING : FORGET_HOLDING),
    rule.rests && '`rested_since` = @now, `rested_from` = `iface`',
    rule.rests && { column: 'release_id', given: change => change.releaseId ?? null, isKept: true },
    rule.leaves && '`left_at` = @now, `left_iface` = `iface`',
    rule.leaves && { column: 'left_unsure', given: change => (change.unsure ? 1 : 0) },
    rule.places && '`placed_at` = @now',
    rule.iface === 'give' && { column: 'iface', given: change => change.iface ?? null },
    rule.iface === 'clear' && '`iface` = NULL',
    rule.primary === 'give' && { column: 'primary', given: change => (change.primary ? 1 : 0) },
    rule.primary === 'clear' && '`primary` = 0',
    rule.holder === 'give' && { column: 'holder', given: change => change.holder ?? null },
    rule.holder === 'give' && { column: 'instance', given: change => change.instance ?? null },
    rule.holder === 'give' && { column: 'request_id', given: change => change.requestId ?? null },
    rule.holder === 'give' && '`claimed_at` = @now, `repeated_at` = NULL',
    move === 'claim' && { column: 'claim_call', given: change => change.call ?? null },
    move === 'claim' && { column: 'claim_server', given: () => BY_SERVER },
    rule.repeats && '`repeated_at` = @now',
    rule.request === 'clear' && '`request_id` = NULL',
    rule.holder === 'clear' &&
      '`holder` = NULL, `instance` = NULL, `container_id` = NULL, `container_since` = NULL',
    rule.missing === 'mark' && '`missing_since` = COALESCE(`missing_since`, @now)',
    rule.missing === 'clear' && '`missing_since` = NULL',
    rule.repair === 'send' && '`repair_unsure_at` = @now',
    rule.repair === 'clear' && '`repair_unsure_at` = NULL',
    rule.absent === 'mark' && '`absent_since` = COALESCE(`absent_since`, @now)',
    rule.absent === 'clear' && '`absent_since` = NULL',
    rule.refused === 'give' && { column: 'refused_at', given: change => (change.refused ? AT_MOVE : null) },
    rule.refused === 'clear' && '`refused_at` = NULL',
    rule.reason === 'give' && { column: 'reserved_for', given: change => change.reservedFor ?? null },
    rule.reason === 'clear' && '`reserved_for` = NULL',
    !rule.goesOn && '`moved_at` = @now',
  ];
  return all.filter(assignment => typeof assignment === 'string' || typeof assignment === 'object');
}
