import type { TurnQuery } from '../store.ts';
import { HALVINGS_MAX, RECOVERY_MS, SLOW_AGAIN_MS } from '../turns.ts';
import type { Row, Statement } from './connection.ts';
import { plain, setNow } from './sql.ts';

// The arithmetic of store/turns.ts, in one statement each, so that a hot row is locked for no round trip. What it came to
// is told by LAST_INSERT_ID, which is the connection's own: 0 where no row was changed. A statement that is repeated
// because its answer was lost gives one turn away, and that is all.

const HALVINGS =
  'IF(`throttled_at` > @now + @ahead, 0, ' +
  `GREATEST(0, \`halvings\` - GREATEST(0, FLOOR((@now - \`throttled_at\`) / ${RECOVERY_MS}))))`;
const EMPTY_AT = 'IF(`empty_at` > @now + @ahead, @now, `empty_at`)';
const TOKEN_MS = `? * POW(2, ${HALVINGS})`;
const AFTER = `ROUND(GREATEST(${EMPTY_AT}, @now - ? * ${TOKEN_MS}) + ${TOKEN_MS})`;

const setAhead = (aheadMs: number): Statement => plain('SET @ahead = ?', [Math.round(aheadMs)]);
const MAKE =
  'INSERT IGNORE INTO `bucket` (`name`, `empty_at`, `halvings`, `throttled_at`) VALUES (?, 0, 0, 0)';
const FORGET = plain('SELECT LAST_INSERT_ID(0)');
const TAKE = `UPDATE \`bucket\` SET \`empty_at\` = LAST_INSERT_ID(${AFTER}) WHERE \`name\` = ? AND ${AFTER} <= @now + ?`;
// MySQL assigns from left to right, and the later ones see what the earlier ones have set.
const SLOW =
  `UPDATE \`bucket\` SET \`halvings\` = LAST_INSERT_ID(LEAST(${HALVINGS} + 1, ${HALVINGS_MAX})), ` +
  `\`empty_at\` = GREATEST(${EMPTY_AT}, @now), \`throttled_at\` = \`empty_at\` ` +
  `WHERE \`name\` = ? AND (\`throttled_at\` > @now + @ahead OR @now - \`throttled_at\` >= ${SLOW_AGAIN_MS})`;
const TOLD = plain('SELECT LAST_INSERT_ID() AS told, @now AS now');

export function takeTurn(
  { name, capacity, intervalMs, aheadMs, withinMs }: TurnQuery,
  skewMs: number,
): Statement[] {
  const after = [capacity, intervalMs, intervalMs];
  return [
    setNow(skewMs),
    setAhead(aheadMs),
    plain(MAKE, [name]),
    FORGET,
    plain(TAKE, [...after, name, ...after, withinMs]),
    TOLD,
  ];
}

/** How long until the turn, as the last answer says; null: none was given. */
export function waitOf(row: Row | undefined): number | null {
  const emptyAt = Number(row?.told);
  return emptyAt === 0 ? null : Math.max(0, emptyAt - Number(row?.now));
}

export const slowTurns = (name: string, aheadMs: number, skewMs: number): Statement[] => [
  setNow(skewMs),
  setAhead(aheadMs),
  plain(MAKE, [name]),
  FORGET,
  plain(SLOW, [name]),
  TOLD,
];

/** How often the speed is halved now, as the last answer says; null: nothing has changed. */
export const halvingsOf = (row: Row | undefined): number | null => Number(row?.told) || null;
