import { raw } from 'mysql2';
import { numberOf, spreadOf } from '../domain/address.ts';
import { bytesOf } from './address-bytes.ts';
import { groupBy } from './batch.ts';
import type { Statement } from './mysql-link.ts';
import { BEGIN, COMMIT, plain, setNow } from './mysql-sql.ts';
import type { NewAllocation } from './store.ts';

/** About 150 bytes each, so a statement stays under 300 kB. */
const ROWS_MAX = 2_000;

const INSERT = [
  'INSERT INTO `allocation`',
  '(`subnet`, `ip`, `status`, `iface`, `primary`, `number`, `spread`, `moved_at`, `token`) VALUES ?',
  // Not INSERT IGNORE, which would also swallow what is wrong with a new row.
  'ON DUPLICATE KEY UPDATE `ip` = `allocation`.`ip`',
].join(' ');
const COUNT =
  'SELECT COUNT(*) AS count FROM `allocation` WHERE `subnet` = ? AND `number` BETWEEN ? AND ? AND `token` = ?';

/** The rows in portions that are one statement each: of one subnet, in the order of their addresses. */
export function* portionsOf(rows: readonly NewAllocation[]): Generator<NewAllocation[]> {
  for (const ofSubnet of groupBy(rows, row => row.subnet).values()) {
    const sorted = ofSubnet.toSorted((a, b) => numberOf(a.ip) - numberOf(b.ip));
    for (let i = 0; i < sorted.length; i += ROWS_MAX) yield sorted.slice(i, i + ROWS_MAX);
  }
}

/** Inserts those of the portion that are not there; the last answer counts them. May be repeated. */
export function addStatements(portion: readonly NewAllocation[], token: string, skewMs: number): Statement[] {
  const now = raw('@now');
  const values = portion.map(row => [
    row.subnet,
    row.ip,
    row.status,
    row.iface,
    row.primary ? 1 : 0,
    bytesOf(row.ip),
    spreadOf(row.ip),
    now,
    token,
  ]);
  const first = portion[0];
  const last = portion.at(-1);
  if (first === undefined || last === undefined) return [];
  return [
    setNow(skewMs),
    BEGIN,
    plain(INSERT, [values]),
    COMMIT,
    plain(COUNT, [first.subnet, bytesOf(first.ip), bytesOf(last.ip), token]),
  ];
}
