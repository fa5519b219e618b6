/** store/token-bucket.ts in SQL: the token bucket that all servers share. */
import type { Row } from '../rows.ts';
import type { PermitQuery } from '../store.ts';
import { HALVINGS_MAX, RECOVERY_MS, SLOW_AGAIN_MS } from '../token-bucket.ts';
import type { Statement } from './connection.ts';
import { plain } from './sql.ts';

// One statement each, so that a busy row is not locked for a round trip. LAST_INSERT_ID returns the result, for this
// connection only: 0 when no row was changed. A statement that is repeated after a lost answer wastes one permit.

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
const GIVE_BACK = `UPDATE \`bucket\` SET \`empty_at\` = GREATEST(0, ROUND(${EMPTY_AT} - ${TOKEN_MS})) WHERE \`name\` = ?`;
// MySQL assigns from left to right, and a later expression sees the new values.
const SLOW =
  `UPDATE \`bucket\` SET \`halvings\` = LAST_INSERT_ID(LEAST(${HALVINGS} + 1, ${HALVINGS_MAX})), ` +
  `\`empty_at\` = GREATEST(${EMPTY_AT}, @now), \`throttled_at\` = \`empty_at\` ` +
  `WHERE \`name\` = ? AND (\`throttled_at\` > @now + @ahead OR @now - \`throttled_at\` >= ${SLOW_AGAIN_MS})`;
const TOLD = plain('SELECT LAST_INSERT_ID() AS told, @now AS now');

/** Takes the next permit. The packet must set `@now` before. */
export function takePermit({ name, capacity, intervalMs, aheadMs, withinMs }: PermitQuery): Statement[] {
  const after = [capacity, intervalMs, intervalMs];
  return [
    setAhead(aheadMs),
    plain(MAKE, [name]),
    FORGET,
    plain(TAKE, [...after, name, ...after, withinMs]),
    TOLD,
  ];
}

/** Reads the last row of takePermit: the wait in milliseconds; null when no permit was given. */
export function waitOf(row: Row | undefined): number | null {
  const emptyAt = Number(row?.told);
  return emptyAt === 0 ? null : Math.max(0, emptyAt - Number(row?.now));
}

/** Gives a permit back that was not used. The packet must set `@now` before. */
export const giveBackPermit = ({ name, intervalMs, aheadMs }: PermitQuery): Statement[] => [
  setAhead(aheadMs),
  plain(GIVE_BACK, [intervalMs, name]),
];

/** Slows the bucket after a throttle. The packet must set `@now` before. */
export const slowBucket = (name: string, aheadMs: number): Statement[] => [
  setAhead(aheadMs),
  plain(MAKE, [name]),
  FORGET,
  plain(SLOW, [name]),
  TOLD,
];

/** Reads the last row of slowBucket: how often the rate is halved; null when nothing was changed. */
export const halvingsOf = (row: Row | undefined): number | null => Number(row?.told) || null;
