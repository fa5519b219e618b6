/** The INSERT statements of `Store.add` on MySQL. */
import { numberOf, spreadOf } from '../../domain/address.ts';
import { groupBy } from '../group-commit.ts';
import { bytesOf } from '../rows.ts';
import type { NewAllocation } from '../store.ts';
import type { Statement } from './connection.ts';
import { AT_NOW, BEGIN, COMMIT, plain } from './sql.ts';

/** Rows of one transaction: as many as INSERT_RUN can make. A row that is named has about 150 bytes, so that a
 *  statement stays under 700 kB. */
const ROWS_MAX = 4_096;
/** The least length of a run of neighbours whose rows the database makes by itself. */
const RUN_MIN = 16;

const INTO = [
  'INSERT INTO `allocation`',
  '(`subnet`, `ip`, `status`, `iface`, `primary`, `number`, `spread`, `moved_at`, `token`)',
].join(' ');
// Not INSERT IGNORE, which also ignores invalid values.
const UNLESS_THERE = 'ON DUPLICATE KEY UPDATE `ip` = `allocation`.`ip`';
const INSERT = `${INTO} VALUES ? ${UNLESS_THERE}`;
const digit = (name: string, weight: number): string =>
  `(SELECT 0 AS n${Array.from({ length: 15 }, (_, i) => ` UNION ALL SELECT ${(i + 1) * weight}`).join('')}) AS ${name}`;
const INSERT_RUN = [
  INTO,
  "SELECT ?, run.ip, 'free', NULL, 0, INET6_ATON(CONCAT('::ffff:', run.ip)), CRC32(run.ip), @now, ? FROM",
  '(SELECT INET_NTOA(? + a.n + b.n + c.n) AS ip',
  `FROM ${digit('a', 256)} JOIN ${digit('b', 16)} JOIN ${digit('c', 1)} WHERE a.n + b.n + c.n < ?) AS run`,
  UNLESS_THERE,
].join(' ');
const COUNT =
  'SELECT COUNT(*) AS count FROM `allocation` WHERE `subnet` = ? AND `number` BETWEEN ? AND ? AND `token` = ?';

/** Splits the rows into portions of one subnet each, in the order of their addresses. */
export function* portionsOf(rows: readonly NewAllocation[]): Generator<Numbered[]> {
  const numbered = rows.map((row): Numbered => ({ row, number: numberOf(row.ip) }));
  for (const ofSubnet of groupBy(numbered, ({ row }) => row.subnet).values()) {
    ofSubnet.sort((a, b) => a.number - b.number);
    for (let i = 0; i < ofSubnet.length; i += ROWS_MAX) yield ofSubnet.slice(i, i + ROWS_MAX);
  }
}
interface Numbered {
  readonly row: NewAllocation;
  /** The address. */
  readonly number: number;
}

/** Inserts the rows of the portion that are not in the ledger. The last answer counts them. The packet must set `@now`
 *  before, and may be sent twice. */
export function addStatements(portion: readonly Numbered[], token: string): Statement[] {
  const first = portion[0]?.row;
  const last = portion.at(-1)?.row;
  if (first === undefined || last === undefined) return [];
  const { named, runs } = split(portion);
  return [
    BEGIN,
    ...(named.length === 0 ? [] : [plain(INSERT, [named.map(row => valuesOf(row, token))])]),
    ...runs.map(run => plain(INSERT_RUN, [first.subnet, token, run.first, run.length])),
    COMMIT,
    plain(COUNT, [first.subnet, bytesOf(first.ip), bytesOf(last.ip), token]),
  ];
}

interface Run {
  readonly first: number;
  readonly length: number;
}
/** Splits a portion into runs of neighbours and rows that must be named: rows in shorter runs, and rows in a run that
 *  are not free. These are inserted first, so that the run skips them. */
function split(portion: readonly Numbered[]): { named: NewAllocation[]; runs: Run[] } {
  const runs: Run[] = [];
  const named: NewAllocation[] = [];
  for (let from = 0; from < portion.length; ) {
    const first = portion[from]?.number ?? 0;
    let to = from + 1;
    while (portion[to]?.number === first + to - from) to++;
    const isRun = to - from >= RUN_MIN;
    if (isRun) runs.push({ first, length: to - from });
    for (const { row } of portion.slice(from, to)) if (!isRun || !isPlain(row)) named.push(row);
    from = to;
  }
  return { named, runs };
}
const isPlain = ({ status, iface, primary }: NewAllocation): boolean =>
  status === 'free' && iface === null && !primary;

const valuesOf = ({ subnet, ip, status, iface, primary }: NewAllocation, token: string) => [
  subnet,
  ip,
  status,
  iface,
  primary ? 1 : 0,
  bytesOf(ip),
  spreadOf(ip),
  AT_NOW,
  token,
];
